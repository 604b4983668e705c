"""Threat lists through the API: which there are and how they do, and following and leaving them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from threatlens.errors import ConfigError
from threatlens.event import rfc3339
from threatlens.store_threats import ThreatList
from threatlens.web.api_values import Url
from threatlens.web.auth import doer
from threatlens.web.context import services
from threatlens.web.operations import Shape, created_at, operation
from threatlens.web.problems import ProblemError

When = Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]


class NewThreatList(Shape):
    """A list to be followed."""

    name: Annotated[str, Field(pattern="^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,79}$", description="of its file")]
    url: Url
    every_hours: Annotated[int, Field(ge=1, le=720)] = 6


class ThreatListShape(Shape):
    """One list."""

    name: str
    url: Annotated[str, Field(description="empty: a file that somebody put into rules/threats")]
    every_hours: float
    declared: Annotated[bool, Field(description="by the configuration file; read-only elsewhere")]
    entries: int
    ignored: Annotated[int, Field(description="lines that are no address, network, domain or hash")]
    marked: Annotated[int, Field(description="past events that turned out to be hits")]
    comparing: Annotated[bool, Field(description="past events are being compared with what is new")]
    checked_at: When
    changed_at: When
    next_at: When
    failures: Annotated[int, Field(description="in a row")]
    error: str


class ThreatLists(Shape):
    """All lists, by name."""

    threat_lists: list[ThreatListShape]


@operation("GET", "/threat-lists", role="viewer", summary="All threat lists and how they do", answer=ThreatLists)
def list_threat_lists() -> dict[str, Any]:
    """Files that somebody put into the folder are among them."""
    return {"threat_lists": [_shown(one) for one in services().store.threat_lists()]}


@operation("POST", "/threat-lists", role="admin", summary="Follow a threat list", status=201, body=NewThreatList,
           answer=ThreatListShape)  # fmt: skip
def create_threat_list(body: NewThreatList) -> dict[str, Any]:
    """It is fetched within seconds."""
    services().threat_lists.add(body.name, body.url, body.every_hours * 3600, doer())
    created_at(f"/api/v1/threat-lists/{body.name}")
    return _shown(_found(body.name))


@operation("POST", "/threat-lists/<name>/refresh", role="analyst", summary="Fetch a threat list now", status=204,
           problems=(404,))  # fmt: skip
def refresh_threat_list(name: str) -> None:
    """Within seconds."""
    if not services().store.refresh_threat_list(name, doer()):
        raise ProblemError(404, "There is no list of this name that is followed.")


@operation("DELETE", "/threat-lists/<name>", role="admin", summary="Follow a threat list no more", status=204,
           problems=(404, 409))  # fmt: skip
def delete_threat_list(name: str) -> None:
    """Its copy goes; what it found stays."""
    try:
        gone = services().threat_lists.remove(name, doer())
    except ConfigError as error:
        raise ProblemError(409, f"{error.message[:1].upper()}{error.message[1:]}.") from error
    if not gone:
        raise ProblemError(404, "There is no list of this name that is followed.")


def _found(name: str) -> ThreatList:
    found = next((one for one in services().store.threat_lists() if one.name == name), None)
    if found is None:
        raise ProblemError(404, "There is no list of this name.")
    return found


def _shown(one: ThreatList) -> dict[str, Any]:
    times = {name: getattr(one, name) for name in ("checked_at", "changed_at", "next_at")}
    return {
        "name": one.name,
        "url": one.url,
        "every_hours": one.every_s / 3600,
        "declared": bool(one.declared),
        "entries": one.entries,
        "ignored": one.ignored,
        "marked": one.marked,
        "comparing": bool(one.pending),
        **{name: rfc3339(at) if at else None for name, at in times.items()},
        "failures": one.failures,
        "error": one.error,
    }
