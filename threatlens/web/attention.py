"""What needs a person, in sentences: the first thing on the dashboard.

Only facts that were counted are said. Nothing here guesses at intent, and nothing is raised where nothing burns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from threatlens.event import Event
from threatlens.store_incidents import Incident
from threatlens.visible import visible
from threatlens.web.presentation import count, percent, plural, sentence

#: States of a source in which it cannot do its work, and how much that matters.
BROKEN_STATES = {"no_permission": 7, "refused": 6, "error": 6, "missing": 5}
MANY_FAILURES = 50  # of one address: worth a sentence even if nothing got through
SUSPICIOUS_FAILURES = 5  # of one address that also got in
UNDECODED_SHARE = 0.2
UNDECODED_EVENTS = 50

#: (value, events, failures, successes), as the store counts them.
Knock = tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that needs a look."""

    severity: int  # 1-10
    subject: str  # what it is about, often a value from a log: shown as such
    title: str  # the rest of the sentence
    detail: str = ""
    remedy: str = ""  # a sentence or an exact command
    sample: str = ""  # a log message
    when_us: int = 0
    query: dict[str, object] = field(default_factory=dict)  # of the events page, which explains it
    endpoint: str = "events.index"
    link: str = "Show the events"
    is_test: bool = False  # somebody made it up
    is_muted: bool = False  # somebody wants it quiet for a while


class SourceState(Protocol):
    """What is asked of a source: a row of log_sources."""

    @property
    def source_name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def state_reason(self) -> str: ...
    @property
    def remedy(self) -> str: ...
    @property
    def events(self) -> int: ...
    @property
    def unknown(self) -> int: ...


def attention(
    severe: Sequence[Event],
    logins: Iterable[Knock],
    sources: Iterable[SourceState],
    *,
    dead_letters: int,
    range_name: str,
    incidents: Iterable[Incident] = (),
    muted: Mapping[int, str] = MappingProxyType({}),
) -> list[Item]:
    """The most pressing things first, open incidents before all; what an incident tells is not told again.

    severe: events of severity 7 or more, newest first; logins: who tried to log in, from the same time range; muted:
    incidents by id that are, with until when in words: these come last.
    """
    knocks = {knock[0]: knock for knock in logins}
    first = [_incident_item(incident, muted.get(incident.id, "")) for incident in incidents]
    told = {item.subject for item in first}
    severe = [event for event in severe if not any(each.get("incident_id") for each in event.detections)]
    items = [item for item in _severe_items(severe, knocks, range_name) if item.subject not in told]
    named = {item.subject for item in items} | told
    items += [item for knock in knocks.values() if knock[0] not in named for item in _login_items(knock, range_name)]
    items += _source_items(sources)
    if dead_letters:
        items.append(
            Item(
                6,
                "",
                f"{plural(dead_letters, 'line')} could not be stored",
                "Nothing is lost: look at the error, then replay.",
                endpoint="dead_letters.index",
                link="Show the lines",
            )
        )
    items.sort(key=lambda item: (-item.severity, -item.when_us))
    return sorted(first + items, key=lambda item: item.is_muted)


def _incident_item(incident: Incident, muted: str) -> Item:
    return Item(
        incident.severity,
        incident.subject[1],
        visible(incident.title),
        f"{sentence(incident.outcome_words).rstrip('.')}, × {count(incident.n)}."
        + (f" Muted {muted}." if muted else ""),
        when_us=incident.last_us,
        query={"incident_id": incident.id},
        endpoint="incidents.detail",
        link="Show the incident",
        is_test=incident.is_test,
        is_muted=bool(muted),
    )


def headline(items: Sequence[Item]) -> str:
    """The first words of the dashboard; a test attack, and what is muted, needs nobody."""
    items = [item for item in items if not item.is_test and not item.is_muted]
    numbers = ("Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
    if len(items) < 2:
        return "One thing needs you" if items else "Nothing needs you"
    return f"{numbers[len(items) - 2] if len(items) < 10 else len(items)} things need you"


def _severe_items(severe: Sequence[Event], knocks: dict[str, Knock], range_name: str) -> list[Item]:
    groups: dict[tuple[str, str], list[Event]] = {}
    for event in severe:
        groups.setdefault(_group(event), []).append(event)
    items = []
    for (kind, subject), events in groups.items():
        newest = events[0]
        query: dict[str, object] = {"min_severity": 7, "range": range_name}
        query |= {"source": subject} if kind == "source" else {"q": f'"{subject}"'}
        items.append(
            Item(
                max(event.severity for event in events),
                subject,
                _severe_title(kind, len(events), knocks.get(subject)),
                sample=newest.message.strip(),
                when_us=newest.timestamp_us,
                query=query,
            )
        )
    return items


def _group(event: Event) -> tuple[str, str]:
    """What a severe event is about: who it came from, else whom it concerns, else where it was logged."""
    for kind in ("source.ip", "user.name"):
        value = str(event.fields.get(kind, ""))
        if value and '"' not in value and "\\" not in value:
            return kind, value
    return "source", event.source


def _severe_title(kind: str, n: int, knock: Knock | None) -> str:
    if knock is not None and knock[2] >= SUSPICIOUS_FAILURES:
        return _login_title(knock)
    events = plural(n, "severe event")
    return {
        "source.ip": f"is behind {events}",
        "user.name": f"is the user in {events}",
    }.get(kind, f"logged {events}")


def _login_items(knock: Knock, range_name: str) -> list[Item]:
    value, _n, failures, successes = knock
    got_in = successes > 0 and failures >= SUSPICIOUS_FAILURES
    if not got_in and failures < MANY_FAILURES:
        return []
    detail = "Check whether this was you; if not, change the password and end the session." if got_in else ""
    query: dict[str, object] = {"q": f'"{value}"', "category": "authentication", "range": range_name}
    return [Item(7 if got_in else 5, value, _login_title(knock), detail, query=query)]


def _login_title(knock: Knock) -> str:
    _value, _n, failures, successes = knock
    if successes:
        return f"failed to log in {plural(failures, 'time')} and succeeded {plural(successes, 'time')}"
    return f"failed to log in {plural(failures, 'time')}; nothing got through"


def verdict(knock: Knock, login: Knock | None) -> str:
    """One word about an address, from all it did and, where it tried to log in, from that."""
    _value, _n, failures, successes = login or knock
    if login is None:
        return "turned away" if failures >= SUSPICIOUS_FAILURES and not successes else ""
    if successes:
        return "got in" if failures >= SUSPICIOUS_FAILURES else "logged in"
    return "guessing" if failures >= SUSPICIOUS_FAILURES else ""


def _source_items(sources: Iterable[SourceState]) -> list[Item]:
    items = []
    for source in sources:
        if source.state in BROKEN_STATES:
            items.append(
                Item(
                    BROKEN_STATES[source.state],
                    source.source_name,
                    {
                        "no_permission": "may not be read",
                        "refused": "is refused",
                        "missing": "is not there",
                    }.get(source.state, "could not be read"),
                    sentence(source.state_reason),
                    source.remedy,
                    endpoint="sources.index",
                    link="Show the sources",
                )
            )
        elif source.events >= UNDECODED_EVENTS and source.unknown > UNDECODED_SHARE * source.events:
            items.append(
                Item(
                    4,
                    source.source_name,
                    f"writes lines that no decoder knows: {percent(source.unknown, source.events)} of them",
                    "They are stored and can be searched, but carry no fields and no severity of their own.",
                    endpoint="unknown.index",
                    link="Show their shapes",
                )
            )
    return items
