"""Which rules the list shows: what is asked for, in which order and which page of it all stand in the address."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import url_for

from threatlens.attack import tactic_of, tactics, technique_of
from threatlens.detectors import Rule
from threatlens.detectors.rule import steps
from threatlens.store_detections import RuleNumbers

ROWS = 50
#: Rules at most that one button changes: all that may be loaded, and a bound all the same.
MAX_CHANGED = 5_000
LEVELS = ("critical", "high", "medium", "low", "informational")
STATES = ("on", "observe", "off")
#: Name in the address -> words of the choice.
KINDS = {"": "rules", "rule": "of one event", "correlation": "correlations", "step": "steps of correlations"}
FIRED = {"": "any", "yes": "has fired", "no": "has not fired", "absent": "nothing to look at"}
ORDERS = {"": "Most hits first", "name": "Name", "level": "Highest level first", "last": "Last match first"}
NO_NUMBERS = RuleNumbers(0, 0, 0, {})


@dataclass(frozen=True, slots=True)
class RuleRow:
    """One rule of the list."""

    rule: Rule
    state: str  # on, observe, off
    seen: RuleNumbers
    file: str
    logs: tuple[str, ...]  # the log sources it looks at: "linux sshd"
    is_step: bool  # counted as part of a correlation only


def rows_of(
    rules: Sequence[Rule], states: Mapping[str, str], numbers: Mapping[str, RuleNumbers], short: Any
) -> list[RuleRow]:
    """All rules that may be listed; short makes a path short."""
    parts = steps(rules)
    named = {name: rule for rule in reversed(rules) for name in (rule.id, rule.reference) if name}
    return [
        RuleRow(rule, states.get(rule.id, "on"), numbers.get(rule.id, NO_NUMBERS), short(rule.path),
                tuple(sorted(set(_logs(rule, named)))), rule.id in parts)
        for rule in rules if rule.kind != "filter"
    ]  # fmt: skip


def _logs(rule: Rule, named: Mapping[str, Rule], depth: int = 0) -> Iterator[str]:
    """What a rule looks at; a correlation looks at what its rules do."""
    if rule.correlation is None:
        source = rule.logsource
        yield " ".join(word for word in (source.product, source.category, source.service) if word) or "any"
    elif depth < 8:
        for name in rule.correlation.rules:
            if name in named:
                yield from _logs(named[name], named, depth + 1)


@dataclass(frozen=True, slots=True)
class RuleView:
    """What somebody asks to see of the rules; "" asks for nothing."""

    q: str = ""
    state: str = ""
    level: str = ""
    kind: str = ""
    log: str = ""
    tag: str = ""
    fired: str = ""
    order: str = ""
    page: int = 1

    @classmethod
    def of(cls, values: Mapping[str, str]) -> RuleView:
        """From an address or a form; a choice that does not exist is none."""

        def one(name: str, choices: Collection[str]) -> str:
            value = values.get(name, "")
            return value if value in choices else ""

        page = values.get("page", "1")
        return cls(
            values.get("q", "").strip().lower()[:200],
            one("state", STATES),
            one("level", LEVELS),
            one("kind", KINDS),
            values.get("log", "").strip()[:100],
            values.get("tag", "").strip().lower()[:100],
            one("fired", FIRED),
            one("order", ORDERS),
            max(1, int(page)) if page.isascii() and page.isdigit() and len(page) < 6 else 1,
        )

    @property
    def params(self) -> dict[str, Any]:
        """What stands in the address, without the page."""
        names = ("q", "state", "level", "kind", "log", "tag", "fired", "order")
        return {name: getattr(self, name) for name in names if getattr(self, name)}

    def url(self, **changed: Any) -> str:
        """The list with something changed, from its first page on."""
        return url_for("rules.index", **{name: value for name, value in (self.params | changed).items() if value})

    def fits(self, row: RuleRow, absent: Collection[str], *, any_kind: bool = False) -> bool:
        """Whether the list holds this rule; absent: ids of rules whose lines no source gives."""
        rule = row.rule
        kind = "step" if row.is_step else rule.kind
        text = " ".join((rule.name, rule.id, *rule.tags, row.file, *row.logs)).lower()
        fired = {"": True, "yes": row.seen.hits > 0, "no": not row.seen.hits, "absent": rule.id in absent}
        return (
            all(word in text for word in self.q.split())
            and self.state in ("", row.state)
            and self.level in ("", rule.level)
            and (any_kind or kind == self.kind or (not self.kind and not row.is_step))
            and (not self.log or self.log in row.logs)
            and (not self.tag or any(_is_of(tag.lower(), self.tag) for tag in rule.tags))
            and fired[self.fired]
        )

    def ordered(self, rows: list[RuleRow]) -> list[RuleRow]:
        """In the order that is asked for, and by name where that says nothing."""
        keys: dict[str, Any] = {
            "": lambda row: -row.seen.hits,
            "name": lambda row: row.rule.name.lower(),
            "level": lambda row: LEVELS.index(row.rule.level) if row.rule.level in LEVELS else len(LEVELS),
            "last": lambda row: -row.seen.last_us,
        }
        return sorted(rows, key=lambda row: (keys[self.order](row), row.rule.name.lower()))


def _is_of(tag: str, wanted: str) -> bool:
    """attack.t1110 asks for its parts as well: attack.t1110.001."""
    return tag == wanted or tag.startswith(wanted + ".")


def tag_words(tag: str) -> str:
    """A tag for people: "T1110.001 Password Guessing", "Credential Access"."""
    technique, tactic = technique_of(tag), tactic_of(tag)
    if technique:
        return f"{technique.id} {technique.name}"
    return tactics()[tactic] if tactic else tag


def choices(rows: Sequence[RuleRow]) -> dict[str, list[tuple[str, str, int]]]:
    """Of log sources and tactics: value, words and how many rules, as steps are none."""
    logs: dict[str, int] = {}
    tags: dict[str, int] = {}
    for row in rows:
        if row.is_step:
            continue
        for log in row.logs:
            logs[log] = logs.get(log, 0) + 1
        for tag in set(row.rule.tags):
            if tactic_of(tag):
                tags[tag.lower()] = tags.get(tag.lower(), 0) + 1
    place = list(tactics())
    return {
        "log": [(name, name, n) for name, n in sorted(logs.items())],
        "tag": sorted(((tag, tag_words(tag), n) for tag, n in tags.items()), key=lambda one: place.index(
            tactic_of(one[0]) or place[0])),
    }  # fmt: skip
