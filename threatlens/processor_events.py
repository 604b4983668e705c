"""What a stored line is to others: an event for pages and sockets, something to tell, a count."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from threatlens.analyzers.heuristic import category
from threatlens.event import Decoded, Event, LogEntry
from threatlens.metrics import Histogram
from threatlens.notifications import Happening
from threatlens.processor_batch import Prepared
from threatlens.store import EventRow

#: Formats that are counted by name; a decoder that makes up names must not fill the memory.
MAX_FORMATS = 1_000
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_RULE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Counts:
    """What the processor counts while it runs. Its own thread writes, others read."""

    def __init__(self) -> None:
        self.formats: Counter[str] = Counter()
        self.ingest = Histogram(_SECONDS)  # from reading a line to its commit
        self.rules = Histogram(_RULE_SECONDS)  # what the rules take for a batch

    def add(self, decoded: Iterable[Decoded], origins: Iterable[LogEntry], now_s: float) -> None:
        """Count stored events; both run side by side."""
        formats = self.formats
        formats.update([one.format for one in decoded])
        for read_at, n in Counter([entry.timestamp for entry in origins]).items():
            self.ingest.add(max(0.0, now_s - read_at), n)
        while len(formats) > MAX_FORMATS:
            del formats[min(formats, key=formats.__getitem__)]

    def as_json(self) -> dict[str, Any]:
        """For metrics."""
        return {
            "formats": dict(self.formats),
            "ingest_seconds": self.ingest.as_json(),
            "rule_eval_seconds": self.rules.as_json(),
        }


def by_source(prepared: Prepared, first_id: int) -> Iterator[tuple[int, Sequence[Decoded], Sequence[str], int]]:
    """The stored events of a batch, one run of a source after the other: its id, events, lines, the last event's id."""
    start = 0
    for source_id, run in itertools.groupby(prepared.origins, key=lambda entry: entry.source_id):
        end = start + sum(1 for _ in run)
        yield source_id, prepared.decoded[start:end], prepared.texts[start:end], first_id + end - 1
        start = end


def happening(row: EventRow, decoded: Decoded, entry: LogEntry, place: int) -> Happening:
    """An event as something to tell: what one client or user does to one source is one thing."""
    who = row.source_ip or row.user_name or ""
    action = str(decoded.fields.get("event.action", decoded.format))
    details = {"source": entry.source_name, "address": row.source_ip, "user": row.user_name}
    return Happening(
        thread=f"{entry.source_id}|{action}|{who}",
        severity=row.severity,
        title=decoded.message,
        category=category(decoded),
        source=entry.source_name,
        timestamp_us=row.timestamp,
        place=place,
        details={name: value for name, value in details.items() if value},
    )


def events_of(prepared: Prepared, first_id: int) -> list[Event]:
    """The lines of a stored batch as events, without asking the database."""
    return [_event(prepared, place, first_id + place) for place in range(len(prepared.rows))]


def _event(prepared: Prepared, place: int, event_id: int) -> Event:
    row, decoded, entry = prepared.rows[place], prepared.decoded[place], prepared.origins[place]
    views = prepared.verdict.views_of(event_id) if prepared.verdict else ()
    fields = decoded.fields
    if row.original_bytes is not None:
        fields = {**fields, "event.original_bytes": row.original_bytes}
    return Event(
        id=event_id,
        timestamp_us=row.timestamp,
        ingested_us=row.ingested_at * 1000,
        source=entry.source_name,
        source_id=entry.source_id,
        path=entry.source_path,
        category=category(decoded),
        severity=row.severity,
        format=decoded.format,
        message=decoded.message,
        raw=prepared.texts[place],
        fields=fields,
        flags=row.flags,
        template_id=row.template_id,
        processing_time_s=row.processing_us / 1_000_000,
        detections=tuple(view.as_json() for view in views),
    )
