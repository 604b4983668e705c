"""EventBroadcaster: one ring of what was stored lately; every connection keeps its own place in it.

A place is the id of the last event a reader has and the number of the last other update. Nothing is queued per
connection, so a slow reader costs nothing: it falls behind, at last off the ring, and then reads the database from
its place on. Batches turn into events only when somebody looks.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from threatlens.event import Event, EventUpdate


class Place(NamedTuple):
    """How far a reader has come."""

    event_id: int
    update_seq: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What is new beyond a place."""

    events: tuple[Event, ...]  # oldest first
    updates: tuple[EventUpdate, ...]
    lapsed: bool  # the reader fell off the ring: events must be read from the database
    place: Place  # the reader's place once it has taken all this


class _Stored:
    """Events of one commit, made when first asked for."""

    __slots__ = ("_events", "_lock", "_make", "count", "first_id", "last_id", "size")

    def __init__(self, first_id: int, count: int, make: Callable[[], Sequence[Event]], size: int) -> None:
        self.size = size
        self.first_id = first_id
        self.last_id = first_id + count - 1
        self.count = count
        self._make: Callable[[], Sequence[Event]] | None = make
        self._events: tuple[Event, ...] = ()
        self._lock = threading.Lock()

    def events(self) -> tuple[Event, ...]:
        with self._lock:
            if self._make is not None:
                self._events = tuple(self._make())
                self._make = None
            return self._events


def _beyond(updates: deque[tuple[int, EventUpdate]], seq: int) -> list[EventUpdate]:
    """The updates beyond this number, oldest first; looks at no others."""
    newer = []
    for number, update in reversed(updates):
        if number <= seq:
            break
        newer.append(update)
    return newer[::-1]


class EventBroadcaster:
    """The ring. Writers publish after the commit; readers wait."""

    def __init__(self, max_events: int = 5_000, max_updates: int = 1_000, max_bytes: int = 4 << 20) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._ring: deque[_Stored] = deque()
        self._count = self._bytes = 0
        self._last_id = 0
        self._floor = 0  # ids up to this are in the database only
        self._updates: deque[tuple[int, EventUpdate]] = deque(maxlen=max_updates)
        self._update_seq = 0
        self.closed = False
        #: Told of what is published here: the id of the newest event, or an update. It must not wait.
        self.tell: Callable[[int | EventUpdate], None] | None = None

    def begin(self, last_id: int) -> None:
        """Nothing up to this id will be published here."""
        with self._changed:
            self._last_id = self._floor = last_id

    def publish(
        self, first_id: int, count: int, make: Callable[[], Sequence[Event]], *, size: int = 0, tell: bool = True
    ) -> None:
        """Announce `count` stored events with consecutive ids from first_id on, of this size in bytes.

        What another process stored before them is in the database only: readers that lack it lapse.
        """
        with self._changed:
            if count < 1 or first_id + count - 1 <= self._last_id:
                return
            if first_id > self._last_id + 1:
                self._ring.clear()
                self._count, self._bytes, self._floor = 0, 0, first_id - 1
            self._ring.append(_Stored(first_id, count, make, size))
            self._count += count
            self._bytes += size
            self._last_id = first_id + count - 1
            while (self._count > self._max_events or self._bytes > self._max_bytes) and len(self._ring) > 1:
                gone = self._ring.popleft()
                self._count -= gone.count
                self._bytes -= gone.size
                self._floor = gone.last_id
            self._changed.notify_all()
        if tell and self.tell is not None:
            self.tell(first_id + count - 1)

    def publish_update(self, update: EventUpdate, *, tell: bool = True) -> None:
        """Announce something that is not a new event."""
        with self._changed:
            self._update_seq += 1
            self._updates.append((self._update_seq, update))
            self._changed.notify_all()
        if tell and self.tell is not None:
            self.tell(update)

    def place(self) -> Place:
        """Where a reader stands that wants only what comes from now on."""
        with self._changed:
            return Place(self._last_id, self._update_seq)

    def updates_beyond(self, seq: int) -> tuple[tuple[EventUpdate, ...], int]:
        """The updates beyond this number, oldest first, and the number of the newest; never waits."""
        with self._changed:
            return tuple(_beyond(self._updates, seq)), max(seq, self._update_seq)

    def wait(self, place: Place, timeout_s: float, limit: int = 1_000) -> Batch:
        """What lies beyond `place`, at most about `limit` events; an empty batch after timeout_s or when closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.closed or self._last_id > place.event_id or self._update_seq > place.update_seq, timeout_s
            )
            updates = tuple(_beyond(self._updates, place.update_seq))
            update_seq = max(place.update_seq, self._update_seq)
            if self._last_id > place.event_id and place.event_id < self._floor:
                return Batch((), updates, True, Place(place.event_id, update_seq))
            newer: list[_Stored] = []
            for batch in reversed(self._ring):  # most readers are near the end
                if batch.last_id <= place.event_id:
                    break
                newer.append(batch)
        stored: list[_Stored] = []
        count = 0
        while newer and count < limit:
            stored.append(newer.pop())
            count += stored[-1].count
        events = tuple(event for batch in stored for event in batch.events() if event.id > place.event_id)
        last_id = max(place.event_id, stored[-1].last_id) if stored else place.event_id
        return Batch(events, updates, False, Place(last_id, update_seq))

    def close(self) -> None:
        """The process is stopping: nobody waits any longer."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
