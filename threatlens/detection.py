"""Detector: what rules say about a batch, and what of it is raised; prepared outside the transaction, written inside.

The engine's memory runs ahead of the database by the batch in work. When that batch is given up, the memory goes back
to what is stored before the next one is looked at; so matches are as exactly-once as the lines they come from.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from sqlalchemy import Connection

from threatlens.analyzers.novelty import Novelty
from threatlens.analyzers.severity import Raised, like_event, of_event, raised, total
from threatlens.courtesy import go_on
from threatlens.event import Decoded, EventUpdate, RuleMatch, StateRow
from threatlens.incidents import Finding, fold, summary
from threatlens.mutes import settled
from threatlens.sources.base import TEST_ATTACKS
from threatlens.store import EventRow, EventStore
from threatlens.store_detections import (
    CASE,
    TEST,
    DetectionRow,
    DetectionView,
    RuleException,
    case_prefix,
    write_detections,
    write_novelties,
    write_states,
)
from threatlens.store_incidents import Incident, IncidentTable
from threatlens.store_mutes import MUTED, Mute
from threatlens.store_threats import raise_severities

log = logging.getLogger(__name__)

#: Updates of one batch that connected clients are told; the ring holds a thousand.
MAX_TOLD = 200


class Found(Protocol):
    """What the engine says about a batch."""

    @property
    def matches(self) -> tuple[RuleMatch, ...]: ...


class Engine(Protocol):
    """threatlens.detectors.DetectionEngine, as it is used here."""

    @property
    def evicted(self) -> int: ...

    def detect(self, events: Sequence[tuple[Decoded, int]], give_way: Callable[[], None] = ...) -> Found: ...

    def changes(self, give_way: Callable[[], None] = ...) -> list[StateRow]: ...

    def restore(self, rows: Iterable[StateRow]) -> None: ...

    def twin(self) -> Engine: ...


class Item(NamedTuple):
    """One event of a batch, as rules see it."""

    decoded: Decoded
    timestamp_us: int
    template_id: int
    source_id: int
    source: str
    case: bool = False  # of a case or a test attack: see LogSourceConfig


@dataclass
class Verdict:
    """What a batch gives. Positions are places in the batch."""

    items: Sequence[Item]
    matches: list[tuple[RuleMatch, str]] = field(default_factory=list)  # with why it is not raised, "" if it is
    otherwise: dict[int, tuple[str, ...]] = field(default_factory=dict)  # of matches by place: see Finding
    states: list[StateRow] = field(default_factory=list)
    novelties: list[object] = field(default_factory=list)
    views: list[DetectionView] = field(default_factory=list)  # once written
    incidents: list[Incident] = field(default_factory=list)  # once written
    first_id: int = 0  # once written: of the batch's first event
    _by_event: dict[int, list[DetectionView]] | None = None

    def rated(self, rows: Sequence[EventRow]) -> list[EventRow]:
        """The rows of the batch with the severities that rules give them; those of a test attack are about nobody."""
        rated = list(rows)
        for place, raised_to in self.severities().items():
            if raised_to > rated[place].severity:
                rated[place] = rated[place]._replace(severity=raised_to)
        for place, item in enumerate(self.items):
            if item.case and item.source in TEST_ATTACKS:
                rated[place] = rated[place]._replace(source_ip=None, user_name=None)
        return rated

    def severities(self) -> dict[int, int]:
        """Place of an event -> its severity, of those that have matches."""
        of_place: dict[int, list[Raised]] = {}
        for match, suppressed in self.matches:
            if suppressed in ("", CASE) and match.positions:
                places = match.positions if match.kind == "rule" else match.positions[-1:]
                for place in places:
                    of_place.setdefault(place, []).append(raised(match))
        known: dict[tuple[object, ...], int] = {}  # of events that are alike in all that decides
        severities = {}
        for place, matches in of_place.items():
            decoded = self.items[place].decoded
            key = like_event(decoded, matches)
            if key not in known:
                known[key] = total(of_event(decoded, matches))
            severities[place] = known[key]
        return severities

    def views_of(self, event_id: int) -> list[DetectionView]:
        """The stored matches that this event is part of."""
        if self._by_event is None:
            by_event: dict[int, list[DetectionView]] = {}
            for view, (match, _) in zip(self.views, self.matches, strict=True):
                for linked in {view.event_id, *(self.first_id + place for place in match.positions)}:
                    by_event.setdefault(linked, []).append(view)
            self._by_event = by_event
        return self._by_event.get(event_id, [])


def updates(verdict: Verdict, now_us: int) -> list[EventUpdate]:
    """What connected clients are told once the batch is stored; a flood of matches is told in part."""
    return told(verdict.views, verdict.incidents, now_us)


def told(views: Iterable[DetectionView], incidents: Sequence[Incident], now_us: int) -> list[EventUpdate]:
    """What connected clients are told about stored matches and the incidents that they changed."""
    loud = [view for view in views if not view.suppressed]
    room = max(0, MAX_TOLD - len(incidents))
    found = [
        EventUpdate("detection", view.as_json(), now_us, priority=view.severity, id=view.event_id)
        for view in loud[max(0, len(loud) - room) :]
    ]
    found += [EventUpdate("incident", summary(each), now_us, priority=each.severity) for each in incidents]
    return found[-MAX_TOLD:]


def write_findings(
    connection: Connection, findings: Sequence[tuple[Finding, tuple[int, ...]]]
) -> tuple[list[DetectionView], list[Incident]]:
    """Store findings that are settled (threatlens.mutes), each with the ids of all its events, and what they change
    in incidents; both as stored.
    """
    incident_ids, incidents = fold([finding for finding, _ in findings], IncidentTable(connection))
    rows = [
        DetectionRow(finding.match, finding.event_id, event_ids, finding.source_id, incident_id, finding.suppressed)
        for (finding, event_ids), incident_id in zip(findings, incident_ids, strict=True)
    ]
    return write_detections(connection, rows) if rows else [], incidents


class Decisions:
    """What people decided about rules, in the form in which a match is held against it."""

    def __init__(self, states: Mapping[str, str], mutes: Sequence[Mute], exceptions: Sequence[RuleException]) -> None:
        self._states = states
        by_time_first = sorted(mutes, key=lambda mute: bool(mute.condition))
        self._mutes = [(mute, _network(mute.source_ip)) for mute in by_time_first]
        self._exceptions: dict[str, list[RuleException]] = {}
        for exception in exceptions:
            self._exceptions.setdefault(exception.rule_id, []).append(exception)

    def suppression(
        self, match: RuleMatch, decoded: Decoded | None, source: str, now_us: int
    ) -> tuple[str, tuple[str, ...]]:
        """Why this match raises nothing: exception:ID, mute:ID, observe; "" if it does. And what would keep it quiet
        next if that mute turns out to be over.
        """
        for exception in self._exceptions.get(match.rule_id, ()):
            if decoded is not None and fits(exception.conditions, decoded):
                return f"exception:{exception.id}", ()
        reasons = [
            f"{MUTED}{mute.id}"
            for mute, network in self._mutes
            if mute.expires_us > now_us and is_muted(mute, network, match, source)
        ]
        if self._states.get(match.rule_id) == "observe":
            reasons.append("observe")
        return (reasons[0], tuple(reasons[1:])) if reasons else ("", ())


class _Addressed(Protocol):
    """A match or a stored detection."""

    @property
    def rule_id(self) -> str: ...
    @property
    def source_ip(self) -> str | None: ...
    @property
    def user_name(self) -> str | None: ...
    @property
    def host_name(self) -> str | None: ...


_Net = ipaddress.IPv4Network | ipaddress.IPv6Network | None


def is_muted(mute: Mute, network: _Net, match: _Addressed, source: str) -> bool:
    """Whether every part of the mute's scope fits the match."""
    named = (
        (mute.rule_id, match.rule_id),
        (mute.user_name, match.user_name),
        (mute.host_name, match.host_name),
        (mute.source, source),
    )
    if any(wanted and wanted != value for wanted, value in named):
        return False
    if not mute.source_ip:
        return any(wanted for wanted, _ in named)
    try:
        return network is not None and ipaddress.ip_address(match.source_ip or "") in network
    except ValueError:
        return False


def muted_by(mute: Mute, match: _Addressed, source: str) -> bool:
    """The same, for a preview."""
    return is_muted(mute, _network(mute.source_ip), match, source)


def _network(text: str) -> _Net:
    try:
        return ipaddress.ip_network(text, strict=False) if text else None
    except ValueError:
        return None


def fits(conditions: Mapping[str, str], decoded: Decoded) -> bool:
    """Whether every field has a value that fits its pattern (* and ?, ignoring case)."""
    for name, pattern in conditions.items():
        value = decoded.message if name == "message" else decoded.fields.get(name)
        values = value if isinstance(value, list) else [value]
        literal = pattern.lower().replace("[", "[[]")
        if not any(each is not None and fnmatch.fnmatchcase(str(each).lower(), literal) for each in values):
            return False
    return bool(conditions)


class Detector:
    """The rules in force and their memory. look() and write() are for the thread that stores."""

    def __init__(
        self,
        store: EventStore,
        engine: Engine | None = None,
        *,
        novelty: Novelty | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._engine = engine  # None until the rules are loaded
        self._novelty = novelty or Novelty()
        self._wall = wall
        self._decisions = Decisions({}, (), ())
        self._offered: Engine | None = None
        self._case_engine: Engine | None = None  # the same rules, with the memory of the case that came last
        self._case_id = 0
        self._stale = True
        self.failures = 0  # batches that the rules failed on

    # -- from other threads: a whole value replaces another

    def offer(self, engine: Engine) -> None:
        """Use this engine, with other rules, from the next batch on."""
        self._offered = engine

    def decide(self, decisions: Decisions) -> None:
        """Hold matches against these decisions from the next batch on."""
        self._decisions = decisions

    @property
    def is_ready(self) -> bool:
        """Whether there are rules to ask."""
        return self._engine is not None or self._offered is not None

    @property
    def evicted(self) -> int:
        """Groups of correlations that the rules in force forgot to make room."""
        return self._engine.evicted if self._engine is not None else 0

    # -- the batch

    def look(self, items: Sequence[Item], give_way: Callable[[], None] = go_on) -> Verdict:
        """Ask the rules about a batch; raises StoreUnavailable when their memory must be read and cannot.

        give_way is called every few events.
        """
        offered = self._offered
        if offered is not None and offered is not self._engine:
            self._engine, self._case_engine, self._stale = offered, None, True
        if self._stale:
            self._restore()
            self._novelty.restore(self._store.novelties())
        self._stale = True  # until the batch is committed
        verdict = Verdict(items)
        if self._engine is not None:
            places: dict[int, list[int]] = {}  # 0: what happens now; else the id of a case
            for place, item in enumerate(items):
                places.setdefault(item.source_id if item.case else 0, []).append(place)
            for case_id, of_case in places.items():
                self._look_at(case_id, of_case, verdict, give_way)
        verdict.novelties = list(self._novelty.changes())
        return verdict

    def _restore(self) -> None:
        """Go back to what is stored; the memory of a case is read when one comes."""
        self._case_id = 0
        if self._engine is not None:
            self._engine.restore(self._store.correlation_states())

    def _look_at(self, case_id: int, places: Sequence[int], verdict: Verdict, give_way: Callable[[], None]) -> None:
        """Ask about the events at these places: of a case, or (0) those of now, which teach what is usual too."""
        engine = self._memory_of(case_id)
        now = int(self._wall() * 1e6)
        kept = TEST if verdict.items[places[0]].source in TEST_ATTACKS else CASE
        for match in self._ask(engine, case_id, places, verdict.items, give_way):
            last = verdict.items[match.positions[-1]] if match.positions and match.positions[-1] >= 0 else None
            decoded, source = (last.decoded, last.source) if last else (None, "")
            why, otherwise = self._decisions.suppression(match, decoded, source, now)
            if case_id and not why.startswith("exception"):
                why, otherwise = kept, ()
            if otherwise:
                verdict.otherwise[len(verdict.matches)] = otherwise
            verdict.matches.append((match, why))
        prefix = case_prefix(case_id) if case_id else ""
        verdict.states += [
            row._replace(rule_id=prefix + row.rule_id) if prefix else row for row in engine.changes(give_way)
        ]

    def _memory_of(self, case_id: int) -> Engine:
        """The engine that remembers what is stored of this case; raises StoreUnavailable."""
        assert self._engine is not None  # noqa: S101 - look() asks nobody without one
        if not case_id:
            return self._engine
        if self._case_engine is None:
            self._case_engine = self._engine.twin()
        if self._case_id != case_id:
            self._case_engine.restore(self._store.correlation_states(case_id))
            self._case_id = case_id
        return self._case_engine

    def _ask(
        self,
        engine: Engine,
        case_id: int,
        places: Sequence[int],
        items: Sequence[Item],
        give_way: Callable[[], None],
    ) -> list[RuleMatch]:
        events = [(items[place].decoded, items[place].timestamp_us) for place in places]
        try:
            found = engine.detect(events, give_way).matches
        except Exception:  # rules never stand between a line and its place in the database
            log.exception("the rules failed on a batch of %d events; they are stored without them", len(places))
            self.failures += 1
            engine.restore(self._store.correlation_states(case_id))
            return []
        if len(places) == len(items):
            matches = list(found)
        else:
            matches = [
                replace(match, positions=tuple(places[at] if at >= 0 else at for at in match.positions))
                for match in found
            ]
        if not case_id:
            for place in places:
                if not place & 63:
                    give_way()
                item = items[place]
                matches += self._novelty.look(item.decoded, item.timestamp_us, item.template_id, item.source, place)
        # In the order of the events, whoever found them: what a match belongs to does not hang on where a batch ends.
        return sorted(matches, key=lambda match: match.positions[-1] if match.positions else len(items))

    def write(self, connection: Connection, first_id: int, verdict: Verdict, rows: list[EventRow]) -> list[EventRow]:
        """Store what the batch gave, in its transaction; first_id is the id of its first event, rows are its events as
        they are stored. Returns these as they are now that a match ended the mute that it waited for, if one did.
        """
        verdict.first_id = first_id
        if verdict.matches:
            findings = settled(
                connection, self._store.audit, int(self._wall() * 1e6),
                [
                    self._finding(match, why, verdict.items, first_id)._replace(otherwise=verdict.otherwise.get(at, ()))
                    for at, (match, why) in enumerate(verdict.matches)
                ],
            )  # fmt: skip
            reasons = [(finding.match, finding.suppressed) for finding in findings]
            if reasons != verdict.matches:
                verdict.matches = reasons
                rows = self._rated_again(connection, verdict, rows)
            ids = [tuple(first_id + place for place in match.positions) for match, _ in verdict.matches]
            verdict.views, verdict.incidents = write_findings(connection, list(zip(findings, ids, strict=True)))
        if verdict.states:
            write_states(connection, verdict.states)
        if verdict.novelties:
            write_novelties(connection, verdict.novelties)
        return rows

    @staticmethod
    def _rated_again(connection: Connection, verdict: Verdict, rows: list[EventRow]) -> list[EventRow]:
        """The rows, stored before it was known that a mute is over; stored again where that makes them worse."""
        rated = verdict.rated(rows)
        worse = {
            verdict.first_id + place: new.severity
            for place, (old, new) in enumerate(zip(rows, rated, strict=True))
            if new.severity > old.severity
        }
        raise_severities(connection, worse)
        return rated

    def committed(self) -> None:
        """The batch that was looked at last is stored: memory and database are one."""
        self._stale = False

    @staticmethod
    def _finding(match: RuleMatch, suppressed: str, items: Sequence[Item], first_id: int) -> Finding:
        places = match.positions or (len(items) - 1,)
        item = items[places[-1]]
        get = item.decoded.fields.get
        category = get("event.category")
        return Finding(
            match,
            first_id + places[-1],
            first_id + places[0],
            item.source_id,
            str(get("event.outcome", "")),
            str(category[0] if isinstance(category, list) and category else category or ""),
            suppressed,
        )
