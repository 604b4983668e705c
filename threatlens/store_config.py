"""What was configured in the UI and on the command line: the ConfigBook that ConfigManager is handed."""

from __future__ import annotations

from threatlens.clock import now_us
from threatlens.config_book import SavedSource, SavedVersion
from threatlens.store_database import Database


class ConfigTable:
    """The tables monitoring_config and, as far as configuration goes, log_sources.

    A removed source keeps its row, hidden: its events still say where they came from, and its files are not read anew
    if it comes back.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def version(self) -> int:
        """Another number after every change."""
        with self._database.reading() as connection:
            row = connection.exec_driver_sql(
                "SELECT (SELECT coalesce(max(updated_at), 0) FROM log_sources),"
                " (SELECT coalesce(max(id), 0) FROM monitoring_config)"
            ).one()
            return int(row[0]) * 1_000 + int(row[1]) % 1_000

    def load(self) -> str:
        """The newest settings as JSON; "" if there are none."""
        with self._database.reading() as connection:
            return str(
                connection.exec_driver_sql(
                    "SELECT config_data FROM monitoring_config ORDER BY id DESC LIMIT 1"
                ).scalar()
                or ""
            )

    def save(self, config_data: str, author: str = "", note: str = "") -> int:
        """One more version of the settings; its number."""
        now = now_us()
        with self._database.writing() as connection:
            return int(
                connection.exec_driver_sql(
                    "INSERT INTO monitoring_config (config_data, author, note, created_at, updated_at)"
                    " VALUES (?,?,?,?,?) RETURNING id",
                    (config_data, author, note, now, now),
                ).scalar_one()
            )

    def versions(self, limit: int) -> list[SavedVersion]:
        """The newest versions, newest first."""
        with self._database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT id, created_at, author, note FROM monitoring_config ORDER BY id DESC LIMIT ?", (limit,)
            )
            return [SavedVersion(*row) for row in rows]

    def version_data(self, version_id: int) -> str | None:
        """What a version says; None if there is none."""
        with self._database.reading() as connection:
            row = connection.exec_driver_sql(
                "SELECT config_data FROM monitoring_config WHERE id = ?", (version_id,)
            ).one_or_none()
            return None if row is None else str(row[0])

    def sources(self) -> list[SavedSource]:
        """All sources that are not removed."""
        with self._database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT id, source_name, path, kind, origin, enabled, settings FROM log_sources WHERE kind <> 'removed'"
            )
            return [SavedSource(row[0], row[1], row[2], row[3], row[4], bool(row[5]), row[6]) for row in rows]

    def put_source(self, source: SavedSource) -> int:
        """Write a source; its id."""
        now = now_us()
        values: tuple[object, ...] = (
            source.source_name, source.path, source.kind, source.origin, source.enabled, source.settings, now,
        )  # fmt: skip
        with self._database.writing() as connection:
            if source.source_id:
                # A hidden source may still have the name; it gives it up.
                connection.exec_driver_sql(
                    "UPDATE log_sources SET source_name = source_name || ' (removed ' || id || ')'"
                    " WHERE source_name = ? AND kind = 'removed' AND id <> ?",
                    (source.source_name, source.source_id),
                )
                connection.exec_driver_sql(
                    "UPDATE log_sources SET source_name = ?, path = ?, kind = ?, origin = ?, enabled = ?, settings = ?,"
                    " updated_at = ? WHERE id = ?",
                    (*values, source.source_id),
                )
                return source.source_id
            return int(
                connection.exec_driver_sql(
                    "INSERT INTO log_sources (source_name, path, kind, origin, enabled, settings, updated_at,"
                    " created_at) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (source_name)"
                    " DO UPDATE SET path = excluded.path, kind = excluded.kind, origin = excluded.origin,"
                    " enabled = excluded.enabled,"
                    " settings = excluded.settings, updated_at = excluded.updated_at RETURNING id",
                    (*values, now),
                ).scalar_one()
            )

    def delete_source(self, source_id: int) -> None:
        """Hide a source; its events stay."""
        with self._database.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE log_sources SET kind = 'removed', enabled = 0, updated_at = ? WHERE id = ?",
                (now_us(), source_id),
            )
