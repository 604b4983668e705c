"""Measurements in the text form of Prometheus, and the histograms that are kept while ThreatLens runs.

Labels are bounded: sources, formats, rules and channels have names that people gave; addresses and users never become
one. What a table counts is read from there, so it does not begin anew with the process.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from threatlens.store import EventStore
from threatlens.store_sources import SourceView

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Series of one family that are shown at the most; rules are many.
MAX_SERIES = 2_000
Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Family:
    """Metrics of one name."""

    name: str  # without the prefix
    kind: str  # counter, gauge, histogram
    help: str
    samples: Sequence[tuple[str, Labels, float]] = field(default=())  # (suffix, labels, value)


class Histogram:
    """Counts of how long something took. One thread writes; others may read at any time."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float, n: int = 1) -> None:
        """n observations of this value, in seconds."""
        self._counts[bisect_left(self._bounds, value)] += n
        self._sum += value * n

    def as_json(self) -> dict[str, Any]:
        """Bounds, counts (not cumulative, one more than bounds) and the sum of values."""
        return {"bounds": list(self._bounds), "counts": list(self._counts), "sum": round(self._sum, 6)}


def histogram_samples(values: Mapping[str, Any] | None) -> list[tuple[str, Labels, float]]:
    """A histogram's samples as Prometheus has them, from as_json()."""
    if not values:
        return []
    samples: list[tuple[str, Labels, float]] = []
    total = 0
    for bound, count in zip([*map(str, values["bounds"]), "+Inf"], values["counts"], strict=True):
        total += count
        samples.append(("_bucket", {"le": bound}, total))
    return [*samples, ("_sum", {}, values["sum"]), ("_count", {}, total)]


def render(families: Iterable[Family]) -> str:
    """The text form 0.0.4. A family without samples is left out."""
    lines = []
    for family in families:
        if not family.samples:
            continue
        name = f"threatlens_{family.name}"
        lines.append(f"# HELP {name} {_escaped(family.help)}")
        lines.append(f"# TYPE {name} {family.kind}")
        for suffix, labels, value in family.samples[: MAX_SERIES * 20]:
            pairs = ",".join(f'{key}="{_escaped(text, quotes=True)}"' for key, text in labels.items())
            lines.append(f"{name}{suffix}{{{pairs}}} {_number(value)}" if pairs else f"{name}{suffix} {_number(value)}")
    return "\n".join([*lines, ""])


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def gauge(name: str, help_text: str, *samples: tuple[Labels, float]) -> Family:
    """A value that goes up and down."""
    return Family(name, "gauge", help_text, [("", labels, value) for labels, value in samples])


def counter(name: str, help_text: str, *samples: tuple[Labels, float]) -> Family:
    """A value that only grows; name ends in _total."""
    return Family(name, "counter", help_text, [("", labels, value) for labels, value in samples[:MAX_SERIES]])


def _sight(status: Mapping[str, Any], names: Mapping[int, str]) -> list[Family]:
    """What is seen: rules that can fire, and what is understood of each source."""
    coverage = status.get("coverage") or {}
    habits = [(names[int(key)], each) for key, each in status.get("habits", {}).items() if int(key) in names]
    ruled: list[tuple[Labels, float]] = []
    if coverage:
        states = {"fire": coverage["can_fire"], "failing": len(coverage["failing"]), "absent": len(coverage["absent"])}
        ruled = [({"state": state}, n) for state, n in states.items()]
    return [
        gauge("rules", "Rules whose own samples match, do not, and those that no source here gives lines for.", *ruled),
        gauge(
            "source_yield_ratio",
            "The usual share of a source's lines that are understood, have an action, are about logging in.",
            *[({"source": name, "kind": kind}, n) for name, each in habits for kind, n in each["yields"].items()],
        ),
        gauge(
            "source_usual_lines_per_hour",
            "Lines that usually come in this hour of the week.",
            *[({"source": name}, each["lines_per_hour"]) for name, each in habits],
        ),
        gauge(
            "source_silent",
            "1 while a source is silent at an hour at which it never was.",
            *[({"source": name}, int(each["silent"])) for name, each in habits],
        ),
        gauge(
            "source_detection_lost",
            "Kinds of lines of a source that are not read any more.",
            *[({"source": name}, len(each["lost"])) for name, each in habits],
        ),
    ]


def collect(
    status: Mapping[str, Any],
    store: EventStore,
    *,
    version: str,
    database_path: str,
    now_us: int,
    sockets: int,
    redis: Mapping[str, int] | None = None,
) -> list[Family]:
    """Everything that is measured; raises StoreUnavailable and QueryTimeout.

    status: what the engine last said about itself, {} without one. sockets: open ones of this process.
    redis: what this process sent through it and received; None: it is not used.
    """
    sources, sums, dead = store.sources(), store.sums(), store.dead_by_source()
    names = {view.id: view.source_name for view in sources}
    counts, queue, behind = status.get("counts", {}), status.get("queue", {}), status.get("behind", {})

    def of_sources(value: Callable[[SourceView], float]) -> list[tuple[Labels, float]]:
        return [({"source": view.source_name}, value(view)) for view in sources]

    used, free = store.database_pages()
    families = [
        gauge("build_info", "The version that runs.", ({"version": version}, 1)),
        gauge("up", "1 while an engine runs.", ({}, 1 if status else 0)),
        counter("source_lines_total", "Lines read and stored.", *of_sources(lambda view: view.lines)),
        counter("source_bytes_total", "Bytes read and stored.", *of_sources(lambda view: view.bytes)),
        counter("source_events_total", "Events stored.", *of_sources(lambda view: view.events)),
        counter("lines_unparsed_total", "Events that no decoder knows.", *of_sources(lambda view: view.unknown)),
        counter(
            "lines_dropped_total",
            "Lines that did not become events. They are kept, and can be replayed.",
            *[
                ({"source": names[source_id], "reason": "dead_letter"}, n)
                for source_id, n in dead.items()
                if source_id in names
            ],
        ),
        gauge(
            "source_last_event_timestamp_seconds",
            "When the last event of a source was stored.",
            *of_sources(lambda view: view.last_event_us / 1e6),
        ),
        gauge(
            "source_lag_bytes",
            "Bytes in the files of a source that are not read yet.",
            *of_sources(lambda view: behind.get(view.source_name, 0)),
        ),
        gauge(
            "source_lag_seconds",
            "Seconds since the last event of a source that is behind; 0 at the end of its files.",
            *of_sources(
                lambda view: max(0, now_us - view.last_event_us) / 1e6 if behind.get(view.source_name) else 0
            ),
        ),
        counter(
            "source_vanished_files_total",
            "Files that were gone before they could be opened, since the engine started.",
            *of_sources(lambda view: status.get("vanished", {}).get(view.source_name, 0)),
        ),
        gauge(
            "source_state",
            "1 for the state that a source is in.",
            *[({"source": view.source_name, "state": view.state}, 1) for view in sources],
        ),
        gauge(
            "component_healthy",
            "1 where a part of ThreatLens is well or not used.",
            *[
                ({"component": each["name"]}, 1 if each["state"] in ("ok", "off", "starting") else 0)
                for each in status.get("components", ())
            ],
        ),
        counter(
            "events_total",
            "Events stored since the engine started.",
            *[({"format": name}, n) for name, n in counts.get("formats", {}).items()],
        ),
        counter("rule_matches_total", "Matches of a rule.", *[({"rule": row[0]}, row[1]) for row in sums["rules"]]),
        counter("alerts_total", "Incidents.", *[({"severity": str(row[0])}, row[1]) for row in sums["alerts"]]),
        gauge("incidents_open", "Incidents that nobody closed.",
              *[({"severity": str(row[0])}, row[1]) for row in sums["open"]]),
        counter("notifications_total", "Messages to channels.",
                *[({"channel": row[0], "result": row[1]}, row[2]) for row in sums["notifications"]]),
        gauge("db_size_bytes", "Bytes of the database in use.", ({}, used)),
        gauge("db_free_bytes", "Bytes inside the database file that are free.", ({}, free)),
        gauge("websocket_clients", "Open sockets of this process.", ({}, sockets)),
        counter("correlation_groups_evicted_total",
                "Groups (addresses, say) that correlations forgot to make room, since the rules were loaded.",
                ({}, counts.get("groups_evicted", 0))),
        Family("rule_eval_seconds", "histogram", "What the rules take for a batch.",
               histogram_samples(counts.get("rule_eval_seconds"))),
        Family("ingest_seconds", "histogram", "From reading a line to its commit, rules included.",
               histogram_samples(counts.get("ingest_seconds"))),
    ]  # fmt: skip
    families += _sight(status, names)
    if queue:
        families += [
            gauge("queue_depth", "Lines between reading and storing.", ({}, queue["lines"])),
            gauge("queue_bytes", "Bytes between reading and storing.", ({}, queue["bytes"])),
            gauge("process_resident_memory_bytes", "Memory of the engine.", ({}, status["memory_bytes"])),
            counter("retries_total", "Times a batch had to wait for the database.", ({}, status["retries"])),
        ]
    if redis is not None:
        families += [
            gauge("redis_up", "1 while Redis answers this process.", ({}, redis["up"])),
            counter("redis_messages_total", "What this process told others, and heard of them.",
                    *[({"direction": each}, redis[each]) for each in ("sent", "received")]),
            counter("redis_failures_total", "Times that Redis did not do what it was asked.", ({}, redis["failures"])),
        ]  # fmt: skip
    try:
        free_on_disk = os.statvfs(os.path.dirname(database_path))
        families.append(gauge("disk_free_bytes", "Free where the database is.",
                              ({}, free_on_disk.f_bavail * free_on_disk.f_frsize)))  # fmt: skip
    except OSError:
        pass
    return families
