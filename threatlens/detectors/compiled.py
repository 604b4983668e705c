"""Compiled rule files as JSON: what the compiler writes, the cache keeps and the engine's process reads."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from threatlens.detectors.rule import Correlation, LogSource, Problem, Rule

#: Changes whenever the same file may compile to something else: what other versions have compiled is not read.
VERSION = 4
COMPILER = "threatlens.detectors.compiling"
MAX_BYTES = 1 << 20  # of a rule file
Compiled = tuple[list[Rule], list[Problem]]


def to_json(compiled: Compiled) -> dict[str, Any]:
    """A compiled file as JSON can hold it."""
    rules, problems = compiled
    return {
        "rules": [{**dataclasses.asdict(rule), "tree": rule.tree.decode()} for rule in rules],
        "problems": [dataclasses.asdict(problem) for problem in problems],
    }


def from_json(value: Mapping[str, Any], path: str) -> Compiled:
    """What to_json() gave, as rules of that path. Raises KeyError, TypeError or ValueError for anything else."""
    rules = []
    for row in value["rules"]:
        correlation = row["correlation"]
        if correlation is not None:
            lists = {key: tuple(correlation[key]) for key in ("rules", "group_by", "fields")}
            correlation = Correlation(**{**correlation, **lists})
        applies_to = row["applies_to"]
        rules.append(
            Rule(
                **{
                    **row,
                    "path": path,
                    "tree": row["tree"].encode(),
                    "tags": tuple(row["tags"]),
                    "lists": tuple(row["lists"]),
                    "logsource": LogSource(**row["logsource"]),
                    "correlation": correlation,
                    "applies_to": None if applies_to is None else tuple(applies_to),
                }
            )
        )
    return rules, [Problem(**{**row, "path": path}) for row in value["problems"]]


def content_digest(content: bytes) -> str:
    """By what a compiled file is known: its content and the compiler's version."""
    return hashlib.sha256(VERSION.to_bytes(4) + content).hexdigest()
