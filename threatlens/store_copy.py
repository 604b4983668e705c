"""Moving house: everything in SQLite's file, into a PostgreSQL database that is still empty, in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from sqlalchemy import Connection

from threatlens.errors import BackupError
from threatlens.store_database import Database
from threatlens.store_words import indexed_text, line_of

ROWS = 500  # of one statement
#: Others refer to their rows.
_FIRST = ("log_sources", "users")
#: Kept by the database itself while the tables they sum up are filled: put in their place at the end.
_LAST = ("event_hours", "address_quarters")
_NOT_OURS = ("alembic_version", "events_fts", "sqlite_")


def copy_into(path: str, database: Database, progress: Callable[[str, int], None]) -> int:
    """Copy every row of the file; how many events. `progress` is told each table and its rows. Raises BackupError."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as source, database.writing() as target:
        source.execute("BEGIN")  # one state, whoever writes meanwhile
        version = "SELECT version_num FROM alembic_version"
        ours = source.execute(version).fetchone()[0]
        theirs = target.exec_driver_sql(version).scalar_one()
        if ours != theirs:
            msg = f"{path} has schema {ours}, the new database {theirs}; run `python -m threatlens migrate` on it first"
            raise BackupError(msg)
        if target.exec_driver_sql("SELECT 1 FROM events UNION ALL SELECT 1 FROM users LIMIT 1").first():
            msg = "the new database is not empty"
            raise BackupError(msg)
        events = 0
        for table in _tables(source):
            target.exec_driver_sql(f"DELETE FROM {table}")
            n = _copy(source, target, table)
            events = n if table == "events" else events
            progress(table, n)
        _number_on(target)
    return events


def _tables(source: sqlite3.Connection) -> list[str]:
    names = [
        row[0]
        for row in source.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        if not row[0].startswith(_NOT_OURS)
    ]
    return sorted(names, key=lambda name: (name in _LAST, name not in _FIRST))


def _copy(source: sqlite3.Connection, target: Connection, table: str) -> int:
    n = 0
    rows = source.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in rows.description]
    marks = ",".join("?" * len(names))
    into = f"INSERT INTO events VALUES ({marks})" if table == "events" else None
    into = into or f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"
    while chunk := rows.fetchmany(ROWS):
        target.exec_driver_sql(into, chunk)
        if table == "events":
            target.exec_driver_sql("INSERT INTO events_fts (rowid, raw) VALUES (?,?)", list(_words(names, chunk)))
        n += len(chunk)
    return n


def _words(names: list[str], rows: list[Any]) -> Iterator[tuple[int, str]]:
    raw, encoding, source_ip, user_name = (names.index(name) for name in ("raw", "encoding", "source_ip", "user_name"))
    for row in rows:
        yield row[0], indexed_text(line_of(row[raw], row[encoding]), row[source_ip], row[user_name])


def _number_on(target: Connection) -> None:
    """New rows get numbers above those that were copied."""
    tables = target.exec_driver_sql(
        "SELECT table_name FROM information_schema.columns"
        " WHERE table_schema = current_schema() AND is_identity = 'YES'"
    ).scalars()
    for table in list(tables):
        target.exec_driver_sql(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), greatest((SELECT max(id) FROM {table}), 1),"
            f" (SELECT max(id) FROM {table}) IS NOT NULL)"
        )
