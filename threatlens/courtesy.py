"""Courtesy: who works through lines gives way to who waits for a page.

Threads of one process share the interpreter. Without this a page that needs it for 15 ms gets every third turn while a
backlog is read, and somebody waits ten times as long in front of a screen for lines that nobody waits for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: Seconds for which one request is given way to: a page, not a download.
LONGEST_S = 0.25
#: Seconds that a worker stands aside at most, and works before it does so again: the backlog goes on whatever happens.
ASIDE_S, WORK_S = 0.040, 0.005
_NAP_S = 0.001
#: Seconds after a request in which the next one is likely.
VISIT_S = 1.0
#: Lines of a batch, each a transaction of its own, while somebody is looking.
PIECE_LINES = 250


def go_on() -> None:
    """Give way to nobody."""


class Courtesy:
    """Counts the requests that are being answered."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, nap: Callable[[float], None] = time.sleep) -> None:
        self.guests = 0  # read by workers without the lock
        self.clock = clock
        self.nap = nap
        self.until_s = 0.0
        self._lock = threading.Lock()

    def come(self) -> None:
        """A request is being answered from now on."""
        with self._lock:
            self.guests += 1
            self.until_s = self.clock() + LONGEST_S

    def go(self) -> None:
        """It is answered."""
        with self._lock:
            self.guests -= 1

    @property
    def is_visited(self) -> bool:
        """Whether somebody is looking: work is best done in small pieces now."""
        return self.guests > 0 or self.clock() < self.until_s - LONGEST_S + VISIT_S

    def worker(self) -> Callable[[], None]:
        """For one thread: to be called every millisecond of work; returns when it may go on."""
        works_until_s = 0.0

        def give_way() -> None:
            nonlocal works_until_s
            if not self.guests:
                return
            now = self.clock()
            if now < works_until_s:
                return
            end = min(now + ASIDE_S, self.until_s)
            while self.guests and now < end:
                self.nap(_NAP_S)
                now = self.clock()
            works_until_s = now + WORK_S

        return give_way
