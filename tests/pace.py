"""How long something takes, in the time that this process gets: a machine that stands still for a while is not slow."""

from __future__ import annotations

import threading
from typing import Self

TICK_S = 0.05


class Stopwatch:
    """Counts ticks while it is entered. Of a second in which nobody runs, one tick is counted."""

    def __init__(self) -> None:
        self._ticks = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._count)

    def _count(self) -> None:
        while not self._over.wait(TICK_S):
            self._ticks += 1

    @property
    def seconds(self) -> float:
        return self._ticks * TICK_S

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
