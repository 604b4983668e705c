"""Arrivals: what was handed over and what receivers answered, known from the moment the system knows it.

Every message that is on its way has a place in a file: its key, room for the beginning of the answer, and the argument
of the system call that hands over its last byte. The file is mapped into memory, so the system itself notes there that
it has all of the message (handing_over.py), and receives the answer straight into the room (receiving.py). Between the
deed and its note lies nothing of ours: no wait for the interpreter, a parser or the database. What had to be handed
over still is sent anew after a kill; a power cut may take the file, then the key tells the receiver.

The map is written by system calls alone, never by us: where the disk is full they fail with an error, we with SIGBUS.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock

from threatlens.handing_over import CALL_BYTES, Note, handed_over

#: A place: the key, the room behind it, and the call at the end.
KEY_BYTES, PLACE_BYTES = 32, 256
#: How the answer of somebody begins who took the message: HTTP, SMTP, our own process that speaks for Apprise.
TAKEN = re.compile(rb"HTTP/1\.[01] 2\d\d|2\d\d[ -]|\{\"delivered\": true|told")
_KEY = re.compile(rb"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is noted what became of one message."""

    at: int  # in the file; -1: only in memory
    note: Note


@dataclass(frozen=True, slots=True)
class Left:
    """What is known of a message that an engine before this one was sending."""

    key: str
    answer: str  # how it began, of one that was taken; "": none came, but all of the message was handed over


class Arrivals:
    """For the threads of all channels. Without a path it lasts as long as the process."""

    def __init__(self, path: str = "") -> None:
        self._path = path
        self._lock = Lock()
        self._waiting: dict[str, tuple[str, int]] = {}
        self._places: dict[str, Place] = {}
        self._free: list[Place] = []
        self._pages = 0
        self._file = -1
        self._settled = not path

    def before(self) -> list[Left]:
        """What was taken, or handed over and not answered, before this engine; `settle` when it is noted."""
        if self._settled:
            return []
        with contextlib.suppress(OSError), open(self._path, "rb") as file:
            return list(_left(file.read()))
        return []

    def settle(self) -> None:
        """All that was there before this process is noted."""
        if not self._settled:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)  # an engine that is not quite gone may have it mapped
            self._settled = True

    def begin(self, key: str) -> Note:
        """A message is about to be sent; what becomes of it is to be noted here."""
        with self._lock:
            place = self._places.get(key) or self._place()
            if place.at >= 0:
                try:
                    with open("/dev/zero", "rb", buffering=0) as zeros:
                        zeros.readinto(place.note.room)
                    place.note.put(bytes(CALL_BYTES))
                    os.pwrite(self._file, key.encode("ascii"), place.at)
                except OSError:  # a disk that is full
                    place = _in_memory()
            self._places[key] = place
            return place.note

    def took(self, key: str) -> bool:
        """Whether the answer in the room of this message says that it was taken."""
        with self._lock:
            place = self._places.get(key)
            return place is not None and TAKEN.match(place.note.room) is not None

    def take_back(self, key: str) -> None:
        """It failed: what was handed over may not have reached anybody."""
        with self._lock:
            if (place := self._places.get(key)) is not None:
                place.note.take_back()

    def add(self, key: str, transcript: str, now_us: int) -> None:
        """It has arrived."""
        with self._lock:
            self._waiting[key] = (transcript, now_us)
            place = self._places.get(key)
            if place is not None and place.at >= 0 and not TAKEN.match(place.note.room):
                with contextlib.suppress(OSError):  # a disk that is full: known until this process ends
                    os.pwrite(self._file, b"told", place.at + KEY_BYTES)

    def of(self, key: str) -> tuple[str, int] | None:
        """(transcript, when it arrived) of one that is not noted yet."""
        with self._lock:
            return self._waiting.get(key)

    def end(self, key: str) -> None:
        """What became of it stands in the database."""
        with self._lock:
            self._waiting.pop(key, None)
            place = self._places.pop(key, None)
            if place is not None and place.at >= 0:
                with contextlib.suppress(OSError):
                    os.pwrite(self._file, bytes(KEY_BYTES), place.at)
                    self._free.append(place)

    def _place(self) -> Place:
        if not self._free and self._path and self._settled:
            with contextlib.suppress(OSError):  # a disk that is full
                self._free += self._page()
        return self._free.pop() if self._free else _in_memory()

    def _page(self) -> list[Place]:
        """Places in a new page of the file. It is written before it is mapped, so that the disk has it."""
        if self._file < 0:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        size = mmap.ALLOCATIONGRANULARITY
        start = self._pages * size
        if os.pwrite(self._file, bytes(size), start) < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        page = memoryview(mmap.mmap(self._file, size, offset=start))
        self._pages += 1
        return [_place(page[at : at + PLACE_BYTES], self._file, start + at) for at in range(0, size, PLACE_BYTES)]


def _place(memory: memoryview, file: int, at: int) -> Place:
    room, call = memory[KEY_BYTES:-CALL_BYTES], memory[-CALL_BYTES:]
    return Place(at, Note(room, call, file, at + PLACE_BYTES - CALL_BYTES))


def _in_memory() -> Place:
    return _place(memoryview(bytearray(PLACE_BYTES)), -1, -1)


def _left(content: bytes) -> Iterator[Left]:
    for at in range(0, len(content), PLACE_BYTES):
        place = content[at : at + PLACE_BYTES]
        if not _KEY.fullmatch(key := place[:KEY_BYTES]):
            continue
        if taken := TAKEN.match(place, KEY_BYTES):
            yield Left(key.decode("ascii"), taken[0].decode("ascii").rstrip(" -"))
        elif not any(place[KEY_BYTES:-CALL_BYTES]) and handed_over(place[-CALL_BYTES:]):
            yield Left(key.decode("ascii"), "")
