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


class LossShape(Shape):
    """Lines of a source that are not read any more."""

    program: str
    kind: str
    since_us: int
    incident_id: int


class HabitShape(Shape):
    """What is usual for a source."""

    source: str
    learned_lines: int
    yields: dict[str, float]
    lines_per_hour: float
    learned_days: float
    silent: bool
    lost: list[LossShape]


class FailureShape(Shape):
    """A rule that does not match its own sample, or a format that is not read as it should be."""

    id: str
    name: str
    reason: str


class CoverageShape(Shape):
    """What the samples of rules and decoders gave when they were last tried."""

    sentence: str
    at: str
    rules: int
    can_fire: int
    failing: list[FailureShape]
    untested: int
    off: int
    absent: dict[str, str]
    decoders: int
    decoder_samples: int
    decoders_failing: list[FailureShape]


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
    coverage: CoverageShape | None
    habits: list[HabitShape]
    changes: list[ChangeShape]


@operation("GET", "/health", role="viewer", summary="How every part and every source is doing", answer=HealthShape)
def get_health() -> dict[str, Any]:
    """State is ok, degraded or failed; or stopped while no engine runs. missing is always 0.

    coverage is null until the samples were tried; absent names, by rule, the kind of log that no source here gives.
    """
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
        "coverage": _coverage(status.get("coverage") or {}),
        "habits": [
            {"source": view.source_name, **{name: usual[name] for name in HabitShape.model_fields if name != "source"}}
            for view in found.store.sources()
            if (usual := status.get("habits", {}).get(str(view.id))) is not None
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


def _coverage(found: dict[str, Any]) -> dict[str, Any] | None:
    if not found:
        return None
    return {"at": rfc3339(found["at_us"]), **{name: found[name] for name in CoverageShape.model_fields if name != "at"}}
