"""LoginFailures: how often logging in has failed, by key, for all processes together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from threatlens.store_database import ALL, Database

MAX_KEYS = 20_000

#: How often it failed and when last, microseconds since the epoch.
Failures = tuple[int, int]


class LoginFailures:
    """The table login_failures; the oldest keys go first when there are too many."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, keys: Sequence[str]) -> list[Failures]:
        """What is known of each key; (0, 0): nothing."""
        with self._database.reading() as connection:
            return [_read(connection, key) for key in keys]

    def add(self, keys: Sequence[str], now: int, forget_us: int, may: Callable[[list[Failures]], bool]) -> bool:
        """One more failure of every key, if `may` says so of what is known; nobody else tries in between."""
        with self._database.writing() as connection:
            known = [_read(connection, key) for key in keys]
            if not may(known):
                return False
            for key, (count, at) in zip(keys, known, strict=True):
                connection.exec_driver_sql(
                    "INSERT INTO login_failures VALUES (?,?,?)"
                    " ON CONFLICT (key_hash) DO UPDATE SET count = excluded.count, failed_at = excluded.failed_at",
                    (key, 1 if now - at > forget_us else count + 1, now),
                )
            connection.exec_driver_sql("DELETE FROM login_failures WHERE failed_at < ?", (now - forget_us,))
            connection.exec_driver_sql(
                "DELETE FROM login_failures WHERE key_hash IN"
                " (SELECT key_hash FROM login_failures ORDER BY failed_at DESC LIMIT ? OFFSET ?)",
                (ALL, MAX_KEYS),
            )
            return True

    def forget(self, keys: Sequence[str]) -> None:
        """These begin anew."""
        with self._database.writing() as connection:
            for key in keys:
                connection.exec_driver_sql("DELETE FROM login_failures WHERE key_hash = ?", (key,))


def _read(connection: Connection, key: str) -> Failures:
    query = "SELECT count, failed_at FROM login_failures WHERE key_hash = ?"
    row = connection.exec_driver_sql(query, (key,)).one_or_none()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))
