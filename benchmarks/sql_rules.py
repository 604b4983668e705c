"""The reference for rules over JSON lines: Zircolite's published way, as it cannot be installed from a package index.

Events are flattened and put into one table in memory, a column for each last part of a field's name; then each rule
is one query over all of them. The queries are made from the same compiled rules, so both ways ask the same.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Any

from threatlens.detectors import DetectionEngine
from threatlens.detectors.linking import Linked

_ESCAPED = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})


class Unsupported(Exception):
    """The rule asks for something that this way cannot say."""


def run(engine: DetectionEngine, lines: Sequence[str]) -> tuple[int, int, float]:
    """Rules asked, matches, and processor seconds for putting the lines into the table and asking all rules."""
    started = time.process_time()
    rows = [dict(_flat(json.loads(line))) for line in lines]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    connection = sqlite3.connect(":memory:")
    connection.create_function("regexp", 2, _matches, deterministic=True)
    connection.execute(f"CREATE TABLE logs ({', '.join(f'[{name}] TEXT COLLATE NOCASE' for name in columns)})")
    connection.executemany(
        f"INSERT INTO logs VALUES ({','.join('?' * len(columns))})",
        ([row.get(name) for name in columns] for row in rows),
    )
    loaded = time.process_time() - started
    queries = list(_queries(engine, {name.lower() for name in columns}))  # Zircolite has them ready in a file
    started = time.process_time()
    matches = sum(connection.execute(query, values).fetchone()[0] for query, values in queries)
    return len(queries), matches, loaded + time.process_time() - started


def _flat(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _flat(inner)
        else:
            yield name.replace("[", "").replace("]", ""), str(inner)


def _matches(pattern: str, value: str | None) -> bool:
    return value is not None and re.search(pattern, value) is not None


def _queries(engine: DetectionEngine, columns: set[str]) -> Iterator[tuple[str, list[str]]]:
    for rule in engine.rules:
        linked = engine.linked(rule.id)
        if linked is None or not linked.tree or rule.logsource.category not in {None, "process_creation"}:
            continue
        values: list[str] = []
        try:
            test = _test(json.loads(linked.tree), linked, columns, values)
        except Unsupported:
            continue
        yield f"SELECT count(*) FROM logs WHERE {test}", values


def _test(tree: list[Any], linked: Linked, columns: set[str], values: list[str]) -> str:
    op = tree[0]
    if op in {"and", "or"}:
        return _joined(op, [_test(each, linked, columns, values) for each in tree[1]])
    if op == "not":
        return f"(NOT {_test(tree[1], linked, columns, values)})"
    if op == "sel":
        return _test(tree[2], linked, columns, values)
    _, field, _, wanted = tree
    names = [name for name in linked.names(field) if name in columns] if field is not None else []
    if field is None or op not in {"eq", "pre", "suf", "in", "glob", "re", "null", "any", "exists"}:
        raise Unsupported
    if op in {"null", "any", "exists"}:
        there = " OR ".join(f"coalesce([{name}], '') <> ''" for name in names) or "0"
        return f"(NOT ({there}))" if op == "null" or wanted is False else f"({there})"
    tests = []
    for name in names:
        for value in wanted:
            if op == "re":
                values.append(value[0] if "i" not in value[1] else f"(?i){value[0]}")
                tests.append(f"coalesce([{name}], '') REGEXP ?")
            else:
                values.append(_like(op, value))
                tests.append(f"coalesce([{name}], '') LIKE ? ESCAPE '\\'")
    return _joined("or", tests) if tests else "0"


def _joined(op: str, tests: Sequence[str]) -> str:
    """In halves: SQLite takes no chain of a thousand."""
    if len(tests) == 1:
        return tests[0]
    middle = len(tests) // 2
    return f"({_joined(op, tests[:middle])} {op} {_joined(op, tests[middle:])})"


def _like(op: str, value: Any) -> str:
    if op == "glob":
        return "".join(part.translate(_ESCAPED) if isinstance(part, str) else "%_"[part] for part in value)
    text = value.translate(_ESCAPED)
    return f"{'%' if op in {'suf', 'in'} else ''}{text}{'%' if op in {'pre', 'in'} else ''}"
