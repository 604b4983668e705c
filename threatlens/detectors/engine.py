"""DetectionEngine: rules and correlations over a stream of decoded events.

    engine = DetectionEngine(rules, tables)
    engine.restore(rows)                         # once, with what the store holds
    for each batch, in the order in which batches are committed:
        found = engine.detect(events)            # [(decoded, timestamp_us), ...] -> Detections
        rows = engine.changes()                  # to be written in the batch's own transaction, with found.matches
    engine.restore(rows)                         # when a batch is given up: back to what is committed

detect() moves the state of the correlations on, changes() says how, as StateRows: upserts and deletions by
(rule_id, key). They are one row per batch and correlation, not one per group. Nothing is told twice and nothing is
lost if rows and matches are committed together: a restart restores the state that the last committed batch left.
Between detect() and the commit nothing else may touch the engine; it is for one thread.
"""

from __future__ import annotations

import copy
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from threatlens.courtesy import go_on
from threatlens.detectors.buckets import Bucket, Candidate
from threatlens.detectors.correlation import Correlator, Firing
from threatlens.detectors.feeding import Feeder, Feeds, Run, field_names, first_value, together
from threatlens.detectors.fields import FieldMap, View, searched_text
from threatlens.detectors.journal import Journal
from threatlens.detectors.linking import Linked, link
from threatlens.detectors.literals import Placed, Rarity, placed
from threatlens.detectors.logsources import Kinds, LogSources
from threatlens.detectors.plans import Plans
from threatlens.detectors.predicates import Predicate, make_predicate
from threatlens.detectors.rule import Problem, Rule, RuleSet
from threatlens.detectors.threats import ThreatLists
from threatlens.event import LEVEL_SEVERITIES, Decoded, RuleMatch, StateRow

#: Groups of all correlations together; the fullest gives way first.
MAX_ALL_GROUPS = 300_000
#: A rule that takes longer than this on one event, that many times, is switched off.
BUDGET_S, STRIKES = 0.05, 3
#: A rule that matches more events of a batch than this is told of once for all the others.
DIGEST_ABOVE = 100

_ADDRESS = ("source.ip", "ipaddress", "sourceip", "c-ip", "src_ip", "client.ip")
_USER = ("user.name", "targetusername", "user", "subjectusername")
_HOST = ("host.name", "computer", "computername", "host.hostname")


class Tables(NamedTuple):
    """The data files of the family, parsed."""

    logsources: Mapping[str, Any]
    fields: Sequence[Mapping[str, Any]]
    everyday: Sequence[str]  # texts of everyday events, for the prefilter


@dataclass(frozen=True, slots=True)
class Detections:
    """What one batch gave."""

    matches: tuple[RuleMatch, ...] = ()
    disabled: tuple[Problem, ...] = ()  # rules that were switched off while it was looked at


class _Batch:
    """What is gathered while a batch is looked at."""

    def __init__(self, events: Sequence[tuple[Decoded, int]]) -> None:
        self.events = events
        self.matches: list[RuleMatch] = []
        self.disabled: list[Problem] = []
        self.fed: dict[int, list[int]] = {}  # rule -> positions of the events that it matches
        self.feeds = Feeds(events)
        self._views: dict[int, View] = {}

    def view(self, position: int) -> View:
        """The event there, as its fields are read."""
        view = self._views.get(position)
        if view is None:
            view = self._views[position] = View(self.events[position][0], "", self.events[position][1])
        return view


class DetectionEngine:
    """Asks the rules about events, in order. For one thread."""

    def __init__(
        self,
        rules: RuleSet,
        tables: Tables,
        *,
        lists: Mapping[str, Sequence[str]] | None = None,
        threats: ThreatLists | None = None,
        enrich: Callable[[Decoded], object] | None = None,
        prefilter: bool = True,
        digest_above: int = DIGEST_ABOVE,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """`lists`: entries by the name that rules expand. `threats`: what is known to be bad. `enrich` adds fields to
        an event before rules see it (Geo.enrich). `clock`: seconds, to notice that an event took long; `cpu_clock`:
        those of this thread alone, to find the rule that does: a machine that stands still is no rule's fault."""
        self._threats = threats
        self._enrich = enrich
        self._sources = LogSources(tables.logsources)
        self._fields = FieldMap(tables.fields)
        self._rarity = Rarity(tables.everyday)
        self._prefilter = prefilter
        self._digest_above = digest_above
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._latest_us = 0
        self._strikes: Counter[int] = Counter()
        self.hits: Counter[str] = Counter()  # rule id -> events or firings since the engine was made
        self.off: dict[str, Problem] = {}  # rules that were switched off for taking too long
        self._links: list[Linked] = []
        self._journal = Journal(self._links)
        self._correlators: dict[int, Correlator] = {}
        #: Of a rule or correlation: what its matches are for; and of a correlation: what it is fed by, in order.
        self._feeders: dict[int, tuple[Feeder, ...]] = {}
        self._fed_by: dict[int, tuple[tuple[int, Feeder], ...]] = {}
        self._held = 0  # groups of all correlations
        self._judged_late: tuple[int, ...] = ()  # correlations whose windows are judged when they are over
        self._buckets: dict[Kinds, Bucket] = {}
        self._candidates: dict[int, Candidate] = {}
        self.problems: tuple[Problem, ...] = ()
        self.replace(rules, lists or {})

    # -- rules

    def replace(self, rules: RuleSet, lists: Mapping[str, Sequence[str]]) -> None:
        """Go on with these rules. A correlation that is the same as before keeps its state."""
        kept = {
            (self._links[place].rule.id, self._links[place].rule.digest): correlator
            for place, correlator in self._correlators.items()
        }
        self._links, self.problems = link(rules, lists, self._fields)
        self._correlators = {}
        for place, linked in enumerate(self._links):
            spec = linked.rule.correlation
            if spec is not None:
                known = kept.get((linked.rule.id, linked.rule.digest))
                self._correlators[place] = known if known is not None and known.spec == spec else Correlator(spec)
        self._strikes.clear()
        self._journal = Journal(self._links)
        self._feeders = {
            place: tuple(self._feeder(linked, *feed) for feed in linked.feeds)
            for place, linked in enumerate(self._links)
            if linked.feeds
        }
        self._fed_by = {
            place: tuple(
                (base, feeder) for base, feeders in self._feeders.items() for feeder in feeders if feeder.place == place
            )
            for place in self._correlators
        }
        self._judged_late = tuple(place for place, known in self._correlators.items() if not known.at_once)
        self._held = self.group_count
        self._buckets = {}
        self._candidates = {
            place: Candidate(place, partial(self._placed, linked), partial(_make, linked))
            for place, linked in enumerate(self._links)
            if linked.rule.kind == "rule"
        }
        self._plans = Plans(
            self._links, self._candidates, self._rarity, lambda place: self._candidates[place].predicate is _never
        )

    def _placed(self, linked: Linked) -> Placed | None:
        return placed(json.loads(linked.tree), self._rarity) if self._prefilter else None

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules and correlations in force."""
        return tuple(linked.rule for linked in self._links)

    def correlator(self, rule_id: str) -> Correlator | None:
        """The state of one correlation, to be looked at."""
        return next((c for place, c in self._correlators.items() if self._links[place].rule.id == rule_id), None)

    @property
    def group_count(self) -> int:
        """Groups that all correlations keep now."""
        return sum(len(correlator.groups) for correlator in self._correlators.values())

    @property
    def plan_count(self) -> int:
        """Kinds of events that there are plans for."""
        return self._plans.count

    @property
    def evicted(self) -> int:
        """Groups that were forgotten to make room, since the engine was made."""
        return sum(correlator.evicted for correlator in self._correlators.values())

    def linked(self, rule_id: str) -> Linked | None:
        """One rule in force."""
        return next((linked for linked in self._links if linked.rule.id == rule_id), None)

    def candidates(self, decoded: Decoded, text: str) -> tuple[list[Linked], int]:
        """The rules that the prefilter lets through for an event with that text, and how many its log sources have."""
        bucket = self._bucket(self._sources.of(decoded))
        return [self._links[place] for place in bucket.candidates(text)], len(bucket.rules)

    def groups_of(self, base: Linked, view: View) -> list[tuple[Rule, tuple[str, ...]]]:
        """The correlations that a rule's match is for, with the group that the event is of."""
        found = []
        for place, among in base.feeds:
            rule = self._links[place].rule
            group = self._feeder(base, place, among).group(view)
            if group is not None:
                found.append((rule, group))
        return found

    def _feeder(self, base: Linked, place: int, among: int) -> Feeder:
        spec = self._links[place].rule.correlation
        assert spec is not None  # noqa: S101 - feeds name correlations only
        names = tuple(field_names(spec, name, base) for name in spec.group_by)
        counted = tuple(field_names(spec, name, base) for name in spec.fields)
        return Feeder(place, among, names, counted, bool(counted) and spec.type != "value_count")

    # -- events

    def detect(self, events: Sequence[tuple[Decoded, int]], give_way: Callable[[], None] = go_on) -> Detections:
        """Ask the rules about a batch: decoded events with their times in microseconds since the epoch.

        give_way is called every few events.
        """
        batch = _Batch(events)
        if self._enrich is not None:
            for decoded, _ in events:
                self._enrich(decoded)
        self._ask(batch, give_way)
        give_way()
        self._tell(batch)
        self._correlate(batch, give_way)
        for place in self._judged_late:
            correlator = self._correlators[place]
            before = len(correlator.groups)
            fired = correlator.close(self._latest_us)
            self._held += len(correlator.groups) - before
            if fired:
                self._journal.closed(place, self._latest_us)
                self._fired_late(place, fired, batch)
        self._bound()
        give_way()
        known = self._threats.matches(events) if self._threats is not None else ()
        return Detections(
            (*known, *sorted(batch.matches, key=lambda match: match.positions[-1])), tuple(batch.disabled)
        )

    def finish(self) -> Detections:
        """Judge every open window as if its time were over: the end of a file that nothing follows."""
        batch = _Batch(())
        for place in self._judged_late:
            self._fired_late(place, self._correlators[place].close(1 << 62), batch)
        return Detections(tuple(batch.matches))

    def kinds(self, decoded: Decoded) -> Kinds:
        """The log sources of an event."""
        return self._sources.of(decoded)

    def _bucket(self, kinds: Kinds) -> Bucket:
        bucket = self._buckets.get(kinds)
        if bucket is None:
            if len(self._buckets) >= 500:  # names of programs are invented: the buckets of a few are made again
                self._buckets.clear()
            same = [c for place, c in self._candidates.items() if kinds.meets(self._links[place].rule.logsource)]
            bucket = next((known for known in self._buckets.values() if known.rules == tuple(same)), None) or Bucket(
                same
            )
            self._buckets[kinds] = bucket
        return bucket

    def _ask(self, batch: _Batch, give_way: Callable[[], None]) -> None:
        """Find the rules that match each event, for batch.fed."""
        clock, find, candidates, fed = self._clock, self._plans.find, self._candidates, batch.fed
        self._latest_us = max(self._latest_us, max((timestamp_us for _, timestamp_us in batch.events), default=0))
        begun = clock()
        for position, (decoded, timestamp_us) in enumerate(batch.events):
            if not position & 63:
                give_way()
                begun = clock()
            plan = find(decoded, timestamp_us, self._rules_of) if self._prefilter else None
            if plan is not None:
                asked: Sequence[int] = plan.asked
                matched: Sequence[int] = plan.matching(decoded, timestamp_us, candidates)
            else:
                bucket = self._bucket(self._sources.of(decoded))
                text = searched_text(decoded) if bucket.rules else ""
                asked, matched = bucket.candidates(text), ()
                if asked:
                    view = View(decoded, text, timestamp_us)
                    get, values = view.get, view.values
                    begun = clock()
                    matched = [place for place in asked if candidates[place].predicate(get, values, text)]
            now = clock()
            if now - begun > BUDGET_S:
                self._find_slow(asked, View(decoded, searched_text(decoded), timestamp_us), batch)
                now = clock()
            begun = now
            for place in matched:
                positions = fed.get(place)
                if positions is None:
                    fed[place] = [position]
                else:
                    positions.append(position)

    def _rules_of(self, decoded: Decoded) -> tuple[Candidate, ...]:
        return self._bucket(self._sources.of(decoded)).rules

    def _find_slow(self, candidates: Sequence[int], view: View, batch: _Batch) -> None:
        """Something took too long on this event: measure each rule, switch one off that does it again and again."""
        for place in candidates:
            candidate = self._candidates[place]
            started = self._cpu_clock()
            candidate.predicate(view.get, view.values, view.text)
            if self._cpu_clock() - started > BUDGET_S:
                self._strikes[place] += 1
                if self._strikes[place] >= STRIKES:
                    rule = self._links[place].rule
                    reason = f"took longer than {BUDGET_S * 1000:.0f} ms on {STRIKES} events and is off"
                    problem = Problem(rule.path, rule.line, reason, rule.id, rule.name, broken=False)
                    self.off[rule.id] = problem
                    batch.disabled.append(problem)
                    candidate.predicate = _never
                    self._plans.clear()

    def _tell(self, batch: _Batch) -> None:
        """Make the matches of rules that are told of by themselves; of those beyond digest_above one for all."""
        for place in sorted(batch.fed):
            linked, positions = self._links[place], batch.fed[place]
            rule = linked.rule
            self.hits[rule.id] += len(positions)
            if not linked.emits:
                continue
            events = batch.events
            alone = min(len(positions), self._digest_above)
            batch.matches += [_of_event(rule, batch.view(at), events[at][1], at) for at in positions[:alone]]
            if len(positions) > alone:
                last = batch.matches[-1]
                others = tuple(positions[alone - 1 :])
                times = [events[at][1] for at in others]
                batch.matches[-1] = replace(
                    last, count=len(others), timestamp_us=max(times), first_us=min(times), positions=others
                )

    # -- correlations

    def _correlate(self, batch: _Batch, give_way: Callable[[], None]) -> None:
        """Feed the correlations what rules matched, and those above them what they say."""
        waiting = {feeder.place for base in batch.fed for feeder in self._feeders.get(base, ())}
        runs: dict[tuple[int, int], Run] = {}  # of correlations that are fed by others: (correlation fed, feeding)
        while waiting:
            place = min(waiting)  # what a correlation is about stands before it
            waiting.remove(place)
            give_way()
            of_place = []
            for base, feeder in self._fed_by[place]:
                positions = batch.fed.get(base)
                run = batch.feeds.run(base, feeder, positions) if positions else runs.get((place, base))
                if run is not None and run.inputs:
                    run.places.append(place)
                    of_place.append(run)
            if not of_place:
                continue
            run = together(of_place)
            fired = [
                (firing, run.positions[index], run.positions_of(firing.group, run.positions[index]))
                for index, firing in self._feed(place, run)
            ]
            for above, derived in self._fired(place, fired, batch):
                runs[above, place] = derived
                waiting.add(above)
        self._journal.fed((*batch.feeds.runs, *runs.values()))

    def _feed(self, place: int, run: Run) -> list[tuple[int, Firing]]:
        correlator = self._correlators[place]
        before = len(correlator.groups)
        fired = correlator.feed_all(run.inputs)
        self._held += len(correlator.groups) - before
        return fired

    def _fired_late(self, place: int, firings: Sequence[Firing], batch: _Batch) -> None:
        """Tell of windows that are over, and feed those above."""
        last = len(batch.events) - 1
        positions = (last,) if last >= 0 else ()
        for above, run in self._fired(place, [(firing, last, positions) for firing in firings], batch):
            run.places.append(above)
            self._journal.fed([run])
            self._fired_late(above, [firing for _, firing in self._feed(above, run)], batch)

    def _fired(
        self, place: int, fired: Sequence[tuple[Firing, int, tuple[int, ...]]], batch: _Batch
    ) -> list[tuple[int, Run]]:
        """Tell of what a correlation says: firings with the position that they came with and those they are about.
        Gives what that is for the correlations above it."""
        linked = self._links[place]
        rule, spec = linked.rule, linked.rule.correlation
        assert spec is not None  # noqa: S101 - only correlations fire
        self.hits[rule.id] += len(fired)
        runs = {feeder: Run(place, feeder.among, [], []) for feeder in self._feeders.get(place, ())}
        for firing, position, positions in fired:
            group = tuple(zip(spec.group_by, firing.group, strict=True))
            if linked.emits:
                view = batch.view(position) if position >= 0 else None
                batch.matches.append(_of_correlation(rule, firing, group, view, positions))
            if firing.again:
                continue
            fields = dict(group)
            for feeder, run in runs.items():
                above = self._links[feeder.place].rule.correlation
                assert above is not None  # noqa: S101 - feeds name correlations only
                if all(name in fields for name in above.group_by):
                    values = tuple(fields[name] for name in above.group_by)
                    value = "\x1f".join(fields.get(name, "") for name in above.fields) if above.fields else None
                    run.positions.append(position)
                    run.inputs.append((values, firing.last_us, feeder.among, value))
        return [(feeder.place, run) for feeder, run in runs.items() if run.inputs]

    def _bound(self) -> None:
        """Keep the groups of all correlations within bounds."""
        while self._held > MAX_ALL_GROUPS:
            fullest = max(self._correlators.values(), key=lambda correlator: len(correlator.groups))
            for _ in range(min(self._held - MAX_ALL_GROUPS, 1_000)):
                fullest.forget_oldest()
                self._held -= 1

    # -- state

    def twin(self) -> DetectionEngine:
        """Another engine with these rules and an empty memory; what they were compiled to is shared."""
        twin = copy.copy(self)
        twin.begin()
        return twin

    def begin(self) -> None:
        """Forget everything that was seen."""
        self._correlators = {place: Correlator(known.spec) for place, known in self._correlators.items()}
        self._journal = Journal(self._links)
        self._held = self._latest_us = 0
        self.hits = Counter()

    def changes(self, give_way: Callable[[], None] = go_on) -> list[StateRow]:
        """What the batches since the last call changed, to be committed with them."""
        return self._journal.rows(self._links, self._correlators, give_way)

    def restore(self, rows: Iterable[StateRow]) -> None:
        """Go back to the state that these rows hold, which are all that were committed; the rest is dropped."""
        for place, correlator in self._correlators.items():
            self._correlators[place] = Correlator(correlator.spec, max_groups=correlator.max_groups)
        self._journal.restore(rows, self._links, self._correlators)
        self._held = self.group_count
        self._latest_us = 0


def _make(linked: Linked) -> Predicate:
    return make_predicate(json.loads(linked.tree), linked.names)


def _never(*_: object) -> bool:
    return False


def _of_event(rule: Rule, view: View, timestamp_us: int, position: int) -> RuleMatch:
    values = view.values
    return RuleMatch(
        rule.id, rule.name, rule.level, LEVEL_SEVERITIES[rule.level], "rule", timestamp_us, timestamp_us, 1, (),
        first_value(values, _ADDRESS), first_value(values, _USER), first_value(values, _HOST), rule.tags, (position,),
    )  # fmt: skip


def _of_correlation(
    rule: Rule, firing: Firing, group: tuple[tuple[str, str], ...], view: View | None, positions: tuple[int, ...]
) -> RuleMatch:
    of_group = {name.lower(): value for name, value in group}

    def values(name: str | None) -> Any:
        return of_group.get(name or "") or (view.values(name) if view is not None else None)

    return RuleMatch(
        rule.id, rule.name, rule.level, LEVEL_SEVERITIES[rule.level], "correlation", firing.last_us, firing.first_us,
        firing.count, group, first_value(values, _ADDRESS), first_value(values, _USER), first_value(values, _HOST),
        rule.tags, positions, firing.again,
    )  # fmt: skip
