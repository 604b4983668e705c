"""The API's incidents and rules: what was found, and what people decide about it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flask import g
from pydantic import ConfigDict, Field

from threatlens.analysis import of_incident, told
from threatlens.clock import now_us
from threatlens.event import rfc3339
from threatlens.incidents import incident_stages, summary, timeline
from threatlens.store_detections import RuleNumbers
from threatlens.store_incidents import Incident
from threatlens.web.api_events import LAST_ID, AnalysisShape, EventId, ModelShape
from threatlens.web.auth import actor, doer
from threatlens.web.context import services
from threatlens.web.operations import DIGITS, Shape, operation
from threatlens.web.problems import ProblemError

DAY_US = 86_400_000_000
Status = Literal["open", "acknowledged", "closed", "false_positive"]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class IncidentsQuery(Shape):
    """Which incidents, newest first."""

    status: Status | None = None
    outcome: Literal["attempt", "success"] | None = None
    min_severity: Annotated[int, Field(ge=1, le=10), DIGITS] = 1
    q: Annotated[str, Field(max_length=200, description="part of the title or of a value it is about")] = ""
    before: Annotated[EventId | None, Field(description="ids below this")] = None
    limit: Annotated[int, Field(ge=1, le=500), DIGITS] = 100


class Subject(Shape):
    """Whom or what an incident is about."""

    kind: str
    value: str


class IncidentShape(Shape):
    """One incident."""

    id: int
    status: Status
    title: str
    severity: Annotated[int, Field(ge=1, le=10)]
    outcome: str
    subject: Subject
    first_seen: Moment
    last_seen: Moment
    count: int
    assignee: str
    previous_id: int | None
    version: Annotated[int, Field(description="give it back when changing the incident")]


class IncidentPage(Shape):
    """One page of incidents."""

    incidents: list[IncidentShape]
    next: Annotated[int | None, Field(description="before= of the next page; null: this is the last")]


class Step(Shape):
    """What one rule contributed."""

    rule_id: str
    rule_name: str
    level: str
    severity: int
    outcome: str
    tags: list[str]
    count: int
    events: int
    first_seen: Moment
    last_seen: Moment
    first_event_id: int
    last_event_id: int


class NoteShape(Shape):
    """A comment, or something that somebody did."""

    kind: str
    author: str
    text: str
    created_at: Moment


class WholeIncident(IncidentShape):
    """One incident with everything about it."""

    stages: Annotated[list[str], Field(description="ATT&CK tactics, in the matrix's order")]
    timeline: list[Step]
    entities: list[Subject]
    notes: list[NoteShape]
    analysis: AnalysisShape
    model_analysis: ModelShape | None


class IncidentChange(Shape):
    """What to change; a comment may stand alone."""

    model_config = ConfigDict(
        json_schema_extra={"dependentRequired": {key: ["version"] for key in ("status", "assignee")}}
    )

    version: Annotated[
        int | None, Field(ge=0, le=LAST_ID, description="of the incident as it was read; needed but for a comment")
    ] = None
    status: Status | None = None
    assignee: Annotated[str, Field(max_length=100)] | None = None
    comment: Annotated[str, Field(max_length=4_000)] = ""


class RuleShape(Shape):
    """One rule."""

    id: str
    title: str
    kind: str
    level: str
    state: Literal["off", "observe", "on"]
    tags: list[str]
    file: str
    hits: Annotated[int, Field(description="matches of the last 30 days")]
    suppressed: Annotated[int, Field(description="of them, those that raised nothing")]
    last_match: Moment | None


class RuleProblem(Shape):
    """Why something in a rule file does not run."""

    file: str
    line: int
    reason: str
    broken: bool


class RuleList(Shape):
    """All rules, and what does not run."""

    rules: list[RuleShape]
    problems: list[RuleProblem]


class RuleChange(Shape):
    """What to change of a rule."""

    state: Literal["off", "observe", "on"]


@operation("GET", "/incidents", role="viewer", summary="Incidents, newest first", query=IncidentsQuery,
           answer=IncidentPage)  # fmt: skip
def list_incidents(query: IncidentsQuery) -> dict[str, Any]:
    """One page."""
    unbound()
    found = services().store.incidents(
        statuses=(query.status,) if query.status else (),
        outcome=query.outcome or "",
        min_severity=query.min_severity,
        text=query.q,
        before=query.before,
        limit=query.limit + 1,
    )
    more = len(found) > query.limit
    found = found[: query.limit]
    return {"incidents": [summary(incident) for incident in found], "next": found[-1].id if more else None}


@operation("GET", "/incidents/<int:incident_id>", role="viewer", summary="One incident", answer=WholeIncident,
           problems=(404,))  # fmt: skip
def get_incident(incident_id: int) -> dict[str, Any]:
    """The incident with its timeline, its entities and its notes."""
    unbound()
    return _whole(_incident(incident_id))


@operation("PATCH", "/incidents/<int:incident_id>", role="analyst", summary="Change an incident, or comment on it",
           body=IncidentChange, answer=WholeIncident, problems=(404, 409))  # fmt: skip
def change_incident(incident_id: int, body: IncidentChange) -> dict[str, Any]:
    """Status, assignee, comment. 409: somebody else changed it since the version given."""
    unbound()
    store = services().store
    incident = _incident(incident_id)
    values = {"status": body.status, "assignee": body.assignee}
    changes: dict[str, str] = {name: value for name, value in values.items() if value is not None}
    if changes:
        if body.version is None:
            raise ProblemError(422, "version: give back the version that was read.", code="invalid_value",
                               field="version")  # fmt: skip
        kind = {"open": "reopened", None: "assigned"}.get(body.status, body.status or "assigned")
        store.change_incident(incident.id, body.version, doer(), kind=kind, text=body.comment, **changes)
    elif body.comment:
        store.add_comment(incident.id, doer(), body.comment)
    return _whole(_incident(incident_id))


@operation("GET", "/rules", role="viewer", summary="The rules, and what does not run", answer=RuleList)
def list_rules() -> dict[str, Any]:
    """Every rule with its state and how often it matched in the last 30 days."""
    unbound()
    library, store = services().rules, services().store
    loaded, states = library.loaded(), store.rule_states()
    numbers = store.rule_numbers(now_us() - 30 * DAY_US)
    none = RuleNumbers(0, 0, 0, {})
    return {
        "rules": [
            {
                "id": rule.id,
                "title": rule.name,
                "kind": rule.kind,
                "level": rule.level,
                "state": states.get(rule.id, "on"),
                "tags": list(rule.tags),
                "file": library.short_path(rule.path),
                "hits": (seen := numbers.get(rule.id, none)).hits,
                "suppressed": seen.suppressed,
                "last_match": rfc3339(seen.last_us) if seen.last_us else None,
            }
            for rule in loaded.rules
        ],
        "problems": [
            {"file": library.short_path(each.path), "line": each.line, "reason": each.reason, "broken": each.broken}
            for each in loaded.problems
        ],
    }


@operation("PATCH", "/rules/<rule_id>", role="analyst", summary="Switch a rule off, to observing, or on",
           body=RuleChange, answer=RuleChange, problems=(404,))  # fmt: skip
def change_rule(rule_id: str, body: RuleChange) -> dict[str, Any]:
    """In force within seconds."""
    unbound()
    if services().rules.rule(rule_id) is None:
        raise ProblemError(404, "There is no rule with this id.")
    services().store.set_rule_states({rule_id: body.state}, doer())
    return {"state": body.state}


def unbound() -> None:
    """An incident holds what many sources say: a token that may read some of them only is refused."""
    if "actor" in g and actor().sources:
        raise ProblemError(403, "This token is for some sources; incidents are about all.", code="forbidden")


def _incident(incident_id: int) -> Incident:
    incident = services().store.incident(incident_id) if incident_id <= LAST_ID else None
    if incident is None:
        raise ProblemError(404, "There is no incident with this id.")
    return incident


def _model_analysis(incident_id: int) -> dict[str, Any] | None:
    found = services().store.analysis_of(incident_id)
    return found.as_json() if found else None


def _whole(incident: Incident) -> dict[str, Any]:
    return {
        **summary(incident),
        "stages": incident_stages(incident),
        "timeline": [
            {
                "rule_id": each.rule_id,
                "rule_name": each.rule_name,
                "level": each.level,
                "severity": each.severity,
                "outcome": each.outcome,
                "tags": list(each.tags),
                "count": each.n,
                "events": each.events,
                "first_seen": rfc3339(each.first_us),
                "last_seen": rfc3339(each.last_us),
                "first_event_id": each.first_event_id,
                "last_event_id": each.last_event_id,
            }
            for each in timeline(incident.members.values())
        ],
        "entities": [{"kind": kind, "value": value} for kind, value in incident.entities],
        "notes": [
            {"kind": note.kind, "author": note.author, "text": note.text, "created_at": rfc3339(note.created_at)}
            for note in services().store.incident_notes(incident.id)
        ],
        "model_analysis": _model_analysis(incident.id),
        "analysis": of_incident(incident, told(incident, services().rules.advice, services().store.event)).as_json(),
    }
