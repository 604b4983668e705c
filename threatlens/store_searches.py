"""Saved searches: what each person gave a name, to come back to it; and which of them are sent, when and to whom."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from threatlens.errors import QueryError
from threatlens.store_database import Database
from threatlens.store_notifications import Occurrence, write_occurrences

MAX_SAVED = 200  # of one person
MAX_PINNED = 6  # of those on the dashboard


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """One way of looking at the events."""

    id: int
    name: str
    params: str  # the part of the address behind the question mark
    pinned: bool = False  # it stands on the dashboard


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a saved search is sent, and what became of it."""

    search_id: int
    every: str  # day, week
    weekday: int  # 0: Monday; of what is sent weekly
    hour: int  # 0-23, in the zone of reports
    form: str  # of the file that goes with it: csv, pdf
    channels: tuple[str, ...]
    from_us: int  # where the next one begins
    due_us: int  # when the next one is sent, and ends
    sent_us: int = 0  # when the last one was; 0: none yet
    problem: str = ""  # why the last one was not; "": it was
    name: str = ""  # of the search, like those below
    params: str = ""
    user_id: int = 0


_SCHEDULES = (
    "SELECT s.search_id, s.every, s.weekday, s.hour, s.form, s.channels, s.from_us, s.due_us, s.sent_us, s.problem,"
    " b.name, b.params, b.user_id FROM search_schedules s JOIN saved_searches b ON b.id = s.search_id"
)


class SearchBook:
    """The tables saved_searches and search_schedules."""

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

    # -- sending

    def schedules(self, *, user_id: int = 0, due_before_us: int | None = None) -> list[Schedule]:
        """Those of one person, or all (0), by name; or those that were due before a time, the longest due first."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                f"{_SCHEDULES} WHERE ? IN (0, b.user_id) AND s.due_us <= ?"
                f" ORDER BY {'b.name COLLATE NOCASE' if due_before_us is None else 's.due_us'}, s.search_id",
                (user_id, 2**62 if due_before_us is None else due_before_us),
            )
            return [
                Schedule(row[0], row[1], row[2], row[3], row[4], tuple(json.loads(row[5])), *row[6:]) for row in rows
            ]

    def put_schedule(self, one: Schedule) -> None:
        """Send this search so from now on; when the last one was sent stays known."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "INSERT INTO search_schedules (search_id, every, weekday, hour, form, channels, from_us, due_us,"
                " sent_us, problem) VALUES (?,?,?,?,?,?,?,?,0,'') ON CONFLICT (search_id) DO UPDATE SET"
                " every = excluded.every, weekday = excluded.weekday, hour = excluded.hour, form = excluded.form,"
                " channels = excluded.channels, from_us = excluded.from_us, due_us = excluded.due_us, problem = ''",
                (one.search_id, one.every, one.weekday, one.hour, one.form, json.dumps(one.channels), one.from_us,
                 one.due_us),
            )  # fmt: skip

    def remove_schedule(self, search_id: int) -> bool:
        """Send it no longer; False: it was not sent."""
        with self.database.writing() as connection:
            gone = connection.exec_driver_sql("DELETE FROM search_schedules WHERE search_id = ?", (search_id,))
        return gone.rowcount == 1

    def move_schedule(
        self,
        one: Schedule,
        *,
        from_us: int,
        due_us: int,
        sent_us: int,
        told: Sequence[Occurrence] = (),
        problem: str = "",
        now_us: int,
    ) -> bool:
        """What is told of it goes into the outbox, and the next one begins and is due then, in one transaction.

        False: somebody changed the schedule meanwhile, or sent it; nothing is told.
        """
        with self.database.writing() as connection:
            moved = connection.exec_driver_sql(
                "UPDATE search_schedules SET from_us = ?, due_us = ?, sent_us = ?, problem = ?"
                " WHERE search_id = ? AND from_us = ? AND due_us = ? AND sent_us = ?",
                (from_us, due_us, sent_us, problem, one.search_id, one.from_us, one.due_us, one.sent_us),
            )
            if moved.rowcount == 1:
                write_occurrences(connection, told, 0, now_us)
        return moved.rowcount == 1
