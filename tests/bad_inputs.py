"""Hostile lines, files and configurations as values: what is fed, and what must come of it. See test_bad_inputs.py.

A row may have more than one case; its name is the row, a blank, and what is special about the case.
"""

from __future__ import annotations

import codecs
import gzip
import os
import re
import shutil
import socket
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_LINE_BYTES = 1 << 16
MAX_UNPACKED_BYTES = 1 << 20
SSHD = "Oct 11 10:00:00 web1 sshd[4211]: "


@dataclass(frozen=True)
class Line:
    """Bytes appended to a file, in pieces with a look behind each, and the events that must come of them."""

    name: str
    pieces: tuple[bytes, ...]
    raws: tuple[str, ...] | None = None  # None: the one line as it is
    encoding: str = "auto"
    fields: Mapping[str, Any] = field(default_factory=dict)  # of the last event; None: it has no such field
    flags: tuple[str, ...] = ()  # of the last event, among others
    format: str = ""  # of the last event
    warning: str = ""  # in the source's warnings


def line(name: str, content: bytes | str, *raws: str, **more: Any) -> Line:
    """One piece. Without raws: one event, whose raw text is the content without its newline."""
    data = content.encode() if isinstance(content, str) else content
    return Line(name, (data if data.endswith(b"\n") else data + b"\n",), raws or None, **more)


LINES = (
    line("L01", "a\n\nb", "a", "b"),
    Line("L02", (b"   \t  \n",), ()),
    line("L03", "A" * 65536),
    line("L04", "A" * (4 << 20) + "\nnext", "A" * MAX_LINE_BYTES, "next"),
    Line("L05", (b"x" * (3 << 20),), (), warning="longer than 65,536 bytes"),
    Line("L05 ended", (b"x" * (3 << 20), b"\nnext\n"), ("x" * MAX_LINE_BYTES, "next")),
    line("L06", b"abc\0def"),
    line("L07", b"\0" * 4096 + b"line", "line"),
    line("L08", b"\xff\xfe\xfa bad utf8", "\ufffd\ufffd\ufffd bad utf8", encoding="utf-8", flags=("decode_error",)),
    line("L09", b"\xed\xa0\x80 lone surrogate", "\ufffd\ufffd\ufffd lone surrogate", flags=("decode_error",)),
    Line("L10", (b"a" + "😀".encode()[:3], "😀".encode()[3:] + b"\n"), ("a😀",)),
    line("L11 latin-1", b"caf\xe9", "café", encoding="latin-1"),
    line("L11 cp1252", b"\x80 5", "€ 5", encoding="cp1252"),
    line("L11 shift-jis", "表示".encode("shift-jis"), "表示", encoding="shift-jis"),
    line("L11 gbk", "错误".encode("gbk"), "错误", encoding="gbk"),
    Line("L12", (codecs.BOM_UTF16_LE + "one\r\nਊ two\n".encode("utf-16-le"),), ("one", "ਊ two")),
    line("L13", b"\xef\xbb\xbfOct 11 10:00:00 h p: x", "\ufeffOct 11 10:00:00 h p: x", format="syslog.rfc3164"),
    line("L14", b"one\r\ntwo\rthree", "one", "two\rthree"),
    line("L15", "x\u2028y\u2029z\x85w"),
    line("L16", "<script>alert(1)</script>"),
    line("L17", "<img src=x onerror=fetch('/api/v1/tokens')>"),
    line("L18", "\"><svg/onload=alert(1)>  and  ' onmouseover=alert(1) x='"),
    line("L19", '<div hx-get="/api/v1/users" hx-trigger="load" hx-on::load="alert(1)">'),
    line("L20", "{{7*7}} ${7*7} #{7*7} <%= 7*7 %> {{config.items()}}"),
    line("L21", "${jndi:ldap://127.0.0.1:1389/a}  %{jndi:dns://127.0.0.1/a}"),
    line("L22", "%s%s%n %(name)s {0.__class__} {}"),
    line("L23", "ok\x1b[2J\x1b[1;1HFAKE PROMPT\x1b]0;owned\x07"),
    line("L24", "\x1b[8m hidden \x1b[0m \x1b]8;;http://evil.example\x07click\x1b]8;;\x07"),
    line("L25", "user \u202egnp.exe\u202c logged in \u200b\u2066x\u2069"),
    line(
        "L26",
        SSHD + "Failed password for root from 192.0.2.1 port 22 from 203.0.113.66 port 1 ssh2",
        fields={"source.ip": "203.0.113.66", "event.outcome": "failure"},
    ),
    line(
        "L27",
        SSHD + "Invalid user x\nOct 11 00:00:00 host sshd[1]: Accepted password for root",
        SSHD + "Invalid user x",
        "Oct 11 00:00:00 host sshd[1]: Accepted password for root",
        fields={"process.pid": 1, "source.ip": None},
    ),
    line(
        "L28",
        '203.0.113.9 - - [11/Oct/2026:10:00:00 +0000] "GET / HTTP/1.1" 404 12 "-" "\\" 200 1 \\"-\\" \\"x"',
        fields={"http.response.status_code": 404, "url.original": "/"},
    ),
    line("L29", "a" * 50_000 + "!"),
    line("L29 pairs", "=" * 20_000 + "a=" * 10_000 + '"' * 5_001),
    line("L30", '{"a":' * 10_000 + "1" + "}" * 10_000, flags=("parse_error",)),
    line(
        "L31",
        '{"ts":1e999,"n":NaN,"big":123456789012345678901234567890}',
        fields={"json.big": "123456789012345678901234567890", "json.n": "NaN"},
    ),
    line("L32", '{"message":"x","message":"y"}', flags=("duplicate_key",)),
    line(
        "L33",
        '{"__proto__":{"admin":true},"constructor":1,"id":"../../x","event_type":"new_event"}',
        fields={"json.id": "../../x", "json.event_type": "new_event", "json.__proto__.admin": True},
    ),
    line("L34", "{" + ",".join(f'"k{n}":{n}' for n in range(5_000)) + "}", flags=("fields_cut",)),
    line("L35", "Feb 30 10:00:00 h p: x", flags=("time_error",)),
    line("L35 Oct 32", "Oct 32 10:00:00 h p: x", flags=("time_error",)),
    line("L36", "Dec 31 23:59:59 h p: x", format="syslog.rfc3164"),
    line("L37 1969", "1969-01-01T00:00:00Z h p: x", flags=("time_clamped",)),
    line("L37 9999", "9999-12-31T00:00:00Z h p: x", flags=("time_clamped",)),
    line("L37 0000", "0000-00-00T00:00:00Z h p: x", flags=("time_error",)),
    line("L37 +14:00", "2026-10-11T10:00:00+14:00 h p: x", format="syslog.iso"),
    line("L37 leap second", "2026-10-11T10:00:60Z h p: x", format="syslog.iso"),
    *(line(f"L38 {text[:2]!r}", text) for text in ("=cmd|' /C calc'!A0", "+1+1", "@SUM(1)", "-2+3", "\t=1", "\r=1")),
    *(
        line(f"L39 {text}", SSHD + f"Failed password for root from {text} port 22 ssh2", fields={"source.ip": address})
        for text, address in (
            ("1.2.3.4.5", None),
            ("0177.0.0.1", None),
            ("::ffff:198.51.100.4", "198.51.100.4"),
            ("fe80::1%eth0", "fe80::1"),
        )
    ),
    line("L39 port", SSHD + "Failed password for root from 192.0.2.1 port 4000000000", fields={"source.port": None}),
    line("L40", "password=hunter2 token=ghp_xxx Authorization: Bearer eyJ 4111 1111 1111 1111"),
)  # fmt: skip

ONE = b"one\n"
LONG = b"x" * (MAX_LINE_BYTES - 1) + b"\n"


def log(name: str, day: int = 11) -> bytes:
    """A log like no other: files that begin alike are taken for copies of one another while they are alike."""
    return b"".join(b"Oct %d 10:00:%02d h p[1]: line %d of %s\n" % (day, n % 60, n, name.encode()) for n in range(90))


def lines(*parts: bytes) -> tuple[bytes, ...]:
    return tuple(b"".join(parts).splitlines())


@dataclass(frozen=True)
class File:
    """What is done to a source's folder, with a look behind each step, and what must come of it."""

    name: str
    steps: tuple[Callable[[Path], object], ...]  # with the folder of the source
    raws: tuple[bytes, ...]  # of all events, in any order
    state: str = "flowing"
    reason: str = ""  # in the state's reason
    warning: str = ""  # in the source's warnings
    path: str = "*"  # what the source follows, in its folder or from the root
    roots: tuple[str, ...] = ()  # its folder
    at_most: bool = False  # raws: not all of them need to come


def write(data: bytes, name: str = "app.log", *, mode: str = "wb") -> Callable[[Path], object]:
    """A step that writes a file."""

    def step(folder: Path) -> None:
        with open(os.fsencode(folder) + b"/" + os.fsencode(name), mode) as file:
            file.write(data)

    return step


def append(data: bytes, name: str = "app.log") -> Callable[[Path], object]:
    return write(data, name, mode="ab")


def outside(folder: Path) -> Path:
    """A file that is in no root."""
    path = folder.parent / f"outside of {folder.name}"
    path.write_bytes(b"secret\n")
    return path


def sed(folder: Path) -> None:
    """A new file with the old content and a line more, under the old name."""
    (folder / "sedX").write_bytes((folder / "app.log").read_bytes() + ONE)
    (folder / "sedX").rename(folder / "app.log")


def come_and_go(folder: Path) -> None:
    for n in range(50):
        path = folder / f"{n}.log"
        path.write_bytes(ONE)
        path.unlink()


def replace(folder: Path) -> None:
    (folder / "app.log").unlink()
    (folder / "app.log").write_bytes(log(folder.name, 12))


def sparse(folder: Path) -> None:
    """copytruncate under a writer that goes on at its old place."""
    path = folder / "app.log"
    shutil.copyfile(path, folder / "app.log.1")
    size = path.stat().st_size
    os.truncate(path, 0)
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, ONE, size)
    os.close(fd)


def socket_at(folder: Path) -> None:
    here = os.open(folder, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{here}/app.log")  # the path itself may be too long
    os.close(here)


def crc_wrong(data: bytes) -> bytes:
    packed = bytearray(gzip.compress(data))
    packed[-8:-4] = (zlib.crc32(data) ^ 1).to_bytes(4, "little")
    return bytes(packed)


STRANGE_NAMES = ("new\nline.log", "quo\"te's;.log", "\udcff\udcfe.log", "n" * 251 + ".log", "😀.log", "-rf.log")
PACKED = {"zstd": b"\x28\xb5\x2f\xfd", "xz": b"\xfd7zXZ\0", "bzip2": b"BZh91AY", "a program": b"\x7fELF\2\1\1",
          "SQLite": b"SQLite format 3\0", "packet capture": b"\xd4\xc3\xb2\xa1\2\0"}  # fmt: skip

FILES = (
    File("F01", (write(ONE), lambda f: (f / "evil.log").symlink_to(outside(f))), (b"one",), "refused", "allowed roots"),
    File("F03 /dev/zero", (), (), "refused", "never read", path="/dev/zero", roots=("/",)),
    File("F03 /proc/self/environ", (), (), "refused", "never read", path="/proc/self/environ", roots=("/",)),
    File("F03 /proc/kmsg", (), (), "refused", "never read", path="/proc/kmsg", roots=("/",)),
    File("F03 up and out", (outside,), (), "refused", "allowed roots", path="../outside of F03 up and out"),
    File("F04", (write(ONE), lambda f: os.mkfifo(f / "fifo.log")), (b"one",), "refused", "not a regular file"),
    File("F05 socket", (socket_at,), (), "refused", "not a regular file but a socket"),
    File("F05 folder", (lambda f: (f / "app.log").mkdir(),), (), path="app.log"),
    File("F06", (lambda f: os.link(outside(f), f / "app.log"),), (b"secret",)),
    File("F08", (write(ONE), lambda f: os.link(f / "app.log", f / "twin.log")), (b"one",), warning="read once"),
    File("F09", (write(log("F09") + b"a\n", "a.log"), write(log("F09") + b"b\n", "b.log")),
         lines(log("F09"), b"a\n", log("F09"), b"b\n")),
    File("F10", (write(log("F10"), "a.log"), write(log("F10"), "b.log"), append(b"a\n", "a.log"),
                 append(b"b\n", "b.log")), lines(log("F10"), b"a\n", log("F10"), b"b\n")),
    File("F11", (write(b""), append(b"x"), append(b"\n")), (b"x",)),
    File("F12", (write(log("F12")), write(log("F12", 12))), lines(log("F12"), log("F12", 12))),
    File("F13", (write(log("F13")), sed), lines(log("F13"), ONE)),
    File("F14", (write(log("F14")), lambda f: os.truncate(f / "app.log", len(log("F14")) - 1), append(b"\n")),
         lines(log("F14"), log("F14").splitlines()[-1])),
    File("F15", tuple(write(ONE, name) for name in STRANGE_NAMES), (b"one",) * len(STRANGE_NAMES)),
    File("F16 loop", (lambda f: (f / "app.log").symlink_to("app.log"),), (), "error", "loop", path="app.log"),
    File("F16 long", (), (), "error", "too long", path="x" * 4096),
    File("F18", (write(ONE), come_and_go), (b"one",)),
    File("F19", (write(log("F19")), replace), lines(log("F19"), log("F19", 12))),
    File("F20 cut", (write(gzip.compress(log("F20 cut"))[:200], "app.log.1.gz"),), lines(log("F20 cut")),
         warning="ends in the middle", at_most=True),
    File("F20 wrong sum", (write(crc_wrong(log("F20 sum")), "app.log.1.gz"),), lines(log("F20 sum")), "error", ".1.gz"),
    File("F20 members", (write(gzip.compress(log("F20")) + gzip.compress(log("F20", 12)), "a.log.gz"),),
         lines(log("F20"), log("F20", 12))),
    File("F21", (write(gzip.compress(LONG * 200), "bomb.log.gz"),), lines(LONG * 32), "error", "more than",
         at_most=True),
    *(File(f"F22 {kind}", (write(ONE), write(magic + b"\n" * 99, "strange.log")), (b"one",), warning=f"it is .*{kind}")
      for kind, magic in PACKED.items()),
    File("F24", (write(log("F24")), lambda f: f.rename(f.with_name("gone")), lambda f: f.with_name("gone").rename(f),
                 append(ONE)), lines(log("F24"), ONE)),
    File("F26", (write(log("F26")), sparse), lines(log("F26"), ONE)),
    File("F27", (write(log("F27")), lambda f: os.utime(f / "app.log", (9e9, 9e9)), append(ONE),
                 lambda f: os.utime(f / "app.log", (0, 0)), append(b"two\n")), lines(log("F27"), ONE, b"two\n")),
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """The text of threatlens.yaml, and what must be said about it; {logs} and {data} stand for folders."""

    name: str
    text: str | bytes
    error: str = ""  # a pattern; "": there is none
    warning: str = ""


def source(text: str) -> str:
    return "allowed_roots: ['{logs}']\nsources:\n  - {name: a, path: '{logs}/a', " + text + "}\n"


CONFIGS = (
    Config("C01", "", warning="no source is enabled"),
    Config("C01 comments", "# only\n# this\n", warning="no source is enabled"),
    Config("C02", b"max_queue_size: 200\nsources: # \xe4\n", "not UTF-8"),
    Config("C02 tab", "retention:\n\tevents_days: 1\n", r":2:1: a tab cannot indent"),
    Config("C02 quote", "sources: 'x\n", r":1:10: .*never closed"),
    Config("C03", "sources: !!python/object/apply:os.mkdir ['{data}/marker']\n", "tags are not allowed"),
    Config("C04", "sources: " + "[" * 100_000, "nested deeper"),
    Config("C05", "sources: []\nmax_queue_size: 200\nsources: []\n", "in lines 1 and 3"),
    Config("C06", source("pollling_interval: 1"), "did you mean 'polling_interval'"),
    *(Config(f"C07 {value}", source(f"polling_interval: {value}"), "a number from 0.05 to 3600")
      for value in ("0", "-1", "1e9", "fast", "true", ".nan")),
    *(Config(f"C08 {value}", f"allowed_roots: ['{{logs}}']\nsources:\n  - name: a\n    path: {value}\n", "path")
      for value in ("5", "[]", "''", "'~/x'", "'$HOME'", "'C:\\x'", "relative")),
    Config("C09", "allowed_roots: ['{logs}']\nsources: [{name: a, path: /etc/passwd}]\n", "/etc/passwd"),
    Config("C09 root", "allowed_roots: ['/']\nsources: []\n", "/"),
    Config("C10", "allowed_roots: ['{logs}']\nsources: [{name: a, path: '/**/*'}]\n", "path"),
    Config("C11", source("start_at: middle"), "beginning"),
    Config("C11 format", source("format: nosuch"), "sshd"),
    *(Config(f"C12 {value}", "allowed_roots: ['{logs}']\nsources: [{path: '{logs}/a', name: " + value + "}]\n", "quote")
      for value in ("yes", "on", "012", "1:30", "2026-01-01")),
    *(Config(f"C13 {url}", f"channels:\n  - {{name: a, type: webhook, url: '{url}'}}\n", "url")
      for url in ("http://169.254.169.254/", "file:///etc/passwd", "gopher://x", "http://user:p@example.org/")),
)  # fmt: skip


def row_of(name: str) -> str:
    """The row that a case belongs to."""
    return re.split(r"\W", name, maxsplit=1)[0]
