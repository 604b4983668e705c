"""From a line's writing to its event's being stored, and to its frame in a client of /ws/events.

Stored means: another connection to the database sees the row. The reference follows the file and sends it over TCP
without doing anything (bare_feed.py).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.feed import Feed, line
from benchmarks.product import ROOT, Product, workshop
from benchmarks.table import Table, against, ms, percentile, times

P95_TARGET_S, P99_TARGET_S = 0.050, 0.150
PAUSE_S = (0.02, 0.08)  # between two lines: everyday traffic


def stored(product: Product, path: str, count: int) -> list[float]:
    """Seconds from write() to the row's being visible, for each of these many lines."""
    waits = []
    with open(path, "ab", buffering=0) as log, contextlib.closing(product.connection()) as connection:
        newest = "SELECT coalesce(max(id), 0) FROM events"
        for number in range(count):
            time.sleep(random.uniform(*PAUSE_S))
            before = connection.execute(newest).fetchone()[0]
            begun = time.perf_counter()
            log.write(line(number))
            while connection.execute(newest).fetchone()[0] == before:
                if time.perf_counter() - begun > 10:
                    raise TimeoutError("a line was not stored within 10 s")
                time.sleep(0.0003)
            waits.append(time.perf_counter() - begun)
    return waits


def seen(feed: Feed, path: str, count: int) -> list[float]:
    """Seconds from write() to the client, for each of these many lines."""
    waits = []
    with open(path, "ab", buffering=0) as log:
        for number in range(1_000_000, 1_000_000 + count):
            time.sleep(random.uniform(*PAUSE_S))
            log.write(line(number))
            waits.append(_wait(feed, number))
    return waits


def _wait(feed: Feed, number: int) -> float:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for _, found, seconds in feed.read(1.0):
            if found == number:
                return seconds
    raise TimeoutError("a line did not reach the client within 10 s")


@contextlib.contextmanager
def bare(path: str, clients: int) -> Iterator[Feed]:
    """The reference with this many clients."""
    command = [sys.executable, "-m", "benchmarks.bare_feed", path, str(clients)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    feed = Feed()
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        connections = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(clients)]
        for connection in connections:
            assert connection.recv(6) == b"ready\n"
            feed.add(connection)
        yield feed
    finally:
        feed.close()
        process.kill()
        process.wait()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=400)
    options.add_argument("--quick", action="store_true", help="100 lines")
    arguments = options.parse_args()
    count = 100 if arguments.quick else arguments.lines
    with workshop() as folder:
        product = Product(folder)
        path = os.path.join(product.logs, "bench.log")
        with open(path, "wb") as log:
            log.write(line(0))
        product.configure()
        figures = {}
        with product.serving() as web:
            time.sleep(2)
            figures["written -> stored"] = stored(product, path, count)
            feed = Feed()
            feed.subscribe(web.port, web.token)
            figures["written -> frame on /ws/events"] = seen(feed, path, count)
            feed.close()
        with bare(path, 1) as feed:
            reference = seen(feed, path, count)
    table = Table(f"Latency of {count} single lines", "what", "p50", "p95", "p99", "p95 is", "target")
    for name, waits in figures.items():
        p50, p95, p99 = (percentile(waits, percent) for percent in (50, 95, 99))
        holds = against(max(p95 / P95_TARGET_S, p99 / P99_TARGET_S), 1.0)
        table.add(name, ms(p50), ms(p95), ms(p99), times(p95, percentile(reference, 95)), holds)
    p50, p95, p99 = (percentile(reference, percent) for percent in (50, 95, 99))
    table.add("inotify + read + TCP, bare", ms(p50), ms(p95), ms(p99), "1.00 x", "")
    table.show()
    print(f"targets: p95 {ms(P95_TARGET_S)}, p99 {ms(P99_TARGET_S)}")


if __name__ == "__main__":
    main()
