"""The rules of one kind of event behind a prefilter: one pass over the event's text says which few are to be asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ahocorasick_rs import AhoCorasick

from threatlens.detectors.predicates import Get, Predicate


class Candidate:
    """A rule in force with its function, which is made when it is first needed."""

    __slots__ = ("_make", "literals", "order", "predicate")

    def __init__(self, order: int, literals: frozenset[str] | None, make: Callable[[], Predicate]) -> None:
        self.predicate: Predicate = self._first
        self.order = order  # its place in the engine
        self.literals = literals  # None: to be asked every time
        self._make = make

    def _first(self, g: Get, o: Get, text: str) -> object:
        self.predicate = self._make()
        return self.predicate(g, o, text)


class Bucket:
    """Chooses among rules whose log source an event has."""

    def __init__(self, rules: Sequence[Candidate]) -> None:
        self.rules = tuple(sorted(rules, key=lambda rule: rule.order))
        self._always = tuple(rule.order for rule in self.rules if rule.literals is None)
        wanted: dict[str, list[int]] = {}
        for rule in self.rules:
            for literal in rule.literals or ():
                wanted.setdefault(literal, []).append(rule.order)
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
