"""A long, slow run: does memory, do descriptors, do threads grow while lines come in and pages are read?

Every sample is a row of a CSV file at once, so that a run that is ended early has its figures too. Nothing is told
from the time in which rules are loaded and caches fill: the slope is that of the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import datetime as dt
import itertools
import os
import random
import signal
import time
from typing import NamedTuple

from benchmarks.corpus import KINDS, LINES
from benchmarks.product import Product, Web, workshop
from benchmarks.table import Table, against

#: Every connection has its own cache of the database, which are full after some 20 minutes; most rules look back over
#: an hour at most, so only then they hold what they will.
WARM_S = 3_600.0
PAGES = ("/", "/events", "/health", "/api/v1/stats")
#: What may be added in an hour.
MEMORY_MB_H, COUNT_H = 1.0, 1.0


class Sample(NamedTuple):
    """All processes of the product together, once a minute."""

    seconds: float
    rss_mb: float
    descriptors: int
    threads: int
    written: int
    stored: int
    database_mb: float


def look(web: Web, product: Product, seconds: float, written: int) -> Sample:
    descriptors = threads = 0
    for pid in web.pids:
        descriptors += len(os.listdir(f"/proc/{pid}/fd"))
        threads += len(os.listdir(f"/proc/{pid}/task"))
    memory, disk = web.memory() / 1e6, product.disk() / 1e6
    return Sample(round(seconds), round(memory, 2), descriptors, threads, written, product.last_id(), round(disk, 2))


def slope(samples: list[Sample], what: str) -> float:
    """The least-squares line through a column, per hour; 0.0 of fewer than two samples."""
    points = [(sample.seconds / 3600, float(getattr(sample, what))) for sample in samples]
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    below = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / below if below else 0.0


def read_pages(web: Web) -> int:
    """One connection each time: the server closes those that rest. How many were late: a busy machine ends no soak."""
    late = 0
    for page in PAGES:
        with contextlib.closing(web.connect()) as connection:
            try:
                web.get(connection, page)
            except OSError:
                late += 1
    return late


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=7_200.0)
    options.add_argument("--rate", type=int, default=50, help="lines a second")
    options.add_argument("--every", type=float, default=60.0, help="seconds between two samples")
    options.add_argument("--warm", type=float, default=WARM_S, help="seconds that tell nothing")
    options.add_argument("--csv", default="soak.csv")
    options.add_argument("--quick", action="store_true", help="two minutes, for orientation only")
    given = options.parse_args()
    if given.quick:
        given.seconds, given.every, given.warm = 120.0, 5.0, 60.0
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: ended.append(got))
    dice, numbers = random.Random(1), itertools.count()
    samples: list[Sample] = []
    with workshop() as folder, open(given.csv, "w", newline="", encoding="ascii") as report:
        rows = csv.writer(report)
        rows.writerow(Sample._fields)
        product = Product(folder)
        product.configure()
        with product.serving() as web, open(os.path.join(product.logs, "soak.log"), "ab", buffering=0) as log:
            begun = time.monotonic()
            written, next_look, late = 0, 0.0, 0
            while not ended and (passed := time.monotonic() - begun) < given.seconds:
                due = int(passed * given.rate)
                for number in itertools.islice(numbers, due - written):
                    line_of = LINES[KINDS[number % len(KINDS)]]
                    log.write(line_of(dice, dt.datetime.now(dt.UTC), number).encode("ascii"))
                written = due
                if passed >= next_look:
                    next_look += given.every
                    late += read_pages(web)
                    samples.append(look(web, product, passed, written))
                    rows.writerow(samples[-1])
                    report.flush()
                time.sleep(0.2)
    told = [sample for sample in samples if sample.seconds >= given.warm]
    minutes = samples[-1].seconds / 60
    title = f"{given.rate} lines a second for {minutes:.0f} minutes, the first {given.warm / 60:.0f} untold"
    table = Table(title, "what", "first", "last", "an hour adds", "target")
    for what, unit, limit in (
        ("rss_mb", "MB", MEMORY_MB_H), ("descriptors", "", COUNT_H), ("threads", "", COUNT_H),
    ):  # fmt: skip
        values = [getattr(sample, what) for sample in told]
        added = slope(told, what)
        cells = (
            [f"{value} {unit}".strip() for value in (values[0], values[-1], round(added, 2))]
            if values
            else ["", "", ""]
        )
        table.add(what, *cells, against(max(0.0, added), limit))
    table.show()
    last = samples[-1]
    print(f"{last.written:,} lines written, {last.stored:,} events stored at the last look; {late} pages were late")


if __name__ == "__main__":
    main()
