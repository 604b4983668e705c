"""What tests put things together with: entries as a reader makes them, events as the processor stores them."""

from __future__ import annotations

import itertools
import struct
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
        first = self.store.commit(rows, [move])
        self.streams[source] = (source_id, stream_id, position + size)
        return first


def entry(content: bytes, *, stream_id: int = 1, source_id: int = 1, start: int = 0, **changes: Any) -> LogEntry:
    """A LogEntry with believable defaults."""
    return LogEntry(
        stream_id, source_id, "auth", "/var/log/auth.log", content, start, start + len(content),
        content.count(b"\n"), 5, NOW_US / 1e6, "utf-8", 0, 0, b"print",
    )._replace(**changes)  # fmt: skip


def encode(value) -> bytes:
    """A value in MaxMind's data format; an integer is given with its type and size in bytes."""
    if isinstance(value, dict):
        return bytes([0xE0 | len(value)]) + b"".join(encode(key) + encode(item) for key, item in value.items())
    if isinstance(value, str):
        head = bytes([0x40 | len(value)]) if len(value) < 29 else bytes([0x40 | 29, len(value) - 29])
        return head + value.encode()
    if isinstance(value, float):
        return bytes([0x68]) + struct.pack(">d", value)
    if isinstance(value, list):
        return bytes([len(value), 0x04]) + b"".join(map(encode, value))
    number, kind, size = value
    return (bytes([kind << 5 | size]) if kind < 8 else bytes([size, kind - 7])) + number.to_bytes(size)


def mmdb(first_octet: int, record: dict) -> bytes:
    """A file in MaxMind's format in which all addresses that begin with that octet have this record."""
    nodes, empty = 8, 8
    tree = b""
    for bit in range(8):
        ahead = bit + 1 if bit < 7 else nodes + 16
        sides = (ahead, empty) if not first_octet >> (7 - bit) & 1 else (empty, ahead)
        tree += b"".join(side.to_bytes(3) for side in sides)
    about = {
        "node_count": (nodes, 6, 4), "record_size": (24, 5, 2), "ip_version": (4, 5, 2), "database_type": "Test",
        "languages": ["en"], "binary_format_major_version": (2, 5, 2), "binary_format_minor_version": (0, 5, 2),
        "build_epoch": (1_795_420_000, 9, 8),
        "description": {"en": "test"},
    }  # fmt: skip
    return tree + b"\0" * 16 + encode(record) + b"\xab\xcd\xefMaxMind.com" + encode(about)


#: Five failed logins with sshd from one address within five minutes are guessing.
GUESSING_RULES = """
title: Login failed
name: login_failed
id: 00000000-0000-4000-8000-000000000001
level: informational
logsource: {product: linux, service: sshd}
detection:
  failed: {event.action: ssh_login, event.outcome: failure}
  condition: failed
---
title: Password guessing
id: 00000000-0000-4000-8000-000000000002
level: high
tags: [attack.credential-access, attack.t1110.001]
correlation:
  type: event_count
  rules: [login_failed]
  group-by: [source.ip]
  timespan: 5m
  condition: {gte: 5}
"""
