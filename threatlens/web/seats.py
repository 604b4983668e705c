"""Seats: how many WebSockets this process holds. Each holds a thread while it lives, so pages need the rest."""

from __future__ import annotations

import threading

from flask import current_app

from threatlens.web.context import services


class Seats:
    """A fixed number of seats for every kind of socket together."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take a seat; False when all are taken."""
        with self._lock:
            if self._free == 0:
                return False
            self._free -= 1
            return True

    def leave(self) -> None:
        """Give a seat back."""
        with self._lock:
            self._free += 1


def seats() -> Seats:
    """The seats of the current app."""
    found: Seats = current_app.extensions.setdefault("threatlens_seats", Seats(services().settings.ws_max_connections))
    return found
