"""How fast files are followed: reading a big file, waking up for one line, idling with many files.

    python benchmarks/follow.py [--megabytes 200]

Prints a table; the reference is counting newlines in the same file with the same chunk size.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from threatlens.event import LogEntry
from threatlens.sources.base import LogSourceConfig, StreamState
from threatlens.sources.file import LogFileMonitor

LINE = b"Nov 23 06:51:07 web1 sshd[4211]: Failed password for invalid user admin from 203.0.113.9 port 52144 ssh2\n"


class Book:
    """Remembers nothing beyond this run."""

    def __init__(self) -> None:
        self.n = 0

    def streams(self) -> list[StreamState]:
        return []

    def create(self, *_: object, **__: object) -> int:
        self.n += 1
        return self.n

    def rebind(self, *_: object, **__: object) -> None: ...
    def rename(self, *_: object) -> None: ...

    def retire(self, stream_id: int) -> None: ...

    def rewind(self, *_: object, **__: object) -> bool:
        return True

    def position(self, _: int) -> int | None:
        return 0


def monitor(folder: str, emit) -> LogFileMonitor:
    made = LogFileMonitor(emit=emit, book=Book())
    made.set_sources([LogSourceConfig(1, "bench", folder, roots=(os.path.realpath(folder),))])
    return made


def read_big(folder: str, megabytes: int) -> tuple[float, float]:
    """(lines/s followed, lines/s counted)"""
    path = os.path.join(folder, "big.log")
    block = LINE * ((1 << 20) // len(LINE))
    with open(path, "wb") as file:
        file.writelines(block for _ in range(megabytes * (1 << 20) // len(block)))
    lines = os.path.getsize(path) // len(LINE)
    started = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        counted = 0
        while data := file.read(128 << 10):
            counted += data.count(b"\n")
    reference = lines / (time.perf_counter() - started)
    got = 0

    def emit(entry: LogEntry) -> bool:
        nonlocal got
        got += entry.lines
        return True

    reader = monitor(folder, emit)
    started = time.perf_counter()
    reader.scan()
    speed = lines / (time.perf_counter() - started)
    reader.close()
    os.unlink(path)
    assert got == counted == lines
    return speed, reference


def latency(folder: str, n: int = 300) -> tuple[float, float]:
    """Append to emit, in ms: (median, 99 of 100)."""
    seen: list[float] = []
    arrived = threading.Event()

    def emit(_: LogEntry) -> bool:
        seen.append(time.perf_counter())
        arrived.set()
        return True

    reader = monitor(folder, emit)
    thread = threading.Thread(target=reader.run)
    thread.start()
    took = []
    with open(os.path.join(folder, "live.log"), "ab", buffering=0) as file:
        for i in range(n):
            time.sleep(0.005)
            arrived.clear()
            started = time.perf_counter()
            file.write(LINE)
            if not arrived.wait(5):
                raise SystemExit("a line did not arrive")
            if i:
                took.append(seen[-1] - started)
    reader.stop()
    thread.join()
    reader.close()
    took.sort()
    return took[len(took) // 2] * 1000, took[len(took) * 99 // 100] * 1000


def idle(folder: str, files: int = 200, seconds: float = 10) -> float:
    """CPU in percent while nothing happens."""
    for i in range(files):
        with open(os.path.join(folder, f"idle{i}.log"), "wb") as file:
            file.write(b"file %d\n" % i + LINE)
    reader = monitor(folder, lambda _: True)
    thread = threading.Thread(target=reader.run)
    thread.start()
    time.sleep(2)
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(seconds)
    after = resource.getrusage(resource.RUSAGE_SELF)
    reader.stop()
    thread.join()
    reader.close()
    return 100 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        speed, reference = read_big(folder, options.megabytes)
        middle, tail = latency(folder)
    with tempfile.TemporaryDirectory() as folder:
        cpu = idle(folder)
    print(f"{'following a file':<34}{speed / 1e6:8.2f} M lines/s  (counting its newlines: {reference / 1e6:.2f})")
    print(f"{'append to emit':<34}{middle:8.2f} ms        (99 of 100: {tail:.2f})")
    print(f"{'idle with 200 files':<34}{cpu:8.2f} % CPU")
    print(f"{'peak memory':<34}{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f} MiB")


if __name__ == "__main__":
    main()
