"""What is known of names and addresses: for completion, and for the pages of single ones."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from threatlens.store_accounts import Doer
from threatlens.store_audit import AuditLog
from threatlens.store_database import Database
from threatlens.store_reading import SLOT_US


@dataclass(frozen=True, slots=True)
class AddressTotals:
    """One address over everything that is stored, from whole slots of ten minutes."""

    events: int
    failures: int
    successes: int
    first_us: int  # the start of its first slot
    last_us: int  # the start of its last slot
    by_category: tuple[tuple[str, int], ...]  # the most frequent first


@dataclass(frozen=True, slots=True)
class Span:
    """What an address did in one stretch of time."""

    start_us: int
    end_us: int
    events: int
    failures: int
    successes: int


@dataclass(frozen=True, slots=True)
class EntityNote:
    """What somebody wrote down about an address, a user or a host."""

    id: int
    author: str
    text: str
    created_at: int  # microseconds


class EntityBook:
    """Questions about single names and addresses; each walks an index. And what people note about them."""

    database: Database
    audit: AuditLog

    def entity_notes(self, kind: str, value: str) -> list[EntityNote]:
        """The newest first; kind: source.ip, user.name or host.name."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT id, author, text, created_at FROM entity_notes WHERE kind = ? AND value = ? ORDER BY id DESC",
                (kind, value),
            )
            return [EntityNote(*row) for row in rows]

    def add_entity_note(self, kind: str, value: str, doer: Doer, text: str, now_us: int) -> None:
        """Write something down; the audit log has it, too."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "INSERT INTO entity_notes (kind, value, author, text, created_at) VALUES (?,?,?,?,?)",
                (kind, value, doer.name, text, now_us),
            )
            self._audit_note(connection, doer, "noted", kind, value, text)

    def remove_entity_note(self, note_id: int, doer: Doer) -> bool:
        """Take a note away, whoever wrote it; the audit log keeps its text. False: there is none with this id."""
        with self.database.writing() as connection:
            row = connection.exec_driver_sql(
                "DELETE FROM entity_notes WHERE id = ? RETURNING kind, value, text", (note_id,)
            ).one_or_none()
            if row is not None:
                self._audit_note(connection, doer, "note_removed", *row)
            return row is not None

    def _audit_note(self, connection: Connection, doer: Doer, deed: str, kind: str, value: str, text: str) -> None:
        self.audit.append(
            doer.name, doer.address, f"entity.{deed}", f"{kind} {value}", {"text": text},
            request_id=doer.request_id, connection=connection,
        )  # fmt: skip

    def known_names(self, kind: str) -> list[str]:
        """The categories, formats or paths that events have."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql("SELECT name FROM names WHERE kind = ? ORDER BY name", (kind,))
            return [row[0] for row in rows]

    def known_users(self, begun: str, limit: int) -> list[str]:
        """Users of events whose names begin so, ignoring case."""
        with self.database.reading() as connection:
            names = connection.exec_driver_sql(
                "SELECT user_name FROM user_totals WHERE user_name >= ? ORDER BY user_name LIMIT ?", (begun, limit)
            )
            return [row[0] for row in names if row[0].lower().startswith(begun.lower())]

    def address_totals(self, address: str) -> AddressTotals | None:
        """Everything about one source address; None: it is not known."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT max(n.name), sum(s.n), sum(s.failures), sum(s.successes), min(s.slot), max(s.slot)"
                " FROM address_slots s LEFT JOIN names n ON n.id = s.category_id WHERE s.source_ip = ?"
                " GROUP BY s.category_id ORDER BY 2 DESC",
                (address,),
            ).all()
        if not rows:
            return None
        return AddressTotals(
            events=int(sum(row[1] for row in rows)),
            failures=int(sum(row[2] for row in rows)),
            successes=int(sum(row[3] for row in rows)),
            first_us=min(row[4] for row in rows) * SLOT_US,
            last_us=max(row[5] for row in rows) * SLOT_US,
            by_category=tuple((str(row[0] or "other"), int(row[1])) for row in rows),
        )

    def address_history(self, address: str, spans: int) -> list[Span]:
        """What an address did from its first slot to its last, in at most so many equal stretches."""
        with self.database.reading() as connection:
            first, last = connection.exec_driver_sql(
                "SELECT min(slot), max(slot) FROM address_slots WHERE source_ip = ?", (address,)
            ).one()
            if first is None:
                return []
            width = max(1, -(-(last + 1 - first) // spans))
            rows = connection.exec_driver_sql(
                "SELECT (slot - ?) / ?, sum(n), sum(failures), sum(successes) FROM address_slots"
                " WHERE source_ip = ? GROUP BY 1",
                (first, width, address),
            )
            seen = {row[0]: row[1:] for row in rows}
        return [
            Span((first + at * width) * SLOT_US, (first + (at + 1) * width) * SLOT_US, *seen.get(at, (0, 0, 0)))
            for at in range(-(-(last + 1 - first) // width))
        ]
