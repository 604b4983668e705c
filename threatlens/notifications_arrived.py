"""Arrivals: which messages have arrived and do not stand in the database as sent yet.

The note in the database waits: for another writer, for the disk, for a disk that is full. A line in a file does not, so
a kill repeats a message only when it strikes in the microseconds between the receiver's answer and that line; and
while the database is away, what has arrived is not sent again. The file holds keys of messages, one a line; it is
emptied whenever all of them are noted. A power cut may take it: then the key tells the receiver.
"""

from __future__ import annotations

import contextlib
import os
import re
from threading import Lock

KEY = re.compile(r"[0-9a-f]{32}")


class Arrivals:
    """For the threads of all channels. Without a path it lasts as long as the process."""

    def __init__(self, path: str = "") -> None:
        self._path = path
        self._lock = Lock()
        self._waiting: dict[str, tuple[str, int]] = {}
        self._file = -1
        self._settled = not path

    def before(self) -> list[str]:
        """The keys that an engine before this one left; `settle` when they are noted."""
        if self._settled:
            return []
        with contextlib.suppress(OSError), open(self._path, encoding="ascii", errors="replace") as file:
            return [key for line in file if KEY.fullmatch(key := line.rstrip("\n"))]
        return []

    def add(self, key: str, transcript: str, now_us: int) -> None:
        """It has arrived."""
        with self._lock:
            self._waiting[key] = (transcript, now_us)
            if self._path:
                with contextlib.suppress(OSError):  # a disk that is full: known until this process ends
                    if self._file < 0:
                        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                    os.write(self._file, f"{key}\n".encode("ascii"))

    def of(self, key: str) -> tuple[str, int] | None:
        """(transcript, when it arrived) of one that is not noted yet."""
        with self._lock:
            return self._waiting.get(key)

    def noted(self, key: str) -> None:
        """It stands in the database as sent."""
        with self._lock:
            self._waiting.pop(key, None)
            if not self._waiting and self._file >= 0:
                os.ftruncate(self._file, 0)

    def settle(self) -> None:
        """All that was there before this process is noted."""
        if not self._settled:
            with contextlib.suppress(FileNotFoundError):
                os.truncate(self._path, 0)
            self._settled = True
