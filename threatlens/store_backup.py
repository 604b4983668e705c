"""A copy of a database that others write to, and the proof that a file is a whole database of ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from threatlens.errors import BackupError
from threatlens.store_schema import HEAD
from threatlens.vault import PREFIX

#: Pages copied at once. Between two steps others may write; a small step never holds them up for long.
STEP_PAGES = 20_000


def copy_database(path: str, target: str, progress: Callable[[int, int], None] | None = None) -> None:
    """One consistent copy of the database, made while it is in use. Raises BackupError.

    `progress` is told how many pages are left, and of how many.
    """
    try:
        source = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
        copy = sqlite3.connect(target)
        try:
            # A read transaction keeps one state in view: writers go on, and the copy never has to begin anew.
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            source.backup(copy, pages=STEP_PAGES, progress=_watcher(progress), sleep=0)
            copy.execute("PRAGMA journal_mode=DELETE").fetchone()  # one file, with nothing beside it
        finally:
            copy.close()
            source.close()
    except sqlite3.Error as error:
        msg = f"{path} cannot be copied: {error}"
        raise BackupError(msg) from error


def _watcher(progress: Callable[[int, int], None] | None) -> Callable[[int, int, int], None] | None:
    if progress is None:
        return None
    return lambda _status, left, total: progress(left, total)


def check_database(path: str) -> str:
    """The schema revision of a whole and undamaged database of ours. Raises BackupError for anything else."""
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
            revision = str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])
            connection.execute("SELECT max(id) FROM events").fetchone()
        finally:
            connection.close()
    except (sqlite3.Error, TypeError) as error:
        msg = "the database in it is not one of ThreatLens"
        raise BackupError(msg) from error
    if found != ["ok"]:
        msg = f"the database in it is damaged: {found[0][:200]}"
        raise BackupError(msg)
    if revision > HEAD:
        msg = (
            f"it was made by a newer ThreatLens (schema {revision}, this one knows {HEAD}); install that version first"
        )
        raise BackupError(msg)
    return revision


def settle(path: str) -> None:
    """Bring everything that stands in the write-ahead log into the database file itself. Raises BackupError."""
    try:
        connection = sqlite3.connect(path, timeout=5)
        try:
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error:  # not a database any more: it is kept as it is
        return
    if busy:
        msg = f"{path} is in use by another program; stop it first"
        raise BackupError(msg)


def holds_secrets(path: str) -> bool:
    """Whether sealed secrets are in it, which need the key they were sealed with."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        row = connection.execute("SELECT 1 FROM monitoring_config WHERE instr(config_data, ?) LIMIT 1", (PREFIX,))
        return row.fetchone() is not None
    finally:
        connection.close()
