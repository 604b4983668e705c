"""Events on their way out: CSV for spreadsheets, NDJSON in ECS that can be read in again, JSON as the API shows it.

An export is written page by page in the order of arrival, so it takes the same memory at any size. What log lines say
stays text: a cell that a spreadsheet would calculate begins with an apostrophe.
"""

from __future__ import annotations

import datetime as dt
import errno
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson

from threatlens.decoders.exported import FORMAT, LINE, MARK, VERSION
from threatlens.event import Event, EventFilter, rfc3339
from threatlens.store import EventStore

PAGE_EVENTS = 250
#: What a spreadsheet takes for the beginning of a formula, or skips in front of one; the wide forms count as well.
_CALCULATED = frozenset("=+-@\t\r\n\0\uff1d\uff0b\uff0d\uff20")
BOM = b"\xef\xbb\xbf"
#: Columns of a CSV file that hold one field each.
FIELD_COLUMNS = (
    "event.action", "event.outcome", "source.ip", "source.port", "destination.ip", "user.name", "host.name",
    "process.name", "url.original", "http.response.status_code",
)  # fmt: skip
COLUMNS = (
    "id", "@timestamp", "source", "category", "severity", "format", *FIELD_COLUMNS, "rules", "flags", "message",
    "raw", "fields",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Form:
    """One form that events can leave in."""

    name: str
    media: str  # content type
    about: str
    write: Callable[[Iterable[Sequence[Event]]], Iterator[bytes]]  # pages of events -> pieces of the file


@dataclass
class Export:
    """One export under way: how far it is, and whether it goes on."""

    id: int
    who: str
    form: str
    asked: str  # the filter, as it was asked for
    events: int = 0
    at_id: int = 0  # the last event that was looked at
    last_id: int = 0  # the last that will be
    cancelled: bool = False

    @property
    def share(self) -> float:
        """The part of what is stored that was gone through, 0 to 1."""
        return self.at_id / self.last_id if self.last_id else 0.0


class Exports:
    """The exports of one process that are under way; safe to use from any thread."""

    def __init__(self, most: int, most_of_one: int) -> None:
        """most, most_of_one: at once, in all and of one person or token."""
        self._most, self._most_of_one = most, most_of_one
        self._open: dict[int, Export] = {}
        self._number = 0
        self._lock = threading.Lock()

    def begin(self, who: str, form: str, asked: str) -> Export | None:
        """A place for one more; None: as many as there may be are under way."""
        with self._lock:
            theirs = sum(export.who == who for export in self._open.values())
            if len(self._open) >= self._most or theirs >= self._most_of_one:
                return None
            self._number += 1
            export = self._open[self._number] = Export(self._number, who, form, asked)
        return export

    def end(self, export: Export) -> None:
        """It is over, however it ended."""
        with self._lock:
            self._open.pop(export.id, None)

    def of(self, who: str) -> list[Export]:
        """Those that this somebody asked for, the oldest first."""
        with self._lock:
            return [export for export in self._open.values() if export.who == who]

    def cancel(self, export_id: int, who: str) -> bool:
        """Let it end after the page that it is at; False: they have none with this id."""
        with self._lock:
            export = self._open.get(export_id)
            if export is None or export.who != who:
                return False
            export.cancelled = True
        return True


def events_of(store: EventStore, where: EventFilter, export: Export | None = None) -> Iterator[Sequence[Event]]:
    """The events that are stored now and fit, page by page in the order of arrival; how far it is stands in `export`.

    Raises QueryTimeout and StoreUnavailable between pages, ConnectionResetError where it was cancelled.
    """
    last_id, after = store.last_id(), 0
    export = export or Export(0, "", "", "")
    export.last_id = last_id
    while after < last_id:
        if export.cancelled:  # the web server breaks the transfer off, so that the reader sees that it is not whole
            raise ConnectionResetError(errno.ECONNRESET, "the export was cancelled")
        found = store.page(where, after=after, before=last_id + 1, limit=PAGE_EVENTS)
        export.at_id = found.stopped_at or (found[-1].id if found else last_id)
        export.events += len(found)
        if found:
            yield found
        if len(found) < PAGE_EVENTS and found.stopped_at is None:
            return
        after = found[-1].id if len(found) == PAGE_EVENTS or found.stopped_at is None else found.stopped_at


def inert(text: str) -> str:
    """A cell that no spreadsheet calculates."""
    return "'" + text if text[:1] in _CALCULATED else text


def _csv(pages: Iterable[Sequence[Event]]) -> Iterator[bytes]:
    yield _line(COLUMNS).encode()
    for events in pages:
        yield "".join([_line(_row(event)) for event in events]).encode("utf-8", "replace")


def _line(cells: Iterable[str]) -> str:
    """A line as RFC 4180 has it, every cell in quotes; made here, as csv.writer takes thrice as long."""
    return '"' + '","'.join([inert(cell).replace('"', '""') for cell in cells]) + '"\r\n'


def _row(event: Event) -> list[str]:
    fields = event.fields
    return [
        str(event.id), rfc3339(event.timestamp_us), event.source, event.category, str(event.severity), event.format,
        *[_cell(fields[name]) if name in fields else "" for name in FIELD_COLUMNS],
        ", ".join([match["rule.name"] for match in event.detections]), ", ".join(event.flag_names), event.message,
        event.raw, _json(fields).decode(),
    ]  # fmt: skip


def _cell(value: object) -> str:
    return value if isinstance(value, str) else ", ".join(value) if isinstance(value, list) else str(value)


def as_ecs(event: Event) -> dict[str, Any]:
    """The event as one flat ECS document; decoders.exported reads it again, from the first four members alone."""
    own = {
        MARK: VERSION,
        "@timestamp": rfc3339(event.timestamp_us),
        FORMAT: event.format,
        LINE: event.raw,
        "message": event.message,
        "event.id": str(event.id),
        "event.ingested": rfc3339(event.ingested_us),
        "event.severity": event.severity,
        "threatlens.category": event.category,
        "threatlens.source": event.source,
        "log.file.path": event.path,
        "threatlens.flags": event.flag_names,
        "threatlens.rules": [match["rule.name"] for match in event.detections],
    }
    return {**own, **{name: value for name, value in event.fields.items() if name not in own}}


def _ndjson(pages: Iterable[Sequence[Event]]) -> Iterator[bytes]:
    for events in pages:
        yield b"".join(_json(as_ecs(event)) + b"\n" for event in events)


def _array(pages: Iterable[Sequence[Event]]) -> Iterator[bytes]:
    before = b"[\n"
    for events in pages:
        for event in events:
            yield before + _json(event.as_json())
            before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"


def _json(document: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(document)
    except TypeError:  # a number beyond 64 bits, or half a character
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        form.name: form
        for form in (
            Form("csv", "text/csv; charset=utf-8; header=present", "CSV, for spreadsheets", _csv),
            Form("ndjson", "application/x-ndjson", "NDJSON in ECS, can be read in again", _ndjson),
            Form("json", "application/json", "JSON, as the API shows events", _array),
        )
    }
)


def pieces(
    store: EventStore, where: EventFilter, form: str, *, bom: bool = False, export: Export | None = None
) -> Iterator[bytes]:
    """The file, piece by piece. bom: a CSV file begins with the mark that some spreadsheets know UTF-8 by."""
    if bom and form == "csv":
        yield BOM
    yield from FORMS[form].write(events_of(store, where, export))


def file_name(form: str, now_us: int) -> str:
    """What the file is called: letters, digits, "-" and "." only."""
    moment = dt.datetime.fromtimestamp(now_us / 1e6, dt.UTC)
    return f"threatlens-events-{moment:%Y%m%dT%H%M%SZ}.{form}"
