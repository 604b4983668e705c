"""The values that flow through ThreatLens, from the bytes of a file to the row on a screen.

They are plain and frozen. Those made once per line are tuples (NamedTuple), as a frozen dataclass costs three times
as much to make; those made once per batch or per request are dataclasses.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from threatlens.event_match import FieldTest, stands_in

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: A field's value: flat ECS, dotted names. Lists hold strings.
FieldValue = str | int | float | bool | list[str]
Fields = dict[str, FieldValue]

# What is special about a line. Stored as a bit set in events.flags, shown as words.
TRUNCATED = 1  # cut at max_line_bytes; the true length is in fields as event.original_bytes
UNTERMINATED = 2  # the file ended without a newline and nobody finished the line
BAD_ENCODING = 4  # bytes that are not text in the source's encoding
PARSE_ERROR = 8  # a decoder raised; stored raw
TIME_ERROR = 16  # the line's own time is absent or impossible; the time of reading stands in
TIME_CLAMPED = 32  # the line's time lies outside what can be; clamped
DUPLICATE_KEY = 64  # a JSON object named a key twice; the last one won
FIELDS_CUT = 128  # more fields than are extracted; the rest is in the raw line only
FROM_EXPORT = 256  # read in from an export of ThreatLens, with the line and the time that stand there
FLAG_NAMES = {
    TRUNCATED: "truncated",
    UNTERMINATED: "unterminated",
    BAD_ENCODING: "decode_error",
    PARSE_ERROR: "parse_error",
    TIME_ERROR: "time_error",
    TIME_CLAMPED: "time_clamped",
    DUPLICATE_KEY: "duplicate_key",
    FIELDS_CUT: "fields_cut",
    FROM_EXPORT: "from_export",
}

#: The name of no source.
NO_SOURCE = "\0"

#: Every state a source can be in; what each means for a person is in the sources page.
SOURCE_STATES = (
    "starting",  # configured, not looked at yet
    "flowing",  # lines arrive or the end of the file is reached
    "reading",  # catching up: far behind the end of the file
    "waiting",  # the queue is full: reading pauses, the file is the buffer
    "missing",  # nothing at that path (yet)
    "no_permission",  # exists, may not be read
    "refused",  # outside allowed_roots, not a regular file, our own data
    "error",  # the last read failed; retried
    "disabled",
    "paused",
)


class LogEntry(NamedTuple):
    """One contiguous run of whole lines, as read from one stream: the unit that the queue carries.

    A stream is one file's life (one content), whatever its name or inode is by now. The entry covers the bytes
    [file_offset, end_offset) of it; content may be shorter than that (skipped NULs, a cut line), never longer.
    """

    stream_id: int  # log_streams.id
    source_id: int  # log_sources.id
    source_name: str
    source_path: str  # where the bytes were read
    content: bytes  # whole lines with their terminators; the last one lacks it only under UNTERMINATED or TRUNCATED
    file_offset: int  # bytes; the stream's position before this entry
    end_offset: int  # bytes; the stream's position once this entry is stored
    lines: int  # lines in content
    priority: int  # 1 (first) to 10
    timestamp: float  # when it was read, seconds since the epoch
    encoding: str  # Python codec name: "utf-8", "utf-16-le", ...
    flags: int  # of the last line: UNTERMINATED; or TRUNCATED, of a line that stands alone
    true_bytes: int  # TRUNCATED: the line's true length in bytes; else 0
    fingerprint: bytes  # what identifies the stream as of end_offset; opaque outside threatlens.sources


class Decoded(NamedTuple):
    """What a decoder read in one line."""

    format: str  # "sshd", "nginx.access", ..., "unknown"
    timestamp_us: int | None  # microseconds since the epoch, UTC; None: the line carries no usable time
    message: str  # the text without its envelope
    fields: Fields  # flat ECS without @timestamp, message, event.original, log.format
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One stored event, as pages, sockets and the API show it."""

    id: int
    timestamp_us: int  # event time
    ingested_us: int  # when it was stored
    source: str
    source_id: int
    path: str  # the file it came from, "" if none
    category: str
    severity: int  # 1-10
    format: str
    message: str
    raw: str  # text for display; bytes that are not text shown as U+FFFD
    fields: Fields
    flags: int = 0
    template_id: int = 0
    processing_time_s: float = 0.0
    realtime_processed: bool = True
    notification_sent: bool = False
    detections: tuple[Mapping[str, Any], ...] = ()
    analysis: Mapping[str, Any] | None = None

    @property
    def flag_names(self) -> list[str]:
        """The flags as words, in the order of their bits."""
        return [name for bit, name in FLAG_NAMES.items() if self.flags & bit]

    def as_json(self) -> dict[str, Any]:
        """The event's shape in the API and on /ws/events (contract, section 5)."""
        return {
            "id": self.id,
            "timestamp": rfc3339(self.timestamp_us),
            "ingested_at": rfc3339(self.ingested_us),
            "source": self.source,
            "path": self.path,
            "category": self.category,
            "severity": self.severity,
            "message": self.message,
            "raw": self.raw,
            "format": self.format,
            "fields": self.fields,
            "flags": self.flag_names,
            "detections": list(self.detections),
            "analysis": self.analysis,
            "processing_time": self.processing_time_s,
            "realtime_processed": self.realtime_processed,
            "notification_sent": self.notification_sent,
        }


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """What a detection rule found: one event, or for a correlation several within its time span.

    A correlation is told of when its condition becomes true for a group. While it stays true it is told of again only
    when the count has doubled or a whole time span has passed: those carry `again`.
    """

    rule_id: str
    rule_name: str
    level: str  # informational, low, medium, high, critical
    severity: int  # 1-10, from the level: LEVEL_SEVERITIES
    kind: str  # "rule" or "correlation"
    timestamp_us: int  # event time of the last event
    first_us: int  # event time of the first event; of a rule: the same
    count: int  # events since the group began to meet the condition; of a rule: 1
    group: tuple[tuple[str, str], ...]  # group-by fields of a correlation with their values, () without
    source_ip: str | None
    user_name: str | None
    host_name: str | None
    tags: tuple[str, ...]  # as the rule has them: "attack.credential-access", "attack.t1110.001"
    positions: tuple[int, ...]  # places in the batch of the events that it is about, the one that completed it last
    again: bool = False  # a correlation that was told of before, with a higher count


#: What a level of Sigma means on our scale from 1 to 10.
LEVEL_SEVERITIES: Mapping[str, int] = MappingProxyType(
    {"informational": 2, "low": 4, "medium": 6, "high": 8, "critical": 10}
)


class StateRow(NamedTuple):
    """A part of the state of correlations, to be written in the transaction of the batch that changed it.

    Rows are known by rule_id and key together; what they hold is the detectors' business alone.
    """

    rule_id: str
    key: str
    payload: bytes | None  # None: the row is to be deleted


@dataclass(frozen=True, slots=True)
class EventUpdate:
    """Something to tell every connected client."""

    event_type: str  # new_event, detection, incident, analysis_complete, notification, system_status
    data: Mapping[str, Any]
    timestamp_us: int
    priority: int = 5
    id: int | None = None


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How one source is doing, as the monitor sees it."""

    source_id: int
    source_name: str
    state: str  # one of SOURCE_STATES
    reason: str = ""  # one sentence
    remedy: str = ""  # a sentence or an exact command
    files: int = 0  # files followed
    bytes_total: int = 0  # of all followed files
    bytes_read: int = 0  # of those, read so far
    last_read_us: int = 0  # when bytes were last read; 0: never
    warnings: tuple[str, ...] = field(default=())
    vanished: int = 0  # files that were gone before they could be opened, since the start


def rfc3339(timestamp_us: int) -> str:
    """Microseconds since the epoch as RFC 3339 in UTC, with as many fraction digits as are not zero."""
    seconds, fraction_us = divmod(timestamp_us, 1_000_000)
    text = _second(seconds)
    return f"{text[:-6]}.{fraction_us:06}{text[-6:]}" if fraction_us else text


@lru_cache(maxsize=1_000)  # many lines are of the same second
def _second(seconds: int) -> str:
    return (EPOCH + dt.timedelta(seconds=seconds)).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events somebody wants to see. The same value filters a page, an API answer and a live feed."""

    min_severity: int = 1
    max_severity: int = 10
    categories: tuple[str, ...] = ()  # any of them; empty: all
    sources: tuple[str, ...] = ()  # source names, any of them; empty: all
    start_us: int | None = None  # event time, inclusive
    end_us: int | None = None  # event time, exclusive
    words: tuple[str, ...] = ()  # each stands in the raw line, ignoring case, where a word of it begins
    tests: tuple[FieldTest, ...] = ()  # each holds

    @property
    def is_counted(self) -> bool:
        """Whether the roll-up knows everything that is asked for, so that counts and histograms are of the result."""
        return not self.words and all(test.is_counted for test in self.tests)

    def kept_to(self, sources: tuple[str, ...]) -> EventFilter:
        """The same of these sources only, none where it asks for others alone; empty: as it is."""
        if not sources:
            return self
        both = tuple(name for name in self.sources or sources if name in sources)
        return replace(self, sources=both or (NO_SOURCE,))

    def matches(self, event: Event) -> bool:
        """Whether this event is one of them."""
        if not self.min_severity <= event.severity <= self.max_severity:
            return False
        if self.categories and event.category not in self.categories:
            return False
        if self.sources and event.source not in self.sources:
            return False
        if self.start_us is not None and event.timestamp_us < self.start_us:
            return False
        if self.end_us is not None and event.timestamp_us >= self.end_us:
            return False
        if self.words and not stands_in(self.words, event.raw):
            return False
        return all(test.passes(event) for test in self.tests)
