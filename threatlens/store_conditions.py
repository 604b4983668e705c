"""What columns and roll-ups know of a filter, as conditions in SQL: all that it finds meets them.

Not all that meets them is found: the rest of what a test means is asked of the event itself
(threatlens.event_match).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from threatlens.event import FROM_EXPORT, EventFilter
from threatlens.event_match import FieldTest, network
from threatlens.store_database import ALL, known

MINUTE_US = 60_000_000
#: The condition that everything meets.
ANY = "1 = 1"
#: What of a URL stands in its line in any writing, ignoring case. "k" is the lower case of a sign that is not ASCII,
#: too; what has no letter may be a number.
URL_WORD = re.compile(r"[a-jl-z0-9]*[a-jl-z][a-jl-z0-9]*")
URL_WORD_CHARS = 3
OUTCOMES = {"success": 1, "failure": 2}


def ids_of_times(connection: Connection, start_us: int | None, end_us: int | None) -> tuple[int, int]:
    """The lowest and the highest id of the events of these minutes; (ALL, 0) without any.

    The ids of a time that is over lie below those of all that came since, which would be walked through to get there.
    Where events were forgotten both may lie a little further out.
    """
    of_moment = known(connection)
    first = 0 if start_us is None else start_us // MINUTE_US
    last = ALL if end_us is None else (end_us - 1) // MINUTE_US
    found: tuple[int, int] | None = of_moment.get((first, last))
    if found is None:
        hour, end = -(-first // 60), (last + 1) // 60  # the whole hours, without the end
        parts = [("minute", first, last)]
        if hour < end:
            parts = [("hour", hour, end - 1), ("minute", first, hour * 60 - 1), ("minute", end * 60, last)]
        union = " UNION ALL ".join(
            f"SELECT min(first_id) AS low, max(last_id) AS high FROM event_{unit}s WHERE {unit} BETWEEN ? AND ?"
            for unit, *_ in parts
        )
        row = connection.exec_driver_sql(
            f"SELECT min(low), max(high) FROM ({union}) AS parts", tuple(edge for _, *edges in parts for edge in edges)
        ).one()
        found = of_moment[first, last] = (ALL, 0) if row[0] is None else (row[0], row[1])
    return found


def rollup_condition(connection: Connection, where: EventFilter) -> tuple[str, list[Any]]:
    """What a row of event_minutes meets that counts events of the filter, and its values."""
    tests, values = shared_condition(connection, where)
    if where.start_us is not None:
        tests.append("minute >= ?")
        values.append(where.start_us // MINUTE_US)
    if where.end_us is not None:
        tests.append("minute <= ?")
        values.append((where.end_us - 1) // MINUTE_US)
    return " AND ".join(tests), values


def event_condition(connection: Connection, where: EventFilter) -> tuple[str, list[Any]]:
    """What a row of events (as e) meets that the filter finds, and its values."""
    tests, values = shared_condition(connection, where)
    if where.start_us is not None:
        tests.append("timestamp >= ?")
        values.append(where.start_us)
    if where.end_us is not None:
        tests.append("timestamp < ?")
        values.append(where.end_us)
    for test in where.tests:
        if not test.is_counted and not test.negated:
            narrow, more = _narrowed(connection, test)
            if narrow:
                tests.append(narrow)
                values += more
    return " AND ".join(tests), values


def _narrowed(connection: Connection, test: FieldTest) -> tuple[str, list[Any]]:
    """What the columns know of a test: a condition that every event meets which passes it; "" if they know nothing."""
    if test.operator != ":":
        return "", []
    if test.fields in (("format",), ("path",)):
        rows = connection.exec_driver_sql("SELECT id, name FROM names WHERE kind = ?", test.fields)
        ids = [number for number, name in rows if any(is_it(name) for is_it in test.value_tests())]
        return f"e.{test.fields[0]}_id IN ({marks(ids) or 'NULL'})", ids
    if test.fields == ("event.outcome",):
        numbers = [OUTCOMES[value.lower()] for value in test.values if value.lower() in OUTCOMES]
        return (f"e.outcome IN ({marks(numbers)})", numbers) if len(numbers) == len(test.values) else ("", [])
    if test.fields == ("user.name",) and all(value.isascii() and is_plain(value) for value in test.values):
        return f"e.user_name COLLATE NOCASE IN ({marks(test.values)})", list(test.values)
    if test.fields == ("url.original",):
        words = [_url_word(value) for value in test.values]
        if not all(words):
            return "", []
        # Behind a backslash a letter may be written in other ways; a line from an export stands in it as JSON.
        holds = " OR ".join("instr(lower(e.raw), ?) > 0" for _ in words)
        return f"({holds} OR instr(e.raw, '\\') > 0 OR e.encoding IS NOT NULL OR e.flags & {FROM_EXPORT} <> 0)", words
    if "source.ip" in test.fields:
        spans = [_address_span(value) for value in test.values]
        if any(span is None for span in spans):
            return "", []
        parts: list[str] = []
        values: list[Any] = []
        for span in spans:
            assert span is not None  # noqa: S101 - looked at above
            low, high, start = span
            parts.append("(+e.source_ip >= ? AND +e.source_ip < ?)")
            values += [low, high]
            if len(test.fields) > 1:
                parts.append("instr(e.raw, ?) > 0")
                values.append(start)
        return f"({' OR '.join(parts)})", values
    return "", []


def _url_word(value: str) -> str:
    """The longest text without signs that every URL like this holds; "" where nothing is sure."""
    if network(value) is not None:
        return ""
    word = max(URL_WORD.findall(value.lower()), key=len, default="")
    return word if len(word) >= URL_WORD_CHARS else ""


def _address_span(value: str) -> tuple[str, str, str] | None:
    """The texts between which the IPv4 addresses of this network lie, and how all of them begin; None: no such span."""
    net = network(value)
    if net is None or net.version != 4 or net.prefixlen < 8:
        return None
    octets = str(net.network_address).split(".")[: net.prefixlen // 8]
    start = ".".join(octets) + ("." if len(octets) < 4 else "")
    # "/" comes after "." and before the digits; the text of one whole address is followed by nothing.
    return (start, start[:-1] + "/", start) if len(octets) < 4 else (start, start + "\x00", start)


def is_plain(value: str) -> bool:
    """Whether the value is one text, not a pattern, a range or a network."""
    return "*" not in value and ".." not in value and "/" not in value


def marks(values: Sequence[Any]) -> str:
    """A parameter for each of these."""
    return ",".join("?" * len(values))


def shared_condition(connection: Connection, where: EventFilter) -> tuple[list[str], list[Any]]:
    """Tests on columns that events and the roll-up have in common."""
    tests, values = [ANY], []
    if (where.min_severity, where.max_severity) != (1, 10):
        tests.append("severity BETWEEN ? AND ?")
        values += [where.min_severity, where.max_severity]
    for column, table, key, names in (
        ("category_id", "names", "kind = 'category' AND name", where.categories),
        ("source_id", "log_sources", "source_name", where.sources),
    ):
        if names:
            ids = [
                row[0]
                for row in connection.exec_driver_sql(
                    f"SELECT id FROM {table} WHERE {key} IN ({marks(names)})", tuple(names)
                )
            ]
            tests.append(f"{column} IN ({marks(ids) or 'NULL'})")
            values += ids
    for test in where.tests:
        if test.is_counted:
            column, ids = _counted(connection, test)
            tests.append(f"{column} {'NOT IN' if test.negated else 'IN'} ({marks(ids) or 'NULL'})")
            values += ids
            if test.negated and not ids:
                tests.pop()
    return tests, values


def _counted(connection: Connection, test: FieldTest) -> tuple[str, list[int]]:
    """The column of the roll-up that a test is about, and the numbers that pass it."""
    if test.fields == ("severity",):
        names = [(number, str(number)) for number in range(1, 11)]
    elif test.fields == ("category",):
        rows = connection.exec_driver_sql("SELECT id, name FROM names WHERE kind = 'category'")
        names = [(row[0], row[1]) for row in rows]
    else:
        names = [(row[0], row[1]) for row in connection.exec_driver_sql("SELECT id, source_name FROM log_sources")]
    column = "severity" if test.fields == ("severity",) else test.fields[0] + "_id"
    return column, [number for number, name in names if any(is_it(name) for is_it in test.value_tests())]
