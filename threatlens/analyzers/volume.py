"""How many lines are usual at this hour of the week, and when there are far more or far fewer.

Usual is the median of the same hour in earlier weeks, its spread the median distance from that (MAD), which a single
odd week does not move. The hours beside it count too, so that a change of daylight saving time is no news.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

HOUR_US = 3_600_000_000
WEEK_HOURS = 168
#: Earlier weeks that are compared, and how many must be known before anything is told.
WEEKS, LEAST_WEEKS = 8, 3
LEARNING_US = LEAST_WEEKS * WEEK_HOURS * HOUR_US
#: A spread so large that a line more or less is no anomaly: of the usual number, and in lines.
LEAST_SPREAD, LEAST_LINES = 0.1, 30
#: How many spreads away an hour is an anomaly. 1.4826 MAD is one standard deviation of what is normally distributed.
FAR = 6 * 1.4826
#: Below this share of the usual number an hour is nearly silent, if at least so many lines are usual.
NEARLY_SILENT, SILENT_FROM = 0.2, 100

HIGH, LOW = "threatlens-volume-high", "threatlens-volume-low"
LEVEL = "medium"


class Usual(NamedTuple):
    """What is usual for an hour of the week."""

    median: float
    spread: float
    weeks: int

    @property
    def most(self) -> float:
        """More than this is far more than usual."""
        return max(self.median + FAR * self.spread, 2 * self.median)


class Told(NamedTuple):
    """What a rule says to people."""

    title: str
    explanation: str
    recommendations: tuple[str, ...]


RULES = {
    HIGH: Told(
        "Far more lines than usual",
        "Far more lines came from {log.source} than at this hour of the week in earlier weeks.",
        (
            "Look at what makes up the difference: the message shapes and addresses of that hour.",
            "An attack, a program in a loop and a new debug level look alike here; all three deserve a look.",
        ),
    ),
    LOW: Told(
        "Far fewer lines than usual",
        "Far fewer lines came from {log.source} than at this hour of the week in earlier weeks.",
        (
            "See whether the program still runs, and whether it still logs where it did.",
            "Who has got in often stops the logging first: `systemctl status rsyslog auditd`.",
        ),
    ),
}


def usual(earlier: Sequence[int]) -> Usual | None:
    """What is usual, from the numbers of lines in that hour of earlier weeks; None while that is being learned."""
    if len(earlier) < LEAST_WEEKS:
        return None
    median = statistics.median(earlier)
    spread = statistics.median(abs(n - median) for n in earlier)
    return Usual(median, max(spread, LEAST_SPREAD * median, LEAST_LINES), len(earlier))


def anomaly(n: int, hours: Sequence[Usual], *, over: bool) -> str:
    """HIGH, LOW or "": what n lines in an hour are. hours: what is usual then and in the hours beside it, known ones;
    over: whether the hour is over, before that it cannot have too few."""
    if not hours:
        return ""
    if n > max(each.most for each in hours):
        return HIGH
    least = min(hours, key=lambda each: each.median)
    silent = least.median >= SILENT_FROM and n < NEARLY_SILENT * least.median
    return LOW if over and silent and n < least.median - FAR * least.spread else ""
