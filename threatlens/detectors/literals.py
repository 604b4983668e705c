"""Which texts must stand in an event for a rule to match at all: what the prefilter looks for.

Of a conjunction one part is enough, and the rarest is taken; of a disjunction every part is needed. A rule for which
no text is certain runs on every event of its log source.
"""

from __future__ import annotations

import re
import re._constants as constants  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterable, Sequence
from typing import Any

from ahocorasick_rs import AhoCorasick

from threatlens.detectors.predicates import SEPARATOR
from threatlens.detectors.rule import Tree

#: Fields whose values stand in no text that is searched: they are made of others when they are asked for.
NOT_SEARCHED = frozenset({"@timestamp", "source.network"})
MAX_LITERAL = 40  # characters of a text that are looked for
_FEW = 30  # texts that are compared one by one
_MAX_LITERALS = 2_000  # a rule that would need more runs on every event
#: Characters that stand between values, or whose lower case depends on what stands around them.
_UNFOLDED = re.compile(f"[{SEPARATOR}\u03a3\u03c3\u03c2\u0130]+")
_NUMBER = re.compile(r"[0-9]{1,6}")


class Rarity:
    """How often a text is seen in everyday events, from lines of such events."""

    def __init__(self, samples: Iterable[str]) -> None:
        self._samples = tuple(sample.lower() for sample in samples)
        self._known: dict[str, float] = {}

    def cost(self, literal: str) -> float:
        """About the share of events that hold the text, from the samples and its length."""
        cost = self._known.get(literal)
        if cost is None:
            seen = sum(literal in sample for sample in self._samples) / max(1, len(self._samples))
            guess = min(1.0, 800 * 0.06 ** len(literal)) + (0.02 if _NUMBER.fullmatch(literal) else 0)
            cost = self._known[literal] = seen + guess + 1e-6
        return cost


#: Texts with the field in which each stands; None: anywhere.
Placed = frozenset[tuple[str | None, str]]


def required(tree: Tree, rarity: Rarity) -> frozenset[str] | None:
    """Texts of which one stands, lower case, in every event that meets the tree. None: nothing is certain."""
    found = placed(tree, rarity)
    return None if found is None else texts_of(found)


def texts_of(found: Placed) -> frozenset[str]:
    """The texts, wherever they stand."""
    return frozenset(text for _, text in _shortest_of((None, text) for _, text in found))


def placed(tree: Tree, rarity: Rarity) -> Placed | None:
    """The same with the field of the rule that each text stands in, None for a keyword."""
    found = _required(tree, rarity)
    return None if found is None else found[0]


def _required(tree: Tree, rarity: Rarity) -> tuple[Placed, float] | None:
    op = tree[0]
    if op == "sel":
        return _required(tree[2], rarity)
    if op == "and":
        parts = [part for item in tree[1] if (part := _required(item, rarity)) is not None]
        return min(parts, key=lambda part: part[1], default=None)
    if op == "or":
        union: Placed = frozenset()
        for item in tree[1]:
            part = _required(item, rarity)
            if part is None:
                return None
            union |= part[0]
        return _priced(union, rarity)
    if op == "not" or tree[1] in NOT_SEARCHED:
        return None
    if op == "re":
        sets = [_of_pattern(pattern, flags, rarity) for pattern, flags in tree[3]]
        return None if not all(sets) else _priced(((tree[1], text) for text in frozenset().union(*sets)), rarity)
    if op in {"eq", "pre", "suf", "in", "glob"}:
        texts = [_fragment(op, value, rarity) for value in tree[3]]
        return None if not all(texts) else _priced(((tree[1], text) for text in texts), rarity)
    return None


def _of_pattern(pattern: str, flags: str, rarity: Rarity) -> frozenset[str]:
    """The cheapest set of texts of which one stands in all that the pattern matches; empty if nothing is certain."""
    best: tuple[frozenset[str], float] = frozenset(), 0.3  # what is met in a third of all events is as good as none
    for texts in pattern_literals(pattern, flags):
        pieces = [min(_pieces(text.lower()), key=rarity.cost, default="") for text in texts]
        if all(pieces):
            cost = sum(map(rarity.cost, pieces))
            if cost < best[1]:
                best = frozenset(pieces), cost
    return best[0]


def _priced(literals: Iterable[tuple[str | None, str]], rarity: Rarity) -> tuple[Placed, float] | None:
    literals = frozenset(literals)
    if not literals or len(literals) > _MAX_LITERALS:
        return None
    kept = _shortest_of(literals)
    return kept, sum(rarity.cost(text) for _, text in kept)


def _shortest_of(literals: Iterable[tuple[str | None, str]]) -> Placed:
    """A text that holds another of its field adds nothing: the shorter one is found wherever the longer one is."""
    of_field: dict[str | None, list[str]] = {}
    for field, text in frozenset(literals):
        of_field.setdefault(field, []).append(text)
    return frozenset((field, text) for field, texts in of_field.items() for text in _without_others(texts))


def _without_others(texts: list[str]) -> Iterable[str]:
    if len(texts) < _FEW:
        return [text for text in texts if not any(part in text and part != text for part in texts)]
    find = AhoCorasick(texts).find_matches_as_indexes
    return [text for place, text in enumerate(texts) if all(hit[0] == place for hit in find(text, overlapping=True))]


def _fragment(op: str, value: Any, rarity: Rarity) -> str:
    """The rarest text that is certain in a value that meets one alternative of a test; "" if none is."""
    candidates = [part for part in value if isinstance(part, str)] if op == "glob" else [value]
    pieces = [piece for text in candidates for piece in _pieces(text.lower())]
    return min(pieces, key=rarity.cost, default="")


def _pieces(text: str) -> list[str]:
    """The text, or its rarest stretch if it is long. Texts whose case does not fold to one form are left out."""
    text = max(_UNFOLDED.split(text), key=len)
    if len(text) <= MAX_LITERAL:
        return [text] if text else []
    step = MAX_LITERAL // 2
    return [text[at : at + MAX_LITERAL] for at in range(0, len(text) - step, step)]


def pattern_literals(pattern: str, flags: str) -> list[frozenset[str]]:
    """Sets of texts: of each set one stands in everything that a regular expression matches (any case)."""
    try:
        tokens = parser.parse(pattern, re.IGNORECASE if "i" in flags else 0)
    except (re.error, OverflowError, RecursionError):  # RE2 knows some words that Python does not
        return []
    return _sets(tokens)


def _sets(tokens: Sequence[Any]) -> list[frozenset[str]]:
    found: list[frozenset[str]] = []
    run = ""
    for operation, argument in tokens:
        if operation is constants.LITERAL:
            run += chr(argument)
            continue
        if operation is constants.AT:
            continue
        if run:
            found.append(frozenset({run}))
            run = ""
        if operation is constants.SUBPATTERN:
            found.extend(_sets(argument[3]))
        elif operation in {constants.MAX_REPEAT, constants.MIN_REPEAT} and argument[0] > 0:
            found.extend(_sets(argument[2]))
        elif operation is constants.BRANCH:
            # Of each branch its longest certain text; a branch without one makes the whole uncertain.
            longest = [max(_sets(branch), key=_shortest, default=None) for branch in argument[1]]
            if all(longest):
                found.append(frozenset().union(*(texts for texts in longest if texts)))
        elif (
            operation is constants.IN and len(argument) <= 4 and all(kind is constants.LITERAL for kind, _ in argument)
        ):
            found.append(frozenset(chr(code) for _, code in argument))
    if run:
        found.append(frozenset({run}))
    return found


def _shortest(texts: frozenset[str]) -> int:
    return min(map(len, texts))
