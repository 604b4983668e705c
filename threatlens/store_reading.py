"""Reading events: pages by id, counts and histograms from the roll-up, words through the full-text index.

Ids are the order of arrival, and the roll-up knows between which ids every minute, source, category and severity lies;
so any filter becomes a few ranges of ids that are read newest first until a page is full. Nothing here scans the table
without a time limit.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from threatlens.event import Decoded, Event, EventFilter
from threatlens.store_conditions import MINUTE_US, rollup_condition, shared_condition
from threatlens.store_database import ALL, Database, known
from threatlens.store_detections import DetectionView, detections_of
from threatlens.store_search import COLUMNS, Found, Search, text_of
from threatlens.store_sorting import Sorted

#: What one row of address_slots covers.
SLOT_US = 600_000_000
#: Events that a survey reads at once.
SURVEYED = 500
FOR_EVER = ALL
Table = tuple[str, str]  # its name, its column of time
#: What each address did: in long stretches, in short ones, and how many of these are one of those.
ADDRESSES: tuple[Table, Table, int] = (("address_quarters", "quarter"), ("address_slots", "slot"), 36)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many events a filter finds (its words are not looked at)."""

    total: int = 0
    by_severity: dict[int, int] = field(default_factory=dict)
    by_category: dict[str, int] = field(default_factory=dict)
    by_source: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Survey:
    """The newest events of a result."""

    events: tuple[Event, ...]
    complete: bool  # these are all


@dataclass(frozen=True, slots=True)
class TemplateView:
    """One shape of lines that no decoder knows."""

    id: int
    text: str
    sample: str
    n: int
    first_seen_us: int
    last_seen_us: int
    source: str


#: (address, events, failures, successes)
Busy = tuple[str, int, int, int]
#: (raw line, format) -> what the line says.
Decode = Callable[[str, str], Decoded]


class EventReading:
    """Queries. Every one raises QueryTimeout when it would take too long and StoreUnavailable without a database."""

    database: Database
    #: Makes what reads the fields of a page of stored lines again.
    rereader: Callable[[], Decode]

    # -- events

    def last_id(self) -> int:
        """The id of the newest event; 0 without any."""
        with self.database.reading() as connection:
            return int(connection.exec_driver_sql("SELECT max(id) FROM events").scalar() or 0)

    def event(self, event_id: int) -> Event | None:
        """One event by its id."""
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                f"SELECT {COLUMNS} FROM events e WHERE e.id = ?", (event_id,)
            ).one_or_none()
            return None if row is None else self._events(connection, [row])[0]

    def events(self, event_ids: Sequence[int]) -> list[Event]:
        """Those of these events that are stored, the newest first; at most a few hundred."""
        marks = ",".join("?" * len(event_ids))
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT {COLUMNS} FROM events e WHERE e.id IN ({marks}) ORDER BY e.id DESC", tuple(event_ids)
            ).all()
            return self._events(connection, rows)

    def events_matched(self, detection_ids: Sequence[int]) -> list[int]:
        """The ids of the events that these matches are about, the newest first; at most a few hundred matches."""
        marks = ",".join("?" * len(detection_ids))
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT event_id FROM detections WHERE id IN ({marks})"
                f" UNION SELECT event_id FROM detection_events WHERE detection_id IN ({marks}) ORDER BY 1 DESC",
                tuple(detection_ids) * 2,
            )
            return [int(row[0]) for row in rows]

    def page(
        self, where: EventFilter, *, before: int | None = None, after: int | None = None, limit: int = 50
    ) -> Found:
        """At most `limit` events: the newest first with ids below `before`; with `after` the oldest first above it."""
        with self.database.reading() as connection:
            return Search(connection, where, before, after, limit, self._events).found()

    def sorted_page(self, where: EventFilter, sort: str, past: int | None, *, limit: int = 50) -> Found:
        """At most `limit` events in one of SORTS, behind the event `past`; from the first where that is gone."""
        with self.database.reading() as connection:
            before = None if past is None else self.event(past)
            return Sorted(connection, where, sort, before, limit, self._events).found()

    def survey(self, where: EventFilter, *, within_s: float, most: int) -> Survey:
        """The newest events that a filter finds, as many as can be read in this time, at most so many."""
        found: list[Event] = []
        deadline_s = time.monotonic() + within_s
        before: int | None = None
        with self.database.reading() as connection:
            while len(found) < most and time.monotonic() < deadline_s:
                n = min(SURVEYED, most - len(found))
                page = Search(connection, where, before, None, n, self._events, within_s=within_s / 2).found()
                found += page
                if len(page) < n and page.stopped_at is None:
                    return Survey(tuple(found), complete=True)
                before = page.stopped_at or page[-1].id
        return Survey(tuple(found), complete=False)

    def _events(self, connection: Connection, rows: Sequence[Any], where: EventFilter | None = None) -> list[Event]:
        """The events of these rows; where: those that it finds, as far as lines tell before the rest is looked up."""
        of_line = () if where is None else tuple(test for test in where.tests if test.is_of_line)
        names = _names(connection, {number for row in rows for number in row[4:7]})
        decode = self.rereader()
        read = []
        for row in rows:
            raw = text_of(row[14], row[10])
            decoded = decode(raw, names.get(row[5], "unknown"))
            if all(test.passes_fields(decoded.fields) for test in of_line):
                read.append((row, raw, decoded))
        sources = _source_names(connection)
        detections = detections_of(connection, [row[0] for row, _, _ in read])
        events = [_event(row, raw, decoded, names, sources, detections.get(row[0], ())) for row, raw, decoded in read]
        return events if where is None else [event for event in events if where.matches(event)]

    # -- the roll-up

    def counts(self, where: EventFilter) -> Counts:
        """Counts by severity, category and source, from the roll-ups: whole minutes, words ignored."""
        with self.database.reading() as connection:
            tests, values = shared_condition(connection, where)
            condition = " AND ".join(tests)
            first = None if where.start_us is None else where.start_us // MINUTE_US
            last = None if where.end_us is None else (where.end_us - 1) // MINUTE_US
            parts: list[str] = []
            asked: list[Any] = []
            for (table, column), low, high, sign in spans(
                first, last, ("event_hours", "hour"), ("event_minutes", "minute"), 60
            ):
                parts.append(
                    f"SELECT severity, category_id, source_id, {sign}sum(n) FROM {table} WHERE {column} BETWEEN ? AND ?"
                    f" AND {condition} GROUP BY severity, category_id, source_id"
                )
                asked += [low, high, *values]
            rows = connection.exec_driver_sql(" UNION ALL ".join(parts), tuple(asked)).all()
            categories = _names(connection, {row[1] for row in rows})
            sources = _source_names(connection)
        seen: Counter[tuple[int, int, int]] = Counter()
        for severity, category_id, source_id, n in rows:
            seen[severity, category_id, source_id] += n
        counts: tuple[dict[int, int], dict[str, int], dict[str, int]] = ({}, {}, {})
        for (severity, category_id, source_id), n in (+seen).items():  # what was taken off again is none
            counts[0][severity] = counts[0].get(severity, 0) + n
            category = categories.get(category_id, "other")
            counts[1][category] = counts[1].get(category, 0) + n
            source = sources.get(source_id, "?")
            counts[2][source] = counts[2].get(source, 0) + n
        return Counts(seen.total(), *counts)

    def histogram(
        self, start_us: int, end_us: int, buckets: int, where: EventFilter
    ) -> list[tuple[int, dict[int, int]]]:
        """`buckets` bars from start to end: (start of the bar in microseconds, {severity: n}).

        Whole minutes; bars of more than half an hour are made of whole hours.
        """
        start, end = start_us // MINUTE_US, -(-end_us // MINUTE_US)
        width = max(1, -(-(end - start) // buckets))
        hourly = width > 30
        if hourly:
            start, width = start // 60 * 60, -(-width // 60) * 60
        bars: list[tuple[int, dict[int, int]]] = [
            ((start + index * width) * MINUTE_US, {}) for index in range(-(-(end - start) // width))
        ]
        with self.database.reading() as connection:
            if hourly:
                tests, values = shared_condition(connection, where)
                statement = (
                    "SELECT (hour * 60 - ?) / ?, severity, sum(n) FROM event_hours"
                    f" WHERE hour >= ? / 60 AND hour * 60 < ? AND {' AND '.join(tests)} GROUP BY 1, 2"
                )
            else:
                condition, values = rollup_condition(connection, where)
                statement = (
                    "SELECT (minute - ?) / ?, severity, sum(n) FROM event_minutes"
                    f" WHERE minute >= ? AND minute < ? AND {condition} GROUP BY 1, 2"
                )
            rows = connection.exec_driver_sql(statement, (start, width, start, end, *values))
            for index, severity, n in rows:
                bars[index][1][severity] = n
        return bars

    def sources_over_time(
        self, start_us: int, end_us: int, buckets: int, where: EventFilter
    ) -> dict[tuple[str, str], list[int]]:
        """Events of each source and category in stretches of this time: ("source" or "category", its name).

        Whole minutes; of a day and more whole hours.
        """
        hourly = end_us - start_us >= 86_400_000_000
        unit_us, table, column = (60 * MINUTE_US, "event_hours", "hour") if hourly else (
            MINUTE_US, "event_minutes", "minute"
        )  # fmt: skip
        start, end = start_us // unit_us, -(-end_us // unit_us)
        span = max(1, end - start)
        found: dict[tuple[str, str], list[int]] = {}
        with self.database.reading() as connection:
            tests, values = shared_condition(connection, where)
            rows = connection.exec_driver_sql(
                f"SELECT ({column} - ?) * ? / ?, source_id, category_id, sum(n) FROM {table}"
                f" WHERE {column} >= ? AND {column} < ? AND {' AND '.join(tests)} GROUP BY 1, 2, 3",
                (start, buckets, span, start, end, *values),
            ).all()
            categories = _names(connection, {row[2] for row in rows})
            sources = _source_names(connection)
        for place, source_id, category_id, n in rows:
            for key in (("source", sources.get(source_id, "?")), ("category", categories.get(category_id, "other"))):
                found.setdefault(key, [0] * buckets)[int(place)] += int(n)
        return found

    def top_addresses(
        self, *, start_us: int, end_us: int | None = None, category: str | None = None, limit: int = 10
    ) -> list[Busy]:
        """The busiest source addresses: (address, events, failures, successes); from whole slots of ten minutes."""
        last = None if end_us is None else (end_us - 1) // SLOT_US
        wanted = (
            "" if category is None else " AND category_id = (SELECT id FROM names WHERE kind = 'category' AND name = ?)"
        )
        parts: list[str] = []
        values: list[Any] = []
        with self.database.reading() as connection:
            stretch = _slots(connection, start_us // SLOT_US, last)
        for (table, column), low, high, sign in stretch:
            # Without the plus an index on addresses would be walked from end to end, to spare the grouping.
            sums = ", ".join(f"{sign}sum({name}) AS {name}" for name in ("n", "failures", "successes"))
            parts.append(
                f"SELECT source_ip, {sums} FROM {table} WHERE {column} BETWEEN ? AND ?{wanted} GROUP BY +source_ip"
            )
            values += [low, high, *([] if category is None else [category])]
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT source_ip, sum(n), sum(failures), sum(successes) FROM ({' UNION ALL '.join(parts)}) AS parts"
                " GROUP BY source_ip HAVING sum(n) > 0 ORDER BY 2 DESC, 1 LIMIT ?",
                (*values, limit),
            )
            return [(str(address), int(n), int(failed), int(good)) for address, n, failed, good in rows]

    def busiest_addresses(
        self, *, start_us: int, category: str, limits: tuple[int, int]
    ) -> tuple[list[Busy], list[Busy]]:
        """The same since then, of all categories and of this one: one pass for both lists, so many of each."""
        parts: list[str] = []
        values: list[Any] = []
        with self.database.reading() as connection:
            query = "SELECT id FROM names WHERE kind = 'category' AND name = ?"
            number = connection.exec_driver_sql(query, (category,)).scalar() or 0
            for (table, column), low, high, sign in _slots(connection, start_us // SLOT_US, None):
                sums = ", ".join(
                    f"{sign}sum({name}) AS {name}, {sign}sum({name}) FILTER (WHERE category_id = ?) AS of_{name}"
                    for name in ("n", "failures", "successes")
                )
                parts.append(
                    f"SELECT source_ip, {sums} FROM {table} WHERE {column} BETWEEN ? AND ? GROUP BY +source_ip"
                )
                values += [number, number, number, low, high]
            rows = connection.exec_driver_sql(
                "WITH each AS MATERIALIZED (SELECT source_ip, sum(n) AS n, sum(failures) AS failures,"
                " sum(successes) AS successes, sum(of_n) AS of_n, sum(of_failures) AS of_failures,"
                f" sum(of_successes) AS of_successes FROM ({' UNION ALL '.join(parts)}) AS parts GROUP BY source_ip"
                " HAVING sum(n) > 0)"
                " SELECT 0, source_ip, n, failures, successes"
                " FROM (SELECT * FROM each ORDER BY n DESC, source_ip LIMIT ?) AS whole UNION ALL"
                " SELECT 1, source_ip, of_n, of_failures, of_successes"
                " FROM (SELECT * FROM each WHERE of_n > 0 ORDER BY of_n DESC, source_ip LIMIT ?) AS part",
                (*values, *limits),
            ).all()
        found: tuple[list[Busy], list[Busy]] = [], []
        for which, address, n, failed, good in rows:
            found[which].append((str(address), int(n), int(failed), int(good)))
        for each in found:
            each.sort(key=lambda busy: (-busy[1], busy[0]))
        return found

    # -- shapes

    def templates(self, limit: int = 100) -> list[TemplateView]:
        """The shapes of lines that no decoder knows, the most frequent first."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT t.id, t.text, t.sample, t.n, t.first_seen_us, t.last_seen_us, coalesce(s.source_name, '?')"
                " FROM templates t LEFT JOIN log_sources s ON s.id = t.source_id ORDER BY t.n DESC, t.id LIMIT ?",
                (limit,),
            )
            return [TemplateView(*row) for row in rows]


def spans(
    first: int | None, last: int | None, coarse: Table, fine: Table, size: int
) -> list[tuple[Table, int, int, str]]:
    """The rows whose sum is a stretch of time: units of `size` from the coarse table, both ends from the fine.

    first and last are in units of the fine table, both included; None: no end. What is given back is (table, from, to,
    sign): where more than half of a unit lies within, all of it is counted and the rest taken off ("-") again.
    """
    if first is not None and last is not None and last - first < size // 2:
        return [(fine, first, last, "")]
    parts: list[tuple[Table, int, int, str]] = []
    beginning, end = 0, FOR_EVER  # of whole units; the end is not included
    if first is not None:
        beginning, over = divmod(first, size)
        if over > size // 2:
            beginning += 1
            parts.append((fine, first, beginning * size - 1, ""))
        elif over:
            parts.append((fine, beginning * size, first - 1, "-"))
    if last is not None:
        end, over = divmod(last + 1, size)
        if over > size // 2:
            end += 1
            parts.append((fine, last + 1, end * size - 1, "-"))
        elif over:
            parts.append((fine, end * size, last, ""))
    return [(coarse, beginning, end - 1, ""), *parts] if beginning < end else parts


def _slots(connection: Connection, first: int, last: int | None) -> list[tuple[Table, int, int, str]]:
    """The same for what addresses did; the last hours, which end within a quarter, are read from the short ones."""
    newest = connection.exec_driver_sql("SELECT max(slot) FROM address_slots").scalar() or 0
    if last is None and newest - first < ADDRESSES[2] // 2:
        return [(ADDRESSES[1], first, FOR_EVER, "")]
    return spans(first, last, *ADDRESSES)


def _names(connection: Connection, numbers: set[int]) -> dict[int, str]:
    found: dict[int, str] = known(connection).setdefault("names", {})
    missing = tuple(numbers - found.keys())
    if missing:
        marks = ",".join("?" * len(missing))
        found.update(
            map(tuple, connection.exec_driver_sql(f"SELECT id, name FROM names WHERE id IN ({marks})", missing))
        )
    return found


def _source_names(connection: Connection) -> dict[int, str]:
    of_moment = known(connection)
    found: dict[int, str] | None = of_moment.get("source_names")
    if found is None:
        rows = connection.exec_driver_sql("SELECT id, source_name FROM log_sources")
        found = of_moment["source_names"] = {row[0]: row[1] for row in rows}
    return found


def _event(
    row: Any,
    raw: str,
    decoded: Decoded,
    names: dict[int, str],
    sources: dict[int, str],
    detections: Sequence[DetectionView],
) -> Event:
    fields = decoded.fields if row[15] is None else {**decoded.fields, "event.original_bytes": row[15]}
    return Event(
        id=row[0],
        timestamp_us=row[1],
        ingested_us=row[2] * 1000,
        source=sources.get(row[3], "?"),
        source_id=row[3],
        path=names.get(row[4], ""),
        category=names.get(row[6], "other"),
        severity=row[7],
        format=names.get(row[5], "unknown"),
        message=decoded.message,
        raw=raw,
        fields=fields,
        flags=row[8],
        template_id=row[9],
        processing_time_s=row[11] / 1_000_000,
        realtime_processed=bool(row[12]),
        notification_sent=bool(row[13]),
        detections=tuple(view.as_json() for view in detections),
    )
