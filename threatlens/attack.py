"""MITRE ATT&CK as far as tags of rules need it: names of techniques, and the tactics that they serve.

The table is rules/attack.json, trimmed from the Enterprise matrix; its notice stands in it.
"""

from __future__ import annotations

import json
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
