"""/api/v1/health: what the page says, for programs."""

from __future__ import annotations

from typing import Any

from threatlens.event import rfc3339
from threatlens.web.context import services
from threatlens.web.operations import Shape, operation


class ComponentShape(Shape):
    """How one part is doing."""

    name: str
    state: str
    reason: str
    remedy: str


class LedgerShape(Shape):
    """What became of a source's bytes."""

    source: str
    state: str
    reason: str
    remedy: str
    bytes: int
    behind_bytes: int
    lines: int
    blank_lines: int
    joined_lines: int
    decoded: int
    unknown: int
    dead_letters: int
    events: int
    missing: int
    last_event: str | None


class ChangeShape(Shape):
    """A part went from one state to another."""

    at: str
    component: str
    state: str
    reason: str


class HealthShape(Shape):
    """Everything about ThreatLens itself."""

    state: str
    lines_per_second: float
    components: list[ComponentShape]
    sources: list[LedgerShape]
    changes: list[ChangeShape]


@operation("GET", "/health", role="viewer", summary="How every part and every source is doing", answer=HealthShape)
def get_health() -> dict[str, Any]:
    """State is ok, degraded or failed; or stopped while no engine runs. missing is always 0."""
    found = services()
    status = found.engine_status()
    dead, behind = found.store.dead_by_source(), status.get("behind", {})
    return {
        "state": status.get("state", "stopped"),
        "lines_per_second": float(status.get("lines_per_s", 0)),
        "components": status.get("components", []),
        "sources": [
            {
                "source": view.source_name,
                "state": view.state,
                "reason": view.state_reason,
                "remedy": view.remedy,
                "bytes": view.bytes,
                "behind_bytes": behind.get(view.source_name, 0),
                "lines": view.lines,
                "blank_lines": view.blank_lines,
                "joined_lines": view.joined_lines,
                "decoded": view.events - view.unknown,
                "unknown": view.unknown,
                "dead_letters": dead.get(view.id, 0),
                "events": view.events,
                "missing": view.unaccounted - dead.get(view.id, 0),
                "last_event": rfc3339(view.last_event_us) if view.last_event_us else None,
            }
            for view in found.store.sources()
        ],
        "changes": [
            {
                "at": rfc3339(change.at_us),
                "component": change.component,
                "state": change.state,
                "reason": change.reason,
            }
            for change in found.store.changes()
        ],
    }
