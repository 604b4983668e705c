"""How quickly pages answer over many stored events, at rest and while lines are ingested as fast as they can be.

The reference is the same server with a page that says hello (hello.py), measured at rest.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from typing import Self
from urllib.parse import quote

from benchmarks import corpus
from benchmarks.product import Product, Web, bare_server, workshop
from benchmarks.table import Table, against, ms, percentile, times

LOADED_P99_S, FILTERED_P95_S = 0.050, 0.100
MAX_S = 15.0  # for one page: a slow one is known to be slow after less
PATHS = {
    "/": "/",
    "/events": "/events",
    "/events?q=(address)": "/events?q=203.0.113.77",
    "/events?q=(words)": "/events?q=" + quote("Accepted publickey"),
    "/events?min_severity=5": "/events?min_severity=5",
    "/api/v1/events": "/api/v1/events?limit=50",
    "/api/v1/events?q=(address)": "/api/v1/events?q=203.0.113.77",
    "/api/v1/stats": "/api/v1/stats",
}


def ask(web: Web, path: str, count: int) -> list[float]:
    """Seconds of each request, one after the other on one connection: at most this many, within MAX_S."""
    connection = web.connect()
    web.get(connection, path)  # not counted: what is read once is read now
    taken: list[float] = []
    while len(taken) < count and sum(taken) < MAX_S:
        taken.append(web.get(connection, path)[0])
    connection.close()
    return taken


class FullRate:
    """Keeps a backlog in front of the product, so that it ingests as fast as it can."""

    def __init__(self, product: Product, lines: int) -> None:
        self._product = product
        self._raw = os.path.join(product.folder, "load.log")
        corpus.write(self._raw, "sshd", lines)
        self._lines = lines
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._begun, self._first = time.monotonic(), self._product.last_id()
        self._thread.start()
        time.sleep(1.5)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        seconds = time.monotonic() - self._begun
        self.rate = (self._product.last_id() - self._first) / seconds

    def _run(self) -> None:
        """A new file whenever less than half a file is left; each begins with a line of its own."""
        written = number = 0
        with open(self._raw, "rb") as file:
            text = file.read()
        while not self._stop.wait(0.2):
            if self._first + written - self._product.last_id() < self._lines // 2:
                path = os.path.join(self._product.logs, f"load-{number}.log")
                with open(path + ".part", "wb") as file:
                    file.write(b"load file %d\n" % number + text)
                os.rename(path + ".part", path)
                written += self._lines + 1
                number += 1


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--stored", type=int, default=1_000_000, help="events that the database holds")
    options.add_argument("--requests", type=int, default=200, help="per page")
    options.add_argument("--quick", action="store_true", help="100,000 events, 50 requests per page")
    arguments = options.parse_args()
    stored, count = (100_000, 50) if arguments.quick else (arguments.stored, arguments.requests)
    with workshop() as folder:
        product = Product(folder)
        product.configure()
        product.fill(stored)
        with bare_server(folder) as hello:
            reference = percentile(ask(hello, "/", count * 2), 99)
        with product.serving() as web:
            idle = {name: ask(web, path, count) for name, path in PATHS.items()}
            with FullRate(product, 300_000) as load:
                busy = {name: ask(web, path, count) for name, path in PATHS.items()}
    table = Table(
        f"Pages over {stored:,} events; the load was {load.rate:,.0f} lines/s",
        "page", "idle p50", "p95", "p99", "busy p50", "p95", "p99", "busy p99 is", "target",
    )  # fmt: skip
    for name in PATHS:
        cells = [ms(percentile(values[name], percent)) for values in (idle, busy) for percent in (50, 95, 99)]
        p99, p95 = percentile(busy[name], 99), percentile(idle[name], 95)
        table.add(name, *cells, times(p99, reference), against(max(p99 / LOADED_P99_S, p95 / FILTERED_P95_S), 1.0))
    table.add("hello from gunicorn and Flask", "", "", ms(reference), "", "", "", "1.00 x", "")
    table.show()
    print(f"targets: p99 {ms(LOADED_P99_S)} while ingesting; filtered pages p95 {ms(FILTERED_P95_S)} at rest")


if __name__ == "__main__":
    main()
