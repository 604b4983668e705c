"""The API's reading side: events a page at a time, one event, and what the counters say.

A cursor is signed and remembers the listing it belongs to, with the moment that relative times count from: a listing is
the same filter from its first page to its last.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Annotated, Any, Literal

from flask import current_app
from itsdangerous import BadSignature, URLSafeSerializer
from pydantic import Field
from werkzeug.wrappers import Response

from threatlens.analysis import of_event
from threatlens.clock import now_us
from threatlens.errors import QueryError
from threatlens.event import EventFilter
from threatlens.query import MAX_LENGTH, both, parse_query, parse_time
from threatlens.web.api_values import QUERY, TIME
from threatlens.web.auth import actor, within
from threatlens.web.context import services
from threatlens.web.exporting import stream
from threatlens.web.operations import DIGITS, Shape, operation
from threatlens.web.problems import ProblemError

MAX_PAGE = 500
LAST_ID = 2**62  # beyond any event, and one more still fits the database's integers
MAX_CURSOR = 200  # characters

EventId = Annotated[int, Field(ge=0, le=LAST_ID), DIGITS]
Severity = Annotated[int, Field(ge=1, le=10), DIGITS]
Names = Annotated[str, Field(max_length=1_000)]


class FilterQuery(Shape):
    """Which events."""

    q: Annotated[
        str, Field(max_length=MAX_LENGTH, pattern=QUERY, description="words, phrases and fields: docs/api.md")
    ] = ""
    min_severity: Severity = 1
    max_severity: Severity = 10
    category: Annotated[Names, Field(description="one category, or several with commas")] = ""
    source: Annotated[Names, Field(description="the name of one source, or several with commas")] = ""
    start: Annotated[str, Field(pattern=TIME, description="event time from then on: ISO 8601 or relative (-2h)")] = ""
    end: Annotated[str, Field(pattern=TIME, description="event time before then")] = ""

    def where(self, now: int) -> EventFilter:
        """The filter, with relative times counted from `now` (microseconds since the epoch); raises QueryError."""
        named = EventFilter(
            min_severity=self.min_severity,
            max_severity=self.max_severity,
            categories=_names(self.category.lower()),
            sources=_names(self.source),
            start_us=_time("start", self.start, now),
            end_us=_time("end", self.end, now),
        )
        return both(parse_query(self.q, now_us=now), named)


class EventsQuery(FilterQuery):
    """Which events, and how many at a time."""

    after: Annotated[EventId | None, Field(description="ids above this, oldest first: insertion order")] = None
    before: Annotated[EventId | None, Field(description="ids below this, newest first")] = None
    cursor: Annotated[str, Field(description="`next` of the page before; the filter stays the same")] = ""
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE), DIGITS] = 100

    def listing(self) -> str:
        """What a cursor must belong to: a hash of everything but the place in the listing."""
        text = self.model_dump_json(exclude={"after", "before", "cursor", "limit"})
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class FactorShape(Shape):
    """One addend of a severity."""

    name: str
    points: int
    why: str


class AnalysisShape(Shape):
    """Why it is this severe, what it means, and what to do; the points of the factors add up to the severity."""

    severity: Annotated[int, Field(ge=1, le=10)]
    factors: list[FactorShape]
    explanation: Annotated[str, Field(description="plain text; commands stand between backquotes")]
    recommendations: list[str]
    source: Annotated[Literal["rules", "model"], Field(description="who wrote the explanation")]


class ModelShape(Shape):
    """What a language model adds; it changes nothing. Plain text that was checked against the evidence."""

    state: Literal["done", "failed"]
    provider: str
    model: str
    prompt_version: str
    explanation: str
    recommendations: list[str]
    severity: Annotated[int | None, Field(description="the model's opinion; used for nothing")]
    confidence: str
    dropped_sentences: int
    contains_instructions: Annotated[bool, Field(description="the evidence talks to a model")]
    input_tokens: int
    output_tokens: int
    error: str
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class ExportQuery(FilterQuery):
    """Which events, and in which form they leave."""

    format: Annotated[Literal["csv", "ndjson", "json"], Field(description="docs/exports.md")]
    bom: Annotated[Literal["0", "1"], Field(description="1: a CSV file begins with a byte order mark")] = "0"


class EventShape(Shape):
    """One event."""

    id: int
    timestamp: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    ingested_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    source: str
    path: str
    category: str
    severity: Annotated[int, Field(ge=1, le=10)]
    message: str
    raw: str
    format: str
    fields: Annotated[dict[str, str | int | float | bool | list[str]], Field(description="flat ECS names")]
    flags: list[str]
    detections: list[dict[str, Any]]
    analysis: AnalysisShape | None
    processing_time: Annotated[float, Field(description="seconds from read to commit")]
    realtime_processed: bool
    notification_sent: bool


class EventPage(Shape):
    """One page of events."""

    events: list[EventShape]
    next: Annotated[str | None, Field(description="cursor of the next page; null: this is the last")]


class Rates(Shape):
    """Events a second by their own time, averaged over whole minutes."""

    last_5_minutes: float
    last_hour: float


class LedgerLine(Shape):
    """What came of the lines of one source: lines = blank_lines + joined_lines + events + those in the dead letters."""

    source: str
    lines: int
    blank_lines: int
    joined_lines: Annotated[int, Field(description="lines that are part of the event of a line before them")]
    events: int
    unknown: Annotated[int, Field(description="events that no decoder knew")]
    bytes: int


class Queue(Shape):
    """What waits between reading and storing."""

    lines: int
    bytes: int
    max_lines: int
    waiting: Annotated[bool, Field(description="reading pauses until there is room")]


class StatsShape(Shape):
    """What the counters say."""

    total: int
    by_severity: dict[str, int]
    by_category: dict[str, int]
    by_source: dict[str, int]
    rates: Rates
    queue: Annotated[Queue | None, Field(description="null: no engine runs")]
    ledger: list[LedgerLine]


@operation("GET", "/events", role="viewer", summary="Events, newest first; with after, in insertion order",
           query=EventsQuery, answer=EventPage, confined=True)  # fmt: skip
def list_events(query: EventsQuery) -> dict[str, Any]:
    """One page; one event more than asked for is read to know whether there is another page."""
    now = now_us()
    before, after = query.before, query.after
    if query.cursor:
        past, after, now = _read_cursor(query)
        before = past if after is None else before
    where = within(query.where(now), actor().sources)
    found = services().store.page(where, before=before, after=after, limit=query.limit + 1)
    events = found[: query.limit]
    # A search that ran out of time goes on where it stopped, even if it has found nothing yet.
    reached = events[-1].id if len(found) > query.limit else found.stopped_at
    return {
        "events": [
            {**event.as_json(), "analysis": of_event(event, services().rules.advice).as_json()} for event in events
        ],
        "next": None if reached is None else _write_cursor(query, reached, now, forward=after is not None),
    }


@operation("GET", "/events/export", role="viewer", summary="All events that fit as a file, in insertion order",
           query=ExportQuery, file="text/csv, application/x-ndjson, application/json", problems=(429,),
           confined=True)  # fmt: skip
def export_events(query: ExportQuery) -> Response:
    """Streamed; whoever closes the connection ends it. 429: as many as there may be at once are under way."""
    where = within(query.where(now_us()), actor().sources)
    return stream(where, query.format, bom=query.bom == "1", asked=query.model_dump_json(exclude_defaults=True))


@operation(
    "GET",
    "/events/<int:event_id>",
    role="viewer",
    summary="One event",
    answer=EventShape,
    problems=(404,),
    confined=True,
)
def get_event(event_id: int) -> dict[str, Any]:
    """The event with this id."""
    event = services().store.event(event_id) if event_id <= LAST_ID else None
    if event is None or (actor().sources and event.source not in actor().sources):
        raise ProblemError(404, "There is no event with this id.")
    return {**event.as_json(), "analysis": of_event(event, services().rules.advice).as_json()}


@operation("GET", "/stats", role="viewer", summary="Counts, rates, the queue and the ledger", answer=StatsShape)
def get_stats() -> dict[str, Any]:
    """Everything from roll-ups and counters: the same cost at any size."""
    store = services().store
    counts = store.counts(EventFilter())
    minute = now_us() // 60_000_000 * 60_000_000
    return {
        "total": counts.total,
        "by_severity": {str(severity): n for severity, n in sorted(counts.by_severity.items())},
        "by_category": counts.by_category,
        "by_source": counts.by_source,
        "rates": {"last_5_minutes": _rate(minute, 5), "last_hour": _rate(minute, 60)},
        "queue": services().engine_status().get("queue"),
        "ledger": [
            {
                "source": view.source_name,
                "lines": view.lines,
                "blank_lines": view.blank_lines,
                "joined_lines": view.joined_lines,
                "events": view.events,
                "unknown": view.unknown,
                "bytes": view.bytes,
            }
            for view in store.sources()
        ],
    }


def _rate(end_us: int, minutes: int) -> float:
    bars = services().store.histogram(end_us - minutes * 60_000_000, end_us, 1, EventFilter())
    return round(sum(sum(bar.values()) for _start, bar in bars) / (60 * minutes), 3)


def _time(name: str, text: str, now: int) -> int | None:
    try:
        return parse_time(text, now_us=now) if text else None
    except QueryError as error:
        raise QueryError(f"{name}: {error}.", field=name) from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _signer() -> URLSafeSerializer:
    signing = {"digest_method": hashlib.sha256}
    return URLSafeSerializer(current_app.secret_key or "", salt="events-cursor", signer_kwargs=signing)


def _write_cursor(query: EventsQuery, reached: int, now: int, *, forward: bool) -> str:
    return str(_signer().dumps([int(forward), reached, now, query.listing()]))


def _read_cursor(query: EventsQuery) -> tuple[int | None, int | None, int]:
    """(before, after, the moment the listing began); raises ProblemError (400)."""
    listing = None
    if len(query.cursor) <= MAX_CURSOR:
        with suppress(BadSignature):
            forward, event_id, now, listing = _signer().loads(query.cursor)
    if listing != query.listing():
        raise ProblemError(400, "This cursor does not belong to this listing; begin again without it.",
                           code="invalid_cursor", field="cursor")  # fmt: skip
    return (None, event_id, now) if forward else (event_id, None, now)
