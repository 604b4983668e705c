"""What each step of a line's way costs the processor, in one process, and the share of the analysis in it.

Run: python -m benchmarks.stages [--lines 60000]. The lines are those of the pipeline benchmark, a backlog of them
(three batches a transaction), into a fresh database, with the shipped rules. The analysis is what rates a line: its
severity and category, the shape of lines that nobody decodes, the sum of what matched, and the story of each incident.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import gc
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from benchmarks import corpus, decode
from benchmarks.product import workshop
from benchmarks.table import Table, against
from threatlens import incidents, processor
from threatlens.broadcaster import EventBroadcaster
from threatlens.decoders import SourceDecoder
from threatlens.detection import Detector, Verdict
from threatlens.detectors import BUILTIN, DetectionEngine, load_rules, load_tables
from threatlens.event import LogEntry
from threatlens.ingestion_queue import RealtimeIngestionQueue
from threatlens.processor import QueueProcessor
from threatlens.settings import load_settings, prepare_data_folder
from threatlens.store import EventStore
from threatlens.store_database import connect
from threatlens.store_schema import migrate

ANALYSIS_TARGET = 0.10  # of the whole
BATCH, BATCHES = 2_000, 3
READ_AT_S = 1_795_435_200.0
_END = dt.datetime.fromtimestamp(READ_AT_S, dt.UTC)
#: What is timed by itself, and which of it is analysis. One step may hold another: "severity" is part of "prepare".
STEPS = {
    "decode": (SourceDecoder, "decode", False),
    "severity": (processor, "severity", True),
    "category": (processor, "category", True),
    "shape": (QueueProcessor, "_template_id", True),
    "rules": (DetectionEngine, "detect", False),
    "sum": (Verdict, "severities", True),
    "story": (incidents, "severity_factors", True),
    "title": (incidents, "title", True),
}


class Clocks:
    """Processor seconds by step."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    @contextlib.contextmanager
    def around(self, name: str) -> Iterator[None]:
        owner, attribute, _ = STEPS[name]
        real: Callable[..., Any] = getattr(owner, attribute)
        seconds, calls, clock = self.seconds, self.calls, time.thread_time

        def timed(*arguments: Any, **named: Any) -> Any:
            begun = clock()
            try:
                return real(*arguments, **named)
            finally:
                seconds[name] += clock() - begun
                calls[name] += 1

        with mock.patch.object(owner, attribute, timed):
            yield

    def cost_of_a_look(self) -> float:
        """Seconds that one timing takes by itself and is counted in what it times."""
        begun = time.thread_time()
        for _ in range(100_000):
            time.thread_time()
        return (time.thread_time() - begun) / 100_000


def unknown(count: int) -> list[str]:
    dice = random.Random(1)
    return [decode.unknown(dice, number) + "\n" for number in range(count)]


def entries_of(kind: str, count: int, stream_id: int, source_id: int) -> list[LogEntry]:
    """The lines as a reader hands them over, in batches."""
    lines = unknown(count) if kind == "unknown" else list(corpus.generate(kind, count, seed=1, end=_END))
    found, at = [], 0
    for start in range(0, count, BATCH):
        content = "".join(lines[start : start + BATCH]).encode()
        found.append(
            LogEntry(
                stream_id, source_id, "bench", "/bench.log", content, at, at + len(content), content.count(b"\n"), 5,
                READ_AT_S, "utf-8", 0, 0, b"f",
            )
        )  # fmt: skip
        at += len(content)
    return found


def run(kind: str, count: int, timed: tuple[str, ...]) -> tuple[dict[str, float], Clocks]:
    """Processor seconds of the two halves of the processor, and of the steps that were timed."""
    with workshop() as folder, contextlib.ExitStack() as stack:
        settings = load_settings({"THREATLENS_DATA": os.path.join(folder, "data")})
        prepare_data_folder(settings)
        migrate(settings)
        store = EventStore(connect(settings.database_url))
        source_id = store.put_api_source("bench", "auto")
        stream_id = store.create(source_id, path=b"/bench.log", device=1, inode=1, compressed=False, position=0)
        detector = Detector(store, DetectionEngine(load_rules([BUILTIN]), load_tables()))
        made = QueueProcessor(
            RealtimeIngestionQueue(), store, EventBroadcaster(), on_refused=lambda _: None, detector=detector
        )
        entries = entries_of(kind, count, stream_id, source_id)
        clocks = Clocks()
        for name in timed:
            stack.enter_context(clocks.around(name))
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        took = {"prepare": 0.0, "finish": 0.0}
        for place in range(0, len(entries), BATCHES):
            if place == BATCHES:  # the first transaction warms up
                took = dict.fromkeys(took, 0.0)
                clocks.seconds.clear()
                clocks.calls.clear()
            begun = time.process_time()
            ready = [made._prepare([entry]) for entry in entries[place : place + BATCHES]]  # noqa: SLF001
            for more in ready[1:]:
                ready[0].add(more)
            middle = time.process_time()
            made._finish(ready[0], lambda _: False)  # noqa: SLF001
            took["prepare"] += middle - begun
            took["finish"] += time.process_time() - middle
        store.database.engine.dispose()
        return took, clocks


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=60_000)
    arguments = options.parse_args()
    table = Table(
        "Processor time per line, us", "lines", "whole", "decode half", "store half", "decoding", "rules", "analysis",
        "its share", "target",
    )  # fmt: skip
    counted = max(arguments.lines - BATCH * BATCHES, 1)
    for kind in (*corpus.KINDS, "unknown"):
        halves, _ = run(kind, arguments.lines, ())
        whole = sum(halves.values())
        _, clocks = run(kind, arguments.lines, tuple(STEPS))
        look = clocks.cost_of_a_look()
        taken = {name: max(0.0, clocks.seconds[name] - clocks.calls[name] * look) for name in STEPS}
        analysis = sum(seconds for name, seconds in taken.items() if STEPS[name][2])
        cells = [whole, halves["prepare"], halves["finish"], taken["decode"], taken["rules"], analysis]
        share = analysis / whole
        table.add(
            kind,
            *(f"{seconds / counted * 1e6:.1f}" for seconds in cells),
            f"{share:.1%}",
            against(share, ANALYSIS_TARGET),
        )
    table.show()
    print(f"target: the analysis at most {ANALYSIS_TARGET:.0%} of the whole")


if __name__ == "__main__":
    main()
