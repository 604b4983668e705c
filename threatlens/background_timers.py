"""The scheduler of the jobs. Its timers do not notice that the wall clock is moved.

APScheduler counts by the wall clock: put back by a day, every job would rest for a day; put forward by years, as on a
machine without a battery that finds its time server late, it would count every run that was missed. So a step makes
every job due at once, and each counts on from there.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.job import Job
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler

STEP_S = 1.0  # less is a late reading of the clocks


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class SteadyJobs(MemoryJobStore):  # type: ignore[misc]
    """The jobs in memory, in the order of their times. The scheduler calls everything, and holds its lock."""

    def __init__(
        self,
        now: Callable[[], dt.datetime] = _now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._now, self._monotonic = now, monotonic
        self._offset = now().timestamp() - monotonic()

    def get_due_jobs(self, now: dt.datetime) -> list[Job]:
        """What is due at this time of the wall clock."""
        self._notice_a_step(now)
        due: list[Job] = super().get_due_jobs(now)
        return due

    def get_next_run_time(self) -> dt.datetime | None:
        """When the first is due, by the wall clock as it is now."""
        self._notice_a_step(self._now())
        first: dt.datetime | None = super().get_next_run_time()
        return first

    def _notice_a_step(self, now: dt.datetime) -> None:
        offset = now.timestamp() - self._monotonic()
        if abs(offset - self._offset) > STEP_S:
            for job in self.get_all_jobs():
                job.next_run_time = now
                self.update_job(job)
        self._offset = offset


def scheduler(now: Callable[[], dt.datetime] = _now) -> BackgroundScheduler:
    """The scheduler of this process, not started. Of what it missed a job runs once."""
    return BackgroundScheduler(
        jobstores={"default": SteadyJobs(now)},
        executors={
            "default": ThreadPoolExecutor(6),
            "engine": ThreadPoolExecutor(2),
            "channels": ThreadPoolExecutor(64),  # threads appear as they are needed
        },
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        timezone="UTC",
    )
