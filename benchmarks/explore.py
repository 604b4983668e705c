"""Every page and every kind of search over millions of stored events: the server's time for each, at rest.

The reference is the page of settings, which reads no event.
"""

from __future__ import annotations

import argparse
import time
from urllib.parse import urlencode

from benchmarks.pages import FILTERED_P95_S, ask
from benchmarks.product import Product, workshop
from benchmarks.stored import build
from benchmarks.table import Table, against, ms, percentile, times

REFERENCE = "/settings"
PAGES = (
    "/", "/?range=7d", "/incidents", "/incidents/1", "/sources", "/rules", "/notifications", "/health?range=7d",
    "/reports", "/unknown", "/decode", "/dead-letters", "/upload", "/settings/users", "/settings/tokens",
    "/settings/audit", "/settings/configuration", "/settings/language-model", "/events/2500000",
    "/events/2500000?same=ip", "/events/2500000/trace",
    "/entities/address/203.0.113.77", "/entities/user/root", "/entities/host/web1",
    "/events/compare?range=1h&with=day", "/events/compare?range=7d&with=week",
)  # fmt: skip
SEARCHES: tuple[dict[str, str | list[str]], ...] = (
    {},
    {"range": "7d"},
    {"range": "24h", "source": "web"},
    {"min_severity": "5"},
    {"min_severity": "3", "max_severity": "4", "category": "web"},
    {"q": "203.0.113.77"},
    {"q": "ip:203.0.113.77"},
    {"q": "src:198.51.100.0/24"},
    {"q": '"Accepted publickey"'},
    {"q": "nothing-has-this-word"},
    {"q": "user:root"},
    {"q": "user:admin42 outcome:failure"},
    {"q": "-user:root source:auth"},
    {"q": "status>=400"},
    {"q": "url:/cart"},
    {"q": "host:web1 severity>=3"},
    {"q": "has:user after:-3d"},
    {"q": "-has:user -source:web before:-2d"},
    {"before": "2500000"},
    {"q": "Failed", "before": "1000000"},
    {"sort": "oldest"},
    {"sort": "severity"},
    {"sort": "-severity"},
    {"sort": "time"},
    {"sort": "-time", "range": "24h"},
    {"sort": "source"},
    {"sort": "category", "past": "2500000"},
    {"sort": "source.ip", "column": ["source.ip", "user.name"]},
    {"sort": "-user.name", "past": "2500000", "column": ["user.name", "event.outcome"]},
)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--stored", type=int, default=5_000_000, help="events that the database holds")
    options.add_argument("--requests", type=int, default=40, help="per page")
    options.add_argument("--folder", help="of a database that stands already; without it one is built")
    options.add_argument("--quick", action="store_true", help="100,000 events, 10 requests per page")
    arguments = options.parse_args()
    stored, count = (100_000, 10) if arguments.quick else (arguments.stored, arguments.requests)
    with workshop() as folder:
        product = Product(arguments.folder or folder)
        if not arguments.folder:
            product.configure()
            begun = time.perf_counter()
            build(product, stored)
            print(f"{stored:,} events, {product.disk() / 1e6:,.0f} MB, made in {time.perf_counter() - begun:.0f} s")
        with product.serving() as web:
            reference = ask(web, REFERENCE, count)
            taken = {path: ask(web, path, count) for path in PAGES}
            for search in SEARCHES:
                path = f"/events?{urlencode(search, doseq=True)}".rstrip("?")
                taken[path] = ask(web, path, count)
    table = Table(f"Pages over {stored:,} events", "page", "p50", "p95", "p95 is", "target")
    for path, values in taken.items():
        p95 = percentile(values, 95)
        table.add(path, ms(percentile(values, 50)), ms(p95), times(p95, percentile(reference, 95)),
                  against(p95, FILTERED_P95_S))  # fmt: skip
    table.add(REFERENCE, ms(percentile(reference, 50)), ms(percentile(reference, 95)), "1.00 x", "")
    table.show()
    print(f"target: p95 {ms(FILTERED_P95_S)} at rest; a search that reads lines stops after a second and says so")


if __name__ == "__main__":
    main()
