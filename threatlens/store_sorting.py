"""Events in an order other than that of arrival, page by page.

A page is continued behind an event, whatever has arrived since: behind its value and its id. An order by severity,
source or category goes through the values one after the other, and so does one by address or user, whose events the
full-text index gives; an order by the time that lines carry goes through the minutes of the roll-up. What takes too
long says how far it came.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from threatlens.event import Event, EventFilter
from threatlens.store_conditions import MINUTE_US, event_condition, rollup_condition
from threatlens.store_search import COLUMNS, Events, Found, Search, deadline_s
from threatlens.store_words import address_query, user_query

#: Word in the address, and what it means. "-" in front is the other way round.
SORTS = {
    "oldest": "Oldest first",
    "severity": "Most severe first",
    "-severity": "Least severe first",
    "time": "By the line's own time, latest first",
    "-time": "By the line's own time, earliest first",
    "source": "By source",
    "-source": "By source, backwards",
    "category": "By category",
    "-category": "By category, backwards",
    "source.ip": "By source address",
    "-source.ip": "By source address, backwards",
    "user.name": "By user",
    "-user.name": "By user, backwards",
}
#: (column, table of its values, query for the events of one). Events without a value are left out.
LISTED = {
    "source.ip": ("source_ip", "address_slots", address_query),
    "user.name": ("user_name", "user_totals", user_query),
}
CHUNK = 80  # rows at once
FOR_EVER = 2**62


class Sorted:
    """One page of events in one of SORTS; past: the event before the first of the page, none for the first page."""

    def __init__(
        self, connection: Connection, where: EventFilter, sort: str, past: Event | None, limit: int, events: Events
    ) -> None:
        self.connection = connection
        self.where = where
        self.sort = sort.removeprefix("-")
        self.backwards = sort.startswith("-")
        self.past = past
        self.limit = limit
        self.events = events
        self.deadline_s = deadline_s()

    def found(self) -> Found:
        """The page; stopped_at is the id of the event to go on behind, where the time was up."""
        if self.sort == "oldest":
            after = self.past.id if self.past else 0
            return Search(self.connection, self.where, None, after, self.limit, self.events).found()
        if self.sort in LISTED:
            return self._by_values(*LISTED[self.sort])
        return self._by_minutes() if self.sort == "time" else self._by_groups()

    # -- severity, source, category: one value after the other, the newest of each first

    def _by_groups(self) -> Found:
        found = Found()
        for where, first in self._groups():
            before = first
            while True:
                page = Search(self.connection, where, before, None, self.limit - len(found), self.events).found()
                found += page
                before = page.stopped_at
                if len(found) >= self.limit:
                    return found
                if found and (before is not None or time.monotonic() > self.deadline_s):
                    found.stopped_at = found[-1].id
                    return found
                if before is None:
                    break  # a page without an event has nothing to go on behind: until one is found, or QueryTimeout
        return found

    def _groups(self) -> Iterator[tuple[EventFilter, int | None]]:
        """The filter of each value, and before which id its events are wanted."""
        begun = self.past is None
        for value, where in self._values():
            if not begun and self.past is not None and value == _value(self.past, self.sort):
                begun = True
                yield where, self.past.id
            elif begun:
                yield where, None

    def _values(self) -> Iterator[tuple[str, EventFilter]]:
        if self.sort == "severity":
            numbers = range(self.where.min_severity, self.where.max_severity + 1)
            for number in numbers if self.backwards else reversed(numbers):
                yield str(number), replace(self.where, min_severity=number, max_severity=number)
            return
        if self.sort == "source":
            for value in sorted(self.where.sources or self._names(), reverse=self.backwards):
                yield value, replace(self.where, sources=(value,))
        else:
            for value in sorted(self.where.categories or self._names(), reverse=self.backwards):
                yield value, replace(self.where, categories=(value,))

    def _names(self) -> list[str]:
        statement = (
            "SELECT source_name FROM log_sources"
            if self.sort == "source"
            else "SELECT name FROM names WHERE kind = 'category'"
        )
        return [str(row[0]) for row in self.connection.exec_driver_sql(statement)]

    # -- address, user: one value after the other, the events of each in the order of their ids

    def _by_values(self, column: str, table: str, query_of: Callable[[str], str]) -> Found:
        condition = event_condition(self.connection, self.where)
        value, past_id = self._start(column)
        if value is None:
            value = self._next(column, table, None)
        found = Found()
        while value is not None:
            for rows in self._of_value(column, value, query_of(value), past_id, condition):
                passed = [row for row in rows if row[-1]]
                found += self.events(self.connection, passed, self.where)
                if len(found) >= self.limit:
                    del found[self.limit :]
                    return found
                if time.monotonic() > self.deadline_s:
                    found.stopped_at = int(rows[-1][0])
                    return found
            past_id, value = None, self._next(column, table, value)
        return found

    def _start(self, column: str) -> tuple[str | None, int | None]:
        """The value and the id of the event to go on behind."""
        if self.past is None:
            return None, None
        statement = f"SELECT {column} FROM events WHERE id = ?"
        value = self.connection.exec_driver_sql(statement, (self.past.id,)).scalar()
        return (None, None) if value is None else (str(value), self.past.id)

    def _next(self, column: str, table: str, value: str | None) -> str | None:
        """The value that comes behind this one, from an index of all of them; None: there is none."""
        pick, sign = ("max", "<") if self.backwards else ("min", ">")
        behind = "" if value is None else f" WHERE {column} {sign} ?"
        found = self.connection.exec_driver_sql(
            f"SELECT {pick}({column}) FROM {table}{behind}", () if value is None else (value,)
        ).scalar()
        return None if found is None else str(found)

    def _of_value(
        self, column: str, value: str, query: str, past_id: int | None, condition: tuple[str, list[Any]]
    ) -> Iterator[Sequence[Any]]:
        """The events with this value, some at a time, none of the lists empty; last in a row: what the columns say."""
        tests, values = condition
        order, sign = ("DESC", "<") if self.backwards else ("ASC", ">")
        at = past_id if past_id is not None else FOR_EVER if self.backwards else 0
        folded = " COLLATE NOCASE" if column == "user_name" else ""
        while True:
            ids = [
                row[0]
                for row in self.connection.exec_driver_sql(
                    f"SELECT rowid FROM events_fts WHERE events_fts MATCH ? AND rowid {sign} ?"
                    f" ORDER BY rowid {order} LIMIT ?",
                    (query, at, CHUNK),
                )
            ]
            if ids:
                rows = self.connection.exec_driver_sql(
                    f"SELECT {COLUMNS}, ({tests}) FROM events e WHERE e.id IN ({','.join('?' * len(ids))})"
                    f" AND e.{column} = ?{folded} ORDER BY e.id {order}",
                    (*values, *ids, value),
                ).all()
                if rows:
                    yield rows
                at = ids[-1]
            if len(ids) < CHUNK:
                return

    # -- the line's own time: minute by minute

    def _by_minutes(self) -> Found:
        condition, values = rollup_condition(self.connection, self.where)
        edge, order = "", "ASC" if self.backwards else "DESC"
        if self.past is not None:
            edge = f" AND minute {'>=' if self.backwards else '<='} {self.past.timestamp_us // MINUTE_US}"
        minutes = self.connection.exec_driver_sql(
            f"SELECT minute, min(first_id), max(last_id) FROM event_minutes WHERE {condition}{edge}"
            f" GROUP BY minute ORDER BY minute {order}",
            tuple(values),
        )
        found = Found()
        for minute, low, high in minutes:
            self._add_minute(found, minute, low, high)
            if len(found) >= self.limit:
                break
            if found and time.monotonic() > self.deadline_s:
                found.stopped_at = found[-1].id
                break
        return found

    def _add_minute(self, found: Found, minute: int, low: int, high: int) -> None:
        """What is wanted of a minute, or some of it where the time is up and there is an event to go on behind."""
        tests, values = event_condition(self.connection, self.where)
        order, sign = ("ASC", ">") if self.backwards else ("DESC", "<")
        at: tuple[Any, ...] = (self.past.timestamp_us, self.past.id) if self.past is not None else ()
        while len(found) < self.limit:
            behind = f"AND (e.timestamp, e.id) {sign} (?, ?)" if at else ""
            rows = self.connection.exec_driver_sql(
                f"SELECT {COLUMNS} FROM events e WHERE e.id BETWEEN ? AND ? AND e.timestamp >= ? AND e.timestamp < ?"
                f" {behind} AND {tests} ORDER BY e.timestamp {order}, e.id {order} LIMIT ?",
                (low, high, minute * MINUTE_US, (minute + 1) * MINUTE_US, *at, *values, CHUNK),
            ).all()
            found += self.events(self.connection, rows, self.where)
            if len(rows) < CHUNK or (found and time.monotonic() > self.deadline_s):
                break
            at = (rows[-1][1], rows[-1][0])
        del found[self.limit :]


def _value(event: Event, sort: str) -> str:
    return str(getattr(event, sort))
