"""Incidents: the list, each as a story, and what people decide about it. Everything decided is audited and undone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from threatlens.analysis import of_incident, told
from threatlens.analyzers.attack import TACTICS, techniques
from threatlens.clock import now_us
from threatlens.errors import StaleChange
from threatlens.event import EventFilter, rfc3339
from threatlens.incidents import incident_stages, timeline
from threatlens.mutes import HOUR_US
from threatlens.notices import of_incident as of_incident_to_tell
from threatlens.store_incidents import STATUSES, Incident, Member
from threatlens.web.auth import actor, doer, needs
from threatlens.web.context import services
from threatlens.web.event_filter import MAX_ID, term, whole
from threatlens.web.mutes import choices, mute_incidents
from threatlens.web.notifications import STATE_WORDS
from threatlens.web.overview import muted, trust
from threatlens.web.presentation import percent, plural

ROWS = 50
MAX_TEXT = 4_000  # characters of a comment
STATUS_WORDS = {
    "open": ("Open", "bad"),
    "acknowledged": ("Acknowledged", "busy"),
    "closed": ("Closed", "ok"),
    "false_positive": ("False positive", "idle"),
}
#: What a button does: the new status and what the note is called.
DEEDS = {
    "acknowledge": ("acknowledged", "acknowledged"),
    "close": ("closed", "closed"),
    "false_positive": ("false_positive", "false_positive"),
    "reopen": ("open", "reopened"),
}

blueprint = Blueprint("incidents", __name__)


@blueprint.get("/incidents")
@needs("viewer")
def index() -> str:
    """The list, as the URL filters it."""
    may_act = actor().may("analyst")
    last = session.get("triaged", {}) if may_act else {}
    undoable = f"{last['kind'].replace('_', ' ')} × {len(last['ids'])}" if last else ""
    return render_template(
        "incidents/index.html", trust=trust(), undoable=undoable, mute_choices=choices(), **_listed()
    )


@blueprint.post("/incidents")
@needs("analyst")
def change_many() -> Response:
    """What one button does to every incident that is ticked, and undoing that."""
    deed = request.form.get("do", "")
    if deed == "undo":
        last = session.pop("triaged", {"ids": [], "kind": ""})
        done = [number for number in last["ids"] if _undone(number, last["kind"])]
        flash(f"{plural(len(done), 'incident is', 'incidents are')} as before.", "done")
    elif "mute" in request.form:
        found = [services().store.incident(number) for number, _ in _ticked()]
        done = mute_incidents([incident for incident in found if incident], request.form["mute"])
        if done:
            session["triaged"] = {"ids": done, "kind": "muted"}
        else:
            flash("Tick at least one incident.", "error")
    elif deed in DEEDS:
        status, kind = DEEDS[deed]
        done, stale = _changed(status, kind)
        if done:
            session["triaged"] = {"ids": done, "kind": kind}
            words = STATUS_WORDS[status][0].lower()
            flash(f"{plural(len(done), 'incident is', 'incidents are')} {words} now.", "done")
        if stale:
            flash(f"{plural(stale, 'incident')} changed meanwhile and stayed as it was.", "error")
        if not done and not stale:
            flash("Tick at least one incident.", "error")
    else:
        abort(400)
    shown = ("status", "outcome", "q", "min_severity")
    kept: dict[str, Any] = {name: request.form[name] for name in shown if name in request.form}
    return redirect(url_for("incidents.index", **kept), 303)


def _ticked() -> list[tuple[int, int]]:
    """The incidents that are ticked, with the versions that were seen."""
    found = []
    for text in request.form.getlist("incident")[:ROWS]:
        match = re.fullmatch(r"([0-9]{1,18}):([0-9]{1,18})", text)
        if match is None:
            abort(400)
        found.append((int(match[1]), int(match[2])))
    return found


def _changed(status: str, kind: str) -> tuple[list[int], int]:
    """The ids of the incidents that have this status now, and how many somebody else changed first."""
    done, stale = [], 0
    for number, version in _ticked():
        try:
            services().store.change_incident(number, version, doer(), kind=kind, text="", status=status)
            done.append(number)
        except StaleChange:
            stale += 1
    return done, stale


def _undone(number: int, kind: str) -> bool:
    """Whether this incident is again as it was before we did this to it; what was done to it since stays."""
    store = services().store
    incident = store.incident(number)
    last = next((note for note in reversed(store.incident_notes(number)) if note.kind != "comment"), None)
    if incident is None or last is None or not last.before or (last.kind, last.author) != (kind, doer().name):
        return False
    if "mutes" in last.before:
        return store.end_mutes(last.before["mutes"], doer(), "undone") > 0
    try:
        store.change_incident(number, incident.version, doer(), kind="undone", text=kind, **last.before)
    except StaleChange:
        return False
    return True


def panels() -> dict[str, str]:
    """The part of the list that is kept up to date."""
    return {"incident-list": render_template("incidents/_list.html", **_listed())}


def _listed() -> dict[str, Any]:
    args = request.args
    status = args.get("status", "")
    statuses = (status,) if status in STATUSES else () if status == "all" else ("open", "acknowledged")
    outcome = args.get("outcome", "")
    before = args.get("before", type=whole)
    severity = args.get("min_severity", 1, type=whole)
    params: dict[str, Any] = {
        name: value
        for name, value in (("status", status), ("outcome", outcome), ("q", args.get("q", "").strip()),
                            ("min_severity", severity if severity > 1 else ""))
        if value
    }  # fmt: skip
    found = services().store.incidents(
        statuses=statuses,
        outcome=outcome if outcome in ("attempt", "success") else "",
        min_severity=severity,
        text=params.get("q", "")[:200],
        before=before if before and 0 < before < MAX_ID else None,
        limit=ROWS + 1,
    )
    return {
        "incidents": found[:ROWS],
        "older": found[ROWS - 1].id if len(found) > ROWS else None,
        "newest": before is None,
        "params": params,
        "counts": services().store.incidents_by_status(),
        "watchers": watchers(),
        "muted": muted(),
        "calm": None if found or params else _calm(),
        "may_act": actor().may("analyst"),
        "STATUS_WORDS": STATUS_WORDS,
    }


@dataclass(frozen=True, slots=True)
class Calm:
    """What was looked at while nothing was found."""

    none_lately: bool  # no incident at all in the last day
    lines: int  # of the last day
    sources: int  # that they are from
    decoded: str  # of all that is stored


def _calm() -> Calm:
    store, since = services().store, now_us() - 24 * HOUR_US
    last = store.incidents(limit=1)
    counts = store.counts(EventFilter(start_us=since))
    sources = store.sources()
    events, unknown = sum(source.events for source in sources), sum(source.unknown for source in sources)
    return Calm(
        not last or last[0].last_us < since, counts.total, len(counts.by_source), percent(events - unknown, events)
    )


@blueprint.get("/incidents/<int:incident_id>")
@needs("viewer")
def detail(incident_id: int) -> str:
    """One incident as a story."""
    incident = _incident(incident_id)
    return render_template("incidents/detail.html", trust=trust(), **_story(incident), **_people(incident))


def story_panels() -> dict[str, str]:
    """The parts of one incident's page that are kept up to date."""
    incident = services().store.incident(request.args.get("incident", 0, type=whole))
    if incident is None:
        return {}
    return {
        "story": render_template("incidents/_story.html", **_story(incident)),
        "watchers": render_template("incidents/_watchers.html", names=watchers().get(incident.id, ())),
    }


def watchers() -> Mapping[int, tuple[str, ...]]:
    """Who else has which incident open now."""
    return services().store.incident_watchers(now_us(), but=getattr(actor().user, "name", ""))


def _story(incident: Incident) -> dict[str, Any]:
    members = timeline(incident.members.values())
    present = incident_stages(incident)
    return {
        "incident": incident,
        "members": members,
        "lines": {(member.rule_id, member.outcome): _lines(incident, member) for member in members},
        "techniques": {member.rule_id: techniques(member.tags) for member in members},
        "stages": [(TACTICS[name], name in present) for name in TACTICS if name in present or name in _USUAL],
        "told": told(incident, services().rules.advice, services().store.event),
        "analysis": of_incident(incident),
        "model_says": services().store.analysis_of(incident.id),
        "lost": _lost(incident),
        "muted": muted().get(incident.id, ""),
        "STATUS_WORDS": STATUS_WORDS,
    }


def _lines(incident: Incident, member: Member) -> str:
    """Where the lines are that a correlation counted, among the others of its subject in that time; "": nowhere."""
    kind, value = incident.subject
    query = term(kind, value) if kind in ("source.ip", "user.name", "host.name") else ""
    if member.kind != "correlation" or member.events < 2 or incident.is_test or not query:
        return ""
    return url_for("events.index", q=query, start=rfc3339(member.first_us), end=rfc3339(member.last_us + 1))


def _lost(incident: Incident) -> list[dict[str, Any]]:
    """What is not read any more, of an incident about a source: program, kind, shapes with counts, a draft."""
    if not incident.of_source:
        return []
    found = []
    for habits in services().store.baselines().values():
        for program, lost in habits.get("lost", {}).items():
            if lost.get("incident_id") == incident.id:
                found.append({"program": program, **lost})
    return found


#: Stages that are shown unlit, too, so that one sees how far it went.
_USUAL = frozenset(
    ("reconnaissance", "initial-access", "execution", "persistence", "privilege-escalation", "command-and-control")
)


def _people(incident: Incident) -> dict[str, Any]:
    store = services().store
    notes = store.incident_notes(incident.id)
    return {
        "names": watchers().get(incident.id, ()),
        "notes": notes,
        "mute_choices": choices(),
        "undoable": next((note for note in reversed(notes) if note.kind != "comment"), None),
        "may_act": actor().may("analyst"),
        "asked_by": getattr(actor().user, "name", ""),
        "previous": store.incident(incident.previous_id) if incident.previous_id else None,
        "recipients": _recipients(incident),
        "messages": store.notifications_about(incident.id, [one.name for one in services().config.config.channels]),
        "states": STATE_WORDS,
        "now": now_us(),
        "narrow": ["rule", *(kind for kind, _ in incident.entities if kind in ("source.ip", "user.name"))],
    }


def _recipients(incident: Incident) -> list[tuple[str, str, str]]:
    """Who would be told of it now: (rule, channel, why not at once)."""
    latest = max(incident.members.values(), key=lambda member: member.last_us, default=None)
    event = services().store.event(latest.last_event_id) if latest is not None else None
    kind, source = (event.category, event.source) if event is not None else ("", "")
    return services().notifications.recipients(of_incident_to_tell(incident, kind, source, timestamp_us=now_us()))


@blueprint.post("/incidents/<int:incident_id>")
@needs("analyst")
def change(incident_id: int) -> Response:
    """What one button of the page does."""
    incident = _incident(incident_id)
    deed = request.form.get("do", "")
    text = request.form.get("text", "").strip()[:MAX_TEXT]
    version = request.form.get("version", 0, type=whole)
    try:
        _do(incident, deed, text, version)
    except StaleChange as error:
        flash(f"{error}.", "error")
    return redirect(url_for("incidents.detail", incident_id=incident_id), 303)


def _do(incident: Incident, deed: str, text: str, version: int) -> None:
    store = services().store
    if "mute" in request.form:
        mute_incidents([incident], request.form["mute"])
    elif deed == "comment":
        if text:
            store.add_comment(incident.id, doer(), text)
    elif deed in DEEDS:
        status, kind = DEEDS[deed]
        store.change_incident(incident.id, version, doer(), kind=kind, text=text, status=status)
        flash(f"The incident is {STATUS_WORDS[status][0].lower()}.", "done")
    elif deed == "assign":
        name = request.form.get("assignee", "").strip()[:100]
        store.change_incident(incident.id, version, doer(), kind="assigned", text=name or "nobody", assignee=name)
    elif deed == "undo":
        last = next((note for note in reversed(store.incident_notes(incident.id)) if note.kind != "comment"), None)
        if last is not None and "mutes" in last.before:
            ended = store.end_mutes(last.before["mutes"], doer(), "undone")
            flash("It is not muted any more." if ended else "The mute was over already.", "done")
        elif last is not None and last.before:
            store.change_incident(incident.id, version, doer(), kind="undone", text=last.kind, **last.before)
            flash("It is as it was before.", "done")
    else:
        abort(400)


def _incident(incident_id: int) -> Incident:
    incident = services().store.incident(incident_id) if incident_id <= MAX_ID else None
    if incident is None:
        abort(404)
    return incident
