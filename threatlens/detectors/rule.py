"""The values of the family: a rule that has been compiled to data, and what is wrong with one that has not.

A compiled rule is data, never code: a tree of JSON lists. Functions are made from it in the process that runs them
(predicates.py), so that a cache of compiled rules can be damaged but cannot execute anything.

A tree is one of
    ["and", [tree, ...]]   ["or", [tree, ...]]   ["not", tree]
    ["sel", name, tree]                      a named selection of the rule, for explanations
    [op, field, cased, values]               a test: any of the values
with op and values
    "eq" "pre" "suf" "in"   texts: equal, begins with, ends with, contains
    "glob"                  lists of texts and wildcards: 0 is "*", 1 is "?"
    "re"                    [pattern, flags] pairs, flags of "ims"
    "cidr"                  networks
    "cmp"                   [operator, number] pairs: gt gte lt lte neq
    "ref"                   [other field, "eq" "pre" "suf" or "in"] pairs
    "time"                  [minute hour day week month or year, number] pairs
    "null" "any"            none: has no value, has one
    "exists"                true or false
    "list"                  [text or wildcard or {"list": name}, ...] lists: entries of a list of the user
The field of a keyword is null: the test is on every value of the event. Texts of tests that ignore case are lower case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Tree = list[Any]


@dataclass(frozen=True, slots=True)
class LogSource:
    """What a rule applies to; None: anything."""

    product: str | None = None
    category: str | None = None
    service: str | None = None


@dataclass(frozen=True, slots=True)
class Correlation:
    """What a correlation counts. Times in seconds."""

    type: str  # event_count, value_count, temporal, temporal_ordered, value_sum, value_avg, value_percentile, ...
    rules: tuple[str, ...]  # ids or names of the rules that it is about
    timespan_s: int
    group_by: tuple[str, ...]
    op: str = "gte"
    number: float = 1
    fields: tuple[str, ...] = ()  # whose values are counted or added up
    percentile: int = 50
    expression: Tree | None = None  # an extended condition: ["and" | "or" | "not", [...]] or ["rule", reference]
    aliases: Mapping[str, Mapping[str, str]] | None = None  # alias -> reference of a rule -> field
    generate: bool = False  # the rules that it is about are told of as well


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled rule, correlation or filter."""

    id: str
    name: str  # its title, for people
    reference: str  # its name, for correlations and filters; "" without one
    kind: str  # rule, correlation, filter
    level: str
    status: str
    tags: tuple[str, ...]
    path: str  # its file, as it was given
    line: int  # where its document begins, from 1
    digest: str  # changes when the rule's meaning may have changed
    logsource: LogSource
    tree: bytes  # of a rule or a filter, as JSON; b"" of a correlation
    lists: tuple[str, ...] = ()  # the user's lists that it needs
    correlation: Correlation | None = None
    applies_to: tuple[str, ...] | None = None  # of a filter: ids or names of rules, None all of its log source


def steps(rules: Sequence[Rule]) -> frozenset[str]:
    """The ids of those that are told of as part of a correlation only: they are no rules to who counts rules."""
    named = {name: rule for rule in reversed(rules) for name in (rule.id, rule.reference) if name}
    told: dict[str, bool] = {}
    for rule in rules:
        for name in rule.correlation.rules if rule.correlation else ():
            base = named.get(name)
            if base is not None and rule.correlation is not None:
                by_itself = rule.correlation.generate or (base.kind != "rule" and base.level != "informational")
                told[base.id] = told.get(base.id, False) or by_itself
    return frozenset(rule_id for rule_id, by_itself in told.items() if not by_itself)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a rule does not run. Broken: a mistake in its file. Otherwise it is right, and cannot run here."""

    path: str
    line: int  # from 1; 0: unknown
    reason: str
    rule_id: str = ""
    rule_name: str = ""
    broken: bool = True

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else self.path
        return f"{where}: {self.reason}"


@dataclass(frozen=True, slots=True)
class RuleSet:
    """What was loaded: rules that can run, and problems of those that cannot."""

    rules: tuple[Rule, ...] = ()
    problems: tuple[Problem, ...] = ()
