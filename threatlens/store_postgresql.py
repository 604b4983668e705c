"""PostgreSQL: connections, transactions, and how it reads statements that are written as SQLite reads them.

Writers wait for each other at one advisory lock, as they do in SQLite: a transaction that reads before it writes sees
what it builds on. Readers see one snapshot; the server ends a statement that takes too long.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from psycopg.adapt import Loader
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError

from threatlens.errors import DataFolderError
from threatlens.store_words import TOKEN

#: Keys of our advisory locks in a database: of who writes, and of who changes the schema.
WRITER, SCHEMA = 0x74_6C_01, 0x74_6C_03
_PIECE = re.compile(r"'(?:[^']|'')*'|\?|%")
_BARE_PLUS = re.compile(r"(?<=[ (])\+(?=[a-z])")
#: A term of FTS5's query.
_TERM = re.compile(r'"([^"]+)"(\*?)')
#: Characters of a token that are kept: the server takes 2046 bytes.
TOKEN_CHARACTERS = 500
EVENT_COLUMNS = 19
_AS_BYTES = re.compile(r"CAST\(([\w.]+) AS BLOB\)")


def connect_postgresql(database_url: str) -> Engine:
    """An engine for the server, every connection set up alike."""
    engine = create_engine(
        driver_url(database_url),
        connect_args={
            "application_name": "threatlens",
            "connect_timeout": 2,
            "keepalives_idle": 20,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        },
        use_native_hstore=False,
        pool_size=8,
        max_overflow=24,
        pool_timeout=10,
        pool_pre_ping=True,
    )

    @event.listens_for(engine, "connect")
    def set_up(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.autocommit = True  # we say BEGIN ourselves
        for kind, dumper in ((int, _IntDumper), (bool, _IntDumper), (str, _TextDumper)):
            dbapi_connection.adapters.register_dumper(kind, dumper)
        dbapi_connection.adapters.register_loader("numeric", _NumberLoader)

    @event.listens_for(engine, "begin")
    def say_begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if "alone" in options:  # no transaction
            return
        connection.exec_driver_sql(
            f"BEGIN; SET LOCAL lock_timeout = {int(options['busy_ms'])}; SELECT pg_advisory_xact_lock({WRITER})"
            if "busy_ms" in options
            else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
            f" SET LOCAL statement_timeout = {max(1, options.get('timeout_ms', 60_000))}"
        )

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def translate(
        _connection: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
    ) -> tuple[str, Any]:
        return adapted(statement, parameters)

    return engine


def migrate_postgresql(database_url: str, head: str) -> str:
    """Bring the database to this revision and return the one it had ("" for a new one); raises DataFolderError."""
    with _alone(database_url) as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({SCHEMA})")
        found = _revision(connection)
        if found > head:
            msg = (
                f"the database was made by a newer ThreatLens (schema {found}, this one knows {head}); install that"
                " version again"
            )
            raise DataFolderError(msg)
        if found != head:
            _upgrade(connection, is_new=not found)
        return found


def revision_postgresql(database_url: str) -> str:
    """The schema's revision, "" of an empty database; raises DataFolderError."""
    with _alone(database_url) as connection:
        return _revision(connection)


def has_admin_postgresql(database_url: str) -> bool:
    """Whether somebody may administer this; raises DataFolderError."""
    with _alone(database_url) as connection:
        query = "SELECT 1 FROM users WHERE role = 'admin' AND enabled = 1 LIMIT 1"
        return connection.exec_driver_sql(query).first() is not None


@contextmanager
def _alone(database_url: str) -> Iterator[Connection]:
    """A transaction on a connection of its own, before there is a store; raises DataFolderError."""
    engine = create_engine(
        driver_url(database_url), connect_args={"connect_timeout": 5}, use_native_hstore=False, poolclass=NullPool
    )
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        msg = f"the database cannot be used: {str(error.orig).strip()}"
        raise DataFolderError(msg) from error


def _revision(connection: Connection) -> str:
    tables = set(
        connection.exec_driver_sql("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()").scalars()
    )
    if not tables:
        return ""
    if not {"alembic_version", "events"} <= tables:
        msg = "the database holds tables that are not of ThreatLens; give it a database of its own"
        raise DataFolderError(msg)
    return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() or "")


def _upgrade(connection: Connection, *, is_new: bool) -> None:
    from alembic import command
    from alembic.config import Config

    from threatlens.migrations.postgresql import FUNCTIONS
    from threatlens.migrations.postgresql import translated as migrated

    connection.exec_driver_sql(FUNCTIONS)

    @event.listens_for(connection, "before_cursor_execute", retval=True)
    def translate(
        _connection: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
    ) -> tuple[str, Any]:
        if "?" in statement:
            return adapted(statement, parameters)
        return migrated(statement, is_new=is_new) or "SELECT 1", parameters or None

    config = Config()
    config.set_main_option("script_location", os.path.join(os.path.dirname(__file__), "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def driver_url(database_url: str) -> str:
    """The URL as SQLAlchemy wants it."""
    return "postgresql+psycopg://" + database_url.partition("://")[2]


def adapted(statement: str, parameters: Any) -> tuple[str, Any]:
    """The statement and its parameters (one tuple, or a list of them) as the driver and the server read them."""
    if "events_fts" in statement:
        return _of_words(statement, parameters)
    if statement.startswith("INSERT INTO events VALUES"):  # the line, last in its row, is bytes
        if isinstance(parameters, list):
            parameters = [(*row[:-1], _as_bytes(row[-1])) for row in parameters]
        else:
            parameters = tuple(
                _as_bytes(value) if at % EVENT_COLUMNS == EVENT_COLUMNS - 1 else value
                for at, value in enumerate(parameters)
            )
    return translated(statement), parameters or None


def _of_words(statement: str, parameters: Any) -> tuple[str, Any]:
    """The full-text index: a table of vectors. What FTS5 is told to merge or to take out it keeps in order itself."""
    if "'merge'" in statement:
        return "SELECT 1", None
    if "'delete'" in statement:
        return "DELETE FROM events_fts WHERE rowid = %s", [row[:1] for row in parameters]
    if statement.startswith("INSERT"):
        if isinstance(parameters, list):
            return translated(statement), [(row[0], vector(row[1])) for row in parameters]
        return translated(statement), tuple(vector(value) if at % 2 else value for at, value in enumerate(parameters))
    before, match, after = statement.partition("events_fts MATCH ?")
    if match:
        at = before.count("?")
        statement = f"{before}raw @@ CAST(? AS tsquery){after}"
        parameters = (*parameters[:at], query(parameters[at]), *parameters[at + 1 :])
    return translated(statement), parameters


def vector(text: str) -> str:
    """The tokens of a text as PostgreSQL writes them; none holds a character that means something there."""
    return " ".join({f"'{token[:TOKEN_CHARACTERS]}'" for token in TOKEN.findall(text.lower())})


def query(fts5: str) -> str:
    """FTS5's query, tokens in quotes that a star may follow, all of which must be there, as PostgreSQL writes it."""
    return " & ".join(
        f"'{token[:TOKEN_CHARACTERS]}'" + (":*" if star or len(token) > TOKEN_CHARACTERS else "")
        for token, star in _TERM.findall(fts5.lower())
    )


def _as_bytes(raw: Any) -> Any:
    return raw.encode() if isinstance(raw, str) else raw


@lru_cache(maxsize=4_096)
def translated(statement: str) -> str:
    """The statement with the driver's marks for parameters, and without SQLite's own words."""
    statement = _BARE_PLUS.sub("", statement)
    statement = _AS_BYTES.sub(r"convert_to(\1, 'UTF8')", statement)
    return _PIECE.sub(_piece, statement)


def _piece(found: re.Match[str]) -> str:
    return "%s" if found[0] == "?" else found[0].replace("%", "%%")


class _IntDumper(Int8Dumper):
    """Whole numbers are eight bytes wide, as all of ours are in SQLite; a truth value is 0 or 1."""

    def dump(self, obj: int) -> bytes:
        return b"%d" % obj


class _TextDumper(StrDumperUnknown):
    """Text without the one character that PostgreSQL does not keep; lines themselves are kept as bytes."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\x00", "\N{SYMBOL FOR NULL}") if "\x00" in obj else obj)


class _NumberLoader(Loader):
    """Sums of whole numbers are whole numbers."""

    def load(self, data: Any) -> int | float:
        text = bytes(data)
        return float(text) if b"." in text or not text.lstrip(b"-").isdigit() else int(text)
