"""Why a rule matched an event, and why another did not: the rules' own functions, asked again part by part.

Nothing is remembered for this. The tests are made by the same writer as those of the engine (predicates.py), one for
each part of a rule's tree, so that an explanation cannot differ from what happened.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from threatlens.detectors.engine import DetectionEngine
from threatlens.detectors.fields import View, searched_text
from threatlens.detectors.journal import JOURNAL
from threatlens.detectors.linking import Linked
from threatlens.detectors.predicates import each, make_predicate
from threatlens.detectors.rule import Tree
from threatlens.event import Decoded, RuleMatch, StateRow

_SHOWN_VALUES = 3
_SHOWN_CHARS = 200
_WORDS = {
    "eq": "is", "pre": "begins with", "suf": "ends with", "in": "contains", "glob": "is like", "re": "matches",
    "cidr": "is in", "null": "has no value", "any": "has a value", "ref": "agrees with", "list": "is in the list",
}  # fmt: skip
_COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "neq": "is a number other than"}


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a rule, and what the event has there."""

    selection: str  # the selection that it stands in, "" outside of any
    field: str  # "" for a keyword
    wanted: str  # "ends with '/sh'", in words
    actual: str | None  # the field's value; None: the event has none
    excluded: bool = False  # it is one that must not hold, and holds
    others: int = 0  # alternatives to it that do not hold either

    def __str__(self) -> str:
        what = f"{self.field or 'any value'} {self.wanted}"
        have = "the event has no such field" if self.actual is None else f"it is {self.actual!r}"
        if not self.field:
            have = "no value does"
        text = f"must not hold: {what}; {have}" if self.excluded else f"{what}: {have}"
        if self.selection:
            text = f"{self.selection}: {text}"
        return f"{text} (nor do {self.others} alternatives)" if self.others else text


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule says about one event."""

    rule_id: str
    rule_name: str
    level: str
    matched: bool
    failing: Condition | None = None  # the first condition that does not hold
    conditions: tuple[Condition, ...] = ()  # of a match: what held


@dataclass(frozen=True, slots=True)
class Window:
    """What a correlation holds about the group of an event."""

    rule_id: str
    rule_name: str
    group: tuple[tuple[str, str], ...]
    events: int  # that are kept
    first_us: int
    last_us: int
    values: tuple[str, ...]  # different values of the counted field, a few
    needed: str  # "event_count gte 5 within 600 s"
    told: int  # the count that was last told of; 0: not lately


@dataclass(frozen=True, slots=True)
class Trace:
    """An event seen by all rules of its log sources."""

    logsources: tuple[str, ...]
    verdicts: tuple[Verdict, ...]  # of those that the prefilter lets through: matches first
    passed_over: int  # rules that look for texts which are not in the event
    windows: tuple[Window, ...]


def trace(
    engine: DetectionEngine,
    decoded: Decoded,
    timestamp_us: int,
    states: Callable[[Sequence[str]], Iterable[StateRow]] | None = None,
) -> Trace:
    """Everything that the rules in force say about an event.

    states: what is stored of the correlations with these ids; with it the engine forgets what it knew and takes over
    that of the correlations that the event counts for. Without it nothing is changed.
    """
    kinds = engine.kinds(decoded)
    text = searched_text(decoded)
    view = View(decoded, text, timestamp_us)
    candidates, total = engine.candidates(decoded, text)
    verdicts = [_verdict(linked, view) for linked in candidates]
    matched = [linked for linked, verdict in zip(candidates, verdicts, strict=True) if verdict.matched]
    names = kinds.products | kinds.categories | kinds.services
    if states is not None:
        counting = {rule.id for base in matched for rule, _ in engine.groups_of(base, view)}
        engine.restore(states([JOURNAL, *sorted(counting)]) if counting else ())
    return Trace(
        tuple(sorted(names)),
        tuple(sorted(verdicts, key=lambda verdict: not verdict.matched)),
        total - len(candidates),
        tuple(_windows(engine, matched, view)),
    )


def verdict_of(engine: DetectionEngine, rule_id: str, decoded: Decoded, timestamp_us: int) -> Verdict | None:
    """What one rule in force says about an event, whatever its log source; None if there is no such rule."""
    linked = engine.linked(rule_id)
    if linked is None or not linked.tree:
        return None
    wanted = linked.rule.logsource
    verdict = _verdict(linked, View(decoded, searched_text(decoded), timestamp_us))
    kinds = engine.kinds(decoded)
    if kinds.meets(wanted):
        return verdict
    asked = {"product": wanted.product, "category": wanted.category, "service": wanted.service}
    have = ", ".join(sorted({*kinds.products, *kinds.categories, *kinds.services})) or "none"
    text = ", ".join(f"{key} {value}" for key, value in asked.items() if value)
    failing = Condition("", "log source", f"is {text}", have)
    return Verdict(verdict.rule_id, verdict.rule_name, verdict.level, False, failing)


def backtest(
    engine: DetectionEngine, events: Iterable[Sequence[tuple[Decoded, int]]]
) -> Iterator[tuple[int, RuleMatch]]:
    """Run an engine (a fresh one, with the rule in question) over batches of stored events in order of time.

    Gives the number of the batch and each match; positions are places in that batch.
    """
    number = -1
    for number, batch in enumerate(events):
        for match in engine.detect(batch).matches:
            yield number, match
    for match in engine.finish().matches:
        yield number, match


def _verdict(linked: Linked, view: View) -> Verdict:
    rule = linked.rule
    tree = json.loads(linked.tree)
    asker = _Asker(linked, view)
    if asker.holds(tree):
        return Verdict(rule.id, rule.name, rule.level, True, None, tuple(asker.held(tree, "")))
    return Verdict(rule.id, rule.name, rule.level, False, asker.failing(tree, ""))


class _Asker:
    """Asks the parts of one rule about one event."""

    def __init__(self, linked: Linked, view: View) -> None:
        self._names = linked.names
        self._view = view

    def holds(self, tree: Tree) -> bool:
        view = self._view
        return bool(make_predicate(tree, self._names)(view.get, view.values, view.text))

    def failing(self, tree: Tree, selection: str) -> Condition:
        """The first condition because of which the tree does not hold."""
        op = tree[0]
        if op == "sel":
            return self.failing(tree[2], tree[1])
        if op == "and":
            return self.failing(next(item for item in tree[1] if not self.holds(item)), selection)
        if op == "or":
            first = self.failing(tree[1][0], selection)
            return self._with_others(first, len(tree[1]) - 1)
        if op == "not":
            held = next(iter(self.held(tree[1], selection)), None)
            if held is not None:
                return Condition(held.selection, held.field, held.wanted, held.actual, excluded=True)
            return Condition(selection, "", "something is absent", None, excluded=True)
        return self._condition(tree, selection)

    @staticmethod
    def _with_others(first: Condition, others: int) -> Condition:
        return Condition(
            first.selection, first.field, first.wanted, first.actual, first.excluded, first.others + others
        )

    def held(self, tree: Tree, selection: str) -> Iterator[Condition]:
        """The conditions because of which the tree holds."""
        op = tree[0]
        if op == "sel":
            yield from self.held(tree[2], tree[1])
        elif op == "and":
            for item in tree[1]:
                yield from self.held(item, selection)
        elif op == "or":
            yield from self.held(next(item for item in tree[1] if self.holds(item)), selection)
        elif op != "not":
            yield self._condition(tree, selection)

    def _condition(self, tree: Tree, selection: str) -> Condition:
        op, field, _, values = tree
        if field is None:
            return Condition(selection, "", f"contains {_listed(op, values)}", None)
        actual = None
        for name in self._names(field):
            found = each(self._view.values(name))
            if found:
                actual = ", ".join(found)[:_SHOWN_CHARS]
                break
        return Condition(selection, field, _words(op, values), actual)


def _words(op: str, values: Any) -> str:
    if op == "exists":
        return "exists" if values else "does not exist"
    if op == "cmp":
        return " or ".join(f"{_COMPARISONS[word]} {number:g}" for word, number in values)
    if op == "time":
        return " or ".join(f"has the {part} {number}" for part, number in values)
    return f"{_WORDS.get(op, op)} {_listed(op, values)}".rstrip()


def _listed(op: str, values: Any) -> str:
    shown = [_value(op, value) for value in values[:_SHOWN_VALUES]]
    more = len(values) - len(shown)
    return " or ".join(shown) + (f" or {more} others" if more else "")


def _value(op: str, value: Any) -> str:
    if op == "glob":
        text = "".join(part if isinstance(part, str) else "*?"[part] for part in value)
        return repr(text[:_SHOWN_CHARS])
    if op in {"re", "ref"}:
        return repr(value[0][:_SHOWN_CHARS])
    return repr(str(value)[:_SHOWN_CHARS])


def _windows(engine: DetectionEngine, matched: Sequence[Linked], view: View) -> Iterator[Window]:
    for base in matched:
        for rule, key in engine.groups_of(base, view):
            correlator = engine.correlator(rule.id)
            group = correlator.group(key) if correlator is not None else None
            spec = rule.correlation
            if group is None or spec is None:
                continue
            times = list(group.times)
            if not times:
                continue
            needed = f"{spec.type} {spec.op} {spec.number:g} within {spec.timespan_s} s"
            if spec.type.startswith("temporal"):
                needed = f"{spec.type} of {len(spec.rules)} rules within {spec.timespan_s} s"
            values = tuple(dict.fromkeys(value for value in group.what if type(value) is str))[:20]
            yield Window(
                rule.id, rule.name, tuple(zip(spec.group_by, key, strict=True)), len(times), times[0],
                times[-1], values, needed, group.told,
            )  # fmt: skip
