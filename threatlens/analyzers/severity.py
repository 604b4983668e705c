"""Severity as a sum that can be read: what the line says, what rules say of it, and what makes that better or worse.

Without a match the line alone speaks (heuristic.py: 1 to 7). With matches the worst one sets the scale; the rest adds a
point each. Two things take away: what only tried is at most MAX_ATTEMPT, and a rule below level high wakes nobody. The
sum of the points always is the severity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from threatlens.analyzers import heuristic
from threatlens.analyzers.attack import TACTICS, inside, stages, stages_together
from threatlens.event import Decoded, FieldValue, RuleMatch

#: What nothing succeeded in is at most this.
MAX_ATTEMPT = 7
#: The highest severity that a level can come to.
CEILINGS = MappingProxyType({"informational": 3, "low": 5, "medium": 7, "high": 9, "critical": 10})
#: Events that a count must have to be worth a point.
MANY = 100
#: Stages of ATT&CK that make a story.
STAGES = 3
#: Accounts that may do everything.
ADMINISTRATORS = frozenset(("root", "administrator", "admin", "system", "toor", "domain admins"))
LIST_RULES = "threatlens-list-"  # ids of matches with lists of what is bad
NOVELTY, CORRELATION = "novelty", "correlation"


class Factor(NamedTuple):
    """One addend."""

    name: str  # line, rule, success, target, novelty, volume, threat_list, stages, attempt, level
    points: int
    why: str  # one sentence

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "points": self.points, "why": self.why}


class Raised(NamedTuple):
    """A match as far as severity is concerned."""

    rule_id: str
    rule_name: str
    level: str
    severity: int
    kind: str
    events: int  # that it counts
    tags: tuple[str, ...]


def raised(match: RuleMatch) -> Raised:
    """A match of the engine."""
    return Raised(match.rule_id, match.rule_name, match.level, match.severity, match.kind, match.count, match.tags)


def raised_from(stored: Mapping[str, Any]) -> Raised:
    """A stored match, in the shape that the API gives it."""
    return Raised(
        stored["rule.id"], stored["rule.name"], stored["rule.level"], stored["severity"], stored["kind"],
        stored["count"], tuple(stored["tags"]),
    )  # fmt: skip


def total(factors: Iterable[Factor]) -> int:
    """The severity: 1 to 10."""
    return sum(factor.points for factor in factors)


def of_event(decoded: Decoded, matches: Sequence[Raised]) -> list[Factor]:
    """The addends of one event; matches: those that it completed and that count."""
    line = heuristic.severity(decoded)
    factors = [Factor("line", line, _why_line(decoded.fields))]
    if matches:
        get = decoded.fields.get
        outcome, category = str(get("event.outcome") or ""), heuristic.category(decoded)
        won = any(succeeded(match, outcome, category) for match in matches)
        tried = not won and (outcome == "failure" or only_tries(_worst(matches), category))
        _add_matches(factors, matches, line, won=won, tried=tried, users=(str(get("user.name") or ""),))
    return factors


def like_event(decoded: Decoded, matches: Sequence[Raised]) -> tuple[object, ...]:
    """What the sum of of_event() depends on: events with the same value have the same severity."""
    get = decoded.fields.get
    return (
        heuristic.severity(decoded), heuristic.category(decoded), str(get("event.outcome") or ""),
        str(get("user.name") or ""), _worst(matches).rule_id, max(match.events for match in matches) >= MANY,
        *[match.rule_id for match in matches],
    )  # fmt: skip


def of_incident(
    matches: Sequence[Raised], *, success: bool, tried: bool, users: Iterable[str], many: int
) -> list[Factor]:
    """The addends of one incident; tried: somebody attempted something, without success as far as one sees; users:
    those that were part of a success; many: events behind the matches.
    """
    factors: list[Factor] = []
    counted = [match._replace(events=0) for match in matches]
    worst = _worst(counted)
    counted.append(worst._replace(events=many, kind=NOVELTY if worst.kind == NOVELTY else CORRELATION))
    _add_matches(factors, counted, 0, won=success, tried=tried, users=users)
    return factors


def succeeded(match: Raised, outcome: str, category: str) -> bool:
    """Whether what the match tells of succeeded. An answered web request alone proves nothing."""
    if match.kind == NOVELTY or match.severity < 5 or outcome == "failure":
        return False
    if inside(match.tags):
        return category != "web" or match.severity >= 8
    entered = category in ("authentication", "session", "iam") and outcome == "success"
    return entered and match.severity >= 6


def only_tries(match: Raised, category: str) -> bool:
    """Whether the match, where nothing says that it succeeded, tells of somebody who is still outside."""
    return category == "web" or (bool(stages(match.tags)) and not inside(match.tags))


def _worst(matches: Sequence[Raised]) -> Raised:
    return max(matches, key=lambda match: (match.severity, match.events))


def _add_matches(
    factors: list[Factor], matches: Sequence[Raised], line: int, *, won: bool, tried: bool, users: Iterable[str]
) -> None:
    worst = _worst(matches)
    if worst.severity > line:
        factors.append(
            Factor("rule", worst.severity - line, f"The rule “{worst.rule_name}” matched; its level is {worst.level}.")
        )
    if won:
        more = int(worst.severity < 8)
        factors.append(Factor("success", more, "It succeeded." if more else "It succeeded; the level knows that."))
        admin = next((user for user in users if user.lower().rpartition("\\")[2] in ADMINISTRATORS), None)
        if admin is not None:
            factors.append(Factor("target", 1, f"It is about {admin}, who may do everything."))
    _add_context(factors, matches, worst)
    _take_away(factors, max(line, CEILINGS.get(worst.level, 10)), worst, tried=tried)


def _add_context(factors: list[Factor], matches: Sequence[Raised], worst: Raised) -> None:
    many = max(match.events for match in matches)
    if many >= MANY:
        factors.append(Factor("volume", 1, f"{many:,} events are behind it."))
    new = next((each.rule_name for each in matches if each.kind == NOVELTY), None)
    if worst.kind != NOVELTY and new is not None:
        factors.append(Factor("novelty", 1, f"It is new or unusual here: {new[:1].lower()}{new[1:]}."))
    listed = [match for match in matches if match.rule_id.startswith(LIST_RULES)]
    if listed and len(listed) < len(matches):
        factors.append(
            Factor("threat_list", 1, f"It stands in the threat list {listed[0].rule_id.removeprefix(LIST_RULES)}.")
        )
    seen = stages_together(match.tags for match in matches)
    if len(seen) >= STAGES:
        factors.append(Factor("stages", 1, f"It went through {len(seen)} stages: {_names(seen)}."))


def _take_away(factors: list[Factor], ceiling: int, worst: Raised, *, tried: bool) -> None:
    if total(factors) > ceiling:
        words = (
            f"A rule of level {worst.level} comes to {ceiling} at most." if ceiling < 10 else "The scale ends at 10."
        )
        factors.append(Factor("level", ceiling - total(factors), words))
    if tried and total(factors) > MAX_ATTEMPT:
        factors.append(
            Factor(
                "attempt",
                MAX_ATTEMPT - total(factors),
                f"As far as the logs tell nothing succeeded: {MAX_ATTEMPT} at most.",
            )
        )


def _names(tactics: Sequence[str]) -> str:
    return ", ".join(TACTICS[name].lower() for name in tactics)


def _why_line(fields: Mapping[str, FieldValue]) -> str:
    """What of the line gave its points."""
    parts = []
    for name, word in (("event.action", "action"), ("event.outcome", "outcome"), ("log.level", "level"),
                       ("http.response.status_code", "HTTP status")):  # fmt: skip
        value = fields.get(name)
        if isinstance(value, (str, int)) and value != "":
            parts.append(f"{word} {value}")
    if not parts:
        return (
            "No decoder knows more about the line than its text." if not fields else "Nothing in the line is unusual."
        )
    return f"What the line says by itself: {', '.join(parts)}."
