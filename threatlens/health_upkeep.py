"""What looks after ThreatLens while it runs, as the engine starts it."""

from __future__ import annotations

from dataclasses import dataclass

from threatlens.backup_schedule import BackupSchedule
from threatlens.coverage_keeper import CoverageKeeper
from threatlens.habits_keeper import HabitKeeper
from threatlens.health_heartbeat import Heartbeat
from threatlens.own_alerts import OwnAlerts
from threatlens.retention import RetentionKeeper


@dataclass(frozen=True, slots=True)
class Upkeep:
    """Each but the last has a job of its own, and a component on the page."""

    retention: RetentionKeeper
    heartbeat: Heartbeat
    backups: BackupSchedule
    habits: HabitKeeper
    coverage: CoverageKeeper
    alerts: OwnAlerts

    @property
    def parts(self) -> tuple[RetentionKeeper, Heartbeat, BackupSchedule, HabitKeeper, CoverageKeeper]:
        return self.retention, self.heartbeat, self.backups, self.habits, self.coverage
