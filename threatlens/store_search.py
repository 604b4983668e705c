"""Searching events: which ids may hold what a filter asks for, and reading them until a page is full.

Columns, indexes and the full-text index narrow down; what a test means is asked of the event itself
(threatlens.event_match). Where nothing narrows down, the newest lines are read one by one for as long as a person
waits, and the answer says how far that was.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Connection

from threatlens.event import Event, EventFilter
from threatlens.event_match import FieldTest, network, stands_in
from threatlens.store_conditions import ANY, event_condition, ids_of_times, is_plain, marks, rollup_condition
from threatlens.store_database import ALL
from threatlens.store_words import address_query, fts_query, user_query

#: Rows that are looked at one by one before the full-text index is asked for a word.
SCANNED_FIRST = 4_000
#: Seconds that lines are read one by one for one page.
SEARCH_S = 1.0
#: Ids that one statement walks over at most, so that the clock is looked at.
WINDOW = 100_000
#: Fields without a column whose values stand in the line as they are.
IN_LINE = (("host.name",), ("process.name",))
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
COLUMNS = (
    "e.id, e.timestamp, e.ingested_at, e.source_id, e.path_id, e.format_id, e.category_id, e.severity, e.flags,"
    " e.template_id, e.encoding, e.processing_us, e.realtime_processed, e.notification_sent, e.raw, e.original_bytes"
)


#: Makes events of rows; of a filter those that it finds.
Events = Callable[[Connection, Sequence[Any], EventFilter | None], list[Event]]


class Found(list[Event]):
    """What a search found."""

    stopped_at: int | None = None  # the id up to which was searched before the time was up; None: nothing is left


def deadline_s(within_s: float | None = None) -> float:
    """When a search that begins now is cut off, by the monotonic clock; within_s: SEARCH_S where none is given."""
    return time.monotonic() + (SEARCH_S if within_s is None else within_s)


class Search:
    """One page of events."""

    def __init__(
        self,
        connection: Connection,
        where: EventFilter,
        before: int | None,
        after: int | None,
        limit: int,
        events: Events,
        *,
        within_s: float | None = None,  # SEARCH_S
    ) -> None:
        self.connection = connection
        self.where = where
        self.limit = limit
        self.events = events
        self.forward = after is not None
        self.low = (after or 0) + 1 if after is not None else 1
        self.high = before - 1 if before is not None else ALL
        self.last = ALL  # the id of no event of the filter's times is higher
        if where.start_us is not None or where.end_us is not None:
            first, self.last = ids_of_times(connection, where.start_us, where.end_us)
            self.low, self.high = max(self.low, first), min(self.high, self.last)
        self.deadline_s = deadline_s(within_s)

    def found(self) -> Found:
        """The page; raises what reading raises."""
        if all(test.is_counted for test in self.where.tests):
            return Found(self.events(self.connection, self._reader(self.low, self.high, self.limit).rows(), None))
        test, queries = next(((test, _queries(test)) for test in self.where.tests if _queries(test)), (None, ()))
        candidates = self._one_by_one()
        if test is not None:
            candidates = self._by_queries(queries)
            if test.fields in IN_LINE:
                candidates = chain(self._nearest(test.values), candidates)
        found = Found()
        for rows, reached in candidates:
            found += self.events(self.connection, rows, self.where)
            if len(found) >= self.limit:
                del found[self.limit :]
                break
            if time.monotonic() > self.deadline_s:
                found.stopped_at = reached
                break
        return found

    def _reader(self, low: int, high: int, limit: int) -> _Reader:
        return _Reader(self.connection, self.where, high + 1, low - 1, limit, self.last, forward=self.forward)

    def _one_by_one(self) -> Iterator[tuple[list[Any], int | None]]:
        """Rows that may pass, and the last id that has been looked at (None: there are no more), window by window."""
        low, high = self.low, min(self.high, self._newest())
        chunk = 2 * self.limit  # what most events pass needs no more
        while low <= high:
            ends = (low, min(high, low + WINDOW - 1)) if self.forward else (max(low, high - WINDOW + 1), high)
            rows = self._reader(*ends, chunk).rows()
            edge = ends[1] if self.forward else ends[0]
            reached = rows[-1][0] if len(rows) >= chunk else edge
            chunk = 4 * self.limit
            low, high = (reached + 1, high) if self.forward else (low, reached - 1)
            yield rows, reached if low <= high else None

    def _nearest(self, texts: Sequence[str]) -> Iterator[tuple[list[Any], int | None]]:
        """The rows nearest to the start that hold one of these texts: what is frequent fills the page from there.

        The index, whose cost grows with the number of lines that have a word, is asked for the rest.
        """
        high = min(self.high, self._newest())
        low, high = (
            (self.low, min(high, self.low + SCANNED_FIRST - 1))
            if self.forward
            else (max(self.low, high - SCANNED_FIRST + 1), high)
        )
        self.low, self.high = (high + 1, self.high) if self.forward else (self.low, low - 1)
        chunk = 2 * self.limit
        while low <= high:
            reader = self._reader(low, high, chunk)
            holds = " OR ".join("instr(lower(e.raw), ?) > 0" for _ in texts)
            reader.tests += f" AND (e.encoding IS NOT NULL OR {holds})"
            reader.values = [*reader.values, *(text.lower() for text in texts)]
            rows = reader.read(low, high, chunk)
            reached = rows[-1][0] if len(rows) == chunk else high if self.forward else low
            low, high = (reached + 1, high) if self.forward else (low, reached - 1)
            yield rows, reached

    def _by_queries(self, queries: Sequence[str]) -> Iterator[tuple[list[Any], int | None]]:
        """The same for a test that the full-text index knows: the ids that it gives for the queries, merged."""
        low, high, chunk = self.low, self.high, 2 * self.limit
        order = "ASC" if self.forward else "DESC"
        while low <= high:
            lists = []
            for query in queries:
                numbers = self.connection.exec_driver_sql(
                    "SELECT rowid FROM events_fts WHERE events_fts MATCH ? AND rowid >= ? AND rowid <= ?"
                    f" ORDER BY rowid {order} LIMIT ?",
                    (query, low, high, chunk),
                )
                lists.append([row[0] for row in numbers])
            full = [ids[-1] for ids in lists if len(ids) == chunk]
            edge = (min(full) if self.forward else max(full)) if full else None
            ids = {number for each in lists for number in each}
            if edge is not None:
                ids = {number for number in ids if (number <= edge if self.forward else number >= edge)}
                low, high = (edge + 1, high) if self.forward else (low, edge - 1)
            rows = self._reader(self.low, self.high, len(ids)).of(sorted(ids)) if ids else []
            yield rows, edge
            if edge is None:
                return
            chunk = min(2 * chunk, 2_000)

    def _newest(self) -> int:
        return int(self.connection.exec_driver_sql("SELECT max(id) FROM events").scalar() or 0)


def _queries(test: FieldTest) -> tuple[str, ...]:
    """Queries of the full-text index that together find every event which passes the test; (): there are none."""
    if test.negated or test.operator != ":" or not all(map(is_plain, test.values)):
        return ()
    if not test.name:
        found = tuple(fts_query([value]) for value in test.values)
        return found if all(found) and all(value.isascii() for value in test.values) else ()
    if test.fields == ("user.name",) and all(value.isascii() for value in test.values):
        return tuple(map(user_query, test.values))
    if test.fields in IN_LINE and all(map(PLAIN_NAME.fullmatch, test.values)):
        return tuple(fts_query([value]) for value in test.values)
    if "source.ip" not in test.fields or any(network(value) is None for value in test.values):
        return ()
    addresses = [str(network(value).network_address) for value in test.values]  # type: ignore[union-attr]
    queries = list(map(address_query, addresses))
    if len(test.fields) > 1:  # the other fields have no column: an address of theirs stands in the line
        queries += [fts_query([value]) for value in {*addresses, *test.values}]
    return tuple(queries)


class _Reader:
    """One page of rows: which ids may hold what the filter asks for, and reading them until the page is full."""

    def __init__(
        self,
        connection: Connection,
        where: EventFilter,
        before: int,
        after: int,
        limit: int,
        last: int,
        *,
        forward: bool,
    ) -> None:
        self.connection = connection
        self.where = where
        self.forward = forward
        self.low, self.high = after + 1, before - 1
        self.limit = limit
        self.last = last
        self.order = "ASC" if self.forward else "DESC"
        self.tests, self.values = event_condition(connection, where)

    def rows(self) -> list[Any]:
        if self.where.words:
            return self._by_words()
        if self.tests == ANY:
            return self.read(self.low, self.high, self.limit)
        if self.where.min_severity >= 5:
            return self._by_severity()
        found: list[Any] = []
        for low, high in self._ranges():
            found += self.read(max(low, self.low), min(high, self.high), self.limit - len(found))
            if len(found) >= self.limit:
                break
        return found

    def read(self, low: int, high: int, limit: int) -> list[Any]:
        return list(
            self.connection.exec_driver_sql(
                f"SELECT {COLUMNS} FROM events e WHERE e.id >= ? AND e.id <= ? AND {self.tests}"
                f" ORDER BY e.id {self.order} LIMIT ?",
                (low, high, *self.values, limit),
            ).all()
        )

    def of(self, ids: Sequence[int]) -> list[Any]:
        """The rows of these ids that the columns allow."""
        return list(
            self.connection.exec_driver_sql(
                f"SELECT {COLUMNS} FROM events e WHERE e.id IN ({marks(ids)}) AND {self.tests}"
                f" ORDER BY e.id {self.order}",
                (*ids, *self.values),
            )
        )

    def _by_severity(self) -> list[Any]:
        """From the index of severe events: one walk per severity, merged."""
        found: list[Any] = []
        for severity in range(self.where.min_severity, self.where.max_severity + 1):
            found += self.connection.exec_driver_sql(
                f"SELECT {COLUMNS} FROM events e WHERE e.severity = ? AND e.severity >= 5 AND e.id >= ? AND e.id <= ?"
                f" AND {self.tests} ORDER BY e.id {self.order} LIMIT ?",
                (severity, self.low, self.high, *self.values, self.limit),
            )
        found.sort(key=lambda row: row[0], reverse=not self.forward)
        return found[: self.limit]

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """Disjoint ranges of ids in reading order, from the roll-up rows that the filter allows."""
        condition, values = rollup_condition(self.connection, self.where)
        rows = self.connection.exec_driver_sql(
            f"SELECT first_id, last_id FROM event_minutes WHERE {condition} AND first_id <= ?"
            f" AND last_id BETWEEN ? AND ? ORDER BY {'first_id ASC' if self.forward else 'last_id DESC'}",
            (*values, self.high, self.low, self.last),
        )
        low, high = 1, 0  # nothing
        least, most = self.low, self.high  # what was not given yet lies between these
        for row in rows:
            first, last = max(row[0], least), min(row[1], most)
            if first > last:
                continue
            meets = first <= high + 1 if self.forward else last >= low - 1
            if low > high:
                low, high = first, last
            elif meets and high - low < WINDOW:
                low, high = min(low, first), max(high, last)
            else:
                # A page is often full after the first range: the others need not be known.
                yield low, high
                least, most = (high + 1, most) if self.forward else (least, low - 1)
                low, high = max(first, least), min(last, most)
        if low <= high:
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
        match = fts_query(self.where.words)
        chunk = max(200, 2 * self.limit)
        while len(found) < self.limit and low <= high:
            # A word of punctuation alone has no token: then every line is a candidate.
            rows, last, more = self._with_tokens(match, low, high, chunk) if match else self._all(low, high, chunk)
            found += [row for row in rows if stands_in(self.where.words, text_of(row[14], row[10]))]
            if not more:
                break
            low, high = (last + 1, high) if self.forward else (low, last - 1)
        return found[: self.limit]

    def _newest(self) -> int:
        return int(self.connection.exec_driver_sql("SELECT max(id) FROM events").scalar() or 0)

    def _looked_at(self, low: int, high: int) -> list[Any]:
        """The rows of this range with the words; SQLite leaves out most of the others, as it compares quicker."""
        plain = [word.lower() for word in self.where.words if word.isascii() and "\0" not in word]
        holds = "".join(" AND (e.encoding IS NOT NULL OR instr(lower(e.raw), ?) > 0)" for _ in plain)
        rows = self.connection.exec_driver_sql(
            f"SELECT {COLUMNS} FROM events e WHERE e.id >= ? AND e.id <= ? AND {self.tests}{holds}"
            f" ORDER BY e.id {self.order}",
            (low, high, *self.values, *plain),
        )
        return [row for row in rows if stands_in(self.where.words, text_of(row[14], row[10]))]

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
        rows = self.connection.exec_driver_sql(
            f"SELECT {COLUMNS} FROM events e WHERE e.id IN ({marks(ids)}) AND {self.tests} ORDER BY e.id {self.order}",
            (*ids, *self.values),
        )
        return list(rows), ids[-1], len(ids) == chunk

    def _all(self, low: int, high: int, chunk: int) -> tuple[list[Any], int, bool]:
        """The next rows in order, whatever their words."""
        rows = self.read(low, high, chunk)
        return rows, rows[-1][0] if rows else 0, len(rows) == chunk


def text_of(raw: str | bytes, encoding: str | None) -> str:
    """A stored line as text."""
    return raw if isinstance(raw, str) else raw.decode(encoding or "utf-8", "replace")
