"""The list of events in a real browser while thousands of lines a second arrive: does the page stay smooth, and small?

Counted in the tab: tasks over 50 ms (the browser's own measure of a page that hangs), memory after its
garbage was collected, rows, and boxes that moved. Needs Chromium and Playwright (requirements-dev.txt).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import threading
import time
from typing import Any

from benchmarks import corpus
from benchmarks.product import Product, wait_for, workshop
from benchmarks.table import Table, against

LONGEST_TASK_MS, GROWTH = 200, 1.25
MOST_SHIFTED = 0.01  # of the window's size and height; a page is called steady up to 0.1 within five seconds
STEP_S = 0.05  # between two writes
WATCH = """
window.long = [];
window.shifted = 0;
new PerformanceObserver((list) => { for (const one of list.getEntries()) window.long.push(one.duration); })
  .observe({ type: "longtask", buffered: true });
new PerformanceObserver((list) => { for (const one of list.getEntries()) window.shifted += one.value; })
  .observe({ type: "layout-shift", buffered: true });
"""
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-precise-memory-info"]


class Writer:
    """Appends lines at an even rate, for so many seconds."""

    def __init__(self, path: str, lines: list[bytes], rate: int, seconds: float) -> None:
        self.path, self.lines, self.rate, self.seconds = path, lines, rate, seconds
        self.written = 0
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        begun = time.monotonic()
        with open(self.path, "ab", buffering=0) as file:
            while (passed := time.monotonic() - begun) < self.seconds:
                due = int(passed * self.rate)
                batch = [self.lines[number % len(self.lines)] for number in range(self.written, due)]
                file.write(b"".join(batch))
                self.written = due
                time.sleep(STEP_S)


def used(tab: Any, debugger: Any) -> tuple[float, int]:
    """Megabytes of the tab's heap once its garbage is gone, and rows of the list."""
    debugger.send("HeapProfiler.collectGarbage")
    heap = tab.evaluate("performance.memory.usedJSHeapSize") / 1e6
    return heap, tab.evaluate("document.querySelectorAll('tr.event').length")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rate", type=int, default=10_000, help="lines a second")
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--quick", action="store_true", help="2,000 lines a second for ten seconds")
    arguments = options.parse_args()
    rate, seconds = (2_000, 10.0) if arguments.quick else (arguments.rate, arguments.seconds)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("Chromium is needed: apt install chromium")
    from playwright.sync_api import sync_playwright

    with workshop() as folder, sync_playwright() as playwright:
        product = Product(folder)
        product.configure()
        sample = os.path.join(folder, "sample.txt")
        corpus.write(sample, "sshd", 50_000)
        with open(sample, "rb") as file:
            lines = file.read().splitlines(keepends=True)
        with product.serving() as web:
            browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
            context = browser.new_context(viewport={"width": 1440, "height": 900}, timezone_id="UTC")
            name, _, value = web.cookie.partition("; ")[0].partition("=")
            site = f"http://127.0.0.1:{web.port}"
            context.add_cookies([{"name": name, "value": value, "url": site}])
            tab = context.new_page()
            debugger = context.new_cdp_session(tab)
            tab.goto(site + "/events")
            tab.wait_for_selector('#connection[data-state="live"]', state="attached")
            tab.evaluate(WATCH)
            writer = Writer(os.path.join(product.logs, "live.log"), lines, rate, seconds)
            writer.thread.start()
            heaps: list[float] = []
            rows = 0
            while writer.thread.is_alive():
                tab.wait_for_timeout(1000 * seconds / 12)
                heap, rows = used(tab, debugger)
                heaps.append(heap)
            writer.thread.join()
            late = wait_for("every line stored", lambda: product.last_id() >= writer.written, timeout_s=120)
            long = tab.evaluate("window.long")
            shifted = tab.evaluate("window.shifted")
            marked = tab.locator("tr.gap").count()
            stored = product.last_id()
            browser.close()
    settled, last = heaps[len(heaps) // 4], heaps[-1]
    table = Table(f"The list of events while {writer.written / seconds:,.0f} lines/s arrive for {seconds:.0f} s",
                  "measure", "value", "target")  # fmt: skip
    longest = max(long, default=0.0)
    table.add("longest task of the tab", f"{longest:.0f} ms", against(longest, LONGEST_TASK_MS))
    table.add("tasks over 50 ms", str(len(long)), "")
    table.add("layout shifts, all together", f"{shifted:.4f}", against(shifted, MOST_SHIFTED))
    table.add("heap after a quarter of the time", f"{settled:.1f} MB", "")
    table.add("heap at the end", f"{last:.1f} MB", against(last, settled * GROWTH))
    table.add("rows in the page", str(rows), against(rows, 600))
    table.add("marks that say what is left out", str(marked), against(marked, 1, at_least=True))
    table.add(
        "stored of what was written",
        f"{stored:,} of {writer.written:,}",
        against(stored, writer.written, at_least=True),
    )
    table.add("stored how long after the last line", f"{late:.1f} s", "")
    table.show()


if __name__ == "__main__":
    main()
