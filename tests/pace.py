"""How long something takes, in the time that this process gets: a machine that stands still for a while is not slow."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

import pytest

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


def wait_for(check: Callable[[], Any], *, seconds: float = 300.0, pause_s: float = 0.02) -> Any:
    """The first true answer of check(), asked again and again; fails after so many seconds of a Stopwatch."""
    pause = threading.Event()
    with Stopwatch() as stopwatch:
        while stopwatch.seconds < seconds:
            if answer := check():
                return answer
            pause.wait(pause_s)
    pytest.fail("it did not happen in time")
