"""What a message says, in the order in which somebody who was woken up asks: what, how bad, where, what to do, where
to click; then the evidence.

The words about an incident are those of its page (analysis.py). All that strangers wrote is made visible here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from threatlens import analysis
from threatlens.analysis import AdviceOf
from threatlens.analyzers.advice import as_text
from threatlens.analyzers.explain import Explanation
from threatlens.channels import Message
from threatlens.event import rfc3339
from threatlens.incidents import incident_stages
from threatlens.redaction import masked
from threatlens.store import EventStore
from threatlens.store_incidents import LOG_SOURCE, SUCCESS, Incident
from threatlens.store_notifications import STORM, WORSE_BY, Due
from threatlens.visible import visible

TITLE_CHARACTERS, SAMPLE_CHARACTERS = 160, 500
MAX_TODO, MAX_NAMES, MAX_RULES = 4, 5, 5
#: What a page says beyond that is not for a message.
TOPICS = ("What happened", "How sure", "What it means")
#: Of details, for people.
_NAMES = {
    "source.ip": "from", "address": "from", "user.name": "account", "user": "account", "host.name": "host",
    "source": "log source",
}  # fmt: skip


class Writer:
    """Puts messages together from what is stored."""

    def __init__(self, store: EventStore, base_url: str, advice_of: AdviceOf) -> None:
        self._store = store
        self._base_url = base_url
        self._advice_of = advice_of

    def message(self, due: Due) -> Message:
        """What is to be sent now."""
        if due.kind == "report":
            return self._about_report(due)
        incident = self._store.incident(due.incident_id) if due.incident_id and due.kind == "incident" else None
        explanation = self._explanation(due, incident)
        severity = max(due.severity, incident.severity if incident else 0)
        return Message(
            key=due.key,
            kind=due.kind,
            title=visible(_title(due, incident), TITLE_CHARACTERS + 60),
            severity=severity,
            timestamp=rfc3339(due.last_us),
            thread=_thread_id(due),
            subject=self._subject(due, severity),
            lead=_lead(incident) if incident else "",
            text=_sentence(due, incident),
            says=_says(explanation, incident) if explanation else (),
            todo=tuple(explanation.advice[:MAX_TODO]) if explanation else (),
            facts=tuple((name, visible(value, 200)) for name, value in _facts(due, incident) if value),
            samples=self._samples(due),
            url=self._url(due),
            data={
                "count": due.n, "total": due.total, "incident_id": due.incident_id or None,
                "event_id": due.last_event_id or None, "rule": due.rule or None, "update": due.total > due.n,
                "first_seen": rfc3339(due.first_us), "last_seen": rfc3339(due.last_us),
                **(_for_programs(incident) if incident else {}),
            },
        )  # fmt: skip

    def _explanation(self, due: Due, incident: Incident | None) -> Explanation | None:
        if incident is not None:
            told = analysis.told(incident, self._advice_of, self._store.event)
            return analysis.of_incident(incident, told).explanation
        event = self._store.event(due.last_event_id) if due.kind == "event" and due.last_event_id else None
        return analysis.of_event(event, self._advice_of).explanation if event is not None else None

    def _subject(self, due: Due, now: int) -> str:
        """That of the thread's first message, unless it has become worse since."""
        if due.kind not in ("incident", "event") or due.total <= due.n:
            return ""
        severity, title = self._store.first_told(due.channel, due.thread) or (0, "")
        return f"{severity}/10 {title}" if title and now < severity + WORSE_BY else ""

    def _about_report(self, due: Due) -> Message:
        """About a report, or about what a search that is sent has found."""
        told = due.details
        if "search" in told:
            return _of_file(
                due,
                facts=tuple((str(name), str(value)) for name, value in told["facts"]),
                samples=tuple(map(str, told["rows"])),
                url=self._at(str(told["path"])),
                data={"report_file": str(told["file"]), "count": int(told["count"])},
            )
        report_id = int(told.get("report", 0))
        return _of_file(due, url=self._at(f"/reports/{report_id}"), data={"report_id": report_id})

    def _at(self, path: str) -> str:
        return f"{self._base_url}{path}" if self._base_url else ""

    def _samples(self, due: Due) -> tuple[str, ...]:
        ids = dict.fromkeys(each for each in (due.first_event_id, due.last_event_id) if each)
        events = filter(None, (self._store.event(event_id) for event_id in ids))
        return tuple(visible(masked(event.raw), SAMPLE_CHARACTERS) for event in events)

    def _url(self, due: Due) -> str:
        if not self._base_url:
            return ""
        if due.incident_id and (due.kind != "digest" or due.thread == STORM):
            return f"{self._base_url}/incidents/{due.incident_id}"
        if due.kind == "digest":
            return f"{self._base_url}/incidents"
        if due.last_event_id:
            return f"{self._base_url}/events/{due.last_event_id}"
        return f"{self._base_url}/notifications"


def _of_file(due: Due, **more: Any) -> Message:
    """A message that comes with a file; `more` are further fields of Message."""
    return Message(
        key=due.key,
        kind=due.kind,
        title=due.title,
        severity=due.severity,
        timestamp=rfc3339(due.last_us),
        thread=_thread_id(due),
        text=str(due.details.get("summary", "")),
        **more,
    )


def _title(due: Due, incident: Incident | None) -> str:
    if due.thread == STORM:
        return f"{_matches(due.n)} at once, the worst: {due.title}" if due.n > 1 else f"One match more: {due.title}"
    if due.kind == "digest":
        return f"{due.title}: {_matches(due.n)}"
    where = _named(incident, "host.name") if incident else []
    on = f" on {where[0]}" if len(where) == 1 and incident and incident.subject[0] != "host.name" else ""
    if incident:
        return f"{due.title}{on}"
    return f"{due.title}{f' (now × {due.total})' if due.total > due.n else f' (× {due.n})' if due.n > 1 else ''}"


def _lead(incident: Incident) -> str:
    """How it went, in a sentence or two."""
    if incident.subject[0] == LOG_SOURCE:
        return ""
    if incident.outcome == SUCCESS:
        taken = _listed(_taken(incident))
        return f"It succeeded{f', as {taken}' if taken else ''}."
    return "Attempts only: as far as the logs tell, nothing got through."


def _sentence(due: Due, incident: Incident | None) -> str:
    if due.kind == "system":
        return "This is about ThreatLens itself."
    if due.thread == STORM:
        return (
            f"{_matches(due.n)} came above the number of messages that this channel takes in a minute."
            " All that is found stands in ThreatLens."
        )
    if due.kind == "digest":
        return f"{_matches(due.n)} since the last digest; the worst has severity {due.severity}."
    if due.total > due.n:
        return f"It goes on: {due.n} more since the last message, {incident.n if incident else due.total} in all."
    return ""


def _matches(number: int) -> str:
    return f"{number} match{'' if number == 1 else 'es'}"


def _says(explanation: Explanation, incident: Incident | None) -> tuple[tuple[str, str], ...]:
    """The statements; what the title says already is not said again."""
    known = f"{incident.subject[1]} {incident.title}. " if incident else ""
    said = ((topic, as_text(parts).removeprefix(known)) for topic, parts in explanation.statements if topic in TOPICS)
    return tuple((topic, visible(text, 1_000)) for topic, text in said)


def _facts(due: Due, incident: Incident | None) -> list[tuple[str, str]]:
    when = _when(due.first_us) + (f" to {_when(due.last_us)}" if _when(due.last_us) != _when(due.first_us) else "")
    counted = f"{due.n}" + (f" since the last message, {due.total} in all" if due.total != due.n else "")
    told_by = [("told by the rule", due.rule)]
    if incident is not None:
        rules = sorted(incident.members.values(), key=lambda member: -member.severity)
        return [
            ("from", _listed(_named(incident, "source.ip"))),
            ("host", _listed(_named(incident, "host.name"))),
            ("account", _listed(list(dict.fromkeys([*_taken(incident), *_named(incident, "user.name")])))),
            ("since", _when(incident.first_us)),
            ("last", _when(incident.last_us)),
            ("matches", str(incident.n)),
            ("found by", "; ".join(dict.fromkeys(member.rule_name for member in rules[:MAX_RULES]))),
            ("log source", str(due.details.get("source", ""))),
            *told_by,
        ]
    facts = [(_NAMES.get(name, name), str(value)) for name, value in due.details.items()]
    return [*facts, *([("when", when), ("matches", counted)] if due.kind != "system" else []), *told_by]


def _for_programs(incident: Incident) -> dict[str, Any]:
    return {
        "status": incident.status,
        "outcome": incident.outcome,
        "subject": {"kind": incident.subject[0], "value": incident.subject[1]},
        "addresses": _named(incident, "source.ip")[:20],
        "hosts": _named(incident, "host.name")[:20],
        "users": _named(incident, "user.name")[:20],
        "stages": incident_stages(incident),
        "rule_ids": list(dict.fromkeys(member.rule_id for member in incident.members.values()))[:20],
    }


def _named(incident: Incident, kind: str) -> list[str]:
    return [visible(value, 100) for each, value in incident.entities if each == kind]


def _taken(incident: Incident) -> list[str]:
    """The accounts that were part of a success; whom one becomes later stands last."""
    names = [visible(name, 100) for (kind, name), (_, won) in incident.entities.items() if kind == "user.name" and won]
    return sorted(names, key=lambda name: name == "root")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def _when(timestamp_us: int) -> str:
    """For people: to the second, and with its zone."""
    return rfc3339(timestamp_us)[:19].replace("T", " ") + " UTC"


def _thread_id(due: Due) -> str:
    """A name for the thread that is safe in a mail header."""
    return f"{due.kind}-{due.incident_id}" if due.incident_id else f"thread-{_hash(due.channel + due.thread)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:20]


def as_json(message: Message) -> dict[str, Any]:
    """What is kept of a message, so that every try sends the same."""
    return {each.name: getattr(message, each.name) for each in fields(message) if each.name != "attachments"}


def from_json(values: dict[str, Any]) -> Message:
    """What as_json made, or an earlier version of it."""

    def pairs(found: Iterable[Iterable[str]]) -> tuple[tuple[str, ...], ...]:
        return tuple(map(tuple, found))

    tuples = {name: pairs(values.get(name, ())) for name in ("facts", "links", "says")}
    return Message(**{**values, **tuples, **{name: tuple(values.get(name, ())) for name in ("samples", "todo")}})
