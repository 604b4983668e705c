"""What ThreatLens costs while nothing happens: start to ready over many events, memory and CPU at rest.

The reference is gunicorn with a Flask app that says hello, started and left alone in the same way.
"""

from __future__ import annotations

import argparse
import os
import time

from benchmarks.feed import line
from benchmarks.product import Product, Web, bare_server, workshop
from benchmarks.table import Table, against, times

READY_S, MEMORY, CPU = 3.0, 120e6, 0.01
SETTLE_S = 5.0


def rest(web: Web, seconds: float) -> tuple[float, float]:
    """Bytes of memory after a while, and the share of one core used meanwhile."""
    time.sleep(SETTLE_S)
    before = web.cpu_s()
    time.sleep(seconds)
    return web.memory(), (web.cpu_s() - before) / seconds


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--stored", type=int, default=1_000_000, help="events that the database holds")
    options.add_argument("--seconds", type=float, default=20.0, help="of rest")
    options.add_argument("--quick", action="store_true", help="100,000 events, 5 seconds")
    arguments = options.parse_args()
    stored, seconds = (100_000, 5.0) if arguments.quick else (arguments.stored, arguments.seconds)
    with workshop() as folder:
        product = Product(folder)
        with open(os.path.join(product.logs, "bench.log"), "wb") as log:
            log.write(line(0))
        product.configure()
        product.fill(stored)
        begun = time.perf_counter()
        with bare_server(folder) as hello:
            bare = (time.perf_counter() - begun, *rest(hello, seconds))
        web = product.start()
        try:
            ours = (web.wait_ready(), *rest(web, seconds))
            stop_s = web.stop()
        finally:
            web.stop()
    table = Table(f"At rest with {stored:,} events, for {seconds:.0f} s", "what", "ThreatLens", "bare", "is", "target")
    for name, unit, factor, target, index in (
        ("start to ready", "s", 1.0, READY_S, 0),
        ("memory, all processes", "MB", 1e6, MEMORY, 1),
        ("CPU", "% of a core", 0.01, CPU, 2),
    ):
        value, reference = ours[index], bare[index]
        cells = [f"{value / factor:,.2f} {unit}", f"{reference / factor:,.2f} {unit}", times(value, reference)]
        table.add(name, *cells, against(value, target))
    table.add("SIGTERM to exit", f"{stop_s:.2f} s", "", "", against(stop_s, 5.0))
    table.show()
    print(f"targets: ready {READY_S:.0f} s, {MEMORY / 1e6:.0f} MB, {CPU:.0%} CPU, exit 5 s")


if __name__ == "__main__":
    main()
