"""Seats: how many WebSockets this process holds. Each holds a thread while it lives, so pages need the rest."""

from __future__ import annotations

import threading
from collections import Counter

from flask import current_app

from threatlens.web.context import services

#: Sockets of one person at once: as many live pages. Programs share what is there.
MAX_PER_PERSON = 5


class Seats:
    """A fixed number of seats for every kind of socket together."""

    def __init__(self, number: int) -> None:
        self._free = self._number = number
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """How many sockets are open."""
        return self._number - self._free

    def take(self, person: str = "") -> bool:
        """Take a seat; False when all are taken, or this person has as many as one may have."""
        with self._lock:
            if self._free == 0 or (person and self._held[person] >= MAX_PER_PERSON):
                return False
            self._free -= 1
            self._held[person] += 1
            return True

    def leave(self, person: str = "") -> None:
        """Give a seat back."""
        with self._lock:
            self._free += 1
            self._held[person] -= 1
            if not self._held[person]:
                del self._held[person]


def seats() -> Seats:
    """The seats of the current app."""
    found: Seats = current_app.extensions.setdefault("threatlens_seats", Seats(services().settings.ws_max_connections))
    return found
