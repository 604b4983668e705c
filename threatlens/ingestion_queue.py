"""RealtimeIngestionQueue: the bounded, prioritised hand-over between readers and the processor.

There is no code path that drops an entry: when the queue is full, put() waits, the reader stops reading, and the file
is the buffer. Order is kept within a source; between sources the most urgent go first, sources of one priority take
turns, and one pick in eight goes to whoever has waited longest, so that a flood in an urgent source starves nobody.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass

from threatlens.event import LogEntry

#: A batch takes many times its own memory until it is stored, and several are under way at once.
BATCH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class QueueStats:
    """How full the queue is."""

    entries: int
    lines: int
    bytes: int
    max_lines: int
    max_bytes: int
    waiting: bool  # a reader is waiting for room


class RealtimeIngestionQueue:
    """Bounded in lines and in bytes; an entry larger than either bound passes alone."""

    def __init__(self, max_lines: int = 50_000, max_bytes: int = 32 << 20) -> None:
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        # priority -> source id -> that source's entries in order; the first source of a priority is next in turn
        self._levels: dict[int, OrderedDict[int, deque[tuple[int, LogEntry]]]] = {}
        self._entries = self._lines = self._bytes = self._serial = self._picks = self._blocked = 0
        self._closed = False

    def put(self, entry: LogEntry, timeout_s: float | None = None) -> bool:
        """Hand over one entry; waits while there is no room, at most timeout_s. False: it was not taken."""
        with self._changed:
            self._blocked += 1
            found = self._changed.wait_for(lambda: self._closed or self._has_room(entry), timeout_s)
            self._blocked -= 1
            if self._closed or not found:
                return False
            self._serial += 1
            level = self._levels.setdefault(entry.priority, OrderedDict())
            level.setdefault(entry.source_id, deque()).append((self._serial, entry))
            self._entries += 1
            self._lines += entry.lines
            self._bytes += len(entry.content)
            self._changed.notify_all()
            return True

    def take(self, max_lines: int, timeout_s: float) -> list[LogEntry]:
        """A batch of at least one entry and about max_lines lines, fewer if they are long; empty after timeout_s or
        when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._entries, timeout_s)
            batch: list[LogEntry] = []
            lines = taken = 0
            while self._entries and lines < max_lines and taken < BATCH_BYTES and not self._closed:
                entry = self._pick()
                batch.append(entry)
                lines += entry.lines
                taken += len(entry.content)
            self._changed.notify_all()
            return batch

    def forget(self, stream_ids: frozenset[int]) -> None:
        """Discard what waits of these streams: their place is taken from the database again."""
        with self._changed:
            for level in self._levels.values():
                for source_id in list(level):
                    kept = deque(item for item in level[source_id] if item[1].stream_id not in stream_ids)
                    for _, entry in level[source_id]:
                        if entry.stream_id in stream_ids:
                            self._account_out(entry)
                    level[source_id] = kept
                    if not kept:
                        del level[source_id]
            self._changed.notify_all()

    def resize(self, max_lines: int) -> None:
        """Another bound from now on; what is already inside stays."""
        with self._changed:
            self._max_lines = max_lines
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody waits any longer; what is inside is given up (it is still in the files)."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def stats(self) -> QueueStats:
        with self._changed:
            return QueueStats(
                self._entries, self._lines, self._bytes, self._max_lines, self._max_bytes, self._blocked > 0
            )

    def _has_room(self, entry: LogEntry) -> bool:
        fits = self._lines + entry.lines <= self._max_lines and self._bytes + len(entry.content) <= self._max_bytes
        return fits or not self._entries

    def _pick(self) -> LogEntry:
        self._picks += 1
        filled = [level for _, level in sorted(self._levels.items()) if level]
        if self._picks % 8 == 0:
            level, source_id = min(
                ((level, source_id) for level in filled for source_id in level),
                key=lambda place: place[0][place[1]][0][0],
            )
        else:
            level = filled[0]
            source_id = next(iter(level))
        waiting = level[source_id]
        _, entry = waiting.popleft()
        if waiting:
            level.move_to_end(source_id)
        else:
            del level[source_id]
        self._account_out(entry)
        return entry

    def _account_out(self, entry: LogEntry) -> None:
        self._entries -= 1
        self._lines -= entry.lines
        self._bytes -= len(entry.content)
