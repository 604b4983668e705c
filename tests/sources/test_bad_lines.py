"""Hostile lines: each row is one input, named by its number, and what must come out of it."""

from __future__ import annotations

import codecs
import resource
from pathlib import Path

import pytest
from follow_bench import Bench

from threatlens.event import TRUNCATED, UNTERMINATED
from threatlens.sources.stream import CHUNK_BYTES

ROWS = [
    ("L01", b"a\n\nb\n", "auto", [b"a", b"", b"b"]),
    ("L02", b"   \t  \n", "auto", [b"   \t  "]),
    ("L03", b"A" * 65536 + b"\n", "auto", [b"A" * 65536]),
    ("L03 at the limit", b"A" * (1 << 20) + b"\nb\n", "auto", [b"A" * (1 << 20), b"b"]),
    ("L06", b"abc\x00def\n", "auto", [b"abc\x00def"]),
    ("L07", b"\x00" * 4096 + b"line\n", "auto", [b"line"]),
    ("L07 later", b"first\n" + b"\x00" * 4096 + b"line\n", "auto", [b"first", b"line"]),
    ("L07 long", b"\x00" * (3 << 20) + b"line\n", "auto", [b"line"]),
    ("L08", b"\xff\xfe\xfa bad utf8\n", "utf-8", [b"\xff\xfe\xfa bad utf8"]),
    ("L09", b"\xed\xa0\x80 lone surrogate\n", "auto", [b"\xed\xa0\x80 lone surrogate"]),
    ("L11 latin-1", b"caf\xe9\n", "latin-1", [b"caf\xe9"]),
    ("L11 cp1252", b"\x80 5\n", "cp1252", [b"\x80 5"]),
    (
        "L11 shift-jis",
        "表示\n二\n".encode("shift-jis"),
        "shift-jis",
        ["表示".encode("shift-jis"), "二".encode("shift-jis")],
    ),
    ("L11 gbk", "错误\n二\n".encode("gbk"), "gbk", ["错误".encode("gbk"), "二".encode("gbk")]),
    (
        "L12",
        codecs.BOM_UTF16_LE + "one\r\nਊ two\n".encode("utf-16-le"),
        "auto",
        ["one".encode("utf-16-le"), "ਊ two".encode("utf-16-le")],
    ),
    ("L12 big end first", codecs.BOM_UTF16_BE + "a\nb\n".encode("utf-16-be"), "auto", [b"\0a", b"\0b"]),
    ("L12 no mark", "a\nb\n".encode("utf-16-le"), "utf-16", [b"a\0", b"b\0"]),
    ("L13", b"\xef\xbb\xbfOct 11 x\n\xef\xbb\xbfy\n", "auto", [b"Oct 11 x", b"\xef\xbb\xbfy"]),
    ("L14", b"one\r\ntwo\rthree\n", "auto", [b"one", b"two\rthree"]),
    ("L14 last", b"one\r\r\n", "auto", [b"one\r"]),
    ("L15", "x\u2028y\u2029z\x85w\x0b\x0c\x1c\n".encode(), "auto", ["x\u2028y\u2029z\x85w\x0b\x0c\x1c".encode()]),
]


@pytest.mark.parametrize(("row", "data", "encoding", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_a_strange_line_is_stored_byte_for_byte(
    bench: Bench, row: str, data: bytes, encoding: str, expected: list[bytes]
) -> None:
    bench.source("app.log", encoding=encoding)
    bench.write("app.log", data)
    assert bench.read() == expected
    assert bench.store.rows[1].position == len(data)
    bench.crash()
    newline = "\n".encode(bench.store.entries[-1].encoding)
    bench.write("app.log", b"e\0"[: len(newline)] + newline)
    assert len(bench.read()) == 1


@pytest.mark.parametrize(
    ("row", "data", "encoding", "expected"), ROWS[:5] + ROWS[6:], ids=[row[0] for row in ROWS[:5] + ROWS[6:]]
)
def test_a_strange_line_may_arrive_in_two_pieces(
    make_bench, row: str, data: bytes, encoding: str, expected: list[bytes]
) -> None:
    for cut in {1, len(data) // 2, len(data) - 1}:
        bench = make_bench()
        bench.source(f"{cut}.log", encoding=encoding)
        bench.write(f"{cut}.log", data[:cut])
        bench.read()
        bench.crash()
        bench.write(f"{cut}.log", data[cut:])
        bench.read()
        assert bench.store.lines == expected


def test_l04_a_line_of_100_mib_is_cut_and_memory_stays_flat(bench: Bench) -> None:
    path = bench.write("app.log", b"before\n")
    with path.open("ab") as file:
        for _ in range(100):
            file.write(b"A" * (1 << 20))
        file.write(b"\nafter\n")
    bench.source("app.log")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = bench.read()
    assert [len(line) for line in lines] == [6, 1 << 20, 5]
    entry = bench.store.entries[1]
    assert (entry.flags, entry.true_bytes, entry.lines) == (TRUNCATED, 100 << 20, 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak <= 12 << 10
    assert bench.read() == []


def test_l05_a_line_that_never_ends_is_mentioned_once_and_skipped(bench: Bench) -> None:
    bench.source("app.log")
    bench.write("app.log", b"x" * (1 << 20))
    for _ in range(20):
        bench.write("app.log", b"y" * (1 << 20))
        assert bench.read() == []
    warnings = [w for w in bench.monitor.statuses()[0].warnings if "longer than" in w]
    assert len(warnings) == 1
    bench.write("app.log", b"\nnext\n")
    cut, following = bench.read()
    assert len(cut) == 1 << 20
    assert following == b"next"
    assert bench.store.entries[0].true_bytes == 21 << 20
    assert not any("longer than" in w for w in bench.monitor.statuses()[0].warnings)


def test_l10_a_character_split_by_a_read_boundary_stays_whole(bench: Bench) -> None:
    bench.source("app.log")
    text = "😀".encode()
    data = b"a" * (CHUNK_BYTES - 2) + text + b"\n"
    bench.write("app.log", data + b"x" + text[:3])
    assert bench.read() == [data[:-1]]
    bench.write("app.log", text[3:] + b"\n")
    assert bench.read() == [b"x" + text]


def test_a_long_line_is_cut_between_characters(make_bench) -> None:
    bench = make_bench(max_line_bytes=10)
    bench.source("app.log")
    bench.write("app.log", b"x" * 200_000 + b"\n")
    bench.read()
    bench = make_bench(max_line_bytes=200_000)
    bench.source("two.log")
    bench.write("two.log", b"x" + "é".encode() * 200_000 + b"\n")
    assert bench.read() == [b"x" + "é".encode() * 99_999]


def test_a_line_arriving_byte_by_byte_with_a_crash_between_is_one_line(bench: Bench) -> None:
    bench.source("app.log")
    for byte in b"one line\nand another\n":
        bench.write("app.log", bytes([byte]))
        bench.scan()
        bench.crash()
    bench.read()
    assert bench.store.lines == [b"one line", b"and another"]


def test_an_unfinished_last_line_waits_until_its_file_is_rotated_and_quiet(bench: Bench) -> None:
    bench.source("app.log*")
    path = bench.write("app.log", b"whole\nunfinished")
    assert bench.read() == [b"whole"]
    bench.pass_time(1000)
    assert bench.read() == []
    path.rename(f"{path}.1")
    bench.pass_time(59)
    assert bench.read() == []
    bench.pass_time(61)
    assert bench.read() == [b"unfinished"]
    assert bench.store.entries[-1].flags == UNTERMINATED
    assert bench.read() == []


def test_a_whole_file_needs_no_newline_at_its_end(bench: Bench) -> None:
    bench.source("spool", whole_files=True)
    bench.write("spool/1", b"one\ntwo")
    assert bench.read() == [b"one", b"two"]
    assert bench.read() == []


def test_entries_are_chunks_and_say_where_they_lie(bench: Bench, tmp_path: Path) -> None:
    bench.source("app.log", priority=3)
    data = b"".join(b"line number %d\n" % i for i in range(50_000))
    bench.write("app.log", data)
    assert bench.read() == data.splitlines()
    entries = bench.store.entries
    assert len(entries) <= len(data) / 64 / 1024
    assert b"".join(e.content for e in entries) == data
    assert [e.file_offset for e in entries[1:]] == [e.end_offset for e in entries[:-1]]
    assert {e.priority for e in entries} == {3}
    assert {e.encoding for e in entries} == {"utf-8"}
