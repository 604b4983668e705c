"""Who has which incident open, for all processes together: a note that is renewed as long as the page is there."""

from __future__ import annotations

from collections.abc import Mapping

from threatlens.store_database import Database

#: A browser says again after so many seconds that it is there; after three times as many it is taken to be gone.
BEAT_S = 15.0
GONE_US = 45_000_000
MAX_WATCHERS = 2_000


class WatcherBook:
    """The table incident_watchers."""

    database: Database

    def watch_incident(self, incident_id: int, user_name: str, now_us: int) -> None:
        """This person looks at it now; notes that are too old go."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "INSERT INTO incident_watchers (incident_id, user_name, seen_us) VALUES (?,?,?)"
                " ON CONFLICT (incident_id, user_name) DO UPDATE SET seen_us = excluded.seen_us",
                (incident_id, user_name, now_us),
            )
            connection.exec_driver_sql("DELETE FROM incident_watchers WHERE seen_us < ?", (now_us - GONE_US,))

    def leave_incident(self, incident_id: int, user_name: str) -> None:
        """This person has closed it; another window of theirs will say so if it is not true."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "DELETE FROM incident_watchers WHERE incident_id = ? AND user_name = ?", (incident_id, user_name)
            )

    def incident_watchers(self, now_us: int, *, but: str = "") -> Mapping[int, tuple[str, ...]]:
        """Who looks at which incident now, without this person."""
        found: dict[int, tuple[str, ...]] = {}
        with self.database.reading() as connection:
            for incident_id, name in connection.exec_driver_sql(
                "SELECT incident_id, user_name FROM incident_watchers WHERE seen_us >= ? AND user_name <> ?"
                " ORDER BY incident_id, user_name LIMIT ?",
                (now_us - GONE_US, but, MAX_WATCHERS),
            ):
                found[incident_id] = (*found.get(incident_id, ()), name)
        return found
