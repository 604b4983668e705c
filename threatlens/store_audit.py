"""The audit log: who did what, when and from where; it only grows, and each entry seals the one before.

An entry's hash covers its own values and the hash before it, so that a row that is changed, left out or put in breaks
the chain at its place. The database refuses to change or delete rows; whoever gets around that is found by verify().
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from threatlens.clock import now_us
from threatlens.event import rfc3339
from threatlens.store_database import Database

logger = logging.getLogger(__name__)

#: What the first entry follows.
BEGINNING = "0" * 64
#: Characters of a text that somebody outside chose; the rest is cut.
MAX_TEXT = 500
_COLUMNS = "id, timestamp, actor, address, action, target, detail, request_id, hash"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry."""

    id: int  # from 1, without gaps
    timestamp_us: int
    actor: str  # "user anna", "token shipper", "command line", "nobody"
    address: str  # where the request came from; "" for the command line
    action: str  # "login", "token.created", ...
    target: str  # what it was done to
    detail: str  # JSON object; never a secret
    request_id: str
    hash: str  # hex SHA-256

    def sealed(self, previous: str) -> str:
        """The hash that this entry must have behind one with the hash `previous`."""
        values = [previous, self.id, self.timestamp_us, self.actor, self.address, self.action, self.target,
                  self.detail, self.request_id]  # fmt: skip
        return hashlib.sha256(json.dumps(values, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """The entry's shape in the API and in exports."""
        return {
            "id": self.id,
            "timestamp": rfc3339(self.timestamp_us),
            "actor": self.actor,
            "address": self.address,
            "action": self.action,
            "target": self.target,
            "detail": json.loads(self.detail),
            "request_id": self.request_id,
            "hash": self.hash,
        }


class AuditLog:
    """The table audit_log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(
        self,
        actor: str,
        address: str,
        action: str,
        target: str = "",
        detail: Mapping[str, Any] | None = None,
        *,
        request_id: str = "",
        connection: Connection | None = None,
    ) -> AuditEntry:
        """Add an entry; with a connection it is part of that write transaction, so that deed and entry are one.

        detail must hold no secret. Raises StoreUnavailable: what cannot be written down must not be done.
        """
        if connection is None:
            with self._database.writing() as own:
                return self.append(actor, address, action, target, detail, request_id=request_id, connection=own)
        row = connection.exec_driver_sql("SELECT id, hash FROM audit_log ORDER BY id DESC LIMIT 1").one_or_none()
        number, previous = (row[0] + 1, row[1]) if row else (1, BEGINNING)
        text = json.dumps(_plain(detail or {}), ensure_ascii=True, sort_keys=True)
        bare = AuditEntry(number, now_us(), _cut(actor), _cut(address), _cut(action), _cut(target), text,
                          _cut(request_id), "")  # fmt: skip
        seal = bare.sealed(previous)
        connection.exec_driver_sql(
            f"INSERT INTO audit_log ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)",
            (
                number,
                bare.timestamp_us,
                bare.actor,
                bare.address,
                bare.action,
                bare.target,
                text,
                bare.request_id,
                seal,
            ),
        )
        # A copy beyond the reach of whoever can change the database.
        logger.info("audit %d %s", number, seal, extra={"action": bare.action, "actor": bare.actor})
        return AuditEntry(number, bare.timestamp_us, bare.actor, bare.address, bare.action, bare.target, text,
                          bare.request_id, seal)  # fmt: skip

    def page(
        self, *, before: int | None = None, limit: int = 100, action: str = "", actor: str = ""
    ) -> list[AuditEntry]:
        """The newest entries with ids below `before`; action: this one and those it is the first part of."""
        wanted, values = ["1 = 1"], list[Any]()
        if before is not None:
            wanted.append("id < ?")
            values.append(before)
        if action:
            wanted.append("(action = ? OR substr(action, 1, ?) = ?)")
            values += [action, len(action) + 1, action + "."]
        if actor:
            wanted.append("actor = ?")
            values.append(actor)
        with self._database.reading() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT {_COLUMNS} FROM audit_log WHERE {' AND '.join(wanted)} ORDER BY id DESC LIMIT ?",
                (*values, limit),
            )
            return [AuditEntry(*row) for row in rows]

    def entries(self, step: int = 1_000) -> Iterator[AuditEntry]:
        """All entries, oldest first, a few at a time."""
        last = 0
        while True:
            with self._database.reading() as connection:
                rows = connection.exec_driver_sql(
                    f"SELECT {_COLUMNS} FROM audit_log WHERE id > ? ORDER BY id LIMIT ?", (last, step)
                ).all()
            if not rows:
                return
            yield from (AuditEntry(*row) for row in rows)
            last = rows[-1][0]

    def verify(self) -> tuple[int, str]:
        """How many entries hold, from the first on, and what is wrong with the next; "" if all hold."""
        held, previous = 0, BEGINNING
        for entry in self.entries():
            if entry.id != held + 1:
                return held, f"entry {held + 1} is missing: entry {entry.id} follows entry {held}"
            if entry.sealed(previous) != entry.hash:
                when = rfc3339(entry.timestamp_us)
                return held, f"entry {entry.id} ({when}, {entry.action}) is not what was written, or the one before it"
            held, previous = entry.id, entry.hash
        with self._database.reading() as connection:
            written = connection.exec_driver_sql(
                f"SELECT seq FROM {self._database.sequences} WHERE name = 'audit_log'"
            ).scalar()
        if held < (written or 0):
            return held, f"entry {held + 1} is missing: {written} were written"
        return held, ""


def _cut(text: str) -> str:
    # Half a surrogate pair cannot be stored, nor a NUL in PostgreSQL.
    return text[:MAX_TEXT].replace("\x00", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode()


def _plain(value: Any) -> Any:
    """Texts cut to what an entry may hold."""
    if isinstance(value, str):
        return _cut(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return value
