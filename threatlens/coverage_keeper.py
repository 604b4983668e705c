"""CoverageKeeper: tries the samples at the start, whenever rules or decoders have changed, and once a day."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from threatlens.coverage import SAMPLES_FOLDER, Coverage, try_all, wanted
from threatlens.coverage_apart import Order, try_apart
from threatlens.detectors import load_tables
from threatlens.detectors.logsources import LogSources
from threatlens.doctor import Finding
from threatlens.habits import SourceHabits
from threatlens.habits_keeper import PROVIDED_S, HabitKeeper
from threatlens.health import Component
from threatlens.own_decoders import OwnDecoders
from threatlens.rule_library import RuleLibrary
from threatlens.store import EventStore

log = logging.getLogger(__name__)

DAY_S = 86_400.0
#: Seconds until what came to nothing is tried again.
AGAIN_S = 600.0
#: Seconds that lines which wait for room in the queue go first: the trial takes memory and a processor.
PATIENCE_S = 600.0


class CoverageKeeper:
    """One an engine; `poll` is for one thread."""

    def __init__(
        self,
        library: RuleLibrary,
        own_decoders: OwnDecoders,
        habits: HabitKeeper,
        *,
        samples_folder: str = SAMPLES_FOLDER,
        trying: Callable[[Order, Callable[[float], bool]], Coverage | None] = try_apart,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._library = library
        self._own_decoders = own_decoders
        self._habits = habits
        self._samples_folder = samples_folder
        self._trying = trying
        self._monotonic = monotonic
        self._tried: tuple[object, object] | None = None  # what was tried last
        self._due_s = float("-inf")
        self._put_off_s: float | None = None  # since when it is put off
        self.newest: Coverage | None = None

    def poll(self, stopped: Callable[[float], bool], *, busy: bool = False) -> bool:
        """Try everything if it is time; whether that was done. `stopped` waits so many seconds: True ends it.

        busy: lines wait for room in the queue; they go first, for a while.
        """
        state = self._state()
        now = self._monotonic()
        if state == self._tried and now < self._due_s:
            return False
        if busy:
            if self._put_off_s is None:
                self._put_off_s = now
            if now - self._put_off_s < PATIENCE_S:
                return False
        self._put_off_s = None
        loaded = self._library.loaded()
        self._habits.want(LogSources(load_tables().logsources), wanted(loaded))
        order = Order(
            self._library.roots, self._library.cache, tuple(sorted(loaded.off)), loaded.lists,
            self._own_decoders.folder, self._samples_folder,
        )  # fmt: skip
        found = self._trying(order, stopped)
        if found is None:
            if not stopped(0):
                self._tried, self._due_s = state, now + AGAIN_S
            return False
        if state != self._state():
            return False  # other rules or decoders than these may have been tried: once more
        self.newest, self._tried, self._due_s = found, state, now + DAY_S
        for failure in (*found.failing, *found.decoders_failing):
            log.warning("%s: %s", failure.name, failure.reason)
        return True

    def _state(self) -> tuple[object, object]:
        """Changes whenever a file of rules, lists or decoders does, or a rule is switched."""
        return self._library.loaded().fingerprint, self._own_decoders.registry()

    def health(self) -> Iterator[Component]:
        """The component `coverage`."""
        found = self.newest
        if found is None:
            yield Component("coverage", "starting", "the rules' own samples are being tried")
            return
        yield Component("coverage", *_judged(found, self._habits.provided()))

    def as_json(self) -> dict[str, Any]:
        """What the samples gave, {} before they were tried."""
        return self.newest.as_json(self._habits.provided()) if self.newest is not None else {}


def _judged(found: Coverage, provided: frozenset[str]) -> tuple[str, str, str]:
    """State, reason and remedy."""
    if found.failing:
        names = ", ".join(failure.name for failure in found.failing[:3])
        reason = f"{len(found.failing)} of {found.rules} rules cannot fire: {names} ({found.failing[0].reason})"
        return "degraded", reason, "python -m threatlens rules test builtin; then look at your own rules and filters"
    if found.decoders_failing:
        names = ", ".join(failure.name for failure in found.decoders_failing[:3])
        reason = f"formats that are not read as they should be: {names}"
        return "degraded", reason, "look at the decoders that you made last"
    return "ok", found.sentence(provided), ""


def coverage_findings(library: RuleLibrary, own_decoders: OwnDecoders, store: EventStore) -> Iterator[Finding]:
    """The same for `threatlens doctor`; raises StoreUnavailable."""
    found = try_all(library.loaded(), library.roots, own_decoders.registry())
    oldest = time.time() - PROVIDED_S
    habits = map(SourceHabits.from_json, store.baselines().values())
    provided = frozenset(name for each in habits for name, at in each.met.items() if at >= oldest)
    state, reason, remedy = _judged(found, provided)
    yield Finding("coverage", state == "ok", reason, remedy)
