"""What tests put things together with: entries as a reader makes them, events as the processor stores them."""

from __future__ import annotations

import itertools
from typing import Any

from threatlens.event import LogEntry
from threatlens.store import EventRow, EventStore, Move

NOW_US = 1_795_478_400_000_000  # 2026-11-24 00:00:00 UTC


class Filler:
    """Puts events into a store as the processor would, one stream a source."""

    def __init__(self, store: EventStore) -> None:
        self.store = store
        self.streams: dict[str, tuple[int, int, int]] = {}
        self.clock = itertools.count(NOW_US, 1_000_000)

    def stream(self, source: str) -> tuple[int, int, int]:
        if source not in self.streams:
            source_id = self.store.put_api_source(source, "auto")
            stream_id = self.store.create(
                source_id, path=b"/var/log/" + source.encode(), device=1, inode=source_id, compressed=False, position=0
            )
            self.streams[source] = (source_id, stream_id, 0)
        return self.streams[source]

    def add(
        self,
        *lines: str,
        source: str = "auth",
        severity: int = 2,
        category: str = "authentication",
        timestamp_us: int | None = None,
        outcome: int = 0,
        source_ip: str | None = None,
        user_name: str | None = None,
        log_format: str = "sshd",
    ) -> int:
        """Store these lines; the id of the first."""
        source_id, stream_id, position = self.stream(source)
        rows = [
            EventRow(
                next(self.clock) if timestamp_us is None else timestamp_us, NOW_US // 1000, source_id,
                self.store.name_id("path", "/var/log/" + source), self.store.name_id("format", log_format),
                self.store.name_id("category", category), severity, 0, 0, outcome, source_ip, user_name, None, None,
                1500, 1, 0, line,
            )
            for line in lines
        ]  # fmt: skip
        size = sum(len(line.encode()) + 1 for line in lines)
        move = Move(
            stream_id,
            source_id,
            position,
            position + size,
            b"f",
            len(lines),
            0,
            len(lines),
            int(log_format == "unknown"),
        )
        first = self.store.commit(rows, [], [move])
        self.streams[source] = (source_id, stream_id, position + size)
        return first


def entry(content: bytes, *, stream_id: int = 1, source_id: int = 1, start: int = 0, **changes: Any) -> LogEntry:
    """A LogEntry with believable defaults."""
    return LogEntry(
        stream_id, source_id, "auth", "/var/log/auth.log", content, start, start + len(content),
        content.count(b"\n"), 5, NOW_US / 1e6, "utf-8", 0, 0, b"print",
    )._replace(**changes)  # fmt: skip
