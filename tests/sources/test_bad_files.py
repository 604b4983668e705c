"""Hostile and unlucky files, each named by its row."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import socket
import sqlite3
import threading
import zlib

import pytest
from follow_bench import Bench
from pace import Stopwatch

from threatlens.errors import SourceError
from threatlens.sources import gzipped
from threatlens.sources.paths import Fence


def lines(n: int, word: str = "line") -> bytes:
    return b"".join(b"%s number %d of this file\n" % (word.encode(), i) for i in range(n))


def reason(bench: Bench, number: int = 0) -> str:
    return bench.monitor.statuses()[number].reason


def test_f01_a_link_out_of_the_roots_is_refused_and_others_go_on(bench: Bench, tmp_path) -> None:
    secret = tmp_path / "shadow"
    secret.write_bytes(b"root:secret\n")
    bench.source("*.log")
    (bench.root / "evil.log").symlink_to(secret)
    bench.write("good.log", b"fine\n")
    assert bench.read() == [b"fine"]
    assert bench.state() == "refused"
    assert "outside the allowed roots" in reason(bench)
    assert bench.monitor.statuses()[0].remedy


def test_f02_a_link_swapped_between_check_and_open_yields_nothing(bench: Bench, tmp_path) -> None:
    secret = tmp_path / "secrets"
    secret.mkdir()
    (secret / "app.log").write_bytes(b"root:secret\n")
    inside = bench.root / "sub"
    inside.mkdir()
    (inside / "app.log").write_bytes(b"harmless\n")
    stop = threading.Event()

    def swap() -> None:
        link, spare = bench.root / "sub", bench.root / "spare"
        while not stop.is_set():
            link.rename(spare)
            link.symlink_to(secret)
            link.unlink()
            spare.rename(link)

    thread = threading.Thread(target=swap)
    thread.start()
    fence = Fence((str(bench.root),), ())
    opened = 0
    try:
        for tried in range(500_000):
            if tried >= 20_000 and opened:
                break
            try:
                fd = fence.open(str(bench.root / "sub" / "app.log"))
            except (OSError, SourceError):
                continue
            opened += 1
            assert os.read(fd, 100) == b"harmless\n"
            os.close(fd)
    finally:
        stop.set()
        thread.join()
    assert opened


@pytest.mark.parametrize("path", ["/proc/self/environ", "/sys/kernel/notes", "/dev/zero", "/dev/stdin", "/proc/kmsg"])
@pytest.mark.parametrize("roots", [None, ("/",)])
def test_f03_system_paths_are_refused(bench: Bench, path: str, roots: tuple[str, ...] | None) -> None:
    bench.source(path, roots=roots or (str(bench.root), "/proc"))
    assert bench.read() == []
    assert bench.state() == "refused"


def make_fifo(path: str) -> None:
    os.mkfifo(path)


def make_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)


@pytest.mark.parametrize(("row", "make"), [("F04", make_fifo), ("F05", make_socket), ("F05", os.mkdir)])
@pytest.mark.parametrize("pattern", ["*.log", "app.log"])
def test_f04_f05_what_is_no_regular_file_is_not_opened(
    bench: Bench, row: str, make, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.source(pattern)
    monkeypatch.chdir(bench.root)
    make("app.log")
    bench.write("other.log", b"fine\n")
    assert bench.read() == ([b"fine"] if pattern == "*.log" else [])
    if make is os.mkdir and pattern == "app.log":
        assert bench.state() == "flowing"  # a folder is a fine source
        return
    assert bench.state() == "refused"
    assert "not a regular file" in reason(bench)
    (os.rmdir if make is os.mkdir else os.unlink)("app.log")
    bench.write("app.log", b"now a file\n")
    assert bench.read() == [b"now a file"]
    assert bench.state() == "flowing"


def test_f06_a_hard_link_is_read_as_the_file_it_is(bench: Bench, tmp_path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"linked\n")
    bench.source("*.log")
    os.link(tmp_path / "elsewhere", bench.root / "app.log")
    assert bench.read() == [b"linked"]


def test_f07_permission_is_lost_and_comes_back(bench: Bench, monkeypatch) -> None:
    bench.source("*.log")
    bench.write("app.log", b"one\n")
    bench.write("other.log", b"other\n")
    real_open = os.open

    def refuse(path, flags, *args, **kwargs):
        if path == "app.log":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real_open(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    assert bench.read() == [b"other"]
    assert bench.state() == "no_permission"
    assert bench.monitor.statuses()[0].remedy.startswith("sudo ")
    assert "app.log" in bench.monitor.statuses()[0].remedy
    monkeypatch.undo()
    assert bench.read() == [b"one"]
    assert bench.state() == "flowing"


def test_f08_one_file_by_two_names_is_read_once(bench: Bench) -> None:
    bench.source("a*.log")
    bench.source("b*.log")
    bench.write("a1.log", lines(3))
    os.link(bench.root / "a1.log", bench.root / "b1.log")
    os.link(bench.root / "a1.log", bench.root / "a2.log")
    bench.read()
    bench.write("b1.log", b"more\n")
    bench.read()
    assert len(bench.store.lines) == 4
    first, second = bench.monitor.statuses()
    assert any("once" in w for w in first.warnings)
    assert any("once" in w for w in second.warnings)


def test_f09_files_that_begin_alike_are_both_read_whole(bench: Bench) -> None:
    bench.source("*.log")
    head = lines(200)
    bench.write("a.log", head + b"a\n")
    bench.write("b.log", head + b"b\n")
    assert len(bench.read()) == 402


def test_f10_files_that_were_identical_and_diverge_are_both_read_whole(bench: Bench) -> None:
    bench.source("*.log")
    bench.write("a.log", lines(100))
    bench.write("b.log", lines(100))
    assert len(bench.read()) == 100  # as yet a copy
    bench.write("a.log", b"only a\n")
    assert bench.read() == [b"only a"]
    bench.write("b.log", b"only b\n")
    assert len(bench.read()) == 101


def test_f11_a_file_grows_from_nothing_byte_by_byte(bench: Bench) -> None:
    bench.source("app.log")
    for piece, expected in ((b"", []), (b"x", []), (b"\n", [b"x"])):
        bench.write("app.log", piece)
        assert bench.read() == expected


def test_f12_other_content_of_the_same_length_is_read_from_the_start(bench: Bench) -> None:
    bench.source("app.log")
    path = bench.write("app.log", b"first line\nsecond line\n")
    bench.read()
    path.write_bytes(b"FIRST line\nsecond line\n")
    assert bench.read() == [b"FIRST line", b"second line"]


@pytest.mark.parametrize("backup", [False, True])
@pytest.mark.parametrize("down", [False, True])
def test_f13_an_edited_file_gives_only_its_new_line(bench: Bench, backup: bool, down: bool) -> None:
    bench.source("app.log")
    path = bench.write("app.log", lines(20))
    bench.read()
    if down:
        bench.crash()
    new = bench.write("sedXYZ", lines(20) + b"added\n")
    if backup:
        path.rename(f"{path}~")
        bench.scan()
    new.rename(path)
    assert bench.read() == [b"added"]
    bench.write("app.log", b"and more\n")
    assert bench.read() == [b"and more"]


@pytest.mark.parametrize("down", [False, True])
def test_f14_losing_the_last_newline_repeats_at_most_the_last_line(bench: Bench, down: bool) -> None:
    bench.source("app.log")
    path = bench.write("app.log", lines(20))
    bench.read()
    if down:
        bench.crash()
    os.truncate(path, path.stat().st_size - 1)
    assert bench.read() == []
    bench.write("app.log", b" and on\nnew\n")
    assert bench.read() == [b"line number 19 of this file and on", b"new"]


@pytest.mark.parametrize(
    "name",
    [
        b"a\nb.log",
        b"'\"; rm -rf x.log",
        b"\xff\xfe.log",
        b"n" * 251 + b".log",
        "😀.log".encode(),
        b"-rf.log",
        b"a[1].log",
    ],
)
def test_f15_any_file_name_works_and_is_shown_as_text(bench: Bench, name: bytes) -> None:
    bench.source("*.log")
    (bench.root / os.fsdecode(name)).write_bytes(b"one\n")
    assert bench.read() == [b"one"]
    shown = bench.store.entries[0].source_path
    assert shown.encode("utf-8").decode() == shown
    assert shown.isprintable()
    bench.crash()
    assert bench.read() == []


def test_f15_a_file_named_like_a_pattern_is_itself(bench: Bench) -> None:
    bench.write("a[1].log", b"itself\n")
    bench.write("a1.log", b"other\n")
    bench.source("a[1].log")
    assert bench.read() == [b"itself"]


def test_f16_paths_that_cannot_be_are_clear_errors(bench: Bench) -> None:
    (bench.root / "loop.log").symlink_to("loop.log")
    previous = bench.write("end.txt", b"reached\n")
    for i in range(45):
        link = bench.root / f"chain{i}"
        link.symlink_to(previous)
        previous = link
    (bench.root / "chain.log").symlink_to(previous)
    bench.source("loop.log")
    bench.source("x" * 4096)
    bench.source("chain.log")
    bench.read()
    assert [s.state for s in bench.monitor.statuses()] == ["error", "error", "error"]
    assert all(s.reason for s in bench.monitor.statuses())


def test_f17_many_files_start_soon_with_few_descriptors(make_bench) -> None:
    bench = make_bench(max_open=16)
    bench.source("d", recursive=True)
    n = 3000
    (bench.root / "d").mkdir()
    for i in range(n):
        (bench.root / "d" / f"file-{i:05}.log").write_bytes(b"2026-11-24 same start of line, file %d\n" % i)
    before = bench.open_descriptors()
    with Stopwatch() as stopwatch:
        assert sorted(bench.read()) == sorted(b"2026-11-24 same start of line, file %d" % i for i in range(n))
    assert stopwatch.seconds < 30 * n / 50_000 + 5
    assert bench.open_descriptors() <= before + 16
    bench.crash()
    assert bench.read() == []


def test_f18_files_that_vanish_at_once_leave_no_trace(make_bench) -> None:
    bench = make_bench(use_inotify=True)
    bench.source("*.log")
    bench.scan()
    before = bench.open_descriptors()
    for i in range(1000):
        path = bench.write(f"{i}.log", b"short\n")
        path.unlink()
        if i % 10 == 0:
            bench.monitor.step(0)
    bench.monitor.step(0)
    bench.commit()
    status = bench.monitor.statuses()[0]
    assert status.state == "flowing"
    assert status.vanished > 0
    assert f"{status.vanished} files were gone before they could be opened" in status.warnings
    bench.pass_time(100)
    bench.scan()
    bench.pass_time(100)
    bench.scan()
    assert bench.open_descriptors() <= before + 1


@pytest.mark.parametrize("max_open", [1, 50])
def test_f19_a_reused_inode_is_a_new_file(make_bench, max_open: int) -> None:
    bench = make_bench(max_open=max_open)
    bench.source("*.log")
    path = bench.write("app.log", lines(20))
    bench.write("other.log", b"other\n")
    bench.read()
    bench.crash()
    inode = path.stat().st_ino
    for i in range(1000):
        path.unlink()
        path.write_bytes(lines(30, "fresh"))
        if path.stat().st_ino == inode:
            break
        bench.write(f"fill{i}", b"x")
    assert len(bench.read()) == 30


WHOLE = lines(5000)


@pytest.mark.parametrize(
    ("row", "damage", "complete"),
    [
        ("cut", lambda data: data[: len(data) // 2], False),
        ("wrong sum", lambda data: data[:-8] + b"\0\0\0\0" + data[-4:], True),
        ("garbage behind", lambda data: data + b"garbage" * 10, True),
    ],
)
def test_f20_a_damaged_gz_gives_its_whole_lines_once(bench: Bench, row: str, damage, complete: bool) -> None:
    bench.source("*.gz")
    path = bench.root / "app.log.1.gz"
    path.write_bytes(damage(gzip.compress(WHOLE)))
    first = bench.read()
    assert first == WHOLE.splitlines()[: len(first)]
    assert len(first) == 5000 if complete else 1000 < len(first) < 5000
    status = bench.monitor.statuses()[0]
    assert status.state == "error" or any("waiting for the rest" in w for w in status.warnings)
    assert bench.read() == []
    bench.crash()
    assert bench.read() == []
    path.write_bytes(gzip.compress(WHOLE))
    bench.read()
    assert bench.store.lines == WHOLE.splitlines()
    assert bench.state() == "flowing"


def test_f20_damage_inside_a_gz_ends_it_there(bench: Bench) -> None:
    bench.source("*.gz")
    data = gzip.compress(WHOLE)
    half = len(data) // 2
    (bench.root / "app.gz").write_bytes(data[:half] + b"\xff" * 50 + data[half + 50 :])
    first = bench.read()
    assert first[:1000] == WHOLE.splitlines()[:1000]
    assert bench.state() == "error"
    assert "damaged" in reason(bench)
    for _ in range(2):
        assert bench.read() == []
        bench.crash()


def test_f20_a_gz_of_several_members_with_padding_is_read_whole(bench: Bench) -> None:
    bench.source("*.gz")
    parts = [lines(3, word) for word in ("a", "b", "c")]
    (bench.root / "app.gz").write_bytes(b"".join(map(gzip.compress, parts)) + b"\0" * 512)
    assert bench.read() == b"".join(parts).splitlines()
    assert bench.state() == "flowing"


def test_f20_a_finished_gz_is_not_unpacked_again_after_a_restart(bench: Bench, monkeypatch) -> None:
    bench.source("*.gz")
    (bench.root / "app.gz").write_bytes(gzip.compress(WHOLE))
    bench.read()
    bench.read()
    bench.crash()
    monkeypatch.setattr(zlib, "decompressobj", None)
    assert bench.read() == []
    assert bench.state() == "flowing"


def test_f21_a_gz_bomb_stops_at_the_limit(bench: Bench) -> None:
    bench.source("*.gz")
    squeeze = zlib.compressobj(9, wbits=31)
    with (bench.root / "bomb.gz").open("wb") as file:
        for _ in range(300):
            file.write(squeeze.compress(b"\n" * (1 << 20)))
        file.write(squeeze.flush())
    content = gzipped.GzipContent(os.open(bench.root / "bomb.gz", os.O_RDONLY))
    offset = 0
    while data := content.pread(1 << 20, offset):
        offset += len(data)
    os.close(content.fd)
    assert 64 << 20 <= offset < 70 << 20
    assert "100:1" in content.problem
    (bench.root / "bomb.gz").unlink()


@pytest.mark.parametrize(
    "data",
    [
        b"\x28\xb5\x2f\xfd1234",
        b"\xfd7zXZ\0abc",
        b"BZh91AY",
        b"\x7fELF\2\1\1",
        b"SQLite format 3\0xx",
        b"\xd4\xc3\xb2\xa1\2\0",
    ],
)
def test_f22_what_is_no_text_is_skipped_with_a_message(bench: Bench, data: bytes) -> None:
    bench.source("*")
    bench.write("strange", data + b"\nline\n" * 10)
    bench.write("app.log", b"fine\n")
    assert bench.read() == [b"fine"]
    bench.read()
    assert len([w for w in bench.monitor.statuses()[0].warnings if "skipped" in w]) == 1
    assert bench.state() == "flowing"


def test_f23_our_own_data_is_refused(make_bench) -> None:
    bench = make_bench()
    data = bench.root / "data"
    data.mkdir()
    bench = make_bench(forbidden=(str(data),))
    sqlite3.connect(data / "threatlens.db").close()
    bench.write("data/own.log", b"own\n")
    bench.write("data/spool/1", b"handed in\n")
    bench.source("data/own.log")
    bench.source("data/spool", roots=(str(data / "spool"),))
    assert bench.read() == [b"handed in"]
    assert bench.state() == "refused"


@pytest.mark.parametrize("down", [False, True])
def test_f24_a_folder_that_goes_and_comes_back_resumes(bench: Bench, down: bool) -> None:
    bench.source("d/*.log")
    bench.write("d/app.log", lines(20))
    bench.read()
    if down:
        bench.crash()
    shutil.move(bench.root / "d", bench.root / "away")
    assert bench.read() == []
    assert bench.state() == "missing"
    bench.pass_time(60)
    shutil.copytree(bench.root / "away", bench.root / "d")
    bench.write("d/app.log", b"more\n")
    assert bench.read() == [b"more"]
    assert bench.state() == "flowing"


def test_f25_without_inotify_polling_works_and_says_so_once(bench: Bench, monkeypatch) -> None:
    bench.source("*.log")
    bench.write("app.log", b"one\n")
    assert bench.read() == [b"one"]
    bench.write("app.log", b"two\n")
    bench.pass_time(5)
    bench.monitor.step(0)
    bench.commit()
    assert bench.store.lines == [b"one", b"two"]
    assert len([w for w in bench.monitor.statuses()[0].warnings if "polling" in w]) == 1


def test_f26_a_writer_that_goes_on_at_its_old_offset_loses_nothing(bench: Bench) -> None:
    bench.source("app.log*")
    path = bench.root / "app.log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, lines(2000))
    bench.read()
    shutil.copyfile(path, f"{path}.1")
    os.truncate(path, 0)
    assert bench.read() == []
    os.write(fd, b"after the hole\n")
    assert bench.read() == [b"after the hole"]
    bench.crash()
    os.write(fd, b"and on\n")
    os.close(fd)
    assert bench.read() == [b"and on"]


@pytest.mark.parametrize("moment", [0, 4_102_444_800])
def test_f27_the_time_of_a_file_does_not_matter(bench: Bench, moment: int) -> None:
    bench.source("app.log")
    path = bench.write("app.log", b"one\n")
    os.utime(path, (moment, moment))
    assert bench.read() == [b"one"]
    bench.write("app.log", b"two\n")
    os.utime(path, (moment, moment))
    assert bench.read() == [b"two"]
