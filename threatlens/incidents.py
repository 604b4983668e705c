"""Incidents: many matches about one attacker, user or host become one story with a beginning and an end.

The fold is a pure function of the matches in their order and of the incidents as they are stored, so that it can run
inside the transaction that stores the matches: what a crash takes back is taken back as a whole. Times are event times.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from threatlens.analyzers.attack import sentence, stages_together
from threatlens.analyzers.severity import Factor, Raised, of_incident, raised, succeeded, total
from threatlens.event import RuleMatch, rfc3339
from threatlens.store_detections import TEST
from threatlens.store_incidents import (
    ATTEMPT,
    CLOSED,
    FALSE_POSITIVE,
    LOG_SOURCE,
    OPEN,
    SUCCESS,
    TEST_SUBJECT,
    Entity,
    Incident,
    Member,
)

#: Matches about the same subject that lie further apart than this are two incidents.
WINDOW_US = 6 * 3600 * 1_000_000
#: A closed incident that goes on within this time is opened again; later there is a new one.
REOPEN_US = 3600 * 1_000_000
#: The least severity of a match that opens an incident; a lesser one only joins.
OPENS_AT = 5
#: Incidents that one rule may open in the window about different subjects; beyond it they are one about the rule.
MAX_PER_RULE = 50
MAX_ENTITIES = 200  # of one incident that are remembered


class Finding(NamedTuple):
    """A match, and what is known about the event that completed it."""

    match: RuleMatch
    event_id: int
    first_event_id: int
    source_id: int
    outcome: str  # event.outcome of that event; ""
    category: str  # event.category of that event
    suppressed: str = ""  # why it raises nothing: observe, mute:ID, exception:ID; test: it is made up
    otherwise: tuple[str, ...] = ()  # why it would raise nothing if that mute were over, in order


class IncidentBook(Protocol):
    """The stored incidents, inside the transaction of the batch; each is asked for many at once."""

    def newest(self, entities: Iterable[Entity], *, taken: bool = False) -> dict[Entity, int]:
        """The id of the newest incident with each subject, 0 for none; with `taken` of the newest one in which this
        entity was part of a success."""

    def whole(self, ids: Iterable[int]) -> dict[int, Incident]:
        """The incidents with these ids."""

    def with_rule(self, rule_id: str, since_us: int) -> set[int]:
        """The ids of the newest incidents with a match of this rule whose last event is after this."""

    def put(self, incidents: Sequence[Incident]) -> None:
        """Store them and give new ones their ids."""


def fold(findings: Sequence[Finding], book: IncidentBook) -> tuple[list[int], list[Incident]]:
    """The incident of every finding (0: none), in their order, and the incidents that changed, stored."""
    told = [finding for finding in findings if _is_told(finding)]
    if not told:
        return [0] * len(findings), []
    work = _Fold(book, told)
    chosen = [work.take(finding) if _is_told(finding) else None for finding in findings]
    for incident in work.changed:
        incident.severity = total(severity_factors(incident))
        incident.title = title(incident)
    book.put(work.changed)
    return [incident.id if incident else 0 for incident in chosen], work.changed


def _is_told(finding: Finding) -> bool:
    return finding.suppressed in ("", TEST) and finding.match.level != "informational"


class _Fold:
    """The incidents of one batch: what its findings may belong to is read once, together."""

    def __init__(self, book: IncidentBook, findings: Sequence[Finding]) -> None:
        self.changed: list[Incident] = []
        self._book = book
        self._ages: dict[int, int] = {}  # id() of an incident that this batch opened -> its place among those
        self._about = {id(finding): _about(finding) for finding in findings}
        about = dict.fromkeys(entity for of_finding in self._about.values() for entity in of_finding)
        crowds = dict.fromkeys(("rule", finding.match.rule_id) for finding in findings)
        subjects = book.newest([*about, *crowds])
        taken = book.newest([entity for entity in about if entity[0] in ("user.name", "host.name")], taken=True)
        known = book.whole({number for number in (*subjects.values(), *taken.values()) if number})
        self._by_subject = {entity: known.get(number) for entity, number in subjects.items()}
        self._taken = {entity: known.get(number) for entity, number in taken.items()}

    def take(self, finding: Finding) -> Incident | None:
        """Add the finding to the incident it belongs to; None: it belongs to none and opens none."""
        match, result, about = finding.match, outcome(finding), self._about[id(finding)]
        if finding.suppressed == TEST:
            known = self._by_subject.get(about[0])
            incident = known if self._fits(known, match) else None
        else:
            incident = self._belongs_to(match, result, about)
        if incident is None:
            if match.severity < OPENS_AT:
                return None
            incident = self._open(match, result, about)
        add(incident, finding, result, about)
        if not incident.changed:
            incident.changed = True
            self.changed.append(incident)
            again: Iterable[Entity] = incident.entities
        else:
            again = about
        for entity in again:
            if entity in incident.entities and incident.entities[entity][1]:
                known = self._taken.get(entity)
                if known is None or self._age(incident) > self._age(known):
                    self._taken[entity] = incident
        return incident

    def _age(self, incident: Incident) -> tuple[int, int]:
        """Newer ones are more, as the ids that this batch's own will get."""
        return (0, incident.id) if incident.id else (1, self._ages[id(incident)])

    def _belongs_to(self, match: RuleMatch, result: str, about: Sequence[Entity]) -> Incident | None:
        """By attacker; else by a user or host that somebody has taken over; else by user or host alone."""
        by_subject = self._by_subject.get
        own = next((entity for entity in about if self._fits(by_subject(entity), match)), None)
        if own is not None and own[0] == "source.ip":
            return by_subject(own)
        if match.source_ip is None or result == SUCCESS:
            by_host = match.source_ip is None and (match.user_name is None or match.severity >= OPENS_AT)
            kinds = ("user.name", "host.name") if by_host else ("user.name",)
            for entity in about:
                taken = self._taken.get(entity) if entity[0] in kinds else None
                if self._fits(taken, match):
                    return taken
        if own is not None and match.source_ip is None:
            return by_subject(own)
        crowd: Entity = ("rule", match.rule_id)
        of_rule = by_subject(crowd)
        return of_rule if self._fits(of_rule, match) else None

    @staticmethod
    def _fits(incident: Incident | None, match: RuleMatch) -> bool:
        if incident is None:
            return False
        window = REOPEN_US if incident.status == CLOSED else WINDOW_US
        return incident.first_us - window <= match.timestamp_us <= incident.last_us + window

    def _open(self, match: RuleMatch, result: str, about: Sequence[Entity]) -> Incident:
        subject = next(iter(about), ("rule", match.rule_id))
        since = match.timestamp_us - WINDOW_US
        others = self._book.with_rule(match.rule_id, since) - {each.id for each in self.changed}
        here = sum(
            each.last_us > since and any(rule_id == match.rule_id for rule_id, _ in each.members)
            for each in self.changed
        )
        if len(others) + here >= MAX_PER_RULE and result == ATTEMPT and subject[0] != TEST_SUBJECT:
            subject = ("rule", match.rule_id)
        before = self._by_subject.get(subject)
        incident = Incident(0, subject, previous=before)
        self._ages[id(incident)] = len(self._ages)
        self._by_subject[subject] = incident
        return incident


def add(incident: Incident, finding: Finding, result: str, about: Sequence[Entity]) -> None:
    """Count the finding in: with its outcome, and what it is about."""
    match = finding.match
    _reopen(incident, match, result)
    key = (match.rule_id, result)
    member = incident.members.get(key)
    if member is None:
        incident.members[key] = Member(
            match.rule_id, result, match.rule_name, match.level, match.severity, match.kind, match.tags,
            times(match), max(match.count, 1), match.first_us, match.timestamp_us, finding.first_event_id,
            finding.event_id,
        )  # fmt: skip
    else:
        member.n += times(match)
        # A correlation that is told of again counts the events of the time before, too.
        member.events = max(member.events, match.count) if match.again else member.events + match.count
        if match.first_us < member.first_us:
            member.first_us, member.first_event_id = match.first_us, finding.first_event_id
        if match.timestamp_us >= member.last_us:
            member.last_us, member.last_event_id = match.timestamp_us, finding.event_id
    incident.touched.add(key)
    incident.n += times(match)
    incident.first_us = min(incident.first_us or match.first_us, match.first_us)
    incident.last_us = max(incident.last_us, match.timestamp_us)
    if result == SUCCESS:
        incident.outcome = SUCCESS
    for entity in about:
        seen = incident.entities.get(entity)
        if seen is not None:
            seen[0] += 1
            seen[1] |= int(result == SUCCESS)
        elif len(incident.entities) < MAX_ENTITIES:
            incident.entities[entity] = [1, int(result == SUCCESS)]
        incident.touched.add(entity)


def times(match: RuleMatch) -> int:
    """How many matches this value stands for: those of a rule that matched too often in one batch are told as one."""
    return 1 if match.kind == "correlation" else match.count


def _reopen(incident: Incident, match: RuleMatch, result: str) -> None:
    """Somebody was done with it, and it goes on. A false positive stays one unless another rule or a success joins."""
    news = (match.rule_id, result) not in incident.members
    if incident.status == CLOSED or (incident.status == FALSE_POSITIVE and news):
        incident.status = OPEN
        incident.closed_us = 0
        incident.reopened = True


def _about(finding: Finding) -> list[Entity]:
    """What the finding is about; a test attack is about itself alone, so that no page of an address knows of it."""
    if finding.suppressed == TEST:
        return [(TEST_SUBJECT, f"Test attack: {finding.match.source_ip or 'somebody'}")]
    return entities(finding.match)


def entities(match: RuleMatch) -> list[Entity]:
    """What the match is about, the best name for an attacker first."""
    named = (("source.ip", match.source_ip), ("user.name", match.user_name), ("host.name", match.host_name))
    of_source = [each for each in match.group if each[0] == LOG_SOURCE]
    return [*((kind, value) for kind, value in named if value), *of_source]


def outcome(finding: Finding) -> str:
    """Whether what the match tells of succeeded."""
    return SUCCESS if succeeded(raised(finding.match), finding.outcome, finding.category) else ATTEMPT


def severity_factors(incident: Incident) -> list[Factor]:
    """The addends of the incident's severity."""
    members = incident.members.values()
    users = [value for (kind, value), (_, taken) in incident.entities.items() if kind == "user.name" and taken]
    return of_incident(
        [Raised(m.rule_id, m.rule_name, m.level, m.severity, m.kind, m.events, m.tags) for m in members],
        success=incident.outcome == SUCCESS,
        tried=incident.outcome != SUCCESS and not incident.of_source,
        users=users,
        many=max(member.events for member in members),
    )


def incident_stages(incident: Incident) -> list[str]:
    """The ATT&CK tactics it went through, in the matrix's order."""
    return stages_together(member.tags for member in incident.members.values())


def title(incident: Incident) -> str:
    """The story in one line, without its subject: "scanned, guessed passwords, got in as deploy and ..."."""
    taken = [(value, n) for (kind, value), (n, taken) in incident.entities.items() if kind == "user.name" and taken]
    taken.sort(key=lambda user: (user[0] == "root", -user[1], user[0]))  # whom one becomes later
    users = [name for name, _ in taken]
    steps = timeline(incident.members.values())
    telling = [step for step in steps if step.severity >= OPENS_AT or step.outcome == SUCCESS]
    return sentence(telling or steps, users[:1], incident.outcome == SUCCESS)


def timeline(members: Iterable[Member]) -> list[Member]:
    """The members in the order in which they began; what succeeded stands where it did, not where its story began."""

    def place(member: Member) -> tuple[int, int, int, str]:
        done = member.outcome == SUCCESS and member.n == 1
        began = member.last_us if done else member.first_us
        # Which event was the first that a correlation counted is known only within a batch.
        seen_at = member.last_event_id if member.kind == "correlation" else member.first_event_id
        return (began, seen_at, -member.severity, member.rule_id)

    return sorted(members, key=place)


def summary(incident: Incident) -> dict[str, Any]:
    """The incident as the API lists it and as sockets tell of it."""
    return {
        "id": incident.id,
        "status": incident.status,
        "title": f"{incident.subject[1]} {incident.title}",
        "severity": incident.severity,
        "outcome": incident.outcome,
        "subject": {"kind": incident.subject[0], "value": incident.subject[1]},
        "first_seen": rfc3339(incident.first_us),
        "last_seen": rfc3339(incident.last_us),
        "count": incident.n,
        "assignee": incident.assignee,
        "previous_id": incident.previous_id or None,
        "version": incident.version,
    }
