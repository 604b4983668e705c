"""Lines by hour, from the roll-up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from threatlens.sources.base import CASE_PREFIX
from threatlens.store_database import Database

_MINUTES = 60


class HourCount(NamedTuple):
    """Events of one source in one hour of event time."""

    n: int
    last_id: int  # of the last of them that was stored


class VolumeSource(NamedTuple):
    """A source whose volume can be usual."""

    name: str
    known_us: int  # from then on an hour without a line is known to have had none
    last_id: int  # of one of its newest events; 0: unknown


class VolumeBook:
    """Counts by hour. Every query is bounded by the hours that are asked for."""

    database: Database

    def volume_sources(self, most: int) -> dict[int, VolumeSource]:
        """The sources that are followed, by id: no cases, no demo."""
        with self.database.reading() as connection:
            oldest = connection.exec_driver_sql("SELECT ingested_at FROM events ORDER BY id LIMIT 1").scalar() or 0
            rows = connection.exec_driver_sql(
                "SELECT id, source_name, created_at, (SELECT max(last_id) FROM event_minutes m"
                " WHERE m.source_id = s.id AND m.minute >= s.last_event_us / 60000000 - 5)"
                " FROM log_sources s WHERE enabled = 1 AND kind IN ('file', 'api')"
                " AND NOT (kind = 'api' AND substr(source_name, 1, ?) = ?) ORDER BY lines DESC LIMIT ?",
                (len(CASE_PREFIX), CASE_PREFIX, most),
            )
            return {row[0]: VolumeSource(row[1], max(row[2], oldest * 1000), row[3] or 0) for row in rows}

    def hour_counts(self, hours: Sequence[int]) -> dict[tuple[int, int], HourCount]:
        """(source id, hour since the epoch) -> what it gave, of these hours."""
        found = {}
        with self.database.reading() as connection:
            for hour in dict.fromkeys(hours):
                rows = connection.exec_driver_sql(
                    "SELECT source_id, sum(n), max(last_id) FROM event_minutes WHERE minute >= ? AND minute < ?"
                    " GROUP BY source_id",
                    (hour * _MINUTES, (hour + 1) * _MINUTES),
                )
                found.update({(row[0], hour): HourCount(int(row[1]), int(row[2])) for row in rows})
        return found

    def volume_told(self, rule_id: str, source_id: int, hour_us: int) -> bool:
        """Whether this was told of this hour already."""
        with self.database.reading() as connection:
            return (
                connection.exec_driver_sql(
                    "SELECT 1 FROM detections WHERE rule_id = ? AND source_id = ? AND first_us = ? LIMIT 1",
                    (rule_id, source_id, hour_us),
                ).scalar()
                is not None
            )
