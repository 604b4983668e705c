"""VolumeWatch: sources that give far more or far fewer lines than at this hour of the week in earlier weeks.

The roll-up of stored events is all its memory: it survives a restart, is as large as what is kept of events anyway, and
knows the past of a source from the first day on. What it told of an hour is a stored match, so it tells of it once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from threatlens.analyzers.volume import (
    HOUR_US,
    LEARNING_US,
    LEVEL,
    RULES,
    WEEK_HOURS,
    WEEKS,
    Usual,
    anomaly,
    usual,
)
from threatlens.event import LEVEL_SEVERITIES, RuleMatch
from threatlens.incidents import Finding
from threatlens.raising import Late, Raiser
from threatlens.store import EventStore
from threatlens.store_incidents import LOG_SOURCE
from threatlens.store_volumes import HourCount, VolumeSource

#: An hour is over for good once this has passed: lines come late.
SETTLE_US = 600_000_000
#: Sources that are looked at, those with the most lines.
MOST_SOURCES = 1_000


@dataclass(frozen=True, slots=True)
class Learning:
    """How far a source is known."""

    source: str
    until_us: int  # 0: it is known


class VolumeWatch:
    """One an engine; look() is for one thread."""

    def __init__(
        self,
        store: EventStore,
        raiser: Raiser,
        *,
        steady: Callable[[], bool] = lambda: True,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        """steady: False while the clock cannot be trusted; then no hour says anything."""
        self._store = store
        self._raiser = raiser
        self._steady = steady
        self._clock_us = clock_us
        self._usual: dict[int, dict[int, list[Usual]]] = {}  # hour -> source -> what is usual; of two hours
        self._told: set[tuple[str, int, int]] = set()  # rule, source, hour; of two hours

    def look(self) -> int:
        """Look at this hour, and at the one before once it is over; how much was told."""
        if not self._steady():
            return 0
        now = self._clock_us()
        hour = now // HOUR_US
        sources = self._store.volume_sources(MOST_SOURCES)
        hours = [hour] if now - hour * HOUR_US < SETTLE_US else [hour - 1, hour]
        self._usual = {each: known for each, known in self._usual.items() if each in hours}
        self._told = {each for each in self._told if each[2] in hours}
        found = [late for each in hours for late in self._of_hour(each, sources, over=each < hour, now=now)]
        if found:
            self._raiser.raise_all(found)
        return len(found)

    def _of_hour(self, hour: int, sources: dict[int, VolumeSource], *, over: bool, now: int) -> list[Late]:
        counts = self._store.hour_counts([hour])
        known = self._usual.get(hour)
        if known is None:
            known = self._usual[hour] = self._known(hour, sources)
        found = []
        for source_id, hours in known.items():
            counted = counts.get((source_id, hour), HourCount(0, 0))
            kind = anomaly(counted.n, hours, over=over)
            key = (kind, source_id, hour)
            if not kind or key in self._told or self._store.volume_told(*key[:2], hour * HOUR_US):
                continue
            self._told.add(key)
            source = sources[source_id]
            event_id = counted.last_id or source.last_id
            if event_id:
                match = _match(kind, source.name, hour, counted.n, hours, min(now, (hour + 1) * HOUR_US))
                found.append(
                    Late(Finding(match, event_id, event_id, source_id, "", "other"), (event_id,), None, source.name)
                )
        return found

    def _known(self, hour: int, sources: dict[int, VolumeSource]) -> dict[int, list[Usual]]:
        """Of the sources that are known well enough: what is usual in this hour and the two beside it."""
        wanted = [hour + beside - week * WEEK_HOURS for week in range(1, WEEKS + 1) for beside in (-1, 0, 1)]
        counts = self._store.hour_counts(wanted)
        found: dict[int, list[Usual]] = {}
        for source_id, source in sources.items():
            hours = []
            for beside in (0, -1, 1):
                earlier = [hour + beside - week * WEEK_HOURS for week in range(1, WEEKS + 1)]
                about = usual([
                    counts[source_id, each].n if (source_id, each) in counts else 0
                    for each in earlier
                    if (source_id, each) in counts or each * HOUR_US >= source.known_us
                ])  # fmt: skip
                if about is None and not beside:
                    break
                if about is not None:
                    hours.append(about)
            if hours:
                found[source_id] = hours
        return found

    def learning(self) -> list[Learning]:
        """The sources by name, and until when each is still learned."""
        now = self._clock_us()
        found = []
        for source in self._store.volume_sources(MOST_SOURCES).values():
            until = source.known_us + LEARNING_US
            found.append(Learning(source.name, until if until > now else 0))
        return sorted(found, key=lambda each: each.source)


def _match(kind: str, source: str, hour: int, n: int, hours: list[Usual], at_us: int) -> RuleMatch:
    than = f"{n:,} lines, {hours[0].median:,.0f} are usual"
    return RuleMatch(
        kind, f"{RULES[kind].title}: {than}", LEVEL, LEVEL_SEVERITIES[LEVEL], "novelty", at_us,
        hour * HOUR_US, 1, ((LOG_SOURCE, source),), None, None, None, (), (),
    )  # fmt: skip
