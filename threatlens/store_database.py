"""Database: connections, transactions and what a failure means. Everything that knows SQLite's ways of connecting.

Writers begin with BEGIN IMMEDIATE, so that a transaction that reads before it writes cannot fail half way; readers see
one snapshot and are cut off when they take too long. `synchronous=FULL`: what was committed survives a power cut.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from threatlens.errors import QueryTimeout, StoreUnavailable

#: Milliseconds a statement waits for another writer before it says "busy".
BUSY_TIMEOUT_MS = 10_000
#: As a LIMIT: no limit.
ALL = 2**62
#: Virtual machine instructions between two looks at the clock while a query runs.
PROGRESS_STEPS = 10_000


def connect(database_url: str) -> Engine:
    """An engine for the SQLite file, every connection set up alike."""
    engine = create_engine(
        database_url,
        connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False, "isolation_level": None},
        pool_size=8,
        max_overflow=24,
        pool_timeout=10,
        pool_use_lifo=True,  # the last one used is warm; taken in turn, each would fill a cache of its own
    )

    @event.listens_for(engine, "connect")
    def set_up(dbapi_connection: sqlite3.Connection, _record: Any) -> None:
        dbapi_connection.isolation_level = None  # we say BEGIN ourselves
        cursor = dbapi_connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "cache_size=-16000",
            "journal_size_limit=67108864",
        ):
            cursor.execute("PRAGMA " + pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def say_begin(connection: Connection) -> None:
        writer = connection.get_execution_options().get("writer")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine


class Database:
    """Two ways in: writing() and reading()."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @contextmanager
    def writing(self, *, busy_ms: int = BUSY_TIMEOUT_MS) -> Iterator[Connection]:
        """One write transaction; raises StoreUnavailable when the database is busy (for busy_ms), full or away."""
        try:
            with (
                self.engine.connect().execution_options(writer=True) as connection,
                _patience(connection, busy_ms),
                connection.begin(),
            ):
                yield connection
        except (OperationalError, PoolTimeout) as error:
            raise unavailable(error) from error
        except DatabaseError as error:
            # A file that is no database any more is away, not a mistake of the statement.
            if "malformed" in str(error) or "not a database" in str(error):
                raise unavailable(error) from error
            raise

    @contextmanager
    def reading(self, timeout_s: float = 5.0) -> Iterator[Connection]:
        """One snapshot to read from; raises QueryTimeout after timeout_s, StoreUnavailable without a database."""
        deadline = time.monotonic() + timeout_s
        try:
            with self.engine.connect() as connection:
                dbapi: Any = connection.connection.dbapi_connection
                dbapi.set_progress_handler(lambda: time.monotonic() > deadline, PROGRESS_STEPS)
                try:
                    with connection.begin():
                        yield connection
                finally:
                    dbapi.set_progress_handler(None, 0)
        except DBAPIError as error:
            if "interrupted" in str(error.orig):
                msg = f"the query took longer than {timeout_s:g} seconds; narrow the time range or the filter"
                raise QueryTimeout(msg) from error
            raise unavailable(error) from error
        except PoolTimeout as error:
            raise unavailable(error) from error


@contextmanager
def _patience(connection: Connection, busy_ms: int) -> Iterator[None]:
    """For a while this connection waits so long for another writer."""
    if busy_ms == BUSY_TIMEOUT_MS:
        yield
        return
    dbapi: Any = connection.connection.dbapi_connection
    dbapi.execute(f"PRAGMA busy_timeout={busy_ms}")
    try:
        yield
    finally:
        dbapi.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")


def unavailable(error: Exception) -> StoreUnavailable:
    """What an error of the driver means for the caller: wait and try again, and why."""
    text = str(getattr(error, "orig", None) or error)
    if "full" in text:
        return StoreUnavailable("the disk of the database is full", reason="disk_full")
    if "locked" in text or "busy" in text or isinstance(error, PoolTimeout):
        return StoreUnavailable("the database is locked by another program", reason="busy")
    return StoreUnavailable(f"the database does not answer: {text}", reason="away")
