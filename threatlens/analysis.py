"""The analysis of one event or incident as pages and the API show it: factors, explanation, advice, and by whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from threatlens.analyzers import explain, severity
from threatlens.analyzers.explain import Advice, Explanation, Story
from threatlens.analyzers.severity import Factor, Raised
from threatlens.event import Decoded, Event
from threatlens.incidents import severity_factors, timeline
from threatlens.store_incidents import SUCCESS, Incident, Member

TOLD = 4  # rules of an incident that are explained

AdviceOf = Callable[[str], Advice | None]


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is said about an event or incident."""

    severity: int
    factors: tuple[Factor, ...]
    explanation: Explanation | None
    source: str = "rules"

    def as_json(self) -> dict[str, Any]:
        """Its shape in the API."""
        return {
            "severity": self.severity,
            "factors": [factor.as_json() for factor in self.factors],
            "explanation": self.explanation.text if self.explanation else "",
            "recommendations": self.explanation.advice if self.explanation else [],
            "source": self.source,
        }


@dataclass(frozen=True, slots=True)
class Told:
    """What one rule of an incident means and advises."""

    member: Member
    explanation: Explanation


def of_event(event: Event, advice_of: AdviceOf) -> Analysis:
    """The analysis of a stored event."""
    matches = explain.completed_by(event)
    decoded = Decoded(event.format, event.timestamp_us, event.message, event.fields, event.flags)
    factors = severity.of_event(decoded, matches)
    advice = {match.rule_id: found for match in matches[:1] if (found := advice_of(match.rule_id)) is not None}
    return Analysis(event.severity, _adjusted(factors, event.severity), explain.of_event(event, advice))


def of_incident(incident: Incident, told: Sequence[Told] = ()) -> Analysis:
    """The analysis of a stored incident; told: what its rules say."""
    explanation = explain.of_incident(story(incident), [each.explanation for each in told])
    return Analysis(incident.severity, _adjusted(severity_factors(incident), incident.severity), explanation)


def told(incident: Incident, advice_of: AdviceOf, event_of: Callable[[int], Event | None]) -> list[Told]:
    """The worst rules of the incident, explained with the values of their last event."""
    seen: set[str] = set()
    found = []
    members = timeline(incident.members.values())
    for member in sorted(members, key=lambda member: (member.outcome != SUCCESS, -member.severity, member.first_us)):
        advice = None if member.rule_id in seen else advice_of(member.rule_id)
        seen.add(member.rule_id)
        if advice is None or not (advice.explanation or advice.description):
            continue
        event = event_of(member.last_event_id)
        fields: dict[str, Any] = explain.values_of(event) if event else {}
        if incident.subject[0] != "rule":
            fields.setdefault(*incident.subject)
        found.append(Told(member, explain.of_rule(advice, fields)))
        if len(found) == TOLD:
            break
    return found


def story(incident: Incident) -> Story:
    """The incident as explanations see it."""
    members = timeline(incident.members.values())

    def named(kind: str) -> list[str]:
        return [value for (each, value), _ in incident.entities.items() if each == kind]

    return Story(
        subject=incident.subject[1] if incident.subject[0] != "rule" else "Somebody",
        title=incident.title,
        success=incident.outcome == SUCCESS,
        first_us=incident.first_us,
        last_us=incident.last_us,
        matches=incident.n,
        events=sum(member.events for member in members),
        rules=[Raised(m.rule_id, m.rule_name, m.level, m.severity, m.kind, m.events, m.tags) for m in members],
        addresses=named("source.ip"),
        users=named("user.name"),
        hosts=named("host.name"),
        taken=[value for (kind, value), (_, taken) in incident.entities.items() if kind == "user.name" and taken],
        of_source=incident.of_source,
    )


def _adjusted(factors: Sequence[Factor], stored: int) -> tuple[Factor, ...]:
    """The factors, with what an earlier version or earlier rules saw otherwise; the sum is what is stored."""
    difference = stored - severity.total(factors)
    if not difference:
        return tuple(factors)
    return (*factors, Factor("earlier", difference, "It was rated when it was stored, by what was known then."))
