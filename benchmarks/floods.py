"""Floods: one line a million times in ten seconds, and a million addresses with one line each.

Every line has to be stored; the first flood is one incident with its count, the second costs no more memory than
correlations may have, and what they forget is counted. A machine that is busy with other things may be too slow for
a million lines: each flood ends after --patience seconds, and its row says how many lines were still waiting then.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Iterator

from benchmarks.product import Product, wait_for, workshop
from benchmarks.table import Table, against

MEMORY_TARGET = 450e6  # bytes of all processes together
BLOCK = 1_000


def line(address: str) -> bytes:
    now = time.strftime("%b %e %H:%M:%S", time.gmtime())
    return f"{now} web1 sshd[4211]: Failed password for root from {address} port 52144 ssh2\n".encode()


def identical(lines: int) -> Iterator[bytes]:
    text = line("203.0.113.9") * BLOCK
    for _ in range(lines // BLOCK):
        yield text


def addresses(lines: int) -> Iterator[bytes]:
    for start in range(0, lines, BLOCK):
        yield b"".join(line(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(start, start + BLOCK))


FLOODS = {"one line, again and again": identical, "an address of its own in each": addresses}


def write(path: str, blocks: Iterator[bytes], lines: int, seconds: float) -> float:
    """Append the blocks so that they take about this long; the seconds it took."""
    begun = time.monotonic()
    with open(path, "ab", buffering=0) as file:
        for number, block in enumerate(blocks, 1):
            file.write(block)
            ahead_s = number * BLOCK / lines * seconds - (time.monotonic() - begun)
            if ahead_s > 0:
                time.sleep(ahead_s)
    return time.monotonic() - begun


def evicted(product: Product) -> int:
    with open(os.path.join(product.data, "engine.json"), encoding="utf-8") as file:
        return int(json.load(file)["counts"]["groups_evicted"])


def measure(name: str, lines: int, seconds: float, patience_s: float, table: Table) -> None:
    with workshop() as folder:
        product = Product(folder)
        product.configure()
        with product.serving() as web, contextlib.closing(product.connection()) as connection:
            wrote_s, stored_s, waiting = flood(product, FLOODS[name](lines), lines, seconds, patience_s)
            memory = web.memory("VmHWM")
            (stored,) = connection.execute("SELECT count(*) FROM events").fetchone()
            lost = "-" if waiting else f"{lines - stored:,}"  # what is lost is known at the end only
            incidents = connection.execute(
                "SELECT i.subject, max(m.events) FROM incidents i JOIN incident_members m ON m.incident_id = i.id"
                " WHERE i.subject_kind = 'source.ip' GROUP BY i.id"
            ).fetchall()
            time.sleep(2)  # the engine says how it is once a second
            table.add(
                name, f"{wrote_s:.1f} s", f"{stored_s:.1f} s", f"{waiting:,}", lost, f"{len(incidents):,}",
                f"{max((n for _, n in incidents), default=0):,}", f"{evicted(product):,}", f"{memory / 1e6:.0f} MB",
                against(memory, MEMORY_TARGET),
            )  # fmt: skip


def flood(
    product: Product, blocks: Iterator[bytes], lines: int, seconds: float, patience_s: float
) -> tuple[float, float, int]:
    """Seconds that writing took, seconds until the last line was stored, and lines that were not by then."""
    begun = time.monotonic()
    wrote_s = write(os.path.join(product.logs, "bench.log"), blocks, lines, seconds)
    with contextlib.suppress(TimeoutError):
        wait_for("the last event", lambda: product.last_id() >= lines, timeout_s=patience_s, every_s=0.2)
    return wrote_s, time.monotonic() - begun, max(0, lines - product.last_id())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=1_000_000)
    options.add_argument("--seconds", type=float, default=10.0, help="in which they are written")
    options.add_argument("--patience", type=float, default=300.0, help="seconds to wait for a flood to be stored")
    options.add_argument("--quick", action="store_true", help="100,000 lines in 2 seconds")
    arguments = options.parse_args()
    lines, seconds = (100_000, 2.0) if arguments.quick else (arguments.lines, arguments.seconds)
    table = Table(
        f"Floods of {lines:,} lines", "flood", "written in", "stored in", "waiting", "lost", "incidents",
        "events of the largest", "groups forgotten", "peak RSS", f"target {MEMORY_TARGET / 1e6:.0f} MB",
    )  # fmt: skip
    for name in FLOODS:
        measure(name, lines, seconds, arguments.patience, table)
    table.show()


if __name__ == "__main__":
    main()
