"""Mutes in the database: what people want to be quiet, until when, and what ended it.

A mute that waits for something ends in the transaction of the match that it waited for (threatlens.mutes.settled).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from threatlens.clock import now_us
from threatlens.event import rfc3339
from threatlens.store_accounts import Doer
from threatlens.store_audit import AuditLog
from threatlens.store_database import Database
from threatlens.store_incidents import put_note

MUTED = "mute:"  # how the reason of a match begins that a mute keeps quiet; its id follows
#: What ends a mute before its time: a match that is worse or succeeds, one about somebody else, so many of them.
WORSE, OTHER, MORE = "severity", "other", "count"
CONDITIONS = (WORSE, OTHER, MORE)
_COLUMNS = (
    "id, rule_id, source_ip, user_name, source, host_name, reason, author, incident_id, created_at, expires_us,"
    " ended_us, hits, condition, condition_n, known, ended_by"
)


@dataclass(frozen=True, slots=True)
class Mute:
    """Matches that raise nothing for a while. An empty text is any value."""

    id: int
    rule_id: str
    source_ip: str  # an address or a network
    user_name: str
    source: str
    host_name: str
    reason: str
    author: str
    incident_id: int
    created_at: int
    expires_us: int
    ended_us: int
    hits: int  # matches that it kept quiet
    condition: str = ""  # one of CONDITIONS; "": time alone
    condition_n: int = 0  # WORSE: above which severity; MORE: of so many matches the last is told
    known: tuple[str, ...] = ()  # WORSE: outcomes, OTHER: addresses and users, that end nothing
    ended_by: str = ""  # what did, in words; "": a person


class MuteBook:
    """Mutes for pages and programs. Raises StoreUnavailable as every query does."""

    database: Database
    audit: AuditLog

    def mutes(self, *, now: int | None = None) -> list[Mute]:
        """The newest first; with `now` only those in force then."""
        test = "WHERE expires_us > ? AND ended_us = 0" if now is not None else ""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT {_COLUMNS} FROM mutes {test} ORDER BY id DESC LIMIT 1000", () if now is None else (now,)
            )
            return [_mute(row) for row in rows]

    def add_mute(self, mute: Mute, doer: Doer, said: str = "") -> int:
        """Keep these quiet from now on; the id of the mute. said: until when, in words for the incident's notes."""
        return self.add_mutes([(mute, said)], doer)[0]

    def add_mutes(self, wanted: Sequence[tuple[Mute, str]], doer: Doer) -> list[int]:
        """The same for several, all or none."""
        with self.database.writing() as connection:
            return self._add_mutes(connection, wanted, doer)

    def _add_mutes(self, connection: Connection, wanted: Sequence[tuple[Mute, str]], doer: Doer) -> list[int]:
        ids = [self._add_mute(connection, mute, doer) for mute, _ in wanted]
        of_incident: dict[int, list[int]] = {}
        for (mute, _), mute_id in zip(wanted, ids, strict=True):
            of_incident.setdefault(mute.incident_id, []).append(mute_id)
        said = {mute.incident_id: words for mute, words in wanted}
        for incident_id, made in of_incident.items():
            if incident_id:
                _tell_incident(connection, incident_id, "muted", doer.name, said[incident_id], made)
        return ids

    def _add_mute(self, connection: Connection, mute: Mute, doer: Doer) -> int:
        scope = {
            "source_ip": mute.source_ip, "user": mute.user_name, "source": mute.source, "host": mute.host_name,
            "expires": rfc3339(mute.expires_us), "reason": mute.reason,
        }  # fmt: skip
        if mute.condition:
            scope["until"] = f"{mute.condition} {mute.condition_n}" if mute.condition_n else mute.condition
        self._audit_mute(connection, doer, "mute.added", mute.rule_id or "any", scope)
        return int(
            connection.exec_driver_sql(
                "INSERT INTO mutes (rule_id, source_ip, user_name, source, host_name, reason, author, incident_id,"
                " created_at, expires_us, condition, condition_n, known) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
                " RETURNING id",
                (mute.rule_id, mute.source_ip, mute.user_name, mute.source, mute.host_name, mute.reason,
                 mute.author, mute.incident_id, mute.created_at, mute.expires_us, mute.condition, mute.condition_n,
                 json.dumps(mute.known)),
            ).scalar_one()
        )  # fmt: skip

    def end_mutes(self, mute_ids: Iterable[int], doer: Doer, kind: str = "unmuted") -> int:
        """Take them back; how many were in force. kind: what the note of their incident is called."""
        with self.database.writing() as connection:
            return sum(self._end_mute(connection, mute_id, doer, kind) for mute_id in mute_ids)

    def _end_mute(self, connection: Connection, mute_id: int, doer: Doer, kind: str) -> bool:
        incident_id = connection.exec_driver_sql(
            "UPDATE mutes SET ended_us = ? WHERE id = ? AND ended_us = 0 RETURNING incident_id", (now_us(), mute_id)
        ).scalar()
        if incident_id is None:
            return False
        self._audit_mute(connection, doer, "mute.ended", str(mute_id), {})
        if incident_id:
            _tell_incident(connection, incident_id, kind, doer.name, "muted" if kind == "undone" else "", [])
        return True

    def _audit_mute(self, connection: Connection, doer: Doer, action: str, target: str, detail: dict[str, str]) -> None:
        self.audit.append(
            doer.name, doer.address, action, target, detail, request_id=doer.request_id, connection=connection
        )


def mutes_of(connection: Connection, mute_ids: Iterable[int]) -> dict[int, Mute]:
    """The mutes with these ids, as the transaction sees them."""
    ids = tuple(mute_ids)
    rows = connection.exec_driver_sql(f"SELECT {_COLUMNS} FROM mutes WHERE id IN ({','.join('?' * len(ids))})", ids)
    return {row[0]: _mute(row) for row in rows}


def end_by_itself(connection: Connection, audit: AuditLog, mute: Mute, why: str, now: int) -> None:
    """What the mute waited for has come; the incident that it was made from and the audit log say so."""
    connection.exec_driver_sql("UPDATE mutes SET ended_us = ?, ended_by = ? WHERE id = ?", (now, why, mute.id))
    audit.append("ThreatLens", "", "mute.ended", str(mute.id), {"why": why}, connection=connection)
    if mute.incident_id:
        _tell_incident(connection, mute.incident_id, "unmuted", "ThreatLens", why, [])


def _tell_incident(
    connection: Connection, incident_id: int, kind: str, author: str, text: str, mutes: Sequence[int]
) -> None:
    """A note, and a new version: lists that show it are shown anew."""
    known = connection.exec_driver_sql(
        "UPDATE incidents SET version = version + 1 WHERE id = ? RETURNING id", (incident_id,)
    ).scalar()
    if known is not None:
        put_note(connection, incident_id, kind, author, text, {"mutes": list(mutes)} if mutes else {})


def _mute(row: Sequence[object]) -> Mute:
    values = list(row)
    values[15] = tuple(json.loads(str(values[15])))
    return Mute(*values)  # type: ignore[arg-type]
