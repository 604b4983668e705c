"""Waiting for a database that is away: longer each time, and said once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

from threatlens.errors import StoreUnavailable

log = logging.getLogger(__name__)

_Value = TypeVar("_Value")
RETRY_FIRST_S, RETRY_MAX_S = 0.1, 1.0  # the longer a batch waits, the more a kill can take with it


class Trouble(Protocol):
    """Where it is said that the database takes nothing."""

    unavailable: str
    retries: int


class Guard(Protocol):
    """Who makes room on a full disk."""

    def filled(self) -> None: ...


class Patience:
    """How long one batch has waited."""

    def __init__(self, state: Trouble, stopped: Callable[[float], bool], guard: Guard | None) -> None:
        """stopped(s) waits s seconds or until we are stopping, and says whether we are."""
        self._state = state
        self._stopped = stopped
        self._guard = guard
        self._wait_s = RETRY_FIRST_S

    def waits(self, error: StoreUnavailable) -> bool:
        """Wait a while, for another try; False: we are stopping."""
        if error.reason == "disk_full" and self._guard is not None:
            self._guard.filled()
        if not self._state.unavailable:
            log.warning("%s; the batch waits and is tried again", error)
        self._state.unavailable = error.reason
        self._state.retries += 1
        wait_s, self._wait_s = self._wait_s, min(RETRY_MAX_S, self._wait_s * 2)
        return not self._stopped(wait_s)

    def with_which(self, attempt: Callable[[], _Value]) -> _Value | None:
        """What this gives once the database is there; None: we are stopping."""
        while True:
            try:
                return attempt()
            except StoreUnavailable as error:
                if not self.waits(error):
                    return None
