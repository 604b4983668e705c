"""What the engine says about itself every second, and what of it is kept every minute."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from threatlens.errors import ThreatLensError
from threatlens.health import Component, Facts, as_json, memory_bytes, worst
from threatlens.health_disk import free_bytes
from threatlens.processor import ProcessorState
from threatlens.store import EventStore


def status_document(
    facts: Facts, state: ProcessorState, components: Sequence[Component], now_us: int
) -> dict[str, Any]:
    """The document `system_status`, on the socket and in engine.json."""
    queue = facts.queue
    return {
        "pid": os.getpid(),
        "at_us": now_us,
        "state": worst(components),
        "components": as_json(components),
        "lines_per_s": round(facts.lines_per_s, 2),
        "lines": state.lines,
        "events": state.events,
        "dead": state.dead,
        "retries": state.retries,
        "unavailable": state.unavailable,
        "queue": {
            "lines": queue.lines,
            "bytes": queue.bytes,
            "max_lines": queue.max_lines,
            "waiting": queue.waiting,
        },
        "behind_bytes": sum(_behind(status.bytes_total, status.bytes_read) for status in facts.statuses),
        "behind": {
            status.source_name: _behind(status.bytes_total, status.bytes_read)
            for status in facts.statuses
            if status.bytes_total > status.bytes_read
        },
        "vanished": {status.source_name: status.vanished for status in facts.statuses if status.vanished},
        "in_work": state.taken - state.finished,
        "last_batch_s": round(state.last_batch.seconds, 4) if state.last_batch else 0,
        "memory_bytes": memory_bytes(),
        "warnings": sorted({warning for status in facts.statuses for warning in status.warnings}),
    }


def measurements(status: Mapping[str, Any], store: EventStore, database_path: str) -> dict[str, float]:
    """What is kept of a status, and what the database and its disk say."""
    if not status:
        return {}
    found = {
        "lines_per_second": float(status["lines_per_s"]),
        "queue_lines": float(status["queue"]["lines"]),
        "queue_bytes": float(status["queue"]["bytes"]),
        "retries": float(status["retries"]),
        "behind_bytes": float(status["behind_bytes"]),
        "batch_seconds": float(status["last_batch_s"]),
        "memory_bytes": float(status["memory_bytes"]),
    }
    try:
        used, free = store.database_pages()
        found |= {"database_bytes": float(used), "database_free_bytes": float(free)}
        found["disk_free_bytes"] = float(free_bytes(os.path.dirname(database_path)))
    except (OSError, ThreatLensError):
        pass  # it is measured again in a minute
    return found


def _behind(total: int, read: int) -> int:
    return max(0, total - read)
