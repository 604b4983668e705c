"""Database: connections, transactions and what a failure means, and SQLite's ways of connecting.

In SQLite writers begin with BEGIN IMMEDIATE, so that a transaction that reads before it writes cannot fail half way;
readers see one snapshot and are cut off when they take too long. `synchronous=FULL`: what was committed survives a
power cut, but for where files begin and what became of them, which the files show again.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from threatlens.errors import QueryTimeout, StoreUnavailable

#: Milliseconds a statement waits for another writer before it says "busy".
BUSY_TIMEOUT_MS = 10_000
#: Seconds after which a question is given up.
READING_S = 5.0
#: SQLSTATE of a statement that PostgreSQL ended as it took too long, of a lock that was waited for too long, and of a
#: disk without room.
CANCELED, LOCKED, FULL = "57014", "55P03", "53100"
#: Key of PostgreSQL's advisory lock of who runs the engine.
ENGINE = 0x74_6C_02
#: The server asks the engine's machine whether it is still there, and gives it up after some ten seconds of silence
#: instead of two hours.
SOON_GIVEN_UP = (
    "SELECT set_config(name, value, false) FROM (VALUES ('tcp_keepalives_idle', '5'),"
    " ('tcp_keepalives_interval', '2'), ('tcp_keepalives_count', '3')) AS keepalive (name, value)"
)
#: As a LIMIT: no limit.
ALL = 2**62
#: The lowest and the highest id. Asked for both in one, SQLite looks at every row.
EDGES = "SELECT (SELECT min(id) FROM events), (SELECT max(id) FROM events)"
#: What a connection may keep of the file: a batch while it is written; the system's own cache serves those that read.
WRITER_CACHE_KIB, READER_CACHE_KIB = 16_000, 2_000
#: Virtual machine instructions between two looks at the clock while a query runs.
PROGRESS_STEPS = 50_000


def connect(database_url: str) -> Engine:
    """An engine for the database, every connection set up alike."""
    if database_url.startswith("sqlite:"):
        return _connect_sqlite(database_url)
    from threatlens.store_postgresql import connect_postgresql  # its driver is for those who use it

    return connect_postgresql(database_url)


def _connect_sqlite(database_url: str) -> Engine:
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
            "journal_size_limit=67108864",
        ):
            cursor.execute("PRAGMA " + pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def say_begin(connection: Connection) -> None:
        writer = connection.get_execution_options().get("writer")
        dbapi: Any = connection.connection.dbapi_connection
        dbapi.execute(f"PRAGMA cache_size=-{WRITER_CACHE_KIB if writer else READER_CACHE_KIB}")
        if writer:
            dbapi.execute(f"PRAGMA synchronous={'FULL' if connection.get_execution_options()['synced'] else 'NORMAL'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine


class Database:
    """Two ways in: writing() and reading()."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_postgresql = engine.dialect.name == "postgresql"
        #: The table that knows the highest number that a table has ever given.
        self.sequences = "written" if self.is_postgresql else "sqlite_sequence"
        self._holder: Connection | None = None
        self._away: StoreUnavailable | None = None
        self._snapshot = threading.local()  # the connection of the thread that is within snapshot()

    @contextmanager
    def writing(self, *, busy_ms: int = BUSY_TIMEOUT_MS, synced: bool = True) -> Iterator[Connection]:
        """One write transaction; raises StoreUnavailable when the database is busy (for busy_ms), full or away.

        Who cannot wait that long does not try to reach a server that others have just found away. Without `synced`
        SQLite does not wait for the disk: a power cut may take it back, unless a later transaction that is kept was.
        """
        if self._away is not None and busy_ms < BUSY_TIMEOUT_MS:
            raise StoreUnavailable(str(self._away), reason=self._away.reason)
        try:
            with (
                self.engine.connect().execution_options(writer=True, busy_ms=busy_ms, synced=synced) as connection,
                self._patience(connection, busy_ms),
                connection.begin(),
            ):
                yield connection
            self._away = None
        except (OperationalError, PoolTimeout) as error:
            raise self._noted(unavailable(error)) from error
        except DatabaseError as error:
            # A file that is no database any more is away, not a mistake of the statement.
            if "malformed" in str(error) or "not a database" in str(error) or error.connection_invalidated:
                raise unavailable(error) from error
            raise

    @contextmanager
    def reading(self, timeout_s: float | None = None) -> Iterator[Connection]:
        """One snapshot to read from; raises QueryTimeout after timeout_s, None for READING_S, or StoreUnavailable."""
        timeout_s = READING_S if timeout_s is None else timeout_s
        held: Connection | None = getattr(self._snapshot, "connection", None)
        try:
            if held is not None:
                with self._limit(held, timeout_s):
                    yield held
                return
            with (
                self.engine.connect().execution_options(timeout_ms=int(timeout_s * 1000)) as connection,
                connection.begin(),
                self._limit(connection, timeout_s),
            ):
                yield connection
            self._away = None
        except DBAPIError as error:
            if "interrupted" in str(error.orig) or _sqlstate(error.orig) == CANCELED:
                msg = f"the query took longer than {timeout_s:g} seconds; narrow the time range or the filter"
                raise QueryTimeout(msg) from error
            raise self._noted(unavailable(error)) from error
        except PoolTimeout as error:
            raise unavailable(error) from error

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Whatever this thread reads within is of one moment, and costs one connection and one transaction.

        For a page that asks a dozen questions, and ends soon: nothing is written within, and nothing waited for. In
        PostgreSQL no question has a shorter limit than the first.
        """
        with self.reading() as connection:
            self._snapshot.connection = connection.execution_options(known={})
            try:
                yield
            finally:
                self._snapshot.connection = None

    def _noted(self, error: StoreUnavailable) -> StoreUnavailable:
        """Remember, until somebody reaches it again, that the server is away: trying to takes seconds."""
        self._away = error if self.is_postgresql and error.reason == "away" else None
        return error

    @contextmanager
    def _patience(self, connection: Connection, busy_ms: int) -> Iterator[None]:
        """For a while this connection waits so long for another writer."""
        if self.is_postgresql or busy_ms == BUSY_TIMEOUT_MS:
            yield
            return
        dbapi: Any = connection.connection.dbapi_connection
        dbapi.execute(f"PRAGMA busy_timeout={busy_ms}")
        try:
            yield
        finally:
            dbapi.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")

    @contextmanager
    def _limit(self, connection: Connection, timeout_s: float) -> Iterator[None]:
        """What this connection is asked takes no longer."""
        if self.is_postgresql:
            yield
            return
        deadline = time.monotonic() + timeout_s
        dbapi: Any = connection.connection.dbapi_connection
        dbapi.set_progress_handler(lambda: time.monotonic() > deadline, PROGRESS_STEPS)
        try:
            yield
        finally:
            dbapi.set_progress_handler(None, 0)

    def hold(self) -> bool:
        """Keep, or take, the right to run the engine on this database; False: another machine has it.

        SQLite's file is one machine's, where a lock on the data folder decides. In PostgreSQL it is a lock of a
        connection that is kept for it; while the server is away nobody else can have it. Raises StoreUnavailable when
        it cannot be asked for.
        """
        if not self.is_postgresql:
            return True
        try:
            if self._holder is not None:
                try:
                    self._holder.exec_driver_sql("SELECT 1")
                except DBAPIError:
                    self.let_go()
                else:
                    return True
            holder = self.engine.connect().execution_options(alone=True)
            if not holder.exec_driver_sql(f"SELECT pg_try_advisory_lock({ENGINE})").scalar_one():
                holder.close()
                return False
            holder.exec_driver_sql(SOON_GIVEN_UP)
            self._holder = holder
        except (DBAPIError, PoolTimeout) as error:
            raise unavailable(error) from error
        return True

    def held_by(self) -> str:
        """Where the engine runs, as PostgreSQL knows it; "": nowhere, or (SQLite) on this machine if at all."""
        if not self.is_postgresql:
            return ""
        try:
            with self.reading() as connection:
                found = connection.exec_driver_sql(
                    "SELECT coalesce(host(a.client_addr), 'a socket of the database server') FROM pg_locks l"
                    " JOIN pg_database d ON d.oid = l.database LEFT JOIN pg_stat_activity a ON a.pid = l.pid"
                    " WHERE l.locktype = 'advisory' AND l.granted AND l.objid = ? AND d.datname = current_database()",
                    (ENGINE,),
                ).scalar()
        except (QueryTimeout, StoreUnavailable):
            return ""
        return str(found or "")

    def let_go(self) -> None:
        """Give that right up."""
        holder, self._holder = self._holder, None
        if holder is not None:
            if not holder.invalidated:  # else the server has forgotten it
                with suppress(DBAPIError):
                    holder.exec_driver_sql(f"SELECT pg_advisory_unlock({ENGINE})")
            holder.invalidate()
            holder.close()

    def extent(self, connection: Connection) -> tuple[int, int]:
        """(bytes of the database in use, bytes free inside its file).

        PostgreSQL uses the room of what was deleted again, and says neither how much there is nor where: what is in use
        is reckoned from what the newest events take with their words and their places in the indexes.
        """
        if self.is_postgresql:
            low, high = connection.exec_driver_sql(EDGES).one()
            each = connection.exec_driver_sql(
                "SELECT avg(pg_column_size(e.*) + 2 * pg_column_size(w.raw) + 100) FROM events e"
                " JOIN events_fts w ON w.rowid = e.id WHERE e.id > ?",
                ((high or 0) - 1_000,),
            ).scalar()
            return int((each or 0) * (high - low + 1 if high else 0)), 0
        size, pages, free = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("page_size", "page_count", "freelist_count")
        )
        return (pages - free) * size, free * size

    def shrinks(self) -> bool:
        """Whether its file can become smaller now. An early version's only reuses its pages, as PostgreSQL does."""
        if self.is_postgresql:
            return False
        with self.reading() as connection:
            return int(connection.exec_driver_sql("PRAGMA auto_vacuum").scalar_one()) != 0

    def return_space(self, pages: int) -> None:
        """Give some free pages of SQLite's file back to the disk."""
        try:
            with self.engine.connect() as connection:
                dbapi: Any = connection.connection.dbapi_connection
                # Each of its steps frees one page, and it has no columns: only a script is run to its end.
                dbapi.executescript(f"PRAGMA incremental_vacuum({int(pages)})")
        except sqlite3.Error as error:
            raise unavailable(error) from error


def known(connection: Connection) -> dict[Any, Any]:
    """What was read of this moment and is asked for again and again; outside of a snapshot always empty."""
    found: dict[Any, Any] = connection.get_execution_options().get("known", {})
    return found


def _sqlstate(error: object) -> str:
    """The code of what PostgreSQL said; "" where it said nothing."""
    return getattr(error, "sqlstate", None) or ""


def unavailable(error: Exception) -> StoreUnavailable:
    """What an error of the driver means for the caller: wait and try again, and why."""
    original = getattr(error, "orig", None) or error
    text, state = str(original), _sqlstate(original)
    if "full" in text or state == FULL:
        return StoreUnavailable("the disk of the database is full", reason="disk_full")
    if "locked" in text or "busy" in text or state == LOCKED or isinstance(error, PoolTimeout):
        return StoreUnavailable("the database is locked by another program", reason="busy")
    return StoreUnavailable(f"the database does not answer: {text}", reason="away")
