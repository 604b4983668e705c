"""What leaves ThreatLens: the report of a day with many events, exports of all of them, and an export read in again.

Memory is the peak of the server's processes; that of the process which draws the PDF is among them.
"""

from __future__ import annotations

import argparse
import datetime as dt
import http.client
import json
import os
import time
import urllib.parse
from collections.abc import Iterator

from benchmarks.product import Product, Web, workshop
from benchmarks.table import Table, against

REPORT_S = 20.0
#: What the peak may grow by while a report is made; and while an export goes on behind its first lines.
REPORT_BYTES, EXPORT_BYTES, FIRST_LINES = 64 << 20, 15 << 20, 100_000
#: What an event that came back may differ in: where and when it was read, and what was known of it there.
OF_THE_READING = frozenset(
    ("event.id", "event.ingested", "threatlens.source", "threatlens.flags", "threatlens.rules", "log.file.path",
     "threatlens.category", "event.severity", "threatlens.export")
)  # fmt: skip


def make_report(web: Web) -> float:
    """A report of yesterday and today, as a person asks for it; the seconds until its page is there."""
    today = dt.datetime.now(dt.UTC).date()
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=120)
    headers = {"Cookie": web.cookie}
    connection.request("GET", "/reports", headers=headers)
    answer = connection.getresponse()
    token = answer.read().decode().split('name="csrf_token" value="')[1].split('"')[0]
    if answer.getheader("Set-Cookie"):  # the session that the token belongs to
        headers["Cookie"] = answer.getheader("Set-Cookie", "").split(";")[0]
    form = {"csrf_token": token, "first": str(today - dt.timedelta(days=1)), "last": str(today)}
    begun = time.perf_counter()
    connection.request("POST", "/reports", urllib.parse.urlencode(form),
                       {**headers, "Content-Type": "application/x-www-form-urlencoded"})  # fmt: skip
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != 303 or "/reports/" not in (answer.getheader("Location") or ""):
        raise RuntimeError(f"the report answered {answer.status}, {answer.getheader('Location')}: {said[:500]!r}")
    taken = time.perf_counter() - begun
    connection.request("GET", answer.getheader("Location"), headers=headers)
    page = connection.getresponse()
    page.read()
    connection.close()
    if page.status != 200:
        raise RuntimeError(f"the report's page answered {page.status}")
    return taken


def export(web: Web, form: str, path: str) -> tuple[float, int, int]:
    """Everything, into a file: seconds, bytes, and how many bytes the peak grew by behind the first lines."""
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=120)
    begun = time.perf_counter()
    connection.request("GET", f"/api/v1/events/export?format={form}", headers={"Authorization": f"Bearer {web.token}"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"the export answered {answer.status}")
    lines, peak = 0, 0
    with open(path, "wb") as file:
        while piece := answer.read(1 << 20):
            file.write(piece)
            lines += piece.count(b"\n")
            if not peak and lines >= FIRST_LINES:
                peak = web.memory("VmHWM")
    connection.close()
    grew = web.memory("VmHWM") - peak if peak else 0
    return time.perf_counter() - begun, os.path.getsize(path), grew


def documents(path: str) -> Iterator[dict[str, object]]:
    """The events of an export, without what belongs to the reading."""
    with open(path, "rb") as file:
        for line in file:
            yield {name: value for name, value in json.loads(line).items() if name not in OF_THE_READING}


def come_back(folder: str, first: str) -> tuple[float, int, int]:
    """Read an export in elsewhere and export it there: seconds of reading, events, and how many are not equal."""
    other = Product(folder)
    begun = time.perf_counter()
    other.command("ingest", "--source", "again", first)
    taken = time.perf_counter() - begun
    second = os.path.join(folder, "second.ndjson")
    with other.serving() as web:
        export(web, "ndjson", second)
    pairs = list(zip(documents(first), documents(second), strict=True))
    return taken, len(pairs), sum(one != two for one, two in pairs)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=1_000_000, help="in the report and the exports")
    options.add_argument("--back", type=int, default=100_000, help="events that are read in again")
    arguments = options.parse_args()
    table = Table(f"What leaves, {arguments.events:,} events", "what", "seconds", "size", "peak grew by", "verdict")
    with workshop() as folder:
        product = Product(folder)
        product.fill(arguments.events)
        with product.serving() as web:
            before = web.memory("VmHWM")
            taken = make_report(web)
            grew = web.memory("VmHWM") - before
            in_time, in_memory = against(taken, REPORT_S), against(grew, REPORT_BYTES)
            table.add("report of the day, with its PDF", f"{taken:,.2f}", "-", f"{grew / 2**20:,.0f} MiB",
                      f"{in_time}, memory {in_memory}")  # fmt: skip
            for form in ("csv", "ndjson", "json"):
                taken, size, grew = export(web, form, os.path.join(folder, f"all.{form}"))
                table.add(f"export as {form}", f"{taken:,.1f}", f"{size / 2**20:,.0f} MiB", f"{grew / 2**20:,.0f} MiB",
                          against(grew, EXPORT_BYTES))  # fmt: skip
                os.unlink(os.path.join(folder, f"all.{form}"))
    with workshop() as folder:
        product = Product(os.path.join(folder, "one"))
        for kind in ("sshd", "nginx", "json"):
            product.fill(arguments.back // 3 + (arguments.back % 3 if kind == "sshd" else 0), kind, f"filled-{kind}")
        first = os.path.join(folder, "first.ndjson")
        with product.serving() as web:
            export(web, "ndjson", first)
        taken, events, unequal = come_back(os.path.join(folder, "two"), first)
        table.add(f"{events:,} events read in again", f"{taken:,.1f}", f"{os.path.getsize(first) / 2**20:,.0f} MiB",
                  "-", "equal" if not unequal else f"{unequal:,} differ")  # fmt: skip
    table.show()


if __name__ == "__main__":
    main()
