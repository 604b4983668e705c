"""How far a source's own clock is from ours, learned from lines that were read as soon as they were written.

A line read at once carries nearly the time of reading. When the newest lines of many readings are all off by the same
amount, the clock or the time zone is wrong; a backlog is off by amounts that differ, and says nothing.
"""

from __future__ import annotations

from collections import deque
from statistics import median

READINGS = 12  # that must agree
MAX_KEPT = 32
AGREE_WITHIN_US = 60_000_000
TOLD_FROM_US = 60_000_000
QUARTER_US = 15 * 60_000_000
MAX_ZONE_US = 14 * 3_600_000_000


class ClockSkew:
    """What the readings of one source say. For one thread."""

    def __init__(self) -> None:
        self._seen: deque[int] = deque(maxlen=MAX_KEPT)

    def observe(self, read_at_us: int, newest_us: int) -> None:
        """The newest line of one reading: when it was read, and what time it carried."""
        self._seen.append(newest_us - read_at_us)

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
        ahead = self.ahead_us
        quarters = round(ahead / QUARTER_US)
        fits = abs(ahead - quarters * QUARTER_US) <= 2 * AGREE_WITHIN_US and abs(ahead) <= MAX_ZONE_US
        return quarters * 15 if fits else 0
