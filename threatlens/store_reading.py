"""Reading events: pages by id, counts and histograms from the roll-up, words through the full-text index.

Ids are the order of arrival, and the roll-up knows between which ids every minute, source, category and severity lies;
so any filter becomes a few ranges of ids that are read newest first until a page is full. Nothing here scans the table
without a time limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from threatlens.event import Decoded, Event, EventFilter, stands_in
from threatlens.store_database import Database
from threatlens.store_detections import DetectionView, detections_of

#: What one token of the full-text index is made of (unicode61 with tokenchars '.-_@').
TOKEN = re.compile(r"[\w.\-@]+")
MINUTE_US = 60_000_000
#: What one row of address_slots covers.
SLOT_US = 600_000_000
#: Rows that are looked at one by one before the full-text index is asked for a word.
SCANNED_FIRST = 4_000
_COLUMNS = (
    "e.id, e.timestamp, e.ingested_at, e.source_id, e.path_id, e.format_id, e.category_id, e.severity, e.flags,"
    " e.template_id, e.encoding, e.processing_us, e.realtime_processed, e.notification_sent, e.raw, e.original_bytes"
)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many events a filter finds (its words are not looked at)."""

    total: int = 0
    by_severity: dict[int, int] = field(default_factory=dict)
    by_category: dict[str, int] = field(default_factory=dict)
    by_source: dict[str, int] = field(default_factory=dict)


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


#: (raw line, format) -> what the line says.
Decode = Callable[[str, str], Decoded]


class EventReading:
    """Queries. Every one raises QueryTimeout when it would take too long and StoreUnavailable without a database."""

    database: Database
    #: Reads the fields of a stored line again, given its format.
    decode_stored: Decode

    # -- events

    def last_id(self) -> int:
        """The id of the newest event; 0 without any."""
        with self.database.reading() as connection:
            return int(connection.exec_driver_sql("SELECT max(id) FROM events").scalar() or 0)

    def event(self, event_id: int) -> Event | None:
        """One event by its id."""
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                f"SELECT {_COLUMNS} FROM events e WHERE e.id = ?", (event_id,)
            ).one_or_none()
            return None if row is None else self._events(connection, [row])[0]

    def page(
        self, where: EventFilter, *, before: int | None = None, after: int | None = None, limit: int = 50
    ) -> list[Event]:
        """At most `limit` events: the newest first with ids below `before`; with `after` the oldest first above it."""
        with self.database.reading() as connection:
            rows = _Page(connection, where, before, after, limit).rows()
            return self._events(connection, rows)

    def _events(self, connection: Connection, rows: Sequence[Any]) -> list[Event]:
        names = _names(connection, {number for row in rows for number in row[4:7]})
        sources = _source_names(connection)
        detections = detections_of(connection, [row[0] for row in rows])
        return [_event(row, names, sources, detections.get(row[0], ()), self.decode_stored) for row in rows]

    # -- the roll-up

    def counts(self, where: EventFilter) -> Counts:
        """Counts by severity, category and source, from the roll-up: whole minutes, words ignored."""
        with self.database.reading() as connection:
            condition, values = _rollup_condition(connection, where)
            rows = connection.exec_driver_sql(
                "SELECT severity, category_id, source_id, sum(n) FROM event_minutes"
                f" WHERE {condition} GROUP BY severity, category_id, source_id",
                tuple(values),
            ).all()
            categories = _names(connection, {row[1] for row in rows})
            sources = _source_names(connection)
        counts: tuple[dict[int, int], dict[str, int], dict[str, int]] = ({}, {}, {})
        for severity, category_id, source_id, n in rows:
            counts[0][severity] = counts[0].get(severity, 0) + n
            category = categories.get(category_id, "other")
            counts[1][category] = counts[1].get(category, 0) + n
            source = sources.get(source_id, "?")
            counts[2][source] = counts[2].get(source, 0) + n
        return Counts(sum(row[3] for row in rows), *counts)

    def histogram(
        self, start_us: int, end_us: int, buckets: int, where: EventFilter
    ) -> list[tuple[int, dict[int, int]]]:
        """`buckets` bars from start to end: (start of the bar in microseconds, {severity: n}). Whole minutes."""
        start, end = start_us // MINUTE_US, -(-end_us // MINUTE_US)
        width = max(1, -(-(end - start) // buckets))
        bars: list[tuple[int, dict[int, int]]] = [
            ((start + index * width) * MINUTE_US, {}) for index in range(-(-(end - start) // width))
        ]
        with self.database.reading() as connection:
            condition, values = _rollup_condition(connection, where)
            rows = connection.exec_driver_sql(
                "SELECT (minute - ?) / ?, severity, sum(n) FROM event_minutes"
                f" WHERE minute >= ? AND minute < ? AND {condition} GROUP BY 1, 2",
                (start, width, start, end, *values),
            )
            for index, severity, n in rows:
                bars[index][1][severity] = n
        return bars

    def top_addresses(
        self, *, start_us: int, end_us: int | None = None, category: str | None = None, limit: int = 10
    ) -> list[tuple[str, int, int, int]]:
        """The busiest source addresses: (address, events, failures, successes); from whole slots of ten minutes."""
        tests, values = ["slot >= ?"], [start_us // SLOT_US]
        if end_us is not None:
            tests.append("slot <= ?")
            values.append((end_us - 1) // SLOT_US)
        if category is not None:
            tests.append("category_id = (SELECT id FROM names WHERE kind = 'category' AND name = ?)")
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT source_ip, sum(n), sum(failures), sum(successes) FROM address_slots"
                f" WHERE {' AND '.join(tests)} GROUP BY source_ip ORDER BY 2 DESC, 1 LIMIT ?",
                (*values, *([] if category is None else [category]), limit),
            )
            return [(str(address), int(n), int(failed), int(good)) for address, n, failed, good in rows]

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


class _Page:
    """One page of events: which ids may hold what the filter asks for, and reading them until the page is full."""

    def __init__(
        self, connection: Connection, where: EventFilter, before: int | None, after: int | None, limit: int
    ) -> None:
        self.connection = connection
        self.where = where
        self.forward = after is not None
        self.low = (after or 0) + 1 if self.forward else 1
        self.high = before - 1 if before is not None else 2**62
        self.limit = limit
        self.order = "ASC" if self.forward else "DESC"
        self.tests, self.values = _event_condition(connection, where)

    def rows(self) -> list[Any]:
        if self.where.words:
            return self._by_words()
        if self.where == EventFilter():
            return self._read(self.low, self.high, self.limit)
        if self.where.min_severity >= 5:
            return self._by_severity()
        found: list[Any] = []
        for low, high in self._ranges():
            found += self._read(max(low, self.low), min(high, self.high), self.limit - len(found))
            if len(found) >= self.limit:
                break
        return found

    def _read(self, low: int, high: int, limit: int) -> list[Any]:
        return list(
            self.connection.exec_driver_sql(
                f"SELECT {_COLUMNS} FROM events e WHERE e.id >= ? AND e.id <= ? AND {self.tests}"
                f" ORDER BY e.id {self.order} LIMIT ?",
                (low, high, *self.values, limit),
            )
        )

    def _by_severity(self) -> list[Any]:
        """From the index of severe events: one walk per severity, merged."""
        found: list[Any] = []
        for severity in range(self.where.min_severity, self.where.max_severity + 1):
            found += self.connection.exec_driver_sql(
                f"SELECT {_COLUMNS} FROM events e WHERE e.severity = ? AND e.severity >= 5 AND e.id >= ? AND e.id <= ?"
                f" AND {self.tests} ORDER BY e.id {self.order} LIMIT ?",
                (severity, self.low, self.high, *self.values, self.limit),
            )
        found.sort(key=lambda row: row[0], reverse=not self.forward)
        return found[: self.limit]

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """Disjoint ranges of ids in reading order, from the roll-up rows that the filter allows."""
        condition, values = _rollup_condition(self.connection, self.where)
        rows = self.connection.exec_driver_sql(
            f"SELECT first_id, last_id FROM event_minutes WHERE {condition} AND first_id <= ? AND last_id >= ?"
            f" ORDER BY {'first_id ASC' if self.forward else 'last_id DESC'}",
            (*values, self.high, self.low),
        )
        low = high = None
        for first, last in rows:
            if low is None or high is None:
                low, high = first, last
            elif self.forward and first <= high + 1:
                high = max(high, last)
            elif not self.forward and last >= low - 1:
                low = min(low, first)
            else:
                yield low, high
                low, high = first, last
        if low is not None and high is not None:
            yield low, high

    def _by_words(self) -> list[Any]:
        """The rows nearest to the start are looked at one by one, the others come from the full-text index.

        A frequent word fills the page from the first rows; the index, whose cost grows with the number of lines that
        have the word, is only asked for rare ones.
        """
        low, high = self.low, min(self.high, self._newest())
        if self.forward:
            middle = min(high, low + SCANNED_FIRST - 1)
            found = self._looked_at(low, middle)
            low = middle + 1
        else:
            middle = max(low, high - SCANNED_FIRST + 1)
            found = self._looked_at(middle, high)
            high = middle - 1
        match = _fts_query(self.where.words)
        chunk = max(200, 2 * self.limit)
        while len(found) < self.limit and low <= high:
            # A word of punctuation alone has no token: then every line is a candidate.
            rows, last, more = self._with_tokens(match, low, high, chunk) if match else self._all(low, high, chunk)
            found += [row for row in rows if stands_in(self.where.words, _text(row[14], row[10]))]
            if not more:
                break
            low, high = (last + 1, high) if self.forward else (low, last - 1)
        return found[: self.limit]

    def _newest(self) -> int:
        return int(self.connection.exec_driver_sql("SELECT max(id) FROM events").scalar() or 0)

    def _looked_at(self, low: int, high: int) -> list[Any]:
        """The rows of this range with the words; SQLite leaves out most of the others, as it compares quicker."""
        plain = [word.lower() for word in self.where.words if word.isascii()]
        holds = "".join(" AND (typeof(e.raw) = 'blob' OR instr(lower(e.raw), ?) > 0)" for _ in plain)
        rows = self.connection.exec_driver_sql(
            f"SELECT {_COLUMNS} FROM events e WHERE e.id >= ? AND e.id <= ? AND {self.tests}{holds}"
            f" ORDER BY e.id {self.order}",
            (low, high, *self.values, *plain),
        )
        return [row for row in rows if stands_in(self.where.words, _text(row[14], row[10]))]

    def _with_tokens(self, match: str, low: int, high: int, chunk: int) -> tuple[list[Any], int, bool]:
        """Rows whose tokens fit, the last id looked at, and whether there may be more beyond it."""
        ids = [
            row[0]
            for row in self.connection.exec_driver_sql(
                "SELECT rowid FROM events_fts WHERE events_fts MATCH ? AND rowid >= ? AND rowid <= ?"
                f" ORDER BY rowid {self.order} LIMIT ?",
                (match, low, high, chunk),
            )
        ]
        if not ids:
            return [], 0, False
        marks = ",".join("?" * len(ids))
        rows = self.connection.exec_driver_sql(
            f"SELECT {_COLUMNS} FROM events e WHERE e.id IN ({marks}) AND {self.tests} ORDER BY e.id {self.order}",
            (*ids, *self.values),
        )
        return list(rows), ids[-1], len(ids) == chunk

    def _all(self, low: int, high: int, chunk: int) -> tuple[list[Any], int, bool]:
        """The next rows in order, whatever their words."""
        rows = self._read(low, high, chunk)
        return rows, rows[-1][0] if rows else 0, len(rows) == chunk


def _fts_query(words: Sequence[str]) -> str:
    """An FTS5 query for the lines with these words; a word matches from its start. Empty: no word has a token."""
    terms = []
    for word in words:
        tokens = TOKEN.findall(word)
        for index, token in enumerate(tokens):
            ends = index == len(tokens) - 1 and word.endswith(token)
            terms.append('"' + token + '"' + ("*" if ends else ""))
    return " AND ".join(terms)


def _rollup_condition(connection: Connection, where: EventFilter) -> tuple[str, list[Any]]:
    tests, values = _shared_condition(connection, where)
    if where.start_us is not None:
        tests.append("minute >= ?")
        values.append(where.start_us // MINUTE_US)
    if where.end_us is not None:
        tests.append("minute <= ?")
        values.append((where.end_us - 1) // MINUTE_US)
    return " AND ".join(tests), values


def _event_condition(connection: Connection, where: EventFilter) -> tuple[str, list[Any]]:
    tests, values = _shared_condition(connection, where)
    if where.start_us is not None:
        tests.append("timestamp >= ?")
        values.append(where.start_us)
    if where.end_us is not None:
        tests.append("timestamp < ?")
        values.append(where.end_us)
    return " AND ".join(tests), values


def _shared_condition(connection: Connection, where: EventFilter) -> tuple[list[str], list[Any]]:
    """Tests on columns that events and the roll-up have in common."""
    tests, values = ["1"], []
    if (where.min_severity, where.max_severity) != (1, 10):
        tests.append("severity BETWEEN ? AND ?")
        values += [where.min_severity, where.max_severity]
    for column, table, key, names in (
        ("category_id", "names", "kind = 'category' AND name", where.categories),
        ("source_id", "log_sources", "source_name", where.sources),
    ):
        if names:
            marks = ",".join("?" * len(names))
            ids = [
                row[0]
                for row in connection.exec_driver_sql(f"SELECT id FROM {table} WHERE {key} IN ({marks})", tuple(names))
            ]
            tests.append(f"{column} IN ({','.join('?' * len(ids)) or 'NULL'})")
            values += ids
    return tests, values


def _names(connection: Connection, numbers: set[int]) -> dict[int, str]:
    if not numbers:
        return {}
    marks = ",".join("?" * len(numbers))
    rows = connection.exec_driver_sql(f"SELECT id, name FROM names WHERE id IN ({marks})", tuple(numbers))
    return {row[0]: row[1] for row in rows}


def _source_names(connection: Connection) -> dict[int, str]:
    return {row[0]: row[1] for row in connection.exec_driver_sql("SELECT id, source_name FROM log_sources")}


def _text(raw: str | bytes, encoding: str | None) -> str:
    return raw if isinstance(raw, str) else raw.decode(encoding or "utf-8", "replace")


def _event(
    row: Any,
    names: dict[int, str],
    sources: dict[int, str],
    detections: Sequence[DetectionView],
    decode: Decode,
) -> Event:
    raw = _text(row[14], row[10])
    format_name = names.get(row[5], "unknown")
    decoded = decode(raw, format_name)
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
        format=format_name,
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
