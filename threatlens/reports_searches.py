"""Saved searches that are sent: at an hour of every day or week, by mail, with the rows in a file.

What is due is written into the outbox in the transaction that moves the schedule on, so a crash neither loses nor
repeats one; what was missed while ThreatLens was down comes as one that covers it all. A search finds what its owner
may see at that moment; an owner who may not send any more sends nothing, and the schedule says so.
"""

from __future__ import annotations

import datetime as dt
import heapq
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from threatlens.channels import Attachment
from threatlens.config_values import EmailChannel, MonitoringConfig
from threatlens.durable import sync_folder
from threatlens.errors import QueryError, QueryTimeout, ReportError
from threatlens.event import Event, EventFilter, rfc3339
from threatlens.exports import FORMS, events_of
from threatlens.query import both, parse_query
from threatlens.redaction import MASK, masked
from threatlens.reports import zone_of
from threatlens.store import EventStore
from threatlens.store_accounts import ROLES
from threatlens.store_notifications import Occurrence
from threatlens.store_searches import Schedule
from threatlens.visible import visible

#: The least role that sends searches.
ROLE = "analyst"
EVERY = {"day": 1, "week": 7}  # days
FORM_NAMES = {"csv": "CSV, every row", "pdf": "PDF, to read"}
#: Rows in the message, in the PDF, in the CSV file; bytes of the file.
MESSAGE_ROWS, PDF_ROWS, CSV_ROWS = 10, 100, 10_000
MAX_BYTES = 8_000_000
#: Seconds and events that counting takes where the roll-up does not know the search.
COUNTED_S, COUNTED = 20.0, 200_000
#: One covers no more than this, however long ThreatLens was down.
MOST_US = 31 * 86_400_000_000
FILES_KEPT_US = 31 * 86_400_000_000
#: Of all files together: of more, the oldest go.
MAX_KEPT_BYTES = 256_000_000
#: Between two times that somebody has one sent now: a file and a mail each.
AGAIN_US = 60_000_000
BARS = 24
_MINUTE_US, _DAY_US = 60_000_000, 86_400_000_000
_FILE = re.compile(r"[0-9a-f]{16}-[a-z0-9.-]{1,120}\.(?:csv|pdf)")


@dataclass
class Found:
    """What a search found in its span."""

    total: int = 0
    complete: bool = True  # False: there are more than were counted
    by_severity: Counter[int] = field(default_factory=Counter)
    by_source: Counter[str] = field(default_factory=Counter)
    bars: list[Counter[int]] = field(default_factory=list)  # by severity
    rows: Sequence[Event] = ()  # the most severe first, of those the newest


class SearchReporter:
    """Puts what saved searches found into the outbox, and the files that go with it into a folder."""

    def __init__(
        self,
        store: EventStore,
        config: Callable[[], MonitoringConfig],
        folder: str,
        *,
        render: Callable[[Mapping[str, Any], str], None],
        steady: Callable[[], bool] = lambda: True,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        """steady: False while the clock cannot be trusted; then nothing is due."""
        self._store = store
        self._config = config
        self._folder = os.path.join(folder, "searches")
        self._steady = steady
        self._clock_us = clock_us
        self._render = render

    def send_due(self) -> int:
        """Put every search that is due into the outbox; how many."""
        if not self._steady():
            return 0
        now_us, sent = self._clock_us(), 0
        zone = zone_of(self._config().reports)
        for one in self._store.schedules(due_before_us=now_us):
            end_us, next_us = one.due_us, planned(one, zone, one.due_us)
            while next_us <= now_us:
                end_us, next_us = next_us, planned(one, zone, next_us)
            try:
                told = self._told(one, max(one.from_us, end_us - MOST_US), end_us)
            except ReportError as error:
                self._store.move_schedule(one, from_us=one.from_us, due_us=next_us, sent_us=one.sent_us,
                                          problem=str(error), now_us=now_us)  # fmt: skip
                continue
            sent += self._store.move_schedule(one, from_us=end_us, due_us=next_us, sent_us=now_us, told=told,
                                              now_us=now_us)  # fmt: skip
        self._forget_files(now_us)
        return sent

    def send_now(self, one: Schedule) -> None:
        """Put the last day or week up to now into the outbox, whenever the next one is due. Raises ReportError."""
        now_us = self._clock_us()
        if 0 <= now_us - one.sent_us < AGAIN_US:
            msg = "it was sent within the last minute"
            raise ReportError(msg)
        end_us = now_us - now_us % _MINUTE_US
        told = self._told(one, end_us - EVERY[one.every] * _DAY_US, end_us)
        self._store.move_schedule(one, from_us=one.from_us, due_us=one.due_us, sent_us=now_us, told=told, now_us=now_us)
        self._forget_files(now_us)

    def begin(self, one: Schedule) -> Schedule:
        """This schedule as it is kept: it is due at the next such hour, and begins a day or a week before that."""
        zone = zone_of(self._config().reports)
        due_us = planned(one, zone, self._clock_us())
        kept = Schedule(one.search_id, one.every, one.weekday, one.hour, one.form, one.channels,
                        before(one, zone, due_us), due_us)  # fmt: skip
        self._store.put_schedule(kept)
        return kept

    def attachment(self, name: str) -> Attachment | None:
        """The file of this name, to go with a message; None: there is none (any more)."""
        if not _FILE.fullmatch(name):
            return None
        media = "application/pdf" if name.endswith(".pdf") else "text/csv"
        try:
            with open(os.path.join(self._folder, name), "rb") as file:
                return Attachment(name.partition("-")[2], media, file.read())
        except OSError:
            return None

    # -- one of them

    def _told(self, one: Schedule, start_us: int, end_us: int) -> list[Occurrence]:
        """What its channels are told of this span; the file is there. Raises ReportError where nothing may be."""
        owner = self._store.user(one.user_id)
        if owner is None or not owner.enabled or ROLES.index(owner.role) < ROLES.index(ROLE):
            msg = "its owner may not send searches any more"
            raise ReportError(msg)
        known = {channel.name for channel in self._config().channels if isinstance(channel, EmailChannel)}
        channels = [name for name in one.channels if name in known]
        if not channels:
            msg = "none of its e-mail channels is there any more"
            raise ReportError(msg)
        try:
            where = asked(one.params, start_us, end_us).kept_to(owner.sources)
            found = self._found(where, start_us, end_us)
        except QueryError as error:
            msg = f"the search cannot be asked: {error}"
            raise ReportError(msg) from error
        except QueryTimeout as error:
            msg = "the search took too long"
            raise ReportError(msg) from error
        zone = zone_of(self._config().reports)
        summary = [_counted(found), f"From {_moment(start_us, zone)} to {_moment(end_us, zone)} ({zone})."]
        severe = sum(n for severity, n in found.by_severity.items() if severity >= 7)
        if found.total:
            summary.append(f"{_many(severe)} of severity 7 and up." if severe else "None of severity 7 and up.")
        file, why_not = self._file(one, where, found, start_us, end_us, summary)
        summary += [why_not] if why_not else []
        title = f"{visible(one.name, 80)}: {_counted(found).rstrip('.').lower()}"
        details = {
            "search": one.search_id,
            "summary": " ".join(summary),
            "facts": [("search", visible(words(one.params) or "all events", 300)),
                      *[(f"from {visible(name, 60)}", f"{n:,}") for name, n in found.by_source.most_common(5)],
                      ("sent for", owner.name), ("every", one.every)],
            "rows": [row(event, zone, 240) for event in found.rows[:MESSAGE_ROWS]],
            "path": f"/events?{address(one.params, start_us, end_us)}",
            "file": file,
            "count": found.total,
        }  # fmt: skip
        self._store.audit.append("ThreatLens", "", "search.send", one.name,
                                 {"for": owner.name, "channels": channels, "events": found.total})  # fmt: skip
        thread = f"search:{one.search_id}:{end_us}:{secrets.token_hex(4)}"
        worst = max(found.by_severity, default=1)
        return [Occurrence(name, "", "report", thread, worst, title, start_us, end_us, details=details)
                for name in channels]  # fmt: skip

    def _found(self, where: EventFilter, start_us: int, end_us: int) -> Found:
        if where.is_counted:
            counts = self._store.counts(where)
            bars = [Counter(bar) for _, bar in self._store.histogram(start_us, end_us, BARS, where)]
            rows = self._store.sorted_page(where, "severity", None, limit=PDF_ROWS)
            return Found(counts.total, True, Counter(counts.by_severity), Counter(counts.by_source), bars, rows)
        found = Found(bars=[Counter() for _ in range(BARS)])
        best: list[tuple[int, int, Event]] = []
        deadline_s = time.monotonic() + COUNTED_S
        for page in events_of(self._store, where):
            for event in page:
                found.by_severity[event.severity] += 1
                found.by_source[event.source] += 1
                found.bars[min(BARS - 1, (event.timestamp_us - start_us) * BARS // (end_us - start_us))][
                    event.severity
                ] += 1
                (heapq.heappush if len(best) < PDF_ROWS else heapq.heappushpop)(best, (event.severity, event.id, event))
            found.total += len(page)
            if found.total >= COUNTED or time.monotonic() > deadline_s:
                found.complete = False
                break
        found.rows = [event for _, _, event in sorted(best, key=lambda each: each[:2], reverse=True)]
        return found

    def _file(
        self, one: Schedule, where: EventFilter, found: Found, start_us: int, end_us: int, summary: Sequence[str]
    ) -> tuple[str, str]:
        """The name of the file that goes with it, "" for none, and a sentence about what is not in it."""
        if not found.total:
            return "", ""
        zone = zone_of(self._config().reports)
        name = f"{secrets.token_hex(8)}-{_plain(one.name)}-{_local(end_us, zone):%Y-%m-%d}.{one.form}"
        path = os.path.join(self._folder, name)
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            if one.form == "csv":
                rows = self._write_csv(where, path)
                left = "" if rows >= found.total else f"The file holds the first {rows:,} of them."
            else:
                self._render(_document(one, found, start_us, end_us, zone, summary, self._clock_us()), path)
                shown = min(len(found.rows), PDF_ROWS)
                left = "" if shown >= found.total else f"The file holds the {shown:,} most severe of them."
        except (OSError, ReportError, QueryTimeout) as error:
            return "", f"The file could not be made: {visible(str(error), 200)}."
        return name, left

    def _write_csv(self, where: EventFilter, path: str) -> int:
        """Rows in the order of arrival, as many as may be; how many."""
        kept = _Most(events_of(self._store, where))
        written = 0
        try:
            with open(f"{path}.part", "xb") as file:
                for piece in FORMS["csv"].write(kept):
                    file.write(piece)
                    written += len(piece)
                    kept.is_full = written >= MAX_BYTES
                file.flush()
                os.fsync(file.fileno())
            os.replace(f"{path}.part", path)
        finally:
            if os.path.exists(f"{path}.part"):
                os.unlink(f"{path}.part")
        sync_folder(self._folder)
        return kept.n

    def _forget_files(self, now_us: int) -> None:
        try:
            files = [each for each in os.scandir(self._folder) if each.is_file(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return
        known = [(each.stat(follow_symlinks=False), each.path) for each in files]
        total = 0
        for status, path in sorted(known, key=lambda one: -one[0].st_mtime_ns):
            total += status.st_size
            if total > MAX_KEPT_BYTES or status.st_mtime_ns // 1000 < now_us - FILES_KEPT_US:
                os.unlink(path)


class _Most:
    """Pages of events, up to the number that a file takes."""

    def __init__(self, pages: Iterator[Sequence[Event]]) -> None:
        self._pages = pages
        self.n = 0
        self.is_full = False

    def __iter__(self) -> Iterator[Sequence[Event]]:
        for page in self._pages:
            if self.is_full or self.n >= CSV_ROWS:
                return
            taken = page[: CSV_ROWS - self.n]
            self.n += len(taken)
            yield [without_secrets(event) for event in taken]


def asked(params: str, start_us: int, end_us: int) -> EventFilter:
    """The filter that a saved search means for this span; times that it names itself count from the span's end.

    Raises QueryError.
    """
    values: dict[str, list[str]] = {}
    for name, value in parse_qsl(params):
        values.setdefault(name, []).append(value)
    lowest, highest = (_severity(values.get(name, ())) for name in ("min_severity", "max_severity"))
    chosen = EventFilter(
        min_severity=lowest or 1,
        max_severity=highest or 10,
        categories=tuple(filter(None, values.get("category", ()))),
        sources=tuple(filter(None, values.get("source", ()))),
        start_us=start_us,
        end_us=end_us,
    )
    return both(parse_query(" ".join(values.get("q", ())).strip(), now_us=end_us), chosen)


def address(params: str, start_us: int, end_us: int) -> str:
    """The part of the address that shows this span of the search."""
    pairs = [pair for pair in parse_qsl(params) if pair[0] not in ("range", "start", "end", "sort")]
    return urlencode([*pairs, ("start", rfc3339(start_us)), ("end", rfc3339(end_us))])


def words(params: str) -> str:
    """What a saved search asks for, as one would write it into the query bar."""
    pairs = parse_qsl(params)
    text = [value for name, value in pairs if name == "q"]
    signs = {"min_severity": "severity>=", "max_severity": "severity<=", "category": "category:", "source": "source:"}
    return " ".join([*text, *(f"{signs[name]}{value}" for name, value in pairs if name in signs)])


def planned(one: Schedule, zone: dt.tzinfo, after_us: int) -> int:
    """The first moment behind this one at which the search is to be sent."""
    day = _local(after_us, zone).date()
    while True:
        moment_us = int(dt.datetime.combine(day, dt.time(one.hour), zone).timestamp()) * 1_000_000
        if moment_us > after_us and (one.every == "day" or day.weekday() == one.weekday):
            return moment_us
        day += dt.timedelta(days=1)


def before(one: Schedule, zone: dt.tzinfo, due_us: int) -> int:
    """The same hour a day or a week before."""
    day = _local(due_us, zone).date() - dt.timedelta(days=EVERY[one.every])
    return int(dt.datetime.combine(day, dt.time(one.hour), zone).timestamp()) * 1_000_000


def without_secrets(event: Event) -> Event:
    """The event as it may leave the machine: secrets in its line and in its fields are masked."""
    fields = {
        name: MASK if masked(f"{name.rpartition('.')[2]}=x").endswith(MASK) else masked(value)
        for name, value in event.fields.items()
        if isinstance(value, str)
    }
    return replace(event, raw=masked(event.raw), message=masked(event.message), fields={**event.fields, **fields})


def row(event: Event, zone: dt.tzinfo, longest: int) -> str:
    """An event in a line of text; secrets in it are masked."""
    return f"{_moment(event.timestamp_us, zone)}  {event.severity}/10  {visible(event.source, 40)}  " + visible(
        masked(event.message), longest
    )


def _document(
    one: Schedule, found: Found, start_us: int, end_us: int, zone: dt.tzinfo, summary: Sequence[str], now_us: int
) -> dict[str, Any]:
    """What the PDF shows."""
    span_us = (end_us - start_us) // max(1, len(found.bars))
    return {
        "kind": "search",
        "title": visible(one.name, 80),
        "zone": str(zone),
        "start_us": start_us,
        "end_us": end_us,
        "made": rfc3339(now_us),
        "summary": list(summary),
        "query": visible(words(one.params) or "all events", 300),
        "by_severity": {str(severity): n for severity, n in sorted(found.by_severity.items())},
        "trend": [
            {"start_us": start_us + place * span_us, "by_severity": {str(severity): n for severity, n in bar.items()}}
            for place, bar in enumerate(found.bars)
        ],
        "sources": [{"name": visible(name, 80), "events": n} for name, n in found.by_source.most_common(15)],
        "rows": [
            {"at_us": event.timestamp_us, "severity": event.severity, "source": visible(event.source, 40),
             "message": visible(masked(event.message), 300)}
            for event in found.rows[:PDF_ROWS]
        ],
    }  # fmt: skip


def _severity(values: Sequence[str]) -> int:
    return int(values[-1]) if values and values[-1].isascii() and values[-1].isdigit() and len(values[-1]) < 3 else 0


def _counted(found: Found) -> str:
    counted = _many(found.total) + ("." if found.complete else " or more.")
    return counted[0].upper() + counted[1:]


def _many(n: int) -> str:
    return f"{n:,} event{'' if n == 1 else 's'}" if n else "no events"


def _plain(name: str) -> str:
    """A name for a file: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "search"


def _local(timestamp_us: int, zone: dt.tzinfo) -> dt.datetime:
    return dt.datetime.fromtimestamp(timestamp_us / 1e6, zone)


def _moment(timestamp_us: int, zone: dt.tzinfo) -> str:
    return f"{_local(timestamp_us, zone):%Y-%m-%d %H:%M}"
