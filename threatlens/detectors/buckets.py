"""The rules of one kind of event behind a prefilter: one pass over the event's text says which few are to be asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ahocorasick_rs import AhoCorasick

from threatlens.detectors.literals import Placed, texts_of
from threatlens.detectors.predicates import Get, Predicate


class Candidate:
    """A rule in force: its function, and the texts that the prefilter looks for, each made when it is first needed."""

    __slots__ = ("_find", "_make", "_placed", "order", "predicate")

    def __init__(self, order: int, find: Callable[[], Placed | None], make: Callable[[], Predicate]) -> None:
        self.predicate: Predicate = self._first
        self.order = order  # its place in the engine
        self._make = make
        self._find: Callable[[], Placed | None] | None = find
        self._placed: Placed | None = None

    def _first(self, g: Get, o: Get, text: str) -> object:
        self.predicate = self._make()
        return self.predicate(g, o, text)

    @property
    def placed(self) -> Placed | None:
        """Of these one stands in every event that the rule matches; None: nothing is certain."""
        if self._find is not None:
            self._placed = self._find()
            self._find = None
        return self._placed


class Bucket:
    """Chooses among rules whose log source an event has."""

    def __init__(self, rules: Sequence[Candidate]) -> None:
        self.rules = tuple(sorted(rules, key=lambda rule: rule.order))
        wanted: dict[str, list[int]] = {}
        always = []
        for rule in self.rules:
            placed = rule.placed
            if placed is None:
                always.append(rule.order)
            for literal in texts_of(placed or frozenset()):
                wanted.setdefault(literal, []).append(rule.order)
        self._always = tuple(always)
        self._orders = [tuple(orders) for orders in wanted.values()]
        self._find = AhoCorasick(list(wanted)).find_matches_as_indexes if wanted else None

    def candidates(self, text: str) -> Sequence[int]:
        """The places of the rules that may match an event with this text, in order, each once."""
        if self._find is None:
            return self._always
        hits = self._find(text, overlapping=True)
        if not hits:
            return self._always
        found = set(self._always)
        for literal in {hit[0] for hit in hits}:
            found.update(self._orders[literal])
        return sorted(found)
