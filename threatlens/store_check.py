"""Whether the database file is sound: what doctor asks, and what a backup is held to."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from urllib.parse import quote

MAX_PROBLEMS = 10


def problems_of(path: str, *, timeout_s: float = 10.0) -> list[str]:
    """What SQLite's quick check finds wrong in a database file, at most ten sentences. Nothing in it is changed."""
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=timeout_s)) as connection:
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            found = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({MAX_PROBLEMS})")]
    except sqlite3.Error as error:
        return [str(error)]
    problems = [] if found == ["ok"] else found
    if mode != "wal":
        problems.append(f"its journal mode is {mode}, not WAL: readers and the writer wait for each other")
    return problems
