"""DiskGuard: a full disk stops the storing of events, not ThreatLens.

A reserve file is kept beside the database. When the disk runs full half of it is given up, which leaves room for small
writes (the audit log, notifications), and events wait in their files until there is space again. The other half is for
what cannot wait, when somebody else has taken the first: which files there are to read.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable

log = logging.getLogger(__name__)

RESERVE_BYTES = 8 << 20
#: Less than this is a full disk; a transaction needs its pages twice, in the log and in the database.
LOW_BYTES = 4 << 20
#: So much must be free again before events are stored: the reserve, and room to work.
ENOUGH_BYTES = RESERVE_BYTES + 2 * LOW_BYTES


def free_bytes(folder: str) -> int:
    """Bytes that this user may still write where the folder is. Raises OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


class DiskGuard:
    """One an engine. `check` is for one thread; `holding`, `filled` and `needed` may be used by any."""

    def __init__(self, folder: str, *, free: Callable[[str], int] = free_bytes) -> None:
        self._folder = folder
        self._path = os.path.join(folder, "reserve")
        self._free = free
        self.holding = False  # no event is to be stored now

    def filled(self) -> None:
        """The database could not grow: hold at once, and give half of the reserve up."""
        if not self.holding:
            self.holding = True
            log.warning("the disk of %s is full: events wait in their files until there is space again", self._folder)
        with contextlib.suppress(OSError):
            if os.path.getsize(self._path) > RESERVE_BYTES // 2:
                os.truncate(self._path, RESERVE_BYTES // 2)

    def needed(self) -> None:
        """What cannot wait could not be written: give up all of the reserve."""
        self.filled()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def check(self) -> bool:
        """Look at the disk; whether events are to wait."""
        try:
            free = self._free(self._folder)
        except OSError:
            return self.holding
        if self.holding:
            if free + self._reserved() >= ENOUGH_BYTES and self._make_reserve():
                self.holding = False
                log.info("there is space again on the disk of %s: storing goes on", self._folder)
        elif free < LOW_BYTES:
            self.filled()
        elif free >= ENOUGH_BYTES and self._reserved() < RESERVE_BYTES:
            self._make_reserve()
        return self.holding

    def _reserved(self) -> int:
        try:
            return os.path.getsize(self._path)
        except OSError:
            return 0

    def _make_reserve(self) -> bool:
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            return False
        return True
