"""Forgetting: the oldest events go, a few at a time, and with them every row that exists because of them.

Events go in the order of their ids, which is the order of arrival; so an old log that was handed in yesterday stays
as long as everything else of yesterday. The newest are never touched: ids continue from the highest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from threatlens.clock import now_us
from threatlens.sources.base import TEST_ATTACKS
from threatlens.store_accounts import Doer
from threatlens.store_audit import AuditLog
from threatlens.store_conditions import MINUTE_US
from threatlens.store_database import EDGES, Database
from threatlens.store_incidents import TEST_SUBJECT
from threatlens.store_reading import SLOT_US
from threatlens.store_words import indexed_text, line_of

#: Events that are never forgotten, whatever the limits say.
KEPT_NEWEST = 1_000
#: Events of one step: the database is locked for some milliseconds.
STEP_EVENTS = 500
STEP_ROWS = 2_000
STEP_INCIDENTS = 100
STEP_PAGES = 256
SUCCESS, FAILURE = 1, 2
_DAY_US = 86_400_000_000
#: Measurements older than this are kept for every tenth minute only.
_THINNED_US = 2 * _DAY_US
#: Detections of incidents that somebody still works on; their events stay as long as age alone decides.
_EVIDENCE = (
    "SELECT d.event_id FROM detections d JOIN incidents i ON i.id = d.incident_id"
    " WHERE i.status IN ('open', 'acknowledged') AND d.event_id BETWEEN ? AND ?"
    " UNION SELECT l.event_id FROM detection_events l JOIN detections d ON d.id = l.detection_id"
    " JOIN incidents i ON i.id = d.incident_id"
    " WHERE i.status IN ('open', 'acknowledged') AND l.event_id BETWEEN ? AND ?"
)


#: What goes with an incident. Matches go with their events; those that are left belong to none then.
_INCIDENT = (
    "DELETE FROM incident_members WHERE incident_id = ?",
    "DELETE FROM incident_entities WHERE incident_id = ?",
    "DELETE FROM incident_notes WHERE incident_id = ?",
    "DELETE FROM ai_analysis WHERE incident_id = ?",
    "UPDATE detections SET incident_id = 0 WHERE incident_id = ? AND incident_id > 0",
    "UPDATE incidents SET previous_id = 0 WHERE previous_id = ?",
    "UPDATE notification_history SET incident_id = 0 WHERE incident_id = ?",
    "DELETE FROM notification_threads WHERE incident_id = ?",
    "DELETE FROM incidents WHERE id = ?",
)


#: What must be known of an event to take it out of every index and sum.
_FORGOTTEN = (
    "id, timestamp, ingested_at, source_id, category_id, severity, outcome, source_ip, user_name, encoding, raw"
)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is stored, and how old it is."""

    events: int  # an upper bound: highest id - lowest id + 1
    oldest_us: int  # when the oldest event was stored; 0: there is none
    used_bytes: int  # of the database
    free_bytes: int  # inside its file


class RetentionBook:
    """Deleting what is older than wanted."""

    database: Database
    audit: AuditLog

    def extent(self) -> Extent:
        """What there is."""
        with self.database.reading() as connection:
            low, high = connection.exec_driver_sql(EDGES).one()
            oldest = connection.exec_driver_sql("SELECT ingested_at FROM events ORDER BY id LIMIT 1").scalar() or 0
            used, free = self.database.extent(connection)
        return Extent(high - low + 1 if high else 0, int(oldest) * 1000, used, free)

    def forget_events(
        self, after_id: int, *, stored_before_us: int | None, keep_evidence: bool, limit: int = STEP_EVENTS
    ) -> tuple[int, int]:
        """Forget some of the oldest events above after_id; (how many, up to which id). (0, after_id): nothing to do.

        stored_before_us: only those stored before; None: any. The newest are kept in any case.
        """
        with self.database.writing() as connection:
            newest = connection.exec_driver_sql("SELECT max(id) FROM events").scalar() or 0
            rows: Sequence[Any] = connection.exec_driver_sql(
                f"SELECT {_FORGOTTEN} FROM events WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
                (after_id, newest - KEPT_NEWEST, limit),
            ).all()
            if stored_before_us is not None:
                rows = [row for row in rows if row[2] * 1000 < stored_before_us]
            if not rows:
                return 0, after_id
            first, last = rows[0][0], rows[-1][0]
            if keep_evidence:
                evidence = {row[0] for row in connection.exec_driver_sql(_EVIDENCE, (first, last, first, last))}
                rows = [row for row in rows if row[0] not in evidence]
            self._forget(connection, rows)
            if not keep_evidence or len(rows) == last - first + 1:
                self._forget_ledger(connection, last)
        return len(rows), last

    def remove_test_attacks(self, doer: Doer) -> int:
        """Take test attacks away with all that they left; how many incidents that were.

        The newest event of all stays, as ids continue from the highest; it goes when this is asked the next time.
        """
        with self.database.writing() as connection:
            rows = connection.exec_driver_sql("SELECT id FROM incidents WHERE subject_kind = ?", (TEST_SUBJECT,))
            incidents = [(row[0],) for row in rows]
            for statement in _INCIDENT if incidents else ():
                connection.exec_driver_sql(statement, incidents)
            left = connection.exec_driver_sql(
                "SELECT s.id, min(m.first_id), max(m.last_id) FROM log_sources s JOIN event_minutes m"
                " ON m.source_id = s.id WHERE s.source_name IN (?, ?) AND s.kind IN ('test', 'removed') GROUP BY s.id",
                TEST_ATTACKS,
            ).all()
            newest = connection.exec_driver_sql("SELECT max(id) FROM events").scalar() or 0
            for source_id, first, last in left:
                self._forget(
                    connection,
                    connection.exec_driver_sql(
                        f"SELECT {_FORGOTTEN} FROM events WHERE id BETWEEN ? AND ? AND source_id = ?",
                        (first, min(last, newest - 1), source_id),
                    ).all(),
                )
            removed = connection.exec_driver_sql(
                "UPDATE log_sources SET kind = 'removed', enabled = 0, lines = 0, blank_lines = 0, joined_lines = 0,"
                " events = 0, unknown = 0, bytes = 0, updated_at = ? WHERE kind = 'test'",
                (now_us(),),
            )
            if incidents or removed.rowcount:
                self.audit.append(
                    doer.name, doer.address, "test_attack.removed", "test attack", {"incidents": len(incidents)},
                    request_id=doer.request_id, connection=connection,
                )  # fmt: skip
        return len(incidents)

    @staticmethod
    def _forget(connection: Connection, rows: Sequence[Any]) -> None:
        """Delete these events and take them out of every index and sum."""
        ids = [(row[0],) for row in rows]
        if not ids:
            return
        connection.exec_driver_sql(
            "INSERT INTO events_fts (events_fts, rowid, raw) VALUES ('delete', ?, ?)",
            [(row[0], indexed_text(line_of(row[10], row[9]), row[7], row[8])) for row in rows],
        )
        kinds = Counter((row[1] // MINUTE_US, row[3], row[4], row[5]) for row in rows)
        connection.exec_driver_sql(
            "UPDATE event_minutes SET n = n - ? WHERE minute = ? AND source_id = ? AND category_id = ?"
            " AND severity = ?",
            [(n, *kind) for kind, n in kinds.items()],
        )
        connection.exec_driver_sql(
            "DELETE FROM event_minutes WHERE minute = ? AND source_id = ? AND category_id = ? AND severity = ?"
            " AND n <= 0",
            list(kinds),
        )
        slots = Counter((row[1] // SLOT_US, row[7], row[4], row[6]) for row in rows if row[7] is not None)
        if slots:
            connection.exec_driver_sql(
                "UPDATE address_slots SET n = n - ?, failures = failures - ?, successes = successes - ?"
                " WHERE slot = ? AND source_ip = ? AND category_id = ?",
                [
                    (n, n if outcome == FAILURE else 0, n if outcome == SUCCESS else 0, slot, address, category_id)
                    for (slot, address, category_id, outcome), n in slots.items()
                ],
            )
            connection.exec_driver_sql(
                "DELETE FROM address_slots WHERE slot = ? AND source_ip = ? AND category_id = ? AND n <= 0",
                list({kind[:3] for kind in slots}),
            )
        users = Counter(row[8] for row in rows if row[8] is not None)
        if users:
            connection.exec_driver_sql(
                "UPDATE user_totals SET n = n - ? WHERE user_name = ?", [(n, name) for name, n in users.items()]
            )
            connection.exec_driver_sql(
                "DELETE FROM user_totals WHERE user_name = ? AND n <= 0", [(name,) for name in users]
            )
        connection.exec_driver_sql(
            "DELETE FROM detection_events WHERE detection_id IN (SELECT id FROM detections WHERE event_id = ?)", ids
        )
        connection.exec_driver_sql("DELETE FROM detection_events WHERE event_id = ?", ids)
        connection.exec_driver_sql("DELETE FROM detections WHERE event_id = ?", ids)
        connection.exec_driver_sql("DELETE FROM events WHERE id = ?", ids)

    @staticmethod
    def _forget_ledger(connection: Connection, last_id: int) -> None:
        """Runs of bytes whose events are all gone; the newest run of a stream stays, as the next one joins it."""
        connection.exec_driver_sql(
            "DELETE FROM raw_logs WHERE id IN (SELECT id FROM raw_logs WHERE last_event_id BETWEEN 1 AND ?"
            " ORDER BY id LIMIT ?) AND id NOT IN (SELECT max(id) FROM raw_logs GROUP BY stream_id)",
            (last_id, STEP_ROWS),
        )

    def forget_incidents(self, before_us: int, limit: int = STEP_INCIDENTS) -> int:
        """Some of the incidents that nothing and nobody moved since, with all that is about them; how many.

        Those that somebody is done with go, and attempts that nobody ever touched. What succeeded, and what somebody
        works on, stays open. The newest stays in any case: numbers go on from the highest.
        """
        with self.database.writing() as connection:
            rows = connection.exec_driver_sql(
                "SELECT i.id FROM incidents i WHERE i.last_us < ? AND i.updated_at < ?"
                " AND i.id < (SELECT max(id) FROM incidents) AND (i.status IN ('closed', 'false_positive')"
                " OR (i.status = 'open' AND i.outcome = 'attempt' AND i.assignee = ''"
                " AND NOT EXISTS (SELECT 1 FROM incident_notes n WHERE n.incident_id = i.id))) ORDER BY i.id LIMIT ?",
                (before_us, before_us, limit),
            )
            ids = [(row[0],) for row in rows]
            if not ids:
                return 0
            for statement in _INCIDENT:
                connection.exec_driver_sql(statement, ids)
            connection.exec_driver_sql("DELETE FROM rule_days WHERE day < ?", (before_us // _DAY_US,))
        return len(ids)

    def forget_measurements(self, now_us: int, before_us: int, limit: int = STEP_ROWS) -> int:
        """Some of the old measurements, and of those that are too many; how many. What is usual stays."""
        with self.database.writing() as connection:
            return int(
                connection.exec_driver_sql(
                    "DELETE FROM processing_metrics WHERE id IN (SELECT id FROM processing_metrics"
                    " WHERE substr(metric_type, 1, 9) <> 'baseline.' AND (timestamp < ? OR (timestamp < ?"
                    " AND substr(metric_type, 1, 6) <> 'state.' AND timestamp / 60000000 % 10 <> 0)) LIMIT ?)",
                    (before_us, now_us - _THINNED_US, limit),
                ).rowcount
            )

    def return_space(self, pages: int = STEP_PAGES) -> int:
        """Give some free pages back to the disk; how many bytes are free inside the file now."""
        self.database.return_space(pages)
        with self.database.reading() as connection:
            return self.database.extent(connection)[1]

    def shrinks(self) -> bool:
        """Whether the file of the database can become smaller; one made by an early version only reuses its pages."""
        return self.database.shrinks()
