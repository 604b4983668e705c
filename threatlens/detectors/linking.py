"""Rules together: correlations find the rules that they are about, filters are put before rules, lists into them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from threatlens.detectors.fields import FieldMap
from threatlens.detectors.rule import LogSource, Problem, Rule, RuleSet, Tree, steps
from threatlens.detectors.values import text_test


class Linked(NamedTuple):
    """A rule in force. What a correlation is about is told of by itself only if the correlation says `generate: true`,
    or if it is a correlation above the level informational."""

    rule: Rule
    tree: bytes
    names: Callable[[str], Sequence[str]]
    emits: bool  # it is told of by itself
    feeds: tuple[tuple[int, int], ...]  # correlations that it is for: place in the engine, place among their rules


def link(
    rules: RuleSet, lists: Mapping[str, Sequence[str]], fields: FieldMap
) -> tuple[list[Linked], tuple[Problem, ...]]:
    """The rules in force, those that others are about first, and problems, those of the rule set among them."""
    problems = list(rules.problems)
    known: dict[str, Rule] = {}
    for rule in rules.rules:
        for name in filter(None, (rule.id, rule.reference)):
            known.setdefault(name, rule)
    ready: dict[str, Rule] = {}
    trees: dict[str, bytes] = {}
    filters = [rule for rule in rules.rules if rule.kind == "filter"]
    for rule in rules.rules:
        if rule.kind == "rule":
            try:
                trees[rule.id] = _tree(rule, filters, lists)
                ready[rule.id] = rule
            except LookupError as error:
                problems.append(_problem(rule, f"needs the list {error.args[0]!r}, which is not there", broken=False))
    waiting = [rule for rule in rules.rules if rule.kind == "correlation"]
    while waiting:
        left = []
        for rule in waiting:
            missing = [name for name in _references(rule) if name not in known or known[name].id not in ready]
            if not missing:
                ready[rule.id] = rule
            else:
                left.append((rule, missing))
        if len(left) == len(waiting):
            for rule, missing in left:
                problems.append(_unlinked(rule, missing, known))
            break
        waiting = [rule for rule, _ in left]
    return _linked(list(ready.values()), known, trees, fields), tuple(problems)


def _references(rule: Rule) -> tuple[str, ...]:
    return rule.correlation.rules if rule.correlation is not None else ()


def _unlinked(rule: Rule, missing: Sequence[str], known: Mapping[str, Rule]) -> Problem:
    absent = [name for name in missing if name not in known]
    if absent:
        return _problem(rule, f"is about {absent[0]!r}, and there is no rule of that id or name", broken=True)
    circle = all(known[name].kind == "correlation" for name in missing)
    why = "is about itself, by way of other correlations" if circle else f"is about {missing[0]!r}, which cannot run"
    return _problem(rule, why, broken=False)


def _problem(rule: Rule, reason: str, *, broken: bool) -> Problem:
    return Problem(rule.path, rule.line, reason, rule.id, rule.name, broken)


def _linked(
    ready: Sequence[Rule], known: Mapping[str, Rule], trees: Mapping[str, bytes], fields: FieldMap
) -> list[Linked]:
    feeds: dict[str, list[tuple[int, int]]] = defaultdict(list)
    parts = steps(ready)
    for place, rule in enumerate(ready):
        for among, name in enumerate(_references(rule)):
            feeds[known[name].id].append((place, among))
    return [
        Linked(
            rule,
            trees.get(rule.id, b""),
            fields.names(rule.logsource.product, rule.logsource.category, rule.logsource.service),
            rule.id not in parts,
            tuple(feeds[rule.id]),
        )
        for rule in ready
    ]


def _tree(rule: Rule, filters: Sequence[Rule], lists: Mapping[str, Sequence[str]]) -> bytes:
    """The rule's tree with filters and lists in it. Raises LookupError with the name of a list that is not there."""
    applied = [each for each in filters if _applies(each, rule)]
    if not applied and not rule.lists:
        return rule.tree
    tree: Tree = json.loads(rule.tree)
    if applied:
        tree = ["and", [tree, *(json.loads(each.tree) for each in applied)]]
    if rule.lists or any(each.lists for each in applied):
        tree = _expanded(tree, lists)
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()


def _applies(each: Rule, rule: Rule) -> bool:
    if each.applies_to is not None and not {rule.id, rule.reference} & set(each.applies_to):
        return False
    return _contains(each.logsource, rule.logsource)


def _contains(wide: LogSource, narrow: LogSource) -> bool:
    return (
        wide.product in {None, narrow.product}
        and wide.category in {None, narrow.category}
        and wide.service in {None, narrow.service}
    )


def _expanded(tree: Tree, lists: Mapping[str, Sequence[str]]) -> Tree:
    op = tree[0]
    if op in {"and", "or"}:
        return [op, [_expanded(item, lists) for item in tree[1]]]
    if op == "not":
        return ["not", _expanded(tree[1], lists)]
    if op == "sel":
        return ["sel", tree[1], _expanded(tree[2], lists)]
    if op != "list":
        return tree
    _, field, cased, values = tree
    tests: dict[str, Tree] = {}
    for parts in values:
        for pieces in _filled(parts, cased, lists):
            test = text_test(field, cased, pieces)
            known = tests.setdefault(test[0], test)
            if known is not test:
                known[3].extend(test[3])
    if not tests:
        return ["or", [["eq", field, cased, []]]]  # an empty list: nothing is in it
    alternatives = list(tests.values())
    return alternatives[0] if len(alternatives) == 1 else ["or", alternatives]


def _filled(parts: Sequence[Any], cased: bool, lists: Mapping[str, Sequence[str]]) -> list[list[Any]]:
    filled: list[list[Any]] = [[]]
    for part in parts:
        if isinstance(part, dict):
            entries = lists[part["list"]]
            words = [entry if cased else entry.lower() for entry in entries]
            filled = [[*start, word] for start in filled for word in words]
        else:
            filled = [[*start, part] for start in filled]
    return filled
