"""Every way in which logs are rotated, while the monitor runs and while it does not."""

from __future__ import annotations

import gzip
import os
import shutil

import pytest
from follow_bench import Bench

FIRST = b"".join(b"first generation, line %d of the file\n" % i for i in range(20))
REST = b"".join(b"first generation, unread rest %d\n" % i for i in range(20))
SECOND = b"".join(b"second generation, line %d\n" % i for i in range(10))


def lines(*parts: bytes) -> list[bytes]:
    return b"".join(parts).splitlines()


def rename(bench: Bench) -> None:
    os.rename(bench.root / "app.log", bench.root / "app.log.1")
    bench.write("app.log", SECOND)


def copytruncate(bench: Bench) -> None:
    shutil.copyfile(bench.root / "app.log", bench.root / "app.log.1")
    os.truncate(bench.root / "app.log", 0)
    bench.write("app.log", SECOND)


def compress(bench: Bench) -> None:
    with gzip.open(bench.root / "app.log.1.gz", "wb") as file:
        file.write((bench.root / "app.log").read_bytes())
    os.unlink(bench.root / "app.log")
    bench.write("app.log", SECOND)


def rename_then_compress(bench: Bench) -> None:
    os.rename(bench.root / "app.log", bench.root / "app.log.1")
    bench.write("app.log", SECOND)
    bench.scan()
    with gzip.open(bench.root / "app.log.1.gz", "wb") as file:
        file.write((bench.root / "app.log.1").read_bytes())
    bench.scan()
    os.unlink(bench.root / "app.log.1")


def copytruncate_to_the_same_size(bench: Bench) -> None:
    shutil.copyfile(bench.root / "app.log", bench.root / "app.log.1")
    size = os.path.getsize(bench.root / "app.log")
    text = SECOND + b"x" * (size - len(SECOND) - 1) + b"\n"
    (bench.root / "app.log").write_bytes(text)


@pytest.mark.parametrize("pattern", ["app.log*", "app.log"])
@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
@pytest.mark.parametrize(
    "rotate", [rename, copytruncate, compress, rename_then_compress, copytruncate_to_the_same_size]
)
def test_rotation_loses_and_repeats_nothing(bench: Bench, rotate, down: bool, pattern: str) -> None:
    bench.source(pattern)
    bench.write("app.log", FIRST)
    assert bench.read() == lines(FIRST)
    bench.write("app.log", REST)
    if down:
        bench.crash()
        if rotate is rename_then_compress:
            bench.scan = lambda: None  # type: ignore[method-assign]
    rotate(bench)
    if "scan" in vars(bench):
        del bench.scan
    bench.scan()
    bench.scan()
    bench.commit()
    expected = lines(FIRST, REST, SECOND)
    assert [line for line in bench.store.lines if not line.startswith(b"xx")] == expected
    assert bench.read() == []
    bench.crash()
    assert bench.read() == []
