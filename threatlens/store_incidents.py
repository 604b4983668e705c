"""Incidents in the database: read and written inside the batch's transaction, listed, and changed by people.

What the engine counts (members, entities, times) and what people decide (status, assignee, notes) are changed by
different statements: a batch never takes back a decision, and a decision never loses a count. Two people who decide
about one version of an incident: the second is told.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection

from threatlens.clock import now_us
from threatlens.errors import StaleChange
from threatlens.store_accounts import Doer
from threatlens.store_audit import AuditLog
from threatlens.store_database import Database

ATTEMPT, SUCCESS = "attempt", "success"
OPEN, ACKNOWLEDGED, CLOSED, FALSE_POSITIVE = "open", "acknowledged", "closed", "false_positive"
STATUSES = (OPEN, ACKNOWLEDGED, CLOSED, FALSE_POSITIVE)

_Value = TypeVar("_Value")
Entity = tuple[str, str]  # (source.ip, user.name, host.name or rule; its value)
#: The subject of an incident that somebody made up to see one arrive.
TEST_SUBJECT = "test.attack"
#: The subject of what is about a source of lines and not about anybody in them.
LOG_SOURCE = "log.source"


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
    touched: set[tuple[str, str]] = field(default_factory=set)  # keys of members and entities that this batch changed
    reopened: bool = False  # by this batch
    previous: Incident | None = None  # of one that this batch opens: what previous_id is to name

    @property
    def is_test(self) -> bool:
        """Whether somebody made it up."""
        return self.subject[0] == TEST_SUBJECT

    @property
    def of_source(self) -> bool:
        """Whether it is about a source of lines, which attacked nobody."""
        return self.subject[0] == LOG_SOURCE

    @property
    def outcome_words(self) -> str:
        """How it ended, for people."""
        return outcome_words(self.subject[0], self.outcome)


def outcome_words(subject_kind: str, outcome: str) -> str:
    """How an incident ended, for people; about a source nobody attempted anything."""
    if subject_kind == LOG_SOURCE:
        return "about a source"
    return "it succeeded" if outcome == SUCCESS else "an attempt"


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


#: Subjects, or incidents, that one statement asks for; shorter runs are filled up, so that statements are few.
_RUN = 100
_MEMBER_COLUMNS = (
    "rule_id, outcome, rule_name, level, severity, kind, tags, n, events, first_us, last_us, first_event_id,"
    " last_event_id"
)
_MEMBER_CHANGES = ", ".join(f"{name} = excluded.{name}" for name in _MEMBER_COLUMNS.split(", ")[2:])


class IncidentTable:
    """The incidents as one open transaction sees them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def newest(self, entities: Iterable[Entity], *, taken: bool = False) -> dict[Entity, int]:
        """The id of the newest incident with each subject, 0 for none; with `taken` of the newest one in which this
        entity was part of a success."""
        found = (
            "SELECT max(incident_id) FROM incident_entities e WHERE e.kind = w.kind AND e.value = w.value"
            " AND e.taken = 1"
            if taken
            else "SELECT i.id FROM incidents i WHERE i.subject_kind = w.kind AND i.subject = w.value"
            " ORDER BY i.id DESC LIMIT 1"
        )
        ids: dict[Entity, int] = {}
        for run in _runs(list(entities)):
            rows = self._connection.exec_driver_sql(
                f"WITH w (kind, value) AS (VALUES {','.join(['(?,?)'] * _RUN)}) SELECT kind, value, ({found}) FROM w",
                tuple(part for entity in run for part in entity),
            )
            ids.update(((kind, value), number or 0) for kind, value, number in rows)
        return ids

    def whole(self, ids: Iterable[int]) -> dict[int, Incident]:
        """The incidents with these ids, with their members and entities."""
        marks = ",".join("?" * _RUN)
        incidents: dict[int, Incident] = {}
        for run in _runs(sorted(ids)):
            for row in self._connection.exec_driver_sql(f"SELECT {_COLUMNS} FROM incidents WHERE id IN ({marks})", run):
                incidents[row[0]] = _incident(row)
            rows = self._connection.exec_driver_sql(
                f"SELECT incident_id, {_MEMBER_COLUMNS} FROM incident_members WHERE incident_id IN ({marks})", run
            )
            for number, *values in rows:
                values[6] = tuple(json.loads(values[6]))
                if number in incidents:
                    incidents[number].members[(values[0], values[1])] = Member(*values)
            rows = self._connection.exec_driver_sql(
                f"SELECT incident_id, kind, value, n, taken FROM incident_entities WHERE incident_id IN ({marks})"
                " ORDER BY taken DESC, n DESC, kind, value",
                run,
            )
            for number, kind, value, n, was_taken in rows:
                if number in incidents:
                    incidents[number].entities[(kind, value)] = [n, was_taken]
        return incidents

    def with_rule(self, rule_id: str, since_us: int) -> set[int]:
        """The ids of the newest incidents with a match of this rule whose last event is after this."""
        found = self._connection.exec_driver_sql(
            "SELECT DISTINCT i.id FROM (SELECT id FROM incidents WHERE last_us > ? ORDER BY id DESC LIMIT 500) i"
            " JOIN incident_members m ON m.incident_id = i.id AND m.rule_id = ?",
            (since_us, rule_id),
        )
        return {int(row[0]) for row in found}

    def note(self, incident_id: int, text: str) -> None:
        """Put a remark of the program beside it."""
        put_note(self._connection, incident_id, "comment", "ThreatLens", text, {})

    def put(self, incidents: Sequence[Incident]) -> None:
        """Store what the engine counted of these, all at once; a new one gets its id."""
        execute, now = self._connection.exec_driver_sql, now_us()
        new = [incident for incident in incidents if not incident.id]
        if new:
            first = (execute("SELECT max(id) FROM incidents").scalar() or 0) + 1
            for incident_id, incident in enumerate(new, first):
                incident.id = incident_id
                incident.previous_id = incident.previous.id if incident.previous else 0
            execute(
                "INSERT INTO incidents (id, title, severity, outcome, first_us, last_us, n, subject_kind, subject,"
                " previous_id, created_at, updated_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                [(i.id, *_counted(i), *i.subject, i.previous_id, now, now) for i in new],
            )
        known = [incident for incident in incidents if incident.id not in {each.id for each in new}]
        if known:
            execute(
                "UPDATE incidents SET title = ?, severity = ?, outcome = ?, first_us = ?, last_us = ?, n = ?,"
                " updated_at = ? WHERE id = ?",
                [(*_counted(incident), now, incident.id) for incident in known],
            )
        for incident in incidents:
            if incident.reopened:
                execute(
                    "UPDATE incidents SET status = 'open', closed_us = 0, version = version + 1 WHERE id = ?",
                    (incident.id,),
                )
                put_note(self._connection, incident.id, "reopened", "ThreatLens", "It went on after it was closed.", {})
        members = [
            (i.id, m.rule_id, m.outcome, m.rule_name, m.level, m.severity, m.kind, json.dumps(m.tags), m.n,
             m.events, m.first_us, m.last_us, m.first_event_id, m.last_event_id)
            for i in incidents for key, m in i.members.items() if key in i.touched
        ]  # fmt: skip
        if members:
            execute(
                f"INSERT INTO incident_members (incident_id, {_MEMBER_COLUMNS})"
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (incident_id, rule_id, outcome)"
                f" DO UPDATE SET {_MEMBER_CHANGES}",
                members,
            )
        entities = [
            (*entity, incident.id, n, taken)
            for incident in incidents
            for entity, (n, taken) in incident.entities.items()
            if entity in incident.touched
        ]
        if entities:
            execute(
                "INSERT INTO incident_entities (kind, value, incident_id, n, taken) VALUES (?,?,?,?,?)"
                " ON CONFLICT (kind, value, incident_id) DO UPDATE SET n = excluded.n, taken = excluded.taken",
                entities,
            )


def _runs(values: list[_Value]) -> Iterator[tuple[_Value, ...]]:
    """The values in runs of _RUN; the last one is filled up with its own last value."""
    for start in range(0, len(values), _RUN):
        run = values[start : start + _RUN]
        yield tuple(run + run[-1:] * (_RUN - len(run)))


def _counted(incident: Incident) -> tuple[str, int, str, int, int, int]:
    return (incident.title, incident.severity, incident.outcome, incident.first_us, incident.last_us, incident.n)


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
        """How many incidents have each status; test attacks are none."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT status, count(*) FROM incidents WHERE subject_kind <> ? GROUP BY status", (TEST_SUBJECT,)
            )
            return {**dict.fromkeys(STATUSES, 0), **{row[0]: row[1] for row in rows}}

    def incident(self, incident_id: int) -> Incident | None:
        """One of them, whole."""
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                f"SELECT {_COLUMNS} FROM incidents WHERE id = ?", (incident_id,)
            ).one_or_none()
            return None if row is None else IncidentTable(connection).whole([incident_id])[incident_id]

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
            put_note(connection, incident_id, "comment", doer.name, text, {})
            self._audit_incident(connection, doer, "incident.comment", incident_id, {"text": text})

    def _audit_incident(
        self, connection: Connection, doer: Doer, action: str, incident_id: int, detail: dict[str, Any]
    ) -> None:
        self.audit.append(
            doer.name, doer.address, action, f"incident {incident_id}", detail,
            request_id=doer.request_id, connection=connection,
        )  # fmt: skip

    def incident_decisions(self) -> int:
        """A number that grows with every decision of a person about an incident, and with every new one."""
        with self.database.reading() as connection:
            return int(connection.exec_driver_sql("SELECT coalesce(sum(version), 0) FROM incidents").scalar() or 0)

    def change_incident(
        self, incident_id: int, version: int, doer: Doer, *, kind: str, text: str = "", **values: str
    ) -> None:
        """Set status or assignee; raises StaleChange when somebody else changed it since this version."""
        unknown = set(values) - {"status", "assignee"}
        if unknown or values.get("status", OPEN) not in STATUSES:
            msg = f"not a change of an incident: {values}"
            raise ValueError(msg)
        with self.database.writing() as connection:
            self._change_incident(connection, incident_id, version, doer, kind, text, values)

    def _change_incident(
        self, connection: Connection, incident_id: int, version: int | None, doer: Doer, kind: str, text: str,
        values: Mapping[str, str],
    ) -> None:  # fmt: skip
        """The change, within the caller's transaction; version None: whatever was changed before."""
        now = now_us()
        row = connection.exec_driver_sql(
            "SELECT status, assignee, closed_us, version FROM incidents WHERE id = ?", (incident_id,)
        ).one_or_none()
        if row is None or version not in (None, row[3]):
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
        put_note(connection, incident_id, kind, doer.name, text, {name: before[name] for name in values})
        self._audit_incident(connection, doer, f"incident.{kind}", incident_id, {**values, "before": before})


def put_note(
    connection: Connection, incident_id: int, kind: str, author: str, text: str, before: dict[str, Any]
) -> None:
    """Put it beside the incident, within the caller's transaction."""
    connection.exec_driver_sql(
        "INSERT INTO incident_notes (incident_id, kind, author, text, before, created_at) VALUES (?,?,?,?,?,?)",
        (incident_id, kind, author, text, json.dumps(before), now_us()),
    )


def _incident(row: Any) -> Incident:
    return Incident(
        row[0], (row[1], row[2]), row[3], row[4], row[5], row[6], row[7], row[8], row[9], row[10], row[11], row[12],
        row[13], row[14], row[15],
    )  # fmt: skip
