"""Detections in the database, and what people decided about rules: states, mutes, exceptions.

Matches are written inside the transaction of their batch, together with the state that correlations keep; so a crash
neither loses nor repeats one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection

from threatlens.analyzers.novelty import Seen
from threatlens.clock import now_us
from threatlens.event import RuleMatch, StateRow, rfc3339
from threatlens.store_accounts import Doer
from threatlens.store_audit import AuditLog
from threatlens.store_conditions import ids_of_times
from threatlens.store_database import Database
from threatlens.store_mutes import MUTED, MuteBook

DAY_US = 86_400_000_000
RULE_STATES = ("off", "observe", "on")
#: In `suppressed`: of a case, which raises nothing outside of it; of a test attack, which only its incident tells of.
CASE, TEST = "case", "test"
TARGETS_FROM = 3_000  # newest matches
MAX_LINKED = 1_000  # events of one match that are linked to it


class DetectionRow(NamedTuple):
    """One match, ready to be stored."""

    match: RuleMatch
    event_id: int
    event_ids: tuple[int, ...]  # all events it is about, that one among them
    source_id: int
    incident_id: int
    suppressed: str


@dataclass(frozen=True, slots=True)
class DetectionView:
    """One stored match."""

    id: int
    rule_id: str
    rule_name: str
    level: str
    severity: int
    kind: str
    timestamp_us: int
    first_us: int
    n: int
    group: tuple[tuple[str, str], ...]
    source_ip: str | None
    user_name: str | None
    host_name: str | None
    tags: tuple[str, ...]
    event_id: int
    incident_id: int
    suppressed: str

    def as_json(self) -> dict[str, Any]:
        """Its shape in the API and on the sockets."""
        return {
            "id": self.id,
            "rule.id": self.rule_id,
            "rule.name": self.rule_name,
            "rule.level": self.level,
            "severity": self.severity,
            "kind": self.kind,
            "@timestamp": rfc3339(self.timestamp_us),
            "first_seen": rfc3339(self.first_us),
            "count": self.n,
            "group": dict(self.group),
            "source.ip": self.source_ip,
            "user.name": self.user_name,
            "host.name": self.host_name,
            "tags": list(self.tags),
            "event_id": self.event_id,
            "incident_id": self.incident_id or None,
            "suppressed": self.suppressed or None,
        }


@dataclass(frozen=True, slots=True)
class RuleException:
    """Events for which a rule raises nothing: every field has a value that fits, with * and ?."""

    id: int
    rule_id: str
    conditions: Mapping[str, str]
    reason: str
    author: str
    created_at: int


@dataclass(frozen=True, slots=True)
class RuleNumbers:
    """How often a rule matched."""

    hits: int
    suppressed: int
    last_us: int
    by_day: Mapping[int, int]


_COLUMNS = (
    "d.id, d.rule_id, d.rule_name, d.level, d.severity, d.kind, d.timestamp, d.first_us, d.n, d.group_by, d.source_ip,"
    " d.user_name, d.host_name, d.tags, d.event_id, d.incident_id, d.suppressed"
)


def write_detections(connection: Connection, rows: Sequence[DetectionRow]) -> list[DetectionView]:
    """Store the matches of a batch in its transaction."""
    first = (connection.exec_driver_sql("SELECT max(id) FROM detections").scalar() or 0) + 1
    views, links = [], []
    days: dict[tuple[str, int], list[int]] = {}
    muted: dict[int, int] = {}
    for number, row in enumerate(rows, first):
        match = row.match
        views.append(
            DetectionView(
                number, match.rule_id, match.rule_name, match.level, match.severity, match.kind, match.timestamp_us,
                match.first_us, match.count, match.group, match.source_ip, match.user_name, match.host_name, match.tags,
                row.event_id, row.incident_id, row.suppressed,
            )
        )  # fmt: skip
        if len(row.event_ids) > 1:
            links += [(event_id, number) for event_id in row.event_ids[-MAX_LINKED:] if event_id != row.event_id]
        if row.suppressed in (CASE, TEST):
            continue
        day = days.setdefault((match.rule_id, match.timestamp_us // DAY_US), [0, 0, 0])
        times = 1 if match.kind == "correlation" else match.count
        day[0] += times
        day[1] += times if row.suppressed else 0
        day[2] = max(day[2], match.timestamp_us)
        if row.suppressed.startswith(MUTED):
            mute_id = int(row.suppressed[len(MUTED) :])
            muted[mute_id] = muted.get(mute_id, 0) + times
    connection.exec_driver_sql(
        "INSERT INTO detections (id, rule_id, rule_name, level, severity, kind, timestamp, first_us, n, group_by,"
        " source_ip, user_name, host_name, tags, event_id, incident_id, suppressed, source_id)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        [
            (v.id, v.rule_id, v.rule_name, v.level, v.severity, v.kind, v.timestamp_us, v.first_us, v.n,
             json.dumps(v.group), v.source_ip, v.user_name, v.host_name, json.dumps(v.tags), v.event_id,
             v.incident_id, v.suppressed, row.source_id)
            for v, row in zip(views, rows, strict=True)
        ],
    )  # fmt: skip
    if links:
        connection.exec_driver_sql(
            "INSERT INTO detection_events (event_id, detection_id) VALUES (?,?) ON CONFLICT DO NOTHING", links
        )
    if days:
        connection.exec_driver_sql(
            "INSERT INTO rule_days (rule_id, day, n, suppressed, last_us) VALUES (?,?,?,?,?) ON CONFLICT (rule_id, day)"
            " DO UPDATE SET n = rule_days.n + excluded.n, suppressed = rule_days.suppressed + excluded.suppressed,"
            " last_us = max(rule_days.last_us, excluded.last_us)",
            [(*key, *values) for key, values in days.items()],
        )
    for mute_id, hits in muted.items():
        connection.exec_driver_sql("UPDATE mutes SET hits = hits + ? WHERE id = ?", (hits, mute_id))
    return views


def case_prefix(case_id: int) -> str:
    """What the ids of rules begin with where their memory is that of a case (log_sources.id)."""
    return f"{CASE}:{case_id}:"


def detections_of(connection: Connection, event_ids: Sequence[int]) -> dict[int, list[DetectionView]]:
    """The matches that these events are part of, by event."""
    found: dict[int, list[DetectionView]] = {}
    for start in range(0, len(event_ids), 400):
        chunk = tuple(event_ids[start : start + 400])
        marks = ",".join("?" * len(chunk))
        for row in connection.exec_driver_sql(
            f"SELECT d.event_id, {_COLUMNS} FROM detections d WHERE d.event_id IN ({marks})"
            f" UNION ALL SELECT l.event_id, {_COLUMNS} FROM detection_events l JOIN detections d"
            f" ON d.id = l.detection_id WHERE l.event_id IN ({marks}) ORDER BY 2",
            chunk + chunk,
        ):
            found.setdefault(row[0], []).append(_view(row[1:]))
    return found


def write_states(connection: Connection, rows: Iterable[StateRow]) -> None:
    """Store what correlations remember after a batch, in its transaction."""
    kept = [(row.rule_id, row.key, row.payload) for row in rows if row.payload is not None]
    gone = [(row.rule_id, row.key) for row in rows if row.payload is None]
    if kept:
        connection.exec_driver_sql(
            "INSERT INTO correlation_states (rule_id, key, payload) VALUES (?,?,?) ON CONFLICT (rule_id, key)"
            " DO UPDATE SET payload = excluded.payload",
            kept,
        )
    if gone:
        connection.exec_driver_sql("DELETE FROM correlation_states WHERE rule_id = ? AND key = ?", gone)


def write_novelties(connection: Connection, rows: Iterable[Any]) -> None:
    """Store what is known now (threatlens.analyzers.novelty.Seen), in the transaction of the batch that showed it."""
    connection.exec_driver_sql(
        "INSERT INTO novelties (kind, scope, value, first_us, last_us, n) VALUES (?,?,?,?,?,?)"
        " ON CONFLICT (kind, scope, value) DO UPDATE SET first_us = excluded.first_us, last_us = excluded.last_us,"
        " n = excluded.n",
        [tuple(row) for row in rows],
    )


class DetectionBook(MuteBook):
    """Detections for pages, and the decisions of people about rules."""

    database: Database
    audit: AuditLog

    def correlation_states(self, case_id: int = 0) -> list[StateRow]:
        """What correlations remembered after the last committed batch: about what happens now, or about one case."""
        prefix = case_prefix(case_id) if case_id else ""
        begun = prefix or f"{CASE}:"
        test = "substr(rule_id, 1, ?) = ?" if case_id else "substr(rule_id, 1, ?) <> ?"
        with self.database.reading(timeout_s=60) as connection:
            rows = connection.exec_driver_sql(
                f"SELECT rule_id, key, payload FROM correlation_states WHERE {test} ORDER BY rule_id, key",
                (len(begun), begun),
            )
            return [StateRow(row[0].removeprefix(prefix), row[1], row[2]) for row in rows]

    def states_of(self, rule_ids: Sequence[str]) -> list[StateRow]:
        """The same of these rules alone."""
        marks = ",".join("?" * len(rule_ids))
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT rule_id, key, payload FROM correlation_states WHERE rule_id IN ({marks})",
                tuple(rule_ids),
            )
            return [StateRow(*row) for row in rows]

    def novelties(self, limit: int = 50_000) -> list[Seen]:
        """What was seen before, the least recent first."""
        with self.database.reading(timeout_s=60) as connection:
            rows = connection.exec_driver_sql(
                "SELECT kind, scope, value, first_us, last_us, n FROM novelties ORDER BY last_us DESC LIMIT ?", (limit,)
            ).all()
            return [Seen(*row) for row in reversed(rows)]

    def learning_since(self) -> int:
        """When the first thing that can be usual was seen, in event time; 0: nothing yet."""
        with self.database.reading() as connection:
            return int(connection.exec_driver_sql("SELECT min(first_us) FROM novelties WHERE value = ''").scalar() or 0)

    def forget_novelties(self, keep: int = 50_000) -> None:
        """Keep the table within bounds: the least recent go."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "DELETE FROM novelties WHERE last_us < (SELECT last_us FROM novelties ORDER BY last_us DESC"
                " LIMIT 1 OFFSET ?)",
                (keep,),
            )

    def detections(
        self, *, rule_id: str = "", incident_id: int = 0, before: int | None = None, limit: int = 50
    ) -> list[DetectionView]:
        """The newest first, of one rule or one incident or all."""
        tests: list[str] = ["d.id < ?"]
        values: list[Any] = [before or 2**62]
        if rule_id:
            tests.append("d.rule_id = ?")
            values.append(rule_id)
        if incident_id:
            tests.append("d.incident_id = ? AND d.incident_id > 0")
            values.append(incident_id)
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT {_COLUMNS} FROM detections d WHERE {' AND '.join(tests)} ORDER BY d.id DESC LIMIT ?",
                (*values, limit),
            )
            return [_view(row) for row in rows]

    def detections_of_source(self, source_id: int) -> int:
        """How many matches this source has given, but for those that were held back."""
        with self.database.reading() as connection:
            return int(
                connection.exec_driver_sql(
                    "SELECT count(*) FROM detections WHERE source_id = ? AND suppressed IN ('', ?)", (source_id, CASE)
                ).scalar_one()
            )

    def rule_numbers(self, since_us: int) -> dict[str, RuleNumbers]:
        """How often each rule matched since then (whole days)."""
        days: dict[str, dict[int, tuple[int, int, int]]] = {}
        with self.database.reading() as connection:
            for rule_id, day, n, suppressed, last_us in connection.exec_driver_sql(
                "SELECT rule_id, day, n, suppressed, last_us FROM rule_days WHERE day >= ?", (since_us // DAY_US,)
            ):
                days.setdefault(rule_id, {})[day] = (n, suppressed, last_us)
        return {
            rule_id: RuleNumbers(
                sum(n for n, _, _ in of_rule.values()),
                sum(suppressed for _, suppressed, _ in of_rule.values()),
                max(last for _, _, last in of_rule.values()),
                {day: n for day, (n, _, _) in of_rule.items()},
            )
            for rule_id, of_rule in days.items()
        }

    # -- decisions

    def rule_hits(self, start_us: int, end_us: int) -> dict[str, tuple[str, int]]:
        """The rules that matched events which arrived in this time: id -> (name, matches). Whole minutes."""
        with self.database.reading() as connection:
            low, high = ids_of_times(connection, start_us, end_us)
            rows = connection.exec_driver_sql(
                "SELECT rule_id, max(rule_name), count(*) FROM detections WHERE event_id BETWEEN ? AND ?"
                " AND timestamp >= ? AND timestamp < ? AND suppressed = '' GROUP BY rule_id",
                (low, high, start_us, end_us),
            )
            return {row[0]: (row[1], row[2]) for row in rows}

    def matches_since(self, start_us: int) -> int:
        """How many matches there are of events that arrived since then, without test attacks; whole minutes."""
        query = "SELECT count(*) FROM detections WHERE event_id >= ?"
        with self.database.reading() as connection:
            low, _ = ids_of_times(connection, start_us, None)
            if connection.exec_driver_sql("SELECT 1 FROM log_sources WHERE kind = 'test' LIMIT 1").scalar():
                query += f" AND suppressed <> '{TEST}'"  # whose rows have to be read
            return int(connection.exec_driver_sql(query, (low,)).scalar() or 0)

    def top_targets(self, start_us: int, *, limit: int) -> list[tuple[str, str, int]]:
        """Whom the newest matches since then are about: ("user" or "host", its name, matches)."""
        found: Counter[tuple[str, str]] = Counter()
        with self.database.reading() as connection:
            low, _ = ids_of_times(connection, start_us, None)
            for user, host, n in connection.exec_driver_sql(
                "SELECT user_name, host_name, count(*) FROM (SELECT user_name, host_name FROM detections"
                " WHERE event_id >= ? AND suppressed = '' ORDER BY event_id DESC LIMIT ?) AS newest GROUP BY 1, 2",
                (low, TARGETS_FROM),
            ):
                found.update({each: n for each in (("user", user), ("host", host)) if each[1]})
        return [(*each, n) for each, n in sorted(found.items(), key=lambda item: (-item[1], item[0]))[:limit]]

    def rule_states(self) -> dict[str, str]:
        """What was decided about rules: off, observe or on."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql("SELECT rule_id, state FROM rule_states")
            return {row[0]: row[1] for row in rows}

    def set_rule_states(self, states: Mapping[str, str], doer: Doer) -> None:
        """Decide about rules, all or none; the audit log keeps what was set before ("" for nothing)."""
        if unknown := set(states.values()) - set(RULE_STATES):
            raise ValueError(f"a rule is {', '.join(RULE_STATES)}, not {', '.join(sorted(unknown))}")
        with self.database.writing() as connection:
            known = {row[0]: row[1] for row in connection.exec_driver_sql("SELECT rule_id, state FROM rule_states")}
            for rule_id, state in states.items():
                connection.exec_driver_sql(
                    "INSERT INTO rule_states (rule_id, state, author, updated_at) VALUES (?,?,?,?)"
                    " ON CONFLICT (rule_id) DO UPDATE SET state = excluded.state, author = excluded.author,"
                    " updated_at = excluded.updated_at",
                    (rule_id, state, doer.name, now_us()),
                )
                detail = {"state": state, "before": known.get(rule_id, "")}
                self.audit_rule(doer, "rule.state", rule_id, detail, connection)

    def recent_detections(self, since_us: int, limit: int = 20_000) -> list[tuple[DetectionView, str]]:
        """The newest matches since then with the name of their source: what a mute or an exception is tried on."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT {_COLUMNS}, coalesce(s.source_name, '') FROM detections d"
                " LEFT JOIN log_sources s ON s.id = d.source_id WHERE d.timestamp >= ? AND d.suppressed = ''"
                " ORDER BY d.id DESC LIMIT ?",
                (since_us, limit),
            )
            return [(_view(row[:-1]), row[-1]) for row in rows]

    def rule_exceptions(self) -> list[RuleException]:
        """All of them, the oldest first."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT id, rule_id, conditions, reason, author, created_at FROM rule_exceptions ORDER BY id"
            )
            return [RuleException(row[0], row[1], json.loads(row[2]), row[3], row[4], row[5]) for row in rows]

    def add_rule_exception(self, rule_id: str, conditions: Mapping[str, str], reason: str, doer: Doer) -> int:
        """From now on the rule raises nothing for events that fit."""
        with self.database.writing() as connection:
            self.audit_rule(doer, "rule.exception.added", rule_id, dict(conditions), connection)
            return int(
                connection.exec_driver_sql(
                    "INSERT INTO rule_exceptions (rule_id, conditions, reason, author, created_at) VALUES (?,?,?,?,?)"
                    " RETURNING id",
                    (rule_id, json.dumps(dict(conditions)), reason, doer.name, now_us()),
                ).scalar_one()
            )

    def remove_rule_exception(self, exception_id: int, doer: Doer) -> bool:
        """Take it back; False: there is none with this id."""
        with self.database.writing() as connection:
            gone = connection.exec_driver_sql("DELETE FROM rule_exceptions WHERE id = ?", (exception_id,))
            if gone.rowcount == 1:
                self.audit_rule(doer, "rule.exception.removed", str(exception_id), {}, connection)
            return gone.rowcount == 1

    def audit_rule(
        self, doer: Doer, action: str, target: str, detail: Mapping[str, Any], connection: Connection | None = None
    ) -> None:
        """Write down who did what to a rule."""
        self.audit.append(
            doer.name, doer.address, action, target, detail, request_id=doer.request_id, connection=connection
        )

    def decisions_version(self) -> tuple[Any, ...]:
        """Changes whenever somebody decides something about rules."""
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                "SELECT (SELECT count(*) FROM rule_states), (SELECT coalesce(max(updated_at), 0) FROM rule_states),"
                " (SELECT count(*) FROM rule_exceptions), (SELECT coalesce(max(id), 0) FROM rule_exceptions),"
                " (SELECT coalesce(max(id), 0) FROM mutes), (SELECT coalesce(max(ended_us), 0) FROM mutes)"
            ).one()
            return tuple(row)


def _view(row: Any) -> DetectionView:
    values = list(row)
    values[9] = tuple((str(name), str(value)) for name, value in json.loads(values[9]))
    values[13] = tuple(json.loads(values[13]))
    return DetectionView(*values)
