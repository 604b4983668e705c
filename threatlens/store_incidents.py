"""Incidents in the database: read and written inside the batch's transaction, listed, and changed by people.

What the engine counts (members, entities, times) and what people decide (status, assignee, notes) are changed by
different statements: a batch never takes back a decision, and a decision never loses a count. Two people who decide
about one version of an incident: the second is told.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from threatlens.errors import StaleChange
from threatlens.models import now_us
from threatlens.store_accounts import Doer
from threatlens.store_audit import AuditLog
from threatlens.store_database import Database

ATTEMPT, SUCCESS = "attempt", "success"
OPEN, ACKNOWLEDGED, CLOSED, FALSE_POSITIVE = "open", "acknowledged", "closed", "false_positive"
STATUSES = (OPEN, ACKNOWLEDGED, CLOSED, FALSE_POSITIVE)

Entity = tuple[str, str]  # (source.ip, user.name, host.name or rule; its value)


@dataclass
class Member:
    """What one rule contributed: a row of the timeline."""

    rule_id: str
    outcome: str
    rule_name: str
    level: str
    severity: int
    kind: str
    tags: tuple[str, ...]
    n: int  # matches
    events: int  # events behind them
    first_us: int
    last_us: int
    first_event_id: int
    last_event_id: int


@dataclass
class Incident:
    """One incident. id 0: not stored yet."""

    id: int
    subject: Entity
    status: str = OPEN
    title: str = ""
    severity: int = 1
    outcome: str = ATTEMPT
    first_us: int = 0
    last_us: int = 0
    n: int = 0
    assignee: str = ""
    previous_id: int = 0
    closed_us: int = 0  # when it was closed; 0: it is not
    created_at: int = 0
    updated_at: int = 0
    version: int = 0
    members: dict[tuple[str, str], Member] = field(default_factory=dict)
    entities: dict[Entity, list[int]] = field(default_factory=dict)  # [times seen, 1 if in something that succeeded]
    changed: bool = False  # by this batch
    reopened: bool = False  # by this batch


@dataclass(frozen=True, slots=True)
class Note:
    """A comment, or something that somebody did."""

    id: int
    kind: str
    author: str
    text: str
    before: dict[str, Any]  # what undo restores
    created_at: int


_COLUMNS = (
    "id, subject_kind, subject, status, title, severity, outcome, first_us, last_us, n, assignee, previous_id,"
    " closed_us, created_at, updated_at, version"
)


class IncidentTable:
    """The incidents as one open transaction sees them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def newest(self, entity: Entity, *, taken: bool = False) -> Incident | None:
        """The newest incident with this subject; with `taken` one in which this entity was part of a success."""
        if taken:
            row = self._connection.exec_driver_sql(
                f"SELECT {_COLUMNS} FROM incidents WHERE id = (SELECT max(incident_id) FROM incident_entities"
                " WHERE kind = ? AND value = ? AND taken = 1)",
                entity,
            ).one_or_none()
        else:
            row = self._connection.exec_driver_sql(
                f"SELECT {_COLUMNS} FROM incidents WHERE subject_kind = ? AND subject = ? ORDER BY id DESC LIMIT 1",
                entity,
            ).one_or_none()
        return None if row is None else self.whole(_incident(row))

    def whole(self, incident: Incident) -> Incident:
        """With its members and entities."""
        rows = self._connection.exec_driver_sql(
            "SELECT rule_id, outcome, rule_name, level, severity, kind, tags, n, events, first_us, last_us,"
            " first_event_id, last_event_id FROM incident_members WHERE incident_id = ?",
            (incident.id,),
        )
        for row in rows:
            values = list(row)
            values[6] = tuple(json.loads(values[6]))
            incident.members[(values[0], values[1])] = Member(*values)
        rows = self._connection.exec_driver_sql(
            "SELECT kind, value, n, taken FROM incident_entities WHERE incident_id = ? ORDER BY taken DESC, n DESC",
            (incident.id,),
        )
        incident.entities = {(kind, value): [n, taken] for kind, value, n, taken in rows}
        return incident

    def opened_by(self, rule_id: str, since_us: int) -> int:
        """How many incidents with a match of this rule have their last event after this."""
        found = self._connection.exec_driver_sql(
            "SELECT count(*) FROM (SELECT id FROM incidents WHERE last_us > ? ORDER BY id DESC LIMIT 500) i"
            " JOIN incident_members m ON m.incident_id = i.id AND m.rule_id = ?",
            (since_us, rule_id),
        )
        return int(found.scalar_one())

    def put(self, incident: Incident) -> int:
        """Store what the engine counted and return the incident's id."""
        now = now_us()
        counted = (incident.title, incident.severity, incident.outcome, incident.first_us, incident.last_us, incident.n)
        if incident.id:
            self._connection.exec_driver_sql(
                "UPDATE incidents SET title = ?, severity = ?, outcome = ?, first_us = ?, last_us = ?, n = ?,"
                " updated_at = ? WHERE id = ?",
                (*counted, now, incident.id),
            )
        else:
            incident.id = int(
                self._connection.exec_driver_sql(
                    "INSERT INTO incidents (title, severity, outcome, first_us, last_us, n, subject_kind, subject,"
                    " previous_id, created_at, updated_at) VALUES (?,?,?,?,?,?,?,?,?,?,?) RETURNING id",
                    (*counted, *incident.subject, incident.previous_id, now, now),
                ).scalar_one()
            )
        if incident.reopened:
            self._connection.exec_driver_sql(
                "UPDATE incidents SET status = 'open', closed_us = 0, version = version + 1 WHERE id = ?",
                (incident.id,),
            )
            _note(self._connection, incident.id, "reopened", "ThreatLens", "It went on after it was closed.", {})
        self._connection.exec_driver_sql(
            "INSERT OR REPLACE INTO incident_members (incident_id, rule_id, outcome, rule_name, level, severity, kind,"
            " tags, n, events, first_us, last_us, first_event_id, last_event_id) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            [
                (incident.id, m.rule_id, m.outcome, m.rule_name, m.level, m.severity, m.kind, json.dumps(m.tags), m.n,
                 m.events, m.first_us, m.last_us, m.first_event_id, m.last_event_id)
                for m in incident.members.values()
            ],
        )  # fmt: skip
        if incident.entities:
            self._connection.exec_driver_sql(
                "INSERT OR REPLACE INTO incident_entities (kind, value, incident_id, n, taken) VALUES (?,?,?,?,?)",
                [(*entity, incident.id, n, taken) for entity, (n, taken) in incident.entities.items()],
            )
        return incident.id


class IncidentBook:
    """Incidents for pages and people. Raises QueryTimeout and StoreUnavailable as every query does."""

    database: Database
    audit: AuditLog

    def incidents(
        self,
        *,
        statuses: Sequence[str] = (),
        outcome: str = "",
        min_severity: int = 1,
        text: str = "",
        assignee: str = "",
        before: int | None = None,
        limit: int = 50,
    ) -> list[Incident]:
        """A page of them, the newest first, without members; text: part of the title or of a value it is about."""
        tests, values = ["severity >= ?", "id < ?"], [min_severity, before or 2**62]
        filters: list[Any] = []
        if statuses:
            tests.append(f"status IN ({','.join('?' * len(statuses))})")
            filters += statuses
        for column, value in (("outcome", outcome), ("assignee", assignee)):
            if value:
                tests.append(f"{column} = ?")
                filters.append(value)
        if text:
            tests.append(
                "(instr(lower(title), ?) > 0 OR instr(lower(subject), ?) > 0 OR id IN"
                " (SELECT incident_id FROM incident_entities WHERE instr(lower(value), ?) > 0))"
            )
            filters += [text.lower()] * 3
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT {_COLUMNS} FROM incidents WHERE {' AND '.join(tests)} ORDER BY id DESC LIMIT ?",
                (*values, *filters, limit),
            )
            return [_incident(row) for row in rows]

    def pressing_incidents(self, limit: int = 20) -> list[Incident]:
        """Open ones, the worst first."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT {_COLUMNS} FROM incidents WHERE status = 'open' ORDER BY severity DESC, last_us DESC LIMIT ?",
                (limit,),
            )
            return [_incident(row) for row in rows]

    def incidents_by_status(self) -> dict[str, int]:
        """How many incidents have each status."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql("SELECT status, count(*) FROM incidents GROUP BY status")
            return {**dict.fromkeys(STATUSES, 0), **{row[0]: row[1] for row in rows}}

    def incident(self, incident_id: int) -> Incident | None:
        """One of them, whole."""
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                f"SELECT {_COLUMNS} FROM incidents WHERE id = ?", (incident_id,)
            ).one_or_none()
            return None if row is None else IncidentTable(connection).whole(_incident(row))

    def incident_notes(self, incident_id: int, limit: int = 500) -> list[Note]:
        """What was said and done about it, the oldest first."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT id, kind, author, text, before, created_at FROM incident_notes WHERE incident_id = ?"
                " ORDER BY id DESC LIMIT ?",
                (incident_id, limit),
            ).all()
        return [Note(row[0], row[1], row[2], row[3], json.loads(row[4]), row[5]) for row in reversed(rows)]

    def add_comment(self, incident_id: int, doer: Doer, text: str) -> None:
        """Say something about it."""
        with self.database.writing() as connection:
            _note(connection, incident_id, "comment", doer.name, text, {})
            self._audit_incident(connection, doer, "incident.comment", incident_id, {"text": text})

    def _audit_incident(
        self, connection: Connection, doer: Doer, action: str, incident_id: int, detail: dict[str, Any]
    ) -> None:
        self.audit.append(
            doer.name, doer.address, action, f"incident {incident_id}", detail,
            request_id=doer.request_id, connection=connection,
        )  # fmt: skip

    def change_incident(
        self, incident_id: int, version: int, doer: Doer, *, kind: str, text: str = "", **values: str
    ) -> None:
        """Set status or assignee; raises StaleChange when somebody else changed it since this version."""
        unknown = set(values) - {"status", "assignee"}
        if unknown or values.get("status", OPEN) not in STATUSES:
            msg = f"not a change of an incident: {values}"
            raise ValueError(msg)
        now = now_us()
        with self.database.writing() as connection:
            row = connection.exec_driver_sql(
                "SELECT status, assignee, closed_us, version FROM incidents WHERE id = ?", (incident_id,)
            ).one_or_none()
            if row is None or row[3] != version:
                msg = "somebody else has changed this incident meanwhile; look at it again"
                raise StaleChange(msg)
            before = {"status": row[0], "assignee": row[1]}
            after = {**before, **values}
            closed_us = (row[2] or now) if after["status"] in (CLOSED, FALSE_POSITIVE) else 0
            connection.exec_driver_sql(
                "UPDATE incidents SET status = ?, assignee = ?, closed_us = ?, updated_at = ?, version = version + 1"
                " WHERE id = ?",
                (after["status"], after["assignee"], closed_us, now, incident_id),
            )
            _note(connection, incident_id, kind, doer.name, text, {name: before[name] for name in values})
            self._audit_incident(connection, doer, f"incident.{kind}", incident_id, {**values, "before": before})


def _note(connection: Connection, incident_id: int, kind: str, author: str, text: str, before: dict[str, Any]) -> None:
    connection.exec_driver_sql(
        "INSERT INTO incident_notes (incident_id, kind, author, text, before, created_at) VALUES (?,?,?,?,?,?)",
        (incident_id, kind, author, text, json.dumps(before), now_us()),
    )


def _incident(row: Any) -> Incident:
    return Incident(
        row[0], (row[1], row[2]), row[3], row[4], row[5], row[6], row[7], row[8], row[9], row[10], row[11], row[12],
        row[13], row[14], row[15],
    )  # fmt: skip
