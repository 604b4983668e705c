"""What happened, to whom, how sure that is, what it means and what to do: put together offline from real values.

Every part is a list of stretches of words and commands (advice.py), so that pages can set commands apart and nothing
of a log line is ever read as our own words or as more than one word of a shell.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from threatlens.analyzers import phrases
from threatlens.analyzers.advice import Part, as_text, fields_of, filled, said
from threatlens.analyzers.attack import TACTICS, stages, techniques
from threatlens.analyzers.severity import NOVELTY, Raised, only_tries, raised_from, succeeded
from threatlens.event import Event, Fields

#: Events from this severity on are explained, and those with matches.
EXPLAINED_FROM = 5
MAX_ADVICE = 8
MAX_TECHNIQUES = 3
_BLOCK = "Block it: `nft add rule inet filter input ip saddr {source.ip} drop`."
_BLOCK_6 = "Block it: `nft add rule inet filter input ip6 saddr {source.ip} drop`."
_LOCK = (
    "Lock the account until it is clear who used it: `usermod --lock -- {user.name}`, and end its sessions:"
    " `pkill -KILL -u {user.name}`."
)
_KEEP = (
    "Before you clean up {host.name}, keep what tells how it was done: its logs, `ss -tanp`, `ps auxf`"
    " and `last -Faiw`."
)
_ALL = "See everything that came from there: `grep -rF -- {source.ip} /var/log`."


class Advice(Protocol):
    """What a rule says to people."""

    @property
    def description(self) -> str: ...
    @property
    def explanation(self) -> str: ...
    @property
    def recommendations(self) -> tuple[str, ...]: ...
    @property
    def false_positives(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Explanation:
    """Statements by what they answer, and what to do."""

    statements: tuple[tuple[str, tuple[Part, ...]], ...]  # ("What happened", ...), each once
    recommendations: tuple[tuple[Part, ...], ...]

    @property
    def text(self) -> str:
        """All statements as one text."""
        return " ".join(as_text(parts) for _, parts in self.statements)

    @property
    def advice(self) -> list[str]:
        """What to do, one text each."""
        return [as_text(parts) for parts in self.recommendations]


def completed_by(event: Event) -> list[Raised]:
    """The matches that count and that this event completed, the worst first."""
    found = [
        raised_from(one)
        for one in event.detections
        if one["suppressed"] in (None, "", "case") and (one["kind"] == "rule" or one["event_id"] == event.id)
    ]
    return sorted(found, key=lambda match: -match.severity)


def of_event(event: Event, advice: Mapping[str, Advice]) -> Explanation | None:
    """The explanation of one event; None: it needs none. advice: by the id of the rule."""
    matches = completed_by(event)
    if event.severity < EXPLAINED_FROM and not matches:
        return None
    fields = values_of(event)
    phrase = _phrase(event)
    worst = matches[0] if matches else None
    known = advice.get(worst.rule_id) if worst else None
    happened = _rule_says(worst, known, fields) if worst else filled(f"{_capital(phrase.happened)}.", fields)
    if len(matches) > 1:
        others = ", ".join(said(match.rule_name) for match in matches[1:4])
        happened += (Part(f" It also matches: {others}{', and more' if len(matches) > 4 else ''}.", False),)
    tags = [tag for match in matches for tag in match.tags] or [f"attack.{phrase.technique.lower()}"]
    statements = (
        ("What happened", happened),
        ("To whom", (Part(_whom(fields), False),)),
        ("How sure", (Part(_how_sure(event, worst, known), False),)),
        ("What it means", (Part(meaning(tags), False),)),
    )
    todo = (known.recommendations if known else ()) or phrase.advice
    return Explanation(
        tuple((topic, parts) for topic, parts in statements if as_text(parts)),
        tuple(filled(text, fields) for text in todo[:MAX_ADVICE] if not _lacks_all(text, fields)),
    )


def of_rule(advice: Advice, fields: Fields) -> Explanation:
    """What one rule says, with the values of one event."""
    return Explanation(
        (("What happened", filled(advice.explanation or advice.description, fields)),),
        tuple(filled(text, fields) for text in advice.recommendations),
    )


@dataclass(frozen=True, slots=True)
class Story:
    """What an explanation needs to know about an incident."""

    subject: str
    title: str  # without the subject
    success: bool
    first_us: int
    last_us: int
    matches: int
    events: int
    rules: Sequence[Raised]
    addresses: Sequence[str]
    users: Sequence[str]
    hosts: Sequence[str]
    taken: Sequence[str]  # users that were part of a success
    of_source: bool = False  # the subject is a source of lines, which attacked nobody


def of_incident(story: Story, rules: Sequence[Explanation] = ()) -> Explanation:
    """The explanation of one incident; rules: what its rules say and advise, the worst first."""
    tags = [tag for rule in story.rules for tag in rule.tags]
    went = ", ".join(TACTICS[name].lower() for name in stages(tags))
    lasted = _lasted(story.last_us - story.first_us)
    kinds = len({rule.rule_id for rule in story.rules})
    happened = (
        f"{said(story.subject)} {story.title}. {_counted(story.events, 'event')} from {_utc(story.first_us)}"
        f"{f' on, over {lasted}' if lasted else ''} led to {_counted(story.matches, 'match', 'matches')}"
        f" of {_counted(kinds, 'rule')}."
    )
    whom = [_listed("The host", "The hosts", story.hosts), _listed("The account", "The accounts", story.users),
            _listed("It came from", "It came from", story.addresses)]  # fmt: skip
    meant = f"{meaning(tags)}{f' Stages: {went}.' if went else ''}".strip()
    statements: tuple[tuple[str, str], ...] = (
        ("What happened", happened),
        ("To whom", " ".join(part for part in whom if part)),
        ("How sure", _story_sure(story)),
        ("What it means", meant),
    )
    if story.of_source:
        statements = (("What happened", f"{said(story.subject)} {story.title}, since {_utc(story.first_us)}."),)
    first = [filled(text, fields) for text, fields in _containment(story)]
    rest = [parts for rule in rules for parts in rule.recommendations]
    return Explanation(
        tuple((topic, (Part(text, False),)) for topic, text in statements if text),
        tuple(dict.fromkeys([*first, *rest]))[: MAX_ADVICE + len(first)],
    )


def meaning(tags: Sequence[str]) -> str:
    """ATT&CK's techniques among the tags in plain words; "" without any."""
    said_of: list[tuple[str, str]] = []
    for technique in list(dict.fromkeys(techniques(tags)))[:MAX_TECHNIQUES]:
        words = phrases.TECHNIQUES.get(technique) or phrases.TECHNIQUES.get(technique[:5])
        if words and all(words != known for _, known in said_of):
            said_of.append((technique, words))
    if said_of:
        return " ".join(f"ATT&CK {technique} is {words}." for technique, words in said_of)
    reached = stages(tags)
    return f"It belongs to the stage “{TACTICS[reached[0]].lower()}” of an attack." if reached else ""


def values_of(event: Event) -> dict[str, Any]:
    """What placeholders may name."""
    return {**event.fields, "message": event.message}


def _phrase(event: Event) -> phrases.Phrase:
    action = event.fields.get("event.action")
    known = phrases.ACTIONS.get(action) if isinstance(action, str) else None
    return known or phrases.CATEGORIES.get(event.category) or phrases.ANYTHING


def _rule_says(worst: Raised, known: Advice | None, fields: Mapping[str, Any]) -> tuple[Part, ...]:
    text = (known.explanation or known.description) if known else ""
    if not text:
        return (Part(f"The rule {said(worst.rule_name)} matched.", False),)
    parts = filled(text.strip(), fields)
    more = "" if as_text(parts).rstrip("”").endswith((".", "!", "?")) else "."  # it ends with a value
    if worst.events > 1 and worst.kind != "correlation":
        more += f" {worst.events:,} events are behind it."
    return (*parts, Part(more, False)) if more else parts


def _whom(fields: Mapping[str, Any]) -> str:
    named = (("host.name", "the host"), ("user.name", "the account"), ("user.target.name", "the account"),
             ("service.name", "the service"), ("url.domain", "the site"))  # fmt: skip
    parts = list(dict.fromkeys(f"{word} {said(fields[name])}" for name, word in named if _is_one(fields.get(name))))
    listed = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)
    whom = f"It is about {listed}." if listed else ""
    origin = fields.get("source.ip") or fields.get("source.address")
    return f"{whom}{f' It came from {said(origin)}.' if _is_one(origin) else ''}".strip()


def _how_sure(event: Event, worst: Raised | None, known: Advice | None) -> str:
    outcome = str(event.fields.get("event.outcome") or "")
    parts = []
    if worst is None:
        parts.append("One line says so and no rule adds to it: look at the lines around it.")
    elif worst.kind == NOVELTY:
        parts.append("New is not bad: it only was not seen before.")
    elif worst.kind == "correlation":
        slip = "" if worst.level in ("informational", "low") else ", so a slip of one person is unlikely"
        parts.append(f"{_counted(worst.events, 'event')} together led to it{slip}.")
    else:
        parts.append(f"One line is enough for this rule; its level is {worst.level}.")
    if worst is not None and succeeded(worst, outcome, event.category):
        parts.append("It succeeded.")
    elif outcome == "failure" and not _broke_down(event):
        parts.append("It did not succeed.")
    elif worst is not None and only_tries(worst, event.category):
        parts.append("Whether it succeeded cannot be told from this line.")
    if known and known.false_positives:
        harmless = known.false_positives[0].strip().rstrip(".")
        if harmless.lower() in ("unlikely", "unknown", "none"):
            parts.append("A harmless cause is unlikely.")
        else:
            parts.append(f"It may be harmless: {_small(harmless)}.")
    return " ".join(parts)


def _story_sure(story: Story) -> str:
    kinds = len({rule.rule_id for rule in story.rules})
    together = f"{kinds} rules agree" if kinds > 1 else "One rule speaks of it"
    if story.success:
        got = f", and {said(story.taken[0])} is part of what succeeded" if story.taken else ""
        return f"{together}; it succeeded{got}. Treat it as real until you know better."
    return f"{together}; as far as the logs tell nothing succeeded. Logs that are not collected here may know more."


def _containment(story: Story) -> list[tuple[str, dict[str, str]]]:
    """What to do first, whatever the rules advise."""
    todo: list[tuple[str, dict[str, str]]] = []
    if story.success:
        todo += [(_LOCK, {"user.name": user}) for user in story.taken[:2]]
        if story.hosts:
            todo.append((_KEEP, {"host.name": story.hosts[0]}))
    for address in story.addresses[:1]:
        todo.append((_BLOCK_6 if ":" in address else _BLOCK, {"source.ip": address}))
        todo.append((_ALL, {"source.ip": address}))
    return todo


def _lacks_all(text: str, fields: Mapping[str, Any]) -> bool:
    """Whether a sentence is about values that the event does not have."""
    wanted = fields_of(text)
    return bool(wanted) and not any(fields.get(name) for name in wanted)


def _is_one(value: object) -> bool:
    return isinstance(value, (str, int)) and value != ""


def _broke_down(event: Event) -> bool:
    """Whether a server answered with an error of its own: what it did before that is not known."""
    status = event.fields.get("http.response.status_code")
    return event.category == "web" and isinstance(status, int) and status >= 500


def _small(text: str) -> str:
    """With a small first letter, unless the first word is a name or an abbreviation."""
    first = text.split(" ", 1)[0]
    return text if first[1:].lower() != first[1:] or first == "I" else text[:1].lower() + text[1:]


def _capital(text: str) -> str:
    return text if text.startswith("{") else text[:1].upper() + text[1:]


def _listed(one: str, several: str, values: Sequence[str]) -> str:
    if not values:
        return ""
    shown = ", ".join(said(value) for value in values[:3])
    more = f" and {len(values) - 3} more" if len(values) > 3 else ""
    return f"{one if len(values) == 1 else several} {shown}{more}."


def _counted(n: int, one: str, many: str = "") -> str:
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def _utc(at_us: int) -> str:
    return dt.datetime.fromtimestamp(at_us // 1_000_000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _lasted(span_us: int) -> str:
    seconds = span_us // 1_000_000
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            return _counted(seconds // size, word)
    return ""
