"""ATT&CK in plain words: tactics as the stages of a story, techniques as verbs.

Tags are read as Sigma writes them: "attack.credential-access" or "attack.credential_access", "attack.t1110.001".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Protocol

#: The tactics in the order of the matrix, as people call them.
TACTICS = MappingProxyType(
    {
        "reconnaissance": "Reconnaissance",
        "resource-development": "Resource development",
        "initial-access": "Initial access",
        "execution": "Execution",
        "persistence": "Persistence",
        "privilege-escalation": "Privilege escalation",
        "defense-evasion": "Defense evasion",
        "stealth": "Stealth",
        "defense-impairment": "Defense impairment",
        "credential-access": "Credential access",
        "discovery": "Discovery",
        "lateral-movement": "Lateral movement",
        "collection": "Collection",
        "command-and-control": "Command and control",
        "exfiltration": "Exfiltration",
        "impact": "Impact",
    }
)
#: Stages in which somebody is inside already.
_INSIDE = frozenset(TACTICS) - {
    "reconnaissance", "resource-development", "initial-access", "credential-access", "discovery", "impact",
}  # fmt: skip
#: What a technique is called in a sentence: (tried, done).
_TECHNIQUES = {
    "t1110": ("guessed passwords", "guessed a password"),
    "t1046": ("scanned ports", "scanned ports"),
    "t1595": ("scanned", "scanned"),
    "t1190": ("attacked the web application", "broke in through the web application"),
    "t1078": ("tried accounts", "got in"),
    "t1133": ("tried remote access", "got in"),
    "t1136": ("tried to create an account", "created an account"),
    "t1098": ("tried to change accounts", "changed accounts"),
    "t1053": ("tried to plant a scheduled job", "planted a scheduled job"),
    "t1548": ("tried to become root", "became root"),
    "t1070": ("tried to remove traces", "removed traces"),
    "t1562": ("tried to switch off defences", "switched off defences"),
    "t1105": ("tried to fetch tools", "fetched tools"),
    "t1059": ("tried to run commands", "ran commands"),
    "t1505": ("tried to plant a web shell", "planted a web shell"),
    "t1543": ("tried to install a service", "installed a service"),
    "t1003": ("tried to read password stores", "read password stores"),
    "t1496": ("tried to mine", "used the machine's power"),
    "t1498": ("flooded the network", "flooded the network"),
    "t1499": ("flooded a service", "flooded a service"),
}
_TACTIC_VERBS = {
    "reconnaissance": ("scanned", "scanned"),
    "initial-access": ("looked for a way in", "got in"),
    "execution": ("tried to run code", "ran code"),
    "persistence": ("tried to stay", "made sure to stay"),
    "privilege-escalation": ("tried to gain rights", "gained rights"),
    "defense-evasion": ("tried to hide", "covered traces"),
    "credential-access": ("went for passwords", "took credentials"),
    "discovery": ("looked around", "looked around"),
    "lateral-movement": ("tried to move on", "moved to other machines"),
    "collection": ("tried to collect data", "collected data"),
    "command-and-control": ("called home", "called home"),
    "exfiltration": ("tried to take data away", "took data away"),
    "impact": ("did harm", "did harm"),
}
#: What destroys: data, services and accounts are gone when it is seen.
_DESTROYS = frozenset(("t1485", "t1486", "t1489", "t1490", "t1531", "t1561"))
#: What takes credentials out of a machine, as against guessing them.
_DUMPS = frozenset(("t1003", "t1040", "t1528", "t1539", "t1555", "t1558"))
#: What ThreatLens raises itself is about a source, which attacked nobody: see threatlens.own_alerts.
DETECTION_LOST, SOURCE_SILENT, LINES_REMOVED = (
    f"threatlens-{what}" for what in ("detection-lost", "source-silent", "lines-removed")
)
_OF_SOURCES = {
    DETECTION_LOST: "is not understood any more",
    SOURCE_SILENT: "has gone silent",
    LINES_REMOVED: "lost lines that had been read",
}
MAX_VERBS = 5


class Step(Protocol):
    """A row of a timeline, as far as a sentence needs it."""

    @property
    def rule_id(self) -> str: ...
    @property
    def rule_name(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def tags(self) -> tuple[str, ...]: ...


def stages(tags: Iterable[str]) -> list[str]:
    """The tactics among the tags, in the order of the matrix."""
    named = {_plain(tag) for tag in tags}
    return [tactic for tactic in TACTICS if tactic in named]


def stages_together(tags: Iterable[tuple[str, ...]]) -> list[str]:
    """The same of several rules' tags."""
    named = frozenset[str]().union(*map(_tactics, tags))
    return [tactic for tactic in TACTICS if tactic in named] if named else []


@lru_cache(maxsize=10_000)
def _tactics(tags: tuple[str, ...]) -> frozenset[str]:
    return frozenset(stages(tags))


@lru_cache(maxsize=10_000)
def _plain(tag: str) -> str:
    return tag.lower().removeprefix("attack.").replace("_", "-")


def techniques(tags: Iterable[str]) -> list[str]:
    """The techniques among the tags: "T1110.001"."""
    short = [tag.lower().removeprefix("attack.") for tag in tags]
    return list(dict.fromkeys(word.upper() for word in short if word[:1] == "t" and word[1:5].isdigit()))


def post_compromise(tags: Iterable[str]) -> bool:
    """Whether the tags speak only of what somebody does who is inside."""
    found = stages(tags)
    return bool(found) and all(tactic in _INSIDE for tactic in found)


@lru_cache(maxsize=10_000)
def inside(tags: tuple[str, ...]) -> bool:
    """Whether the tags speak of somebody who is inside, or of harm that is done once it is seen."""
    short = {technique.lower()[:5] for technique in techniques(tags)}
    return post_compromise(tags) or bool(short & (_DESTROYS | _DUMPS))


def sentence(steps: Sequence[Step], users: Sequence[str], success: bool) -> str:
    """The steps as one sentence without its subject; the name of the user who was taken over behind "got in"."""
    verbs = list(dict.fromkeys(verb(step) for step in steps))
    if success and "got in" not in verbs and len(verbs) > MAX_VERBS:
        verbs = [*verbs[: MAX_VERBS - 1], verbs[-1]]
    if len(verbs) > MAX_VERBS:
        key = "got in" if "got in" in verbs[MAX_VERBS - 1 :] else ""
        verbs = [*verbs[: MAX_VERBS - (1 if key else 0)], *([key] if key else []), "more"]
    verbs = [f"got in as {users[0]}" if word == "got in" and users else word for word in verbs]
    return verbs[0] if len(verbs) == 1 else f"{', '.join(verbs[:-1])} and {verbs[-1]}"


def verb(step: Step) -> str:
    """What a step did, in two or three words; the rule's own name where ATT&CK has no word."""
    return _OF_SOURCES.get(step.rule_id) or _verb(step.tags, step.outcome == "success") or step.rule_name


@lru_cache(maxsize=10_000)
def _verb(tags: tuple[str, ...], done: bool) -> str:
    if done and "initial-access" in stages(tags):
        return "got in"  # whatever led there
    for technique in techniques(tags):
        words = _TECHNIQUES.get(technique.lower()[:5])
        if words:
            return words[done]
    for tactic in stages(tags):
        if tactic in _TACTIC_VERBS:
            return _TACTIC_VERBS[tactic][done]
    return ""
