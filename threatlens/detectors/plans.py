"""Plans: what is left of the rules for events of one shape.

Most events of a log are alike: they have the same fields, and the same values of those that tell kinds of events apart
(action, outcome, method, status, ...). For such a kind all that rules say about those fields is settled once. A plan
keeps what is left: rules that match for certain, texts to look for in single fields, and what is known about values of
a field that were met before. A plan is made when a kind has been met often enough to be worth it, so a log that
invents kinds costs no more than one that has none. Plans change what is asked, never what is found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from ahocorasick_rs import AhoCorasick

from threatlens.detectors.buckets import Candidate
from threatlens.detectors.fields import NETWORK, NO_FIELDS, SHAPES, View, message_of, searched_text, text_of
from threatlens.detectors.linking import Linked
from threatlens.detectors.literals import Placed, Rarity, placed
from threatlens.detectors.logsources import CHANNELS, DECIDING, is_told_by_channel
from threatlens.detectors.predicates import SEPARATOR, Get, Names, Predicate, make_predicate
from threatlens.detectors.rule import Tree
from threatlens.event import Decoded, Fields

#: Fields with few values, that tell kinds of events apart.
STEADY = frozenset(
    {
        *DECIDING, "event.type", "event.kind", "event.module", "event.dataset", "event.provider", "event.action",
        "event.outcome", "event.reason", "http.request.method", "http.response.status_code", "http.version",
        "log.level", "network.transport", "network.protocol", "log.syslog.severity.name", "log.syslog.facility.name",
    }
)  # fmt: skip
#: Events of a kind before there is a plan for it, and as many more per rule that might be asked.
BUILD_AFTER, PER_RULE = 64, 1
MAX_SHAPES, MAX_KINDS, MAX_PLANS = 1_000, 5_000, 200
#: Values that are remembered, of all plans together, of one field, and the longest of them, in characters.
MAX_VALUES, MAX_FIELD_VALUES, MAX_VALUE = 8_000, 2_000, 200
#: Values that are met for the first time until all plans are looked at.
LOOK_AFTER = 500
#: Where a rule looks: fields, of which the first that is not empty counts. Two are none: the message, everything.
_Place = tuple[str, ...]
_MESSAGE: _Place = ("",)
_ALL: _Place = ()
#: Digits as one: messages that differ in numbers alone are looked through once.
_FOLDED = bytes(ord("0") if chr(byte) in "0123456789" else byte for byte in range(256))
_Key = tuple[str, tuple[object, ...]]  # the format, and the values of the steady fields
_Verdict = tuple[tuple[int, ...], tuple[int, ...]]  # rules that match, rules that may
_NOTHING: _Verdict = ((), ())
_EMPTY: tuple[object, ...] = ("", (), ("",))


class _Text:
    """One place in which rules look for something."""

    __slots__ = ("_always", "_find", "_gates", "_orders", "field", "known", "place")

    def __init__(
        self,
        place: _Place,
        always: Sequence[int],
        wanted: Mapping[str, Sequence[int]],
        gates: Mapping[int, tuple[Predicate, bool]],
    ) -> None:
        """`always`: rules to ask about every value; `wanted`: text -> rules; `gates`: what is certain about the value
        in events that a rule matches, and whether that is the whole rule."""
        self.place = place
        self.field = place[0] if place else None  # the first
        self.known: dict[object, _Verdict] = {}  # by value; of the message by its folded bytes
        self._always = tuple(always)
        self._gates = gates
        if place == _MESSAGE:
            folded: dict[str, list[int]] = {}
            for literal, orders in wanted.items():
                folded.setdefault(_folded(literal).decode("utf-8", "surrogatepass"), []).extend(orders)
            wanted, self._gates = folded, {}  # what holds for one message need not hold for those like it
        self._orders = [tuple(orders) for orders in wanted.values()]
        self._find = AhoCorasick(list(wanted)).find_matches_as_indexes if wanted else None

    def found(self, text: str) -> set[int] | None:
        """The rules for which a value, in lower case, has what they look for."""
        hits = self._find(text, overlapping=True) if self._find is not None else None
        if not hits:
            return set(self._always) if self._always else None
        found = set(self._always)
        for literal in {hit[0] for hit in hits}:
            found.update(self._orders[literal])
        return found

    def forget_half(self) -> None:
        """Of the values that are remembered, those that were met first."""
        for value in list(islice(self.known, len(self.known) // 2)):
            del self.known[value]

    def verdict(self, found: set[int], view: View) -> _Verdict:
        """What a value says for which these were found."""
        sure: list[int] = []
        maybe: list[int] = []
        get, values = view.get, view.values
        for order in found:
            gate = self._gates.get(order)
            if gate is None:
                maybe.append(order)
            elif gate[0](get, values, ""):  # the text of one field is all it needs
                (sure if gate[1] else maybe).append(order)
        return (tuple(sure), tuple(maybe)) if sure or maybe else _NOTHING


class Plan:
    """The rules about one kind of event, as far as they are not settled."""

    def __init__(
        self,
        sure: Sequence[int],
        each: Sequence[int],
        texts: Sequence[_Text],
        asked: Sequence[int],
        whole: frozenset[int],
    ) -> None:
        """`whole`: rules that look through the event as a whole."""
        self.asked = tuple(asked)  # rules that are not settled
        self.texts = tuple(texts)
        self.misses = 0  # values that were not known
        #: Steady fields that are no texts, with their types: 1, 1.0 and True are one as keys, and not as values.
        self.kinds: tuple[tuple[int, type], ...] = ()
        self._sure = tuple(sure)
        self._each = tuple(each)  # rules of which no text is certain: asked about every event
        self._whole = whole

    def matching(self, decoded: Decoded, timestamp_us: int, candidates: Mapping[int, Candidate]) -> Sequence[int]:
        """The rules that match, each once."""
        fields = decoded.fields
        view: View | None = None
        whole = ""  # the text of the event, once something asks for it
        found = self._sure
        ask = self._each
        for text in self.texts:
            field = text.field
            key: Any
            if field:
                key = fields[field]
                if type(key) is not str or not key:
                    key = _value(fields, text.place)
            elif field is None:
                whole = whole or searched_text(decoded)
                hits = text.found(whole)
                if hits is not None:
                    ask += tuple(hits)
                continue
            else:
                key = _folded(message_of(decoded))
            known = text.known.get(key)
            if known is None:
                if not field:
                    hits = text.found(key.decode("utf-8", "surrogatepass").lower())
                else:
                    hits = text.found(key.lower() if type(key) is str else SEPARATOR.join(key).lower())
                if hits is None:
                    known = _NOTHING
                else:
                    view = view or View(decoded, "", timestamp_us)
                    known = text.verdict(hits, view)
                if len(key) <= MAX_VALUE:
                    if len(text.known) >= MAX_FIELD_VALUES:
                        text.forget_half()
                    text.known[key] = known
                    self.misses += 1
            if known is not _NOTHING:
                found += known[0]
                ask += known[1]
        if ask:
            view = view or View(decoded, "", timestamp_us)
            get, values, asked = view.get, view.values, set(ask)
            if not self._whole.isdisjoint(asked):
                whole = whole or searched_text(decoded)
            found += tuple(order for order in asked if candidates[order].predicate(get, values, whole))
        return found


class _Later:
    """A function of an event that is made when it is first called: most never are."""

    __slots__ = ("_made", "_names", "_tree")

    def __init__(self, tree: str, names: Names) -> None:
        self._tree = tree
        self._names = names
        self._made: Predicate | None = None

    def __call__(self, g: Get, o: Get, text: str) -> object:
        if self._made is None:
            self._made = make_predicate(json.loads(self._tree), self._names)
        return self._made(g, o, text)


def _folded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass").translate(_FOLDED)


def _value(fields: Fields, place: _Place) -> str | tuple[str, ...]:
    """What stands in a place: the first value that is not empty, or the last."""
    found: str | tuple[str, ...] = ""
    for name in place:
        value = fields[name]
        found = tuple(value) if type(value) is list else text_of(value)
        if found not in _EMPTY:
            break
    return found


class _Shape(NamedTuple):
    steady: frozenset[str]  # those of its fields that tell kinds apart
    values: Callable[[Fields], tuple[object, ...]]  # of these
    plans: dict[_Key, Plan]
    seen: dict[_Key, int]
    texts: dict[object, tuple[list[int], tuple[_Text, ...]]]  # by what is left of the rules


def _shape(names: Sequence[str]) -> _Shape:
    by_channel = not CHANNELS.isdisjoint(names)  # where the channel tells, the program does not
    steady = [name for name in names if name in STEADY and not (by_channel and name == "process.name")]
    values: Callable[[Fields], tuple[object, ...]] = lambda _: ()  # noqa: E731
    if len(steady) > 1:
        values = itemgetter(*steady)
    elif steady:
        values = lambda fields: (fields[steady[0]],)  # noqa: E731
    return _Shape(frozenset(steady), values, {}, {}, {})


class Plans:
    """The plans of an engine, made as events come."""

    def __init__(
        self, links: Sequence[Linked], candidates: Mapping[int, Candidate], rarity: Rarity, off: Callable[[int], bool]
    ) -> None:
        """`off`: whether the rule at a place is switched off."""
        self._links = links
        self._candidates = candidates
        self._rarity = rarity
        self._off = off
        self._tests: dict[str, Predicate] = {}
        self._placed: dict[str, Placed | None] = {}  # texts that are certain, by what is left of a rule
        self._gates: dict[tuple[int, str], Predicate] = {}
        self.clear()

    @property
    def count(self) -> int:
        """Plans that there are."""
        return len(self._plans)

    def clear(self) -> None:
        """Forget all plans."""
        self._shapes: dict[tuple[str, ...], _Shape] = {}
        self._placed.clear()
        self._gates.clear()
        self._kinds = 0
        self._plans: list[Plan] = []

    def find(
        self, decoded: Decoded, timestamp_us: int, rules_of: Callable[[Decoded], Sequence[Candidate]]
    ) -> Plan | None:
        """The plan for events like this one; None: they are too few, or of no kind."""
        fields = decoded.fields
        names = tuple(fields)
        shape = self._shapes.get(names)
        if shape is None:
            if len(self._shapes) >= MAX_SHAPES:
                self.clear()
            shape = self._shapes[names] = _shape(names)
        values = shape.values(fields)
        key = (decoded.format, values)
        try:
            plan = shape.plans.get(key)
        except TypeError:  # a list, from a JSON document
            return None
        if plan is not None:
            if plan.misses >= LOOK_AFTER:
                self._forget_values()
            for at, kind in plan.kinds:
                if type(values[at]) is not kind:
                    return None
            return plan
        seen = shape.seen.get(key, 0) + 1
        if seen == 1:
            self._kinds += 1
            if self._kinds > MAX_KINDS:
                self.clear()
                return None
        shape.seen[key] = seen
        if seen < BUILD_AFTER:
            return None
        rules = rules_of(decoded)
        if seen < BUILD_AFTER + PER_RULE * len(rules):
            return None
        if "process.name" in fields and "process.name" not in shape.steady and not is_told_by_channel(decoded):
            return None  # its program decides what rules are asked, as the field of its channel is empty
        if len(self._plans) >= MAX_PLANS:
            self.clear()
            return None
        view = View(decoded, searched_text(decoded), timestamp_us)
        plan = shape.plans[key] = self._make(rules, view, shape, fields)
        plan.kinds = tuple((at, type(value)) for at, value in enumerate(values) if type(value) is not str)
        self._plans.append(plan)
        return plan

    def _forget_values(self) -> None:
        """Keep the values that are remembered within bounds."""
        for plan in self._plans:
            plan.misses = 0
        texts = {id(text): text for plan in self._plans for text in plan.texts}.values()
        if sum(len(text.known) for text in texts) > MAX_VALUES:
            for text in texts:
                text.forget_half()

    def _make(self, rules: Iterable[Candidate], view: View, shape: _Shape, fields: Fields) -> Plan:
        """What plans for events of the same fields look for is taken over where the same is left of the rules."""
        sure, left = [], []
        known = shape.texts
        for rule in rules:
            if self._off(rule.order):
                continue
            kind = _Kind(self._links[rule.order], fields, shape.steady, view, self._tests)
            said = kind.settle(json.loads(self._links[rule.order].tree))
            if said is True:
                sure.append(rule.order)
            elif said is not False:
                left.append((rule.order, kind, said, kind.places(said)))
        key = tuple((order, repr(tree)) for order, _, tree, _ in left)
        if key not in known:
            known[key] = self._texts(left)
        each, texts = known[key]
        whole = frozenset(order for order, _, _, places in left if _ALL in places)
        return Plan(sure, each, texts, [order for order, _, _, _ in left], whole)

    def _texts(self, left: Iterable[tuple[int, _Kind, Tree, set[_Place]]]) -> tuple[list[int], tuple[_Text, ...]]:
        """Rules to ask about every event, and what is looked for to find the others."""
        each: list[int] = []
        always: dict[_Place, list[int]] = {}
        wanted: dict[_Place, dict[str, list[int]]] = {}
        gates: dict[_Place, dict[int, tuple[Predicate, bool]]] = {}
        for order, kind, tree, places in left:
            literals = self._literals(order, kind, tree)
            looked = [(place, text) for field, text in literals or () for place in kind.looked_up(field)]
            if literals is None:
                fields = places - {_ALL, _MESSAGE}
                gate_at = max(fields, key=lambda place: (len(kind.about(tree, place)), place), default=_ALL)
            else:
                of_literals = {place for place, _ in looked}
                gate_at = of_literals.pop() if len(of_literals) == 1 else _ALL
            gate = kind.about(tree, gate_at) if gate_at not in {_ALL, _MESSAGE} else []
            if gate:
                gates.setdefault(gate_at, {})[order] = self._gate(order, gate), places == {gate_at}
            if literals is not None:
                for place, text in looked:
                    wanted.setdefault(place, {}).setdefault(text, []).append(order)
            elif gate or places == {_MESSAGE}:
                always.setdefault(gate_at if gate else _MESSAGE, []).append(order)
            else:
                each.append(order)
        return each, tuple(
            _Text(place, always.get(place, ()), wanted.get(place, {}), gates.get(place, {}))
            for place in dict.fromkeys((*always, *wanted))
        )

    def _gate(self, order: int, parts: Sequence[Tree]) -> Predicate:
        """What is certain of an event that a rule matches. Events of many kinds have it in common."""
        tree = json.dumps(["and", parts])
        return self._gates.setdefault((order, tree), _Later(tree, self._links[order].names))

    def _literals(self, order: int, kind: _Kind, tree: Tree) -> Placed | None:
        """Texts that are certain: those of the whole rule, unless it looks for one where that is settled."""
        of_rule = self._candidates[order].placed
        if of_rule is not None and not any(kind.is_settled(field) for field, _ in of_rule):
            return of_rule
        key = repr(tree)
        if key not in self._placed:
            self._placed[key] = placed(tree, self._rarity)
        return self._placed[key]


class _Kind:
    """One rule over one kind of event."""

    def __init__(
        self, linked: Linked, fields: Fields, steady: frozenset[str], view: View, tests: dict[str, Predicate]
    ) -> None:
        self._names = linked.names
        self._places = SHAPES[tuple(fields)]
        self._steady = steady
        self._view = view
        self._tests = tests
        self._known: dict[str, set[_Place]] = {}

    def places_of(self, field: str) -> set[_Place]:
        """Where a rule's field is looked up in the event."""
        found = self._known.get(field)
        if found is None:
            found = self._known[field] = self._places_of(self._names(field))
        return found

    def _places_of(self, names: Sequence[str]) -> set[_Place]:
        fields = tuple(dict.fromkeys(self._places[name] for name in names if name in self._places))
        made = [name for name in names if name not in self._places and name in NO_FIELDS]
        found: set[_Place] = {(field,) for field in fields} if made else {fields} if fields else set()
        for name in made:
            if name == "message":
                found.add(_MESSAGE)
            elif name != NETWORK:
                found.add(_ALL)
            elif "source.ip" in self._places:
                found.add((self._places["source.ip"],))
        return found

    def places(self, tree: Tree) -> set[_Place]:
        """All places of the event that a tree is about."""
        op = tree[0]
        if op in {"and", "or"}:
            return set().union(*map(self.places, tree[1]))
        if op in {"not", "sel"}:
            return self.places(tree[-1])
        if tree[1] is None:
            return {_ALL}
        found = self.places_of(tree[1])
        if op == "ref":
            found = found.union(*(self.places_of(other) for other, _ in tree[3]))
        return found

    def is_settled(self, field: str | None) -> bool:
        """Whether a rule's field is nowhere in the event, or where all events of the kind are alike."""
        return field is not None and not any(set(place) - self._steady for place in self.places_of(field))

    def looked_up(self, field: str | None) -> set[_Place]:
        """The same, of a keyword too."""
        return {_ALL} if field is None else self.places_of(field)

    def about(self, tree: Tree, place: _Place) -> list[Tree]:
        """The parts of a conjunction that are about one place alone."""
        return [part for part in (tree[1] if tree[0] == "and" else [tree]) if self.places(part) == {place}]

    def settle(self, tree: Tree) -> Tree | bool:
        """What is left of a tree, or what it says."""
        op = tree[0]
        if op in {"and", "or"}:
            left: list[Tree] = []
            for item in tree[1]:
                one = self.settle(item)
                if isinstance(one, list):
                    left += one[1] if one[0] == op else [one]
                elif one is (op == "or"):
                    return bool(one)
            if not left:
                return bool(tree[1]) and op == "and"
            return [op, left] if len(left) > 1 else list(left[0])
        if op == "not":
            one = self.settle(tree[1])
            if isinstance(one, bool):
                return not one
            return ["and", [["not", part] for part in one[1]]] if one[0] == "or" else ["not", one]
        if op == "sel":
            return self.settle(tree[2])
        said = None if tree[1] is None else self._said(tree)
        if said is None:
            return tree
        return said

    def _said(self, test: Tree) -> bool | None:
        """What a test says about every event of the kind; None: that differs."""
        op, field, cased, values = test
        names = self._names(field)
        places = self.places(test)
        if NETWORK in names and places:
            return None
        if op in {"exists", "any"} and _MESSAGE not in places and (op == "exists" or len(names) == 1):
            there = any(name in self._places or name in {"log.format", "@timestamp"} for name in names)
            return there is bool(values) if op == "exists" else there
        if not places:
            return op == "null" or (op in {"pre", "suf", "in"} and "" in values)
        fixed = (
            self._steady.issuperset(place) if place and place != _MESSAGE else place == _ALL and self._is_format(test)
            for place in places
        )
        if not all(fixed):
            return None
        key = repr((op, cased, values, field, tuple(names)))
        known = self._tests.get(key)
        if known is None or op == "ref":
            known = self._tests[key] = make_predicate(test, self._names)
        return bool(known(self._view.get, self._view.values, self._view.text))

    def _is_format(self, test: Tree) -> bool:
        """Whether what is no field is the format, which all events of a kind share."""
        return test[0] != "ref" and "@timestamp" not in self._names(test[1])
