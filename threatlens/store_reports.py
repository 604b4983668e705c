"""Reports: which were made, and what the database says about a span of time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from threatlens.store_database import Database
from threatlens.store_incidents import TEST_SUBJECT


@dataclass(frozen=True, slots=True)
class ReportView:
    """A row of reports, without its content."""

    id: int
    kind: str  # daily, weekly, monthly, range
    day: str  # the local date it begins on, YYYY-MM-DD
    start_us: int
    end_us: int
    zone: str
    state: str  # making, done, failed
    tries: int
    file: str  # name of the PDF in the reports folder; "": none
    size: int  # bytes of the PDF
    error: str
    headline: str
    created_at: int
    made_us: int


_VIEW = "id, kind, day, start_us, end_us, zone, state, tries, file, size, error, headline, created_at, made_us"


class ReportBook:
    """The table reports, and the questions that reports ask."""

    database: Database

    def begin_report(self, kind: str, day: str, start_us: int, end_us: int, zone: str, now_us: int) -> int | None:
        """A row for a report that is going to be made; None: this day's is made, or tried often enough.

        One that was made before its days were over is made again, once a minute.
        """
        with self.database.writing() as connection:
            row = connection.exec_driver_sql(
                "INSERT INTO reports (kind, day, start_us, end_us, zone, state, tries, file, size, error, headline,"
                " data, created_at, made_us) VALUES (?,?,?,?,?,'making',1,'',0,'','','{}',?,0)"
                " ON CONFLICT (kind, day, end_us) DO UPDATE SET state = 'making', created_at = ?,"
                " tries = CASE WHEN reports.state = 'done' THEN 1 ELSE reports.tries + 1 END"
                " WHERE (reports.state <> 'done' AND reports.tries < 2)"
                " OR (reports.state = 'done' AND reports.made_us < reports.end_us AND reports.made_us < ?)"
                " RETURNING id",
                (kind, day, start_us, end_us, zone, now_us, now_us, now_us - 60_000_000),
            ).scalar()
        return None if row is None else int(row)

    def again(self, report_id: int) -> bool:
        """Let a report be made once more; False: there is none with this id."""
        with self.database.writing() as connection:
            changed = connection.exec_driver_sql(
                "UPDATE reports SET tries = 0, state = 'failed' WHERE id = ?", (report_id,)
            )
        return changed.rowcount == 1

    def finish_report(self, report_id: int, *, data: Mapping[str, Any], headline: str, file: str, size: int,
                      now_us: int) -> None:  # fmt: skip
        """It is made."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE reports SET state = 'done', data = ?, headline = ?, file = ?, size = ?, error = '', made_us = ?"
                " WHERE id = ?",
                (json.dumps(data), headline, file, size, now_us, report_id),
            )

    def fail_report(self, report_id: int, error: str) -> None:
        """It could not be made."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE reports SET state = 'failed', error = ? WHERE id = ?", (error[:500], report_id)
            )

    def reports(self, kind: str = "", limit: int = 100) -> list[ReportView]:
        """The newest first."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT {_VIEW} FROM reports WHERE ? IN ('', kind) ORDER BY end_us DESC, id DESC LIMIT ?",
                (kind, limit),
            )
            return [ReportView(*row) for row in rows]

    def report(self, report_id: int) -> tuple[ReportView, dict[str, Any]] | None:
        """One report and what is in it."""
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                f"SELECT {_VIEW}, data FROM reports WHERE id = ?", (report_id,)
            ).one_or_none()
        return None if row is None else (ReportView(*row[:-1]), json.loads(row[-1]))

    def report_of_day(self, kind: str, day: str, end_us: int = 0) -> ReportView | None:
        """The newest report of this kind that begins on this day, and ends then unless `end_us` is 0."""
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                f"SELECT {_VIEW} FROM reports WHERE kind = ? AND day = ? AND ? IN (0, end_us) ORDER BY id DESC LIMIT 1",
                (kind, day, end_us),
            ).one_or_none()
        return None if row is None else ReportView(*row)

    def last_reported_us(self, kind: str) -> int:
        """Where the newest report of this kind ends, whatever became of it; 0: there is none."""
        with self.database.reading() as connection:
            return int(
                connection.exec_driver_sql("SELECT max(end_us) FROM reports WHERE kind = ?", (kind,)).scalar() or 0
            )

    def forget_reports(self, before_us: int) -> list[str]:
        """Delete the rows of reports that ended before; the names of their files."""
        with self.database.writing() as connection:
            rows = connection.exec_driver_sql(
                "DELETE FROM reports WHERE end_us < ? AND state <> 'making' RETURNING file", (before_us,)
            ).all()
        return [row[0] for row in rows if row[0]]

    # -- questions

    def first_event_us(self) -> int:
        """The time of the first minute with an event; 0 without any."""
        with self.database.reading() as connection:
            return int(connection.exec_driver_sql("SELECT min(minute) FROM event_minutes").scalar() or 0) * 60_000_000

    def incidents_between(self, start_us: int, end_us: int, limit: int) -> list[dict[str, Any]]:
        """Incidents with something in this span, the most severe first."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT id, status, title, severity, outcome, subject_kind, subject, first_us, last_us, n"
                " FROM incidents WHERE last_us >= ? AND first_us < ? AND subject_kind <> ?"
                " ORDER BY severity DESC, last_us DESC LIMIT ?",
                (start_us, end_us, TEST_SUBJECT, limit),
            ).mappings()
            found = [dict(row) for row in rows]
            for incident in found:
                members = connection.exec_driver_sql(
                    "SELECT rule_name, outcome, level, n, events, first_us, last_us, tags FROM incident_members"
                    " WHERE incident_id = ? ORDER BY first_us LIMIT 12",
                    (incident["id"],),
                ).mappings()
                incident["story"] = [{**dict(row), "tags": json.loads(row["tags"])} for row in members]
        return found

    def incident_counts(self, start_us: int, end_us: int) -> dict[str, int]:
        """Incidents that began in this span, by status."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT status, count(*) FROM incidents WHERE first_us >= ? AND first_us < ? AND subject_kind <> ?"
                " GROUP BY status",
                (start_us, end_us, TEST_SUBJECT),
            )
            return {str(status): int(n) for status, n in rows}

    def rules_between(self, start_us: int, end_us: int, limit: int) -> list[dict[str, Any]]:
        """Rules that matched in this span, by number of matches."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT rule_id, max(rule_name) AS rule_name, max(level) AS level, count(*) AS matches,"
                " sum(n) AS events, max(tags) AS tags FROM detections"
                " WHERE timestamp >= ? AND timestamp < ? AND suppressed = '' GROUP BY rule_id"
                " ORDER BY matches DESC LIMIT ?",
                (start_us, end_us, limit),
            ).mappings()
            return [{**dict(row), "tags": json.loads(row["tags"])} for row in rows]

    def targets_between(self, start_us: int, end_us: int, limit: int) -> list[tuple[str, str, int, int]]:
        """What matches were about: (account or machine, its name, matches, incidents), the most matches first."""
        found: list[tuple[str, str, int, int]] = []
        with self.database.reading() as connection:
            for kind, column in (("account", "user_name"), ("machine", "host_name")):
                rows = connection.exec_driver_sql(
                    f"SELECT {column}, count(*) AS matches, count(DISTINCT nullif(incident_id, 0)) FROM detections"
                    f" WHERE timestamp >= ? AND timestamp < ? AND suppressed = '' AND {column} IS NOT NULL"
                    " GROUP BY 1 ORDER BY matches DESC LIMIT ?",
                    (start_us, end_us, limit),
                )
                found += [(kind, str(name), int(matches), int(incidents)) for name, matches, incidents in rows]
        return sorted(found, key=lambda each: -each[2])[:limit]

    def ledger_between(self, start_us: int, end_us: int) -> dict[str, int]:
        """What was taken in during this span of the wall clock: bytes, lines of each kind, dead letters."""
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                "SELECT coalesce(sum(end_offset - start_offset), 0), coalesce(sum(lines), 0),"
                " coalesce(sum(blank_lines), 0), coalesce(sum(joined_lines), 0)"
                " FROM raw_logs WHERE ingested_at >= ? AND ingested_at < ?",
                (start_us, end_us),
            ).one()
            dead = connection.exec_driver_sql(
                "SELECT count(*) FROM dead_letters WHERE created_at >= ? AND created_at < ?", (start_us, end_us)
            ).scalar_one()
        names = ("bytes", "lines", "blank_lines", "joined_lines")
        return {**{name: int(value) for name, value in zip(names, row, strict=True)}, "dead_letters": int(dead)}

    def notification_counts(self, start_us: int, end_us: int) -> dict[str, int]:
        """Messages made in this span, by what became of them."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT status, count(*) FROM notification_history WHERE created_at >= ? AND created_at < ?"
                " GROUP BY status",
                (start_us, end_us),
            )
            return {str(status): int(n) for status, n in rows}
