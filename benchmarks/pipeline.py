"""The whole pipeline: a file appears, its lines are followed, decoded and stored in a fresh database.

Beside it, in the same run: SQLite alone inserting the very rows that came out, `wc -l` over the same file, and fail2ban
where it is installed. The time is from the file's appearance until its last event can be read.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
import subprocess
import time

from benchmarks import corpus, fail2ban
from benchmarks.product import Product, wait_for, workshop
from benchmarks.table import Table, against, times

TARGETS = {"sshd": 80_000, "nginx": 60_000}  # lines/s
DISK_TARGET = 1.5  # bytes stored per byte read
BATCH = 2_000


def pipeline(product: Product, raw: str, lines: int) -> tuple[float, float, int]:
    """Seconds for the file, CPU seconds of all processes meanwhile, and their peak of memory in bytes."""
    product.configure()
    with product.serving() as web:
        before, cpu_before = product.last_id(), web.cpu_s()
        os.rename(raw, os.path.join(product.logs, "bench.log"))
        with contextlib.closing(product.connection()) as connection:

            def done() -> bool:
                found = connection.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
                return bool(found[0] >= before + lines)

            seconds = wait_for("the last event", done, timeout_s=900, every_s=0.01)
        return seconds, web.cpu_s() - cpu_before, web.memory("VmHWM")


def insert_alone(product: Product, folder: str, lines: int) -> float:
    """Seconds that SQLite takes for the same rows into the same table, as durable, with nothing around it."""
    with contextlib.closing(product.connection()) as source:
        schema = source.execute(
            "SELECT sql FROM sqlite_master WHERE tbl_name = 'events' AND sql IS NOT NULL"
        ).fetchall()
        rows = source.execute("SELECT * FROM events ORDER BY id DESC LIMIT ?", (lines,)).fetchall()[::-1]
    with contextlib.closing(sqlite3.connect(os.path.join(folder, "alone.db"), isolation_level=None)) as alone:
        alone.execute("PRAGMA journal_mode = WAL")
        alone.execute("PRAGMA synchronous = FULL")
        for (statement,) in schema:
            alone.execute(statement)
        insert = f"INSERT INTO events VALUES ({','.join('?' * len(rows[0]))})"
        begun = time.perf_counter()
        for start in range(0, len(rows), BATCH):
            alone.execute("BEGIN IMMEDIATE")
            alone.executemany(insert, rows[start : start + BATCH])
            alone.execute("COMMIT")
        return time.perf_counter() - begun


def count_lines(path: str) -> float:
    """Seconds that `wc -l` takes, the best of three."""
    best = 1e9
    for _ in range(3):
        begun = time.perf_counter()
        subprocess.run(["wc", "-l", path], capture_output=True, check=True)
        best = min(best, time.perf_counter() - begun)
    return best


def measure(kind: str, lines: int, stored: int, table: Table) -> None:
    with workshop() as folder:
        product = Product(folder)
        if stored:
            product.fill(stored, kind)
        empty = product.disk() if stored else 0
        raw = os.path.join(folder, "raw.log")
        size = corpus.write(raw, kind, lines)
        seconds, cpu_s, memory = pipeline(product, raw, lines)
        rate, disk = lines / seconds, (product.disk() - empty) / size
        verdict = against(rate, TARGETS[kind], at_least=True) if kind in TARGETS else "-"
        costs = f"{cpu_s / lines * 1e6:.1f} us", f"{memory / 1e6:.0f} MB", f"{disk:.2f}"
        table.add(f"{kind}: ThreatLens", f"{rate:,.0f}", "1.00 x", *costs, verdict)
        for name, reference in (
            ("SQLite insert alone", insert_alone(product, folder, lines)),
            ("wc -l", count_lines(os.path.join(product.logs, "bench.log"))),
        ):
            table.add(f"{kind}: {name}", f"{lines / reference:,.0f}", times(rate, lines / reference), "", "", "", "")
        if kind == "sshd" and fail2ban.installed():
            measure_fail2ban(folder, lines, rate, table)


def measure_fail2ban(folder: str, lines: int, rate: float, table: Table) -> None:
    path, private = os.path.join(folder, "auth.log"), os.path.join(folder, "f2b")
    os.mkdir(private)
    corpus.write(path, "sshd", lines)  # its times must be of now
    with open(path, "r+", encoding="ascii") as file:
        first = file.readline()
        last = file.read()[-400:].splitlines()[-1]
        file.seek(0, os.SEEK_END)
        file.write(fail2ban.sentinel(last or first))
    for name, reference in (
        ("fail2ban-server jail", fail2ban.jail_seconds(path, private)),
        ("fail2ban-regex", fail2ban.regex_seconds(path)),
    ):
        table.add(f"sshd: {name}", f"{lines / reference:,.0f}", times(rate, lines / reference), "", "", "", "")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("kinds", nargs="*", default=corpus.KINDS, help="sshd, nginx, json")
    options.add_argument("--lines", type=int, default=300_000)
    options.add_argument("--stored", type=int, default=0, help="events that the database holds before")
    options.add_argument("--quick", action="store_true", help="60,000 lines")
    arguments = options.parse_args()
    lines = 60_000 if arguments.quick else arguments.lines
    database = f"a database of {arguments.stored:,} events" if arguments.stored else "a fresh database"
    table = Table(
        f"Full pipeline, {lines:,} lines into {database}",
        "what",
        "lines/s",
        "ThreatLens is",
        "CPU/line",
        "peak RSS",
        "disk/raw",
        "target",
    )
    for kind in arguments.kinds:
        measure(kind, lines, arguments.stored, table)
    table.show()
    print(f"targets: {', '.join(f'{kind} {rate:,}' for kind, rate in TARGETS.items())} lines/s; disk/raw {DISK_TARGET}")


if __name__ == "__main__":
    main()
