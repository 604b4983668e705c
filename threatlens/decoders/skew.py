"""How far a source's own clock is from ours, learned from lines that were read as soon as they were written.

A line read at once carries nearly the time of reading. When the newest lines of many readings are all off by the same
amount, the clock or the time zone is wrong; a backlog is off by amounts that differ, and says nothing. A zone is
certain only when that has been so for ten minutes: lines that are played back stand still, or run at another pace.
"""

from __future__ import annotations

from collections import deque
from statistics import median

READINGS = 12  # that must agree
MAX_KEPT = 32
AGREE_WITHIN_US = 60_000_000
TOLD_FROM_US = 60_000_000
SAMPLE_EVERY_US = 30_000_000
CERTAIN_AFTER_US = 600_000_000
QUARTER_US = 15 * 60_000_000
MAX_ZONE_US = 14 * 3_600_000_000


class ClockSkew:
    """What the readings of one source say. For one thread."""

    def __init__(self) -> None:
        self._seen: deque[int] = deque(maxlen=MAX_KEPT)
        self._samples: deque[tuple[int, int]] = deque(maxlen=MAX_KEPT)  # (when it was read, by how much ahead)

    def observe(self, read_at_us: int, newest_us: int) -> bool:
        """The newest line of one reading: when it was read, and what time it carried. True: ask for the zone."""
        ahead_us = newest_us - read_at_us
        self._seen.append(ahead_us)
        if self._samples and read_at_us - self._samples[-1][0] < SAMPLE_EVERY_US:
            return False
        self._samples.append((read_at_us, ahead_us))
        return True

    def forget(self) -> None:
        """The zone was corrected: begin anew."""
        self._seen.clear()
        self._samples.clear()

    @property
    def certain_zone_minutes(self) -> int:
        """The zone that the source certainly writes in, as far as it differs from the one it is read in; else 0."""
        agreeing: list[int] = []
        since_us = 0
        for at_us, ahead_us in reversed(self._samples):  # before summer time began it was another
            if agreeing and max(*agreeing, ahead_us) - min(*agreeing, ahead_us) > AGREE_WITHIN_US:
                break
            agreeing.append(ahead_us)
            since_us = at_us
        if len(agreeing) < READINGS or self._samples[-1][0] - since_us < CERTAIN_AFTER_US:
            return 0
        return _zone_of(int(median(agreeing)))

    @property
    def ahead_us(self) -> int:
        """By how much the source's times are ahead of ours (negative: behind); 0 while nothing is certain."""
        latest = list(self._seen)[-READINGS:]
        if len(latest) < READINGS or max(latest) - min(latest) > AGREE_WITHIN_US:
            return 0
        middle = int(median(latest))
        return middle if abs(middle) >= TOLD_FROM_US else 0

    @property
    def zone_minutes(self) -> int:
        """The offset from UTC that would explain it, in minutes; 0: none, so the clock itself is off."""
        return _zone_of(self.ahead_us)


def _zone_of(ahead_us: int) -> int:
    quarters = round(ahead_us / QUARTER_US)
    fits = abs(ahead_us - quarters * QUARTER_US) <= 2 * AGREE_WITHIN_US and abs(ahead_us) <= MAX_ZONE_US
    return quarters * 15 if fits else 0
