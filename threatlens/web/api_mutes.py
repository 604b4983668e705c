"""The API's mutes: what is kept quiet, until when, and by whom."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from threatlens.clock import machine_zone, now_us, zone_named
from threatlens.event import rfc3339
from threatlens.mutes import MOST_COUNT, USUAL_COUNT, expires_us, until_words, waiting
from threatlens.store_mutes import Mute
from threatlens.web.api_events import LAST_ID
from threatlens.web.api_incidents import Moment, unbound
from threatlens.web.api_values import PlainText
from threatlens.web.auth import doer
from threatlens.web.context import services
from threatlens.web.mutes import network_error
from threatlens.web.operations import Shape, operation
from threatlens.web.problems import ProblemError

Until = Literal["1h", "8h", "morning", "week", "severity", "other", "count", "1d", "7d", "30d", "365d"]
SCOPE = ("rule_id", "source_ip", "user_name", "source", "host_name")


class NewMute(Shape):
    """What is to be quiet: where every part fits that is given. At least one is."""

    rule_id: PlainText | None = None
    source_ip: Annotated[PlainText | None, Field(description="an address or a network")] = None
    user_name: PlainText | None = None
    source: PlainText | None = None
    host_name: PlainText | None = None
    until: Annotated[
        Until,
        Field(
            description="a span; morning: the next 08:00; week: 08:00 on Monday of next week; severity: something more "
            "severe than the incident, or the first success; other: another address or user than the incident's; "
            "count: so many further matches, of which the last is told. What waits for something lasts a year at most."
        ),
    ]
    count: Annotated[int, Field(ge=1, le=MOST_COUNT, description="of until: count")] = USUAL_COUNT
    time_zone: Annotated[
        str, Field(max_length=63, description="whose mornings count, such as Europe/Berlin; empty: the server's")
    ] = ""
    incident_id: Annotated[
        int | None, Field(ge=1, le=LAST_ID, description="made because of it; severity and other need one")
    ] = None
    reason: Annotated[str, Field(max_length=500)] = ""


class MuteShape(Shape):
    """One mute."""

    id: int
    rule_id: str
    source_ip: str
    user_name: str
    source: str
    host_name: str
    condition: Annotated[Literal["", "severity", "other", "count"], Field(description="what ends it before its time")]
    condition_n: Annotated[int, Field(description="severity: above which; count: of so many the last is told")]
    expires_at: Moment
    ended_at: Annotated[str | None, Field(json_schema_extra={"format": "date-time"}, description="null: in force")]
    ended_by: Annotated[str, Field(description='what ended it; "": a person, or nothing yet')]
    hits: Annotated[int, Field(description="matches that it kept quiet")]
    incident_id: int | None
    author: str
    reason: str
    created_at: Moment


class MuteList(Shape):
    """Those in force, the newest first."""

    mutes: list[MuteShape]


@operation("GET", "/mutes", role="viewer", summary="Mutes in force", answer=MuteList)
def list_mutes() -> dict[str, Any]:
    """The newest first."""
    unbound()
    return {"mutes": [_shape(mute) for mute in services().store.mutes(now=now_us())]}


@operation("POST", "/mutes", role="analyst", summary="Keep matches quiet", status=201, body=NewMute, answer=MuteShape,
           problems=(409,))  # fmt: skip
def create_mute(body: NewMute) -> dict[str, Any]:
    """In force within seconds; it stands in the notes of its incident and in the audit log."""
    unbound()
    scope = {name: (getattr(body, name) or "").strip() for name in SCOPE}
    if not any(scope.values()):
        raise ProblemError(409, "Say what is to be quiet; a mute of everything hides attacks.")
    if error := network_error(scope["source_ip"]):
        raise ProblemError(409, error, field="source_ip")
    here = zone_named(body.time_zone) if body.time_zone else machine_zone()
    if here is None:
        raise ProblemError(409, "There is no time zone of this name.", field="time_zone")
    if body.until in ("severity", "other") and body.incident_id is None:
        raise ProblemError(409, "What is known already is that of an incident: name it.", field="incident_id")
    incident = None if body.incident_id is None else services().store.incident(body.incident_id)
    if body.incident_id is not None and incident is None:
        raise ProblemError(409, "There is no incident with this id.", field="incident_id")
    now = now_us()
    plain = Mute(
        0, scope["rule_id"], scope["source_ip"], scope["user_name"], scope["source"], scope["host_name"],
        body.reason.strip(), doer().name, body.incident_id or 0, now, expires_us(body.until, now, here), 0, 0,
    )  # fmt: skip
    mute = waiting(plain, body.until, incident, body.count)
    mute_id = services().store.add_mute(mute, doer(), until_words(mute, now, here))
    return next(_shape(one) for one in services().store.mutes(now=now) if one.id == mute_id)


@operation("DELETE", "/mutes/<int:mute_id>", role="analyst", summary="End a mute", status=204, problems=(404,))
def end_mute(mute_id: int) -> None:
    """What it would have kept quiet is told from now on."""
    unbound()
    if mute_id > LAST_ID or not services().store.end_mutes([mute_id], doer()):
        raise ProblemError(404, "No mute with this id is in force.")


def _shape(mute: Mute) -> dict[str, Any]:
    return {
        "id": mute.id, **{name: getattr(mute, name) for name in SCOPE}, "condition": mute.condition,
        "condition_n": mute.condition_n, "expires_at": rfc3339(mute.expires_us),
        "ended_at": rfc3339(mute.ended_us) if mute.ended_us else None, "ended_by": mute.ended_by, "hits": mute.hits,
        "incident_id": mute.incident_id or None, "author": mute.author, "reason": mute.reason,
        "created_at": rfc3339(mute.created_at),
    }  # fmt: skip
