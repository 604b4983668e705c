"""Retention: what is older than wanted goes, and the oldest goes sooner when the database grows too large.

It works in small steps between which everything else has its turn, so that nothing waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from threatlens.config_values import Retention as Limits
from threatlens.errors import QueryTimeout
from threatlens.health import Component
from threatlens.health_disk import free_bytes
from threatlens.store import EventStore

DAY_US = 86_400_000_000
#: The size to which a database that is too large is brought, as a share of its limit.
TARGET = 0.97
#: From this share of the limit on the page says that the oldest events will go sooner than their age.
NEAR = 0.9
#: Free pages that are left in the file: the next events need them.
SLACK_BYTES = 4 << 20


@dataclass
class RetentionState:
    """What was done since the start."""

    events: int = 0
    incidents: int = 0
    measurements: int = 0
    cut_short: bool = False  # the size of the database, not the age of events, decides


class RetentionKeeper:
    """One an engine; `work` is for one thread."""

    def __init__(
        self,
        store: EventStore,
        limits: Callable[[], Limits],
        folder: str,
        *,
        steady: Callable[[], bool] = lambda: True,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        monotonic: Callable[[], float] = time.monotonic,
        free: Callable[[str], int] = free_bytes,
    ) -> None:
        """folder: where the database is, "" for elsewhere. steady: False while the clock cannot be trusted, when age
        says nothing."""
        self._store = store
        self._limits = limits
        self._folder = folder
        self._steady = steady
        self._now_us = now_us
        self._monotonic = monotonic
        self._free = free
        self.state = RetentionState()

    def work(self, stopped: Callable[[float], bool], budget_s: float = 3.0) -> int:
        """Forget what is due, for about so long; stopped(s) waits s seconds between steps. How many events went."""
        until = self._monotonic() + budget_s
        before = self.state.events
        for _ in self._steps():
            if stopped(0.01) or self._monotonic() > until:
                break
        return self.state.events - before

    def _steps(self) -> Iterator[None]:
        """Each step is one short transaction."""
        limits, now = self._limits(), self._now_us()
        if self._steady():
            after, cutoff = 0, now - limits.events_days * DAY_US
            while True:
                n, upto = self._store.forget_events(after, stored_before_us=cutoff, keep_evidence=True)
                self.state.events += n
                if upto == after:
                    break
                after = upto
                yield
            while n := self._store.forget_incidents(now - limits.incidents_days * DAY_US):
                self.state.incidents += n
                yield
            while n := self._store.forget_measurements(now, now - limits.metrics_days * DAY_US):
                self.state.measurements += n
                yield
        most = int(limits.max_database_gb * 1e9)
        extent = self._store.extent()
        self.state.cut_short = extent.used_bytes > TARGET * most if self.state.cut_short else extent.used_bytes > most
        while self.state.cut_short and extent.used_bytes > TARGET * most:
            n, _ = self._store.forget_events(0, stored_before_us=None, keep_evidence=False)
            self.state.events += n
            if not n:
                break
            yield
            extent = self._store.extent()
        while extent.free_bytes > SLACK_BYTES and self._store.shrinks():
            left = self._store.return_space()
            if left >= extent.free_bytes:
                break
            extent = self._store.extent()
            yield

    def health(self) -> Iterator[Component]:
        """How near the limits are."""
        limits = self._limits()
        try:
            extent = self._store.extent()
        except QueryTimeout:
            return
        most = limits.max_database_gb * 1e9
        share = extent.used_bytes / most
        days = max(0, self._now_us() - extent.oldest_us) / DAY_US if extent.oldest_us else 0
        used = extent.used_bytes / 1e9
        stored = f"{used:.1f}" if used >= 1 else f"{used * 1000:.0f} MB"
        age = f"{days:.0f} days" if days >= 2 else f"{days * 24:.0f} hours" if days * 24 >= 2 else "minutes"
        shown = f"{stored} of {limits.max_database_gb:g} GB"
        shown += f", the oldest event is {age} old" if extent.oldest_us else ""
        remedy = "raise retention.max_database_gb, or lower retention.events_days"
        if share > NEAR and days < limits.events_days:
            reason = f"{shown}: the oldest go before their {limits.events_days} days are over"
            yield Component("retention", "degraded", reason, remedy)
            return
        try:
            room = self._free(self._folder)
        except OSError:
            room = 1 << 62
        if most - extent.used_bytes > room + extent.free_bytes:
            reason = f"{shown}: the disk, with {room / 1e9:.1f} GB free, is full before that limit is reached"
            yield Component("retention", "degraded", reason, "free space, or lower retention.max_database_gb")
            return
        yield Component("retention", "ok", shown)
