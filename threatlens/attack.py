"""MITRE ATT&CK as far as tags of rules need it: names of techniques, and the tactics that they serve.

The table is rules/attack.json, trimmed from the Enterprise matrix; its notice stands in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_TABLE = Path(__file__).parent / "rules" / "attack.json"
_TECHNIQUE = "attack.t"


@dataclass(frozen=True, slots=True)
class Technique:
    """One technique or sub-technique."""

    id: str  # "T1110.001"
    name: str  # "Password Guessing"
    tactics: tuple[str, ...]  # short names of Enterprise tactics: "credential-access"

    @property
    def url(self) -> str:
        """Its page at MITRE."""
        return f"https://attack.mitre.org/techniques/{self.id.replace('.', '/')}/"


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return table


@cache
def techniques() -> dict[str, Technique]:
    """All techniques by id."""
    return {
        number: Technique(number, name, tuple(tactics)) for number, (name, tactics) in _table()["techniques"].items()
    }


@cache
def tactics() -> dict[str, str]:
    """Short name of each tactic -> its title, in the order of an attack."""
    return {short: title for short, (_, title) in _table()["tactics"].items()}


def technique_of(tag: str) -> Technique | None:
    """The technique that a tag of a rule names ("attack.t1110.001"); None for any other tag."""
    return techniques().get(tag[len("attack.") :].upper()) if tag.startswith(_TECHNIQUE) else None


def tactic_of(tag: str) -> str | None:
    """The short name of the tactic that a tag names ("attack.initial-access"); None for any other tag."""
    short = tag.removeprefix("attack.").replace("_", "-")
    return short if tag.startswith("attack.") and short in tactics() else None


def navigator_layer(rules: Iterable[tuple[str, Sequence[str], int]]) -> dict[str, Any]:
    """A layer for MITRE's ATT&CK Navigator (layer format 4.5) of rules as (name, tags, matches).

    The score of a technique is the number of rules that look for it; which they are and how often they matched stands
    in its comment.
    """
    found: dict[str, list[tuple[str, int]]] = {}
    for name, tags, matches in rules:
        for technique in {known.id for known in map(technique_of, tags) if known is not None}:
            found.setdefault(technique, []).append((name, matches))
    techniques = [
        {
            "techniqueID": technique,
            "score": len(those),
            "comment": "; ".join(f"{name} (matched {n} times)" if n else name for name, n in sorted(those)),
            "enabled": True,
        }
        for technique, those in sorted(found.items())
    ]
    highest = max((len(those) for those in found.values()), default=1)
    return {
        "name": "ThreatLens",
        "versions": {"attack": "17", "navigator": "5.1.0", "layer": "4.5"},
        "domain": "enterprise-attack",
        "description": "Techniques that the rules in force look for. Score: how many rules.",
        "techniques": techniques,
        "gradient": {"colors": ["#cfe2ff", "#1f52cc"], "minValue": 0, "maxValue": highest},
        "legendItems": [],
    }
