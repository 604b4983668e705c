"""Threat lists in the database: where each comes from, how it is, and how far past events were compared with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from threatlens.clock import now_us
from threatlens.event import Decoded
from threatlens.sources.base import CASE_PREFIX
from threatlens.store_accounts import Doer
from threatlens.store_audit import AuditLog
from threatlens.store_conditions import MINUTE_US
from threatlens.store_database import EDGES, Database
from threatlens.store_reading import Decode
from threatlens.store_search import text_of

WAITING, RUNNING = 1, 2


@dataclass(frozen=True, slots=True)
class ThreatList:
    """One list; the columns of models_threats.ThreatListRecord."""

    name: str
    url: str
    every_s: int
    etag: str
    last_modified: str
    entries: int
    ignored: int
    added: int
    checked_at: int
    changed_at: int
    next_at: int
    failures: int
    error: str
    seen: str
    pending: int
    marked: int
    declared: int = 0


@dataclass(frozen=True, slots=True)
class ListPass:
    """How far the comparison of past events has come."""

    next_id: int
    low_id: int
    looked: int
    marked: int
    started_at: int
    ended_at: int


@dataclass(frozen=True, slots=True)
class Past:
    """A stored event, as far as it is needed to be compared."""

    event_id: int
    timestamp_us: int
    source_id: int
    source: str
    format: str
    category: str
    source_ip: str | None
    raw: str
    case: bool  # of a case: see LogSourceConfig


_COLUMNS = (
    "name, url, every_s, etag, last_modified, entries, ignored, added, checked_at, changed_at, next_at, failures,"
    " error, seen, pending, marked, declared"
)


class ThreatListBook:
    """The lists and the pass over past events. Raises StoreUnavailable."""

    database: Database
    audit: AuditLog
    rereader: Callable[[], Decode]

    def threat_lists(self) -> list[ThreatList]:
        """All of them, by name."""
        with self.database.reading() as connection:
            return [
                ThreatList(*row)
                for row in connection.exec_driver_sql(f"SELECT {_COLUMNS} FROM threat_lists ORDER BY name")
            ]

    def put_threat_list(
        self, name: str, url: str, every_s: int, doer: Doer | None = None, *, declared: bool = False
    ) -> bool:
        """A new list, due at once; False: there is one of this name."""
        with self.database.writing() as connection:
            made = connection.exec_driver_sql(
                "INSERT INTO threat_lists (name, url, every_s, etag, last_modified, entries, ignored, added,"
                " checked_at, changed_at, next_at, failures, error, seen, pending, marked, created_at, declared)"
                " VALUES (?,?,?,'','',0,0,0,0,0,0,0,'','',0,0,?,?) ON CONFLICT DO NOTHING",
                (name, url, every_s, now_us(), int(declared)),
            )
            if made.rowcount == 1 and doer is not None:
                detail = {"url": url, "every_s": every_s}
                self._audit_list(connection, doer, "threat_list.added", name, detail)
            return made.rowcount == 1

    def change_threat_list(self, name: str, **values: Any) -> None:
        """Set these columns."""
        if set(values) - {*ThreatList.__dataclass_fields__} or not values:
            msg = f"not columns of a list: {sorted(values)}"
            raise ValueError(msg)
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                f"UPDATE threat_lists SET {', '.join(f'{column} = ?' for column in values)} WHERE name = ?",
                (*values.values(), name),
            )

    def remove_threat_list(self, name: str, doer: Doer | None = None) -> bool:
        """Forget it; False: there is none of this name."""
        with self.database.writing() as connection:
            gone = connection.exec_driver_sql("DELETE FROM threat_lists WHERE name = ?", (name,)).rowcount == 1
            if gone and doer is not None:
                self._audit_list(connection, doer, "threat_list.removed", name, {})
            return gone

    def refresh_threat_list(self, name: str, doer: Doer) -> bool:
        """Its URL is due now; False: it has none."""
        with self.database.writing() as connection:
            due = connection.exec_driver_sql(
                "UPDATE threat_lists SET next_at = 0, failures = 0 WHERE name = ? AND url <> ''", (name,)
            )
            if due.rowcount == 1:
                self._audit_list(connection, doer, "threat_list.refreshed", name, {})
            return due.rowcount == 1

    def _audit_list(self, connection: Connection, doer: Doer, action: str, name: str, detail: dict[str, Any]) -> None:
        self.audit.append(
            doer.name, doer.address, action, f"threat list {name}", detail, request_id=doer.request_id,
            connection=connection,
        )  # fmt: skip

    # -- past events

    def list_pass(self) -> ListPass | None:
        """The last pass; None: there was none yet."""
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                "SELECT next_id, low_id, looked, marked, started_at, ended_at FROM list_passes WHERE id = 1"
            ).one_or_none()
            return None if row is None else ListPass(*row)

    def begin_list_pass(self, names: Sequence[str], most: int) -> None:
        """Compare at most so many of the newest events with the new entries of these lists."""
        with self.database.writing() as connection:
            low, high = connection.exec_driver_sql(EDGES).one()
            high = high or 0
            connection.exec_driver_sql(
                "INSERT INTO list_passes (id, next_id, low_id, looked, marked, started_at, ended_at)"
                " VALUES (1,?,?,0,0,?,0) ON CONFLICT (id) DO UPDATE SET next_id = excluded.next_id,"
                " low_id = excluded.low_id, looked = 0, marked = 0, started_at = excluded.started_at, ended_at = 0",
                (high, max(low or 0, high - most + 1), now_us()),
            )
            connection.exec_driver_sql(
                f"UPDATE threat_lists SET pending = ? WHERE name IN ({','.join('?' * len(names))})",
                (RUNNING, *names),
            )

    def past_events(self, next_id: int, low_id: int, limit: int) -> list[Past]:
        """Stored events from next_id downwards, none below low_id."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT e.id, e.timestamp, e.source_id, coalesce(s.source_name, '?'), f.name, c.name, e.source_ip,"
                " e.raw, e.encoding, s.kind = 'test' OR (s.kind IN ('api', 'cli')"
                " AND substr(s.source_name, 1, ?) = ?) FROM events e LEFT JOIN log_sources s ON s.id = e.source_id"
                " LEFT JOIN names f ON f.id = e.format_id LEFT JOIN names c ON c.id = e.category_id"
                " WHERE e.id <= ? AND e.id >= ? ORDER BY e.id DESC LIMIT ?",
                (len(CASE_PREFIX), CASE_PREFIX, next_id, low_id, limit),
            ).all()
        return [
            Past(row[0], row[1], row[2], row[3], row[4] or "unknown", row[5] or "other", row[6],
                 text_of(row[7], row[8]), bool(row[9]))
            for row in rows
        ]  # fmt: skip

    def decoded(self, past: Sequence[Past]) -> list[Decoded]:
        """What their lines say."""
        decode = self.rereader()
        return [decode(each.raw, each.format) for each in past]

    def marked_already(self, event_ids: Sequence[int], rule_ids: Sequence[str]) -> set[tuple[int, str]]:
        """(event id, rule id) of the matches that these events have with these rules."""
        if not event_ids:
            return set()
        marks, rules = ",".join("?" * len(event_ids)), ",".join("?" * len(rule_ids))
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT event_id, rule_id FROM detections WHERE event_id IN ({marks}) AND rule_id IN ({rules})"
                " UNION SELECT l.event_id, d.rule_id FROM detection_events l JOIN detections d ON d.id = l.detection_id"
                f" WHERE l.event_id IN ({marks}) AND d.rule_id IN ({rules})",
                (*event_ids, *rule_ids) * 2,
            )
            return {(row[0], row[1]) for row in rows}


def raise_severities(connection: Connection, severities: Mapping[int, int]) -> None:
    """Events that turned out to be worse than when they were stored, by id, and the sums that count them."""
    for event_id, severity in severities.items():
        row = connection.exec_driver_sql(
            "SELECT timestamp, source_id, category_id, severity FROM events WHERE id = ?", (event_id,)
        ).one_or_none()
        if row is None or row[3] >= severity:
            continue
        kind = (row[0] // MINUTE_US, row[1], row[2])
        connection.exec_driver_sql("UPDATE events SET severity = ? WHERE id = ?", (severity, event_id))
        connection.exec_driver_sql(
            "UPDATE event_minutes SET n = n - 1"
            " WHERE minute = ? AND source_id = ? AND category_id = ? AND severity = ?",
            (*kind, row[3]),
        )
        connection.exec_driver_sql(
            "DELETE FROM event_minutes"
            " WHERE minute = ? AND source_id = ? AND category_id = ? AND severity = ? AND n <= 0",
            (*kind, row[3]),
        )
        connection.exec_driver_sql(
            "INSERT INTO event_minutes (minute, source_id, category_id, severity, n, first_id, last_id)"
            " VALUES (?,?,?,?,1,?,?) ON CONFLICT (minute, source_id, category_id, severity) DO UPDATE SET n = n + 1,"
            " first_id = min(first_id, excluded.first_id), last_id = max(last_id, excluded.last_id)",
            (*kind, severity, event_id, event_id),
        )


def move_list_pass(
    connection: Connection, expected: int, next_id: int, looked: int, marked: dict[str, int], *, ended_at: int = 0
) -> None:
    """The pass has come to next_id, in the transaction that stores what it found; marked: events by list."""
    connection.exec_driver_sql(
        "UPDATE list_passes SET next_id = ?, looked = looked + ?, marked = marked + ?, ended_at = ?"
        " WHERE id = 1 AND next_id = ?",
        (next_id, looked, sum(marked.values()), ended_at, expected),
    )
    for name, n in marked.items():
        connection.exec_driver_sql("UPDATE threat_lists SET marked = marked + ? WHERE name = ?", (n, name))
    if ended_at:
        connection.exec_driver_sql("UPDATE threat_lists SET pending = 0 WHERE pending = ?", (RUNNING,))
