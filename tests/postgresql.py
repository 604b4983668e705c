"""A PostgreSQL server for tests: a cluster of their own, one database of our schema in it, empty for each."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess

import psycopg

from threatlens.store_postgresql import migrate_postgresql
from threatlens.store_schema import HEAD

PROGRAMS = sorted(glob.glob("/usr/lib/postgresql/*/bin"))


class Server:
    """A cluster in a folder, reached by a socket in that folder; it forgets what it was told when the power goes."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._data = os.path.join(folder, "data")
        self._as: tuple[str, ...] = ()
        if os.geteuid() == 0:  # the server refuses to be root's
            shutil.chown(folder, "postgres")
            self._as = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
        self._run("initdb", "--auth=trust", "--username=tests", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
                  "--pgdata", self._data)  # fmt: skip
        self.start()
        migrate_postgresql(self.url, HEAD)

    @property
    def url(self) -> str:
        return f"postgresql://tests@/postgres?host={self.folder}"

    def _run(self, program: str, *arguments: str) -> None:
        command = (*self._as, os.path.join(PROGRAMS[-1], program), *arguments)
        # Not captured by pipes, which the server would inherit and hold open.
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder)

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off -c max_connections=50 -c shared_buffers=16MB"
        self._run("pg_ctl", "--wait", "--pgdata", self._data, "--log", os.path.join(self.folder, "log"), "--options",
                  options, "start")  # fmt: skip

    def stop(self) -> None:
        """At once, as a crash does."""
        self._run("pg_ctl", "--wait", "--pgdata", self._data, "--mode", "immediate", "stop")

    def empty(self) -> None:
        """No rows, numbers from 1 on, nobody connected."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                               " WHERE pid <> pg_backend_pid() AND usename = 'tests'")  # fmt: skip
            tables = connection.execute(
                "SELECT string_agg(tablename, ', ') FROM pg_tables WHERE schemaname = 'public'"
                " AND tablename <> 'alembic_version'"
            ).fetchone()
            assert tables is not None
            connection.execute(f"TRUNCATE {tables[0]} RESTART IDENTITY CASCADE")
