"""Many live clients at once: how late each client's copy of each line is, and what a client costs.

All clients are read by one thread of this process; the reference sends the same lines to as many bare TCP clients.
"""

from __future__ import annotations

import argparse
import os
import time

from benchmarks.feed import Feed, line
from benchmarks.latency import bare
from benchmarks.product import Product, workshop
from benchmarks.table import Table, against, ms, percentile, times

P99_TARGET_S = 0.250


def watch(feed: Feed, path: str, *, rate: float, seconds: float) -> tuple[int, dict[tuple[int, int], float]]:
    """Write lines at this rate; how many, and each client's delay for each line (connection, line) -> seconds."""
    delays: dict[tuple[int, int], float] = {}
    begun, number = time.monotonic(), 0
    total = int(rate * seconds)
    with open(path, "ab", buffering=0) as log:
        while number < total:
            due = begun + number / rate
            if time.monotonic() >= due:
                log.write(line(number))
                number += 1
            _note(feed, delays, max(0.0, min(0.05, due - time.monotonic())))
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            _note(feed, delays, 0.1)
    return total, delays


def _note(feed: Feed, delays: dict[tuple[int, int], float], timeout_s: float) -> None:
    for connection, number, delay_s in feed.read(timeout_s):
        delays.setdefault((connection, number), delay_s)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--clients", type=int, default=500)
    options.add_argument("--rate", type=float, default=20, help="lines a second")
    options.add_argument("--seconds", type=float, default=15)
    options.add_argument("--quick", action="store_true", help="100 clients, 5 seconds")
    arguments = options.parse_args()
    clients, seconds = (100, 5.0) if arguments.quick else (arguments.clients, arguments.seconds)
    table = Table(
        f"{clients} live clients, {arguments.rate:.0f} lines/s",
        "what", "p50", "p95", "p99", "max", "p99 is", "missed", "per client", "target",
    )  # fmt: skip
    with workshop() as folder:
        product = Product(folder)
        path = os.path.join(product.logs, "bench.log")
        with open(path, "wb") as log:
            log.write(line(10**9))
        product.configure()
        with product.serving(THREATLENS_WS_MAX_CONNECTIONS=str(clients + 20)) as web:
            time.sleep(1)
            before, feed = web.memory(), Feed()
            for _ in range(clients):
                feed.subscribe(web.port, web.token)
            each = (web.memory() - before) / clients
            total, ours = watch(feed, path, rate=arguments.rate, seconds=seconds)
            closed = feed.closed
            feed.close()
        with bare(path, clients) as feed:
            _, reference = watch(feed, path, rate=arguments.rate, seconds=seconds)
    bare_p99 = percentile(list(reference.values()), 99)
    for name, delays, cost in (("/ws/events", ours, f"{each / 1e3:.0f} KB"), ("TCP, bare", reference, "")):
        values = list(delays.values())
        p99 = percentile(values, 99)
        cells = [*(ms(percentile(values, percent)) for percent in (50, 95, 99, 100)), times(p99, bare_p99)]
        table.add(name, *cells, f"{total * clients - len(values):,}", cost, against(p99, P99_TARGET_S) if cost else "")
    table.show()
    print(f"target: p99 {ms(P99_TARGET_S)}; {closed} clients were disconnected")


if __name__ == "__main__":
    main()
