"""The timers of jobs go on at their pace when the wall clock is moved: with the real scheduler, whose clock is ours."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Iterator

import pytest
from apscheduler.schedulers import base as apscheduler

from threatlens.background_timers import SteadyJobs, scheduler

DAY_S = 86_400.0
PATIENCE_S = 60.0


class MovedClock(dt.datetime):
    """The wall clock, as far off as somebody moved it."""

    off_s = 0.0

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
        return dt.datetime.fromtimestamp(time.time() + cls.off_s, tz)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[MovedClock]]:
    monkeypatch.setattr(apscheduler, "datetime", MovedClock)
    yield MovedClock
    MovedClock.off_s = 0.0


@pytest.mark.parametrize("step_s", [-DAY_S, -3_600.0, 3_600.0, 56 * 365 * DAY_S, -56 * 365 * DAY_S])
def test_jobs_run_on_at_their_pace_when_the_clock_is_moved(moved: type[MovedClock], step_s: float) -> None:
    ran, timers = threading.Semaphore(0), scheduler(lambda: moved.now(dt.UTC))
    timers.add_job(ran.release, "interval", seconds=0.01, id="often")
    timers.add_job(lambda: None, "interval", seconds=3_600, id="rarely")
    timers.start()
    try:
        assert ran.acquire(timeout=PATIENCE_S)
        moved.off_s = step_s
        for _ in range(5):
            assert ran.acquire(timeout=PATIENCE_S), "it waits for the old time, or counts what it missed"
        rarely = timers.get_job("rarely").next_run_time - moved.now(dt.UTC)
        assert dt.timedelta(minutes=50) < rarely <= dt.timedelta(hours=1)
    finally:
        timers.shutdown(wait=False)


def test_only_a_step_makes_a_job_due_early() -> None:
    clock, monotonic = dt.datetime(2026, 11, 27, 12, tzinfo=dt.UTC), 5.0
    jobs = SteadyJobs(now=lambda: clock, monotonic=lambda: monotonic)
    job = scheduler().add_job(print, "interval", hours=1, id="hourly")
    job.next_run_time = clock + dt.timedelta(hours=1)
    jobs.add_job(job)

    clock, monotonic = clock + dt.timedelta(minutes=30), monotonic + 1_800.4  # no two clocks agree for ever
    assert (jobs.get_due_jobs(clock), jobs.get_next_run_time()) == ([], clock + dt.timedelta(minutes=30))
    clock -= dt.timedelta(days=1)
    assert jobs.get_next_run_time() == clock, "the scheduler would wait for a day"
    assert jobs.get_due_jobs(clock) == [job]
