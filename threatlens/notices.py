"""What a batch gives to tell once its matches are incidents: an incident speaks for the events that made it.

It is asked inside the batch's transaction, where the incidents have their ids, so that what is told is committed with
what it is about: a crash takes back both or neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from threatlens.analyzers.attack import TACTICS
from threatlens.analyzers.heuristic import category
from threatlens.detection import Verdict
from threatlens.event import RuleMatch
from threatlens.incidents import Finding, incident_stages, outcome, times, title
from threatlens.notifications import Happening
from threatlens.sources.base import TEST_ATTACK
from threatlens.store_incidents import ACKNOWLEDGED, FALSE_POSITIVE, LOG_SOURCE, SUCCESS, Incident

#: Details are facts of a message, so they are short.
MAX_RULES_NAMED = 5


@dataclass
class _Part:
    """What one batch adds to an incident."""

    worst: RuleMatch
    place: int
    n: int = 0
    succeeded: bool = False


def incident_happenings(verdict: Verdict) -> list[Happening]:
    """One for every incident that opened or grew, with what this batch added; the verdict is written.

    Somebody who acknowledged an incident is told again only when something succeeds; of a false positive nobody is.
    """
    parts = _parts(verdict)
    return [
        of_incident(
            incident,
            category(verdict.items[part.place].decoded),
            verdict.items[part.place].source,
            n=part.n,
            place=part.place,
            timestamp_us=verdict.items[part.place].timestamp_us,
        )
        for incident in verdict.incidents
        if (part := parts.get(incident.id)) is not None and _is_news(incident, part)
        if not (incident.is_test and verdict.items[part.place].source == TEST_ATTACK)
    ]


def quiet_places(verdict: Verdict) -> set[int]:
    """Places of events that tell nothing by themselves: an incident speaks for them, or somebody muted them."""
    found: set[int] = set()
    for view, (match, suppressed) in zip(verdict.views, verdict.matches, strict=True):
        if view.incident_id or suppressed.startswith(("mute:", "exception:")):
            found.update(place for place in match.positions if place >= 0)
    return found


def of_incident(
    incident: Incident, kind: str, source: str, *, n: int = 1, place: int = -1, timestamp_us: int = 0
) -> Happening:
    """An incident as something to tell. A success is a thing of its own, which no cooldown of the tries holds up."""
    succeeded = incident.outcome == SUCCESS
    what, value = incident.subject
    rules = sorted(incident.members.values(), key=lambda member: -member.severity)
    names = list(dict.fromkeys(member.rule_name for member in rules))
    details = {
        what: value,
        "outcome": "something succeeded" if succeeded else "attempts only" if what != LOG_SOURCE else "",
        "stages": ", ".join(TACTICS[stage] for stage in incident_stages(incident)),
        "found by": "; ".join(names[:MAX_RULES_NAMED]),
        "source": source,
    }
    return Happening(
        thread=f"incident:{incident.id}" + (":success" if succeeded else ""),
        severity=incident.severity,
        title=f"{value} {title(incident)}",
        category=kind,
        source=source,
        timestamp_us=timestamp_us or incident.last_us,
        place=place,
        kind="incident",
        incident_id=incident.id,
        rule_ids=tuple(dict.fromkeys(member.rule_id for member in rules)),
        n=n,
        details={name: text for name, text in details.items() if text},
    )


def _parts(verdict: Verdict) -> Mapping[int, _Part]:
    found: dict[int, _Part] = {}
    for view, (match, _) in zip(verdict.views, verdict.matches, strict=True):
        if not view.incident_id:
            continue
        place = view.event_id - verdict.first_id
        part = found.setdefault(view.incident_id, _Part(match, place))
        part.n += times(match)
        if match.severity > part.worst.severity:
            part.worst, part.place = match, place
        item = verdict.items[place]
        finding = Finding(
            match, view.event_id, view.event_id, item.source_id, str(item.decoded.fields.get("event.outcome", "")),
            _first(item.decoded.fields.get("event.category")),
        )  # fmt: skip
        part.succeeded |= outcome(finding) == SUCCESS
    return found


def _is_news(incident: Incident, part: _Part) -> bool:
    if incident.status == FALSE_POSITIVE:
        return False
    return incident.status != ACKNOWLEDGED or part.succeeded


def _first(value: object) -> str:
    if isinstance(value, str):
        return value
    return str(next(iter(value), "")) if isinstance(value, Iterable) else ""
