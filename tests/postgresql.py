"""A PostgreSQL server for tests, and databases on it that are copies of a migrated one."""

from __future__ import annotations

import itertools
import os

import psycopg
from psycopg import sql

from threatlens.store_postgresql import migrate_postgresql
from threatlens.store_schema import HEAD

_numbers = itertools.count()


def make_database(server: str) -> str:
    """A new database of our schema: its URL. `server` is the URL of one that exists already."""
    base = server.rpartition("/")[0]
    template = f"threatlens_{HEAD}_{os.getpid()}"
    name = f"{template}_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (template,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(template)))
            migrate_postgresql(f"{base}/{template}", HEAD)
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    return f"{base}/{name}"


def drop_database(url: str) -> None:
    """It is needed no more, whoever is still connected."""
    base, _, name = url.rpartition("/")
    with psycopg.connect(f"{base}/postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
