"""What ThreatLens knows about itself, in the database: measurements, changes of state, and the sums behind metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from threatlens.store_database import Database
from threatlens.store_incidents import TEST_SUBJECT

#: processing_metrics.metric_type of a change of state, before the component's name.
STATE = "state."
#: The number that stands for a state in processing_metrics.
STATE_VALUES = {"ok": 0.0, "off": 0.0, "starting": 0.0, "degraded": 1.0, "failed": 2.0}


@dataclass(frozen=True, slots=True)
class StateChange:
    """A component went from one state to another."""

    at_us: int
    component: str
    state: str
    reason: str


class HealthBook:
    """The table processing_metrics, and counts of other tables."""

    database: Database

    def write_changes(self, changes: Sequence[StateChange]) -> None:
        """Remember what changed."""
        rows = [
            (
                STATE + change.component, STATE_VALUES.get(change.state, 1.0), change.at_us,
                json.dumps({"state": change.state, "reason": change.reason[:500]}),
            )
            for change in changes
        ]  # fmt: skip
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "INSERT INTO processing_metrics (metric_type, metric_value, timestamp, metadata) VALUES (?,?,?,?)", rows
            )

    def changes(self, limit: int = 50, *, before_us: int = 1 << 62) -> list[StateChange]:
        """What changed before then, the newest first."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT timestamp, metric_type, metadata FROM processing_metrics"
                " WHERE metric_type >= ? AND metric_type < ? AND timestamp < ?"
                " ORDER BY timestamp DESC, id DESC LIMIT ?",
                (STATE, STATE + "\x7f", before_us, limit),
            ).all()
        found = []
        for at_us, kind, metadata in rows:
            details = json.loads(metadata)
            found.append(StateChange(at_us, kind.removeprefix(STATE), details["state"], details["reason"]))
        return found

    def changes_between(self, start_us: int, end_us: int, limit: int) -> list[StateChange]:
        """What changed in this span, the newest first."""
        return [each for each in self.changes(1_000, before_us=end_us) if each.at_us >= start_us][:limit]

    def series(
        self, kinds: Sequence[str], start_us: int, end_us: int, buckets: int
    ) -> dict[str, list[tuple[int, float]]]:
        """Means of these measurements by time: kind -> (start of the bucket, mean); empty buckets are left out."""
        width = max(1, (end_us - start_us) // buckets)
        found: dict[str, list[tuple[int, float]]] = {kind: [] for kind in kinds}
        with self.database.reading() as connection:
            for kind in kinds:
                rows = connection.exec_driver_sql(
                    "SELECT (timestamp - ?) / ?, avg(metric_value) FROM processing_metrics"
                    " WHERE metric_type = ? AND timestamp >= ? AND timestamp < ? GROUP BY 1 ORDER BY 1",
                    (start_us, width, kind, start_us, end_us),
                )
                found[kind] = [(start_us + int(number) * width, float(mean)) for number, mean in rows]
        return found

    def dead_by_source(self) -> dict[int, int]:
        """Source id -> lines that were set aside, replayed ones too: what the ledger needs to balance."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql("SELECT source_id, count(*) FROM dead_letters GROUP BY source_id")
            return {row[0]: row[1] for row in rows}

    def write_baseline(self, source_id: int, values: Mapping[str, Any], now_us: int) -> None:
        """What is usual for a source; the newest is in force."""
        kind = f"baseline.{source_id}"
        with self.database.writing() as connection:
            connection.exec_driver_sql("DELETE FROM processing_metrics WHERE metric_type = ?", (kind,))
            connection.exec_driver_sql(
                "INSERT INTO processing_metrics (metric_type, metric_value, timestamp, metadata) VALUES (?,?,?,?)",
                (kind, float(values.get("longest_gap_s", 0)), now_us, json.dumps(dict(values))),
            )

    def baselines(self) -> dict[int, dict[str, Any]]:
        """Source id -> what is usual for it."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT metric_type, metadata FROM processing_metrics"
                " WHERE substr(metric_type, 1, 9) = 'baseline.' ORDER BY id"
            )
            return {int(row[0].partition(".")[2]): json.loads(row[1]) for row in rows}

    def sums(self) -> dict[str, list[tuple[Any, ...]]]:
        """The counts that metrics show and that are kept in tables; each is read from an index or a small table."""
        statements = {
            "rules": "SELECT rule_id, sum(n), sum(suppressed) FROM rule_days GROUP BY rule_id",
            "alerts": "SELECT severity, count(*) FROM incidents"
            f" WHERE subject_kind <> '{TEST_SUBJECT}' GROUP BY severity",
            "open": "SELECT severity, count(*) FROM incidents WHERE status IN ('open', 'acknowledged')"
            f" AND subject_kind <> '{TEST_SUBJECT}' GROUP BY severity",
            "notifications": "SELECT channel, status, count(*) FROM notification_history GROUP BY channel, status",
        }
        with self.database.reading() as connection:
            return {name: [tuple(row) for row in connection.exec_driver_sql(text)] for name, text in statements.items()}

    def database_pages(self) -> tuple[int, int]:
        """(bytes of the database file in use, bytes free inside it)."""
        with self.database.reading() as connection:
            return self.database.extent(connection)
