"""Saved searches: what each person gave a name, to come back to it."""

from __future__ import annotations

from dataclasses import dataclass

from threatlens.errors import QueryError
from threatlens.store_database import Database

MAX_SAVED = 200  # of one person
MAX_PINNED = 6  # of those on the dashboard


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """One way of looking at the events."""

    id: int
    name: str
    params: str  # the part of the address behind the question mark
    pinned: bool = False  # it stands on the dashboard


class SearchBook:
    """The table saved_searches."""

    database: Database

    def saved_searches(self, user_id: int) -> list[SavedSearch]:
        """What this person saved, by name."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT id, name, params, pinned FROM saved_searches WHERE user_id = ? ORDER BY name COLLATE NOCASE",
                (user_id,),
            )
            return [SavedSearch(row[0], row[1], row[2], bool(row[3])) for row in rows]

    def save_search(self, user_id: int, name: str, params: str, now_us: int) -> None:
        """Keep it under this name, in place of what had the name before; raises QueryError when there are too many."""
        with self.database.writing() as connection:
            others = connection.exec_driver_sql(
                "SELECT count(*) FROM saved_searches WHERE user_id = ? AND name <> ?", (user_id, name)
            ).scalar()
            if int(others or 0) >= MAX_SAVED:
                msg = f"At most {MAX_SAVED} searches can be saved; delete one first."
                raise QueryError(msg, field="name")
            connection.exec_driver_sql(
                "INSERT INTO saved_searches (user_id, name, params, created_at) VALUES (?,?,?,?)"
                " ON CONFLICT (user_id, name) DO UPDATE SET params = excluded.params",
                (user_id, name, params, now_us),
            )

    def pin_search(self, user_id: int, name: str, *, pinned: bool) -> bool:
        """Put one of this person's on the dashboard, or take it away; False: there is none, or there are too many."""
        with self.database.writing() as connection:
            others = connection.exec_driver_sql(
                "SELECT count(*) FROM saved_searches WHERE user_id = ? AND name <> ? AND pinned = 1", (user_id, name)
            ).scalar()
            if pinned and int(others or 0) >= MAX_PINNED:
                return False
            done = connection.exec_driver_sql(
                "UPDATE saved_searches SET pinned = ? WHERE user_id = ? AND name = ?", (int(pinned), user_id, name)
            )
        return done.rowcount == 1

    def delete_search(self, user_id: int, search_id: int) -> bool:
        """Forget one of this person's; False: there is none with this id."""
        with self.database.writing() as connection:
            gone = connection.exec_driver_sql(
                "DELETE FROM saved_searches WHERE id = ? AND user_id = ?", (search_id, user_id)
            )
        return gone.rowcount == 1
