"""Rules and events for the tests of the detectors."""

from __future__ import annotations

from threatlens.detectors.compiling import compile_file
from threatlens.detectors.rule import RuleSet
from threatlens.event import Decoded


def rule_set(text: str) -> RuleSet:
    """The rules of a file's text, compiled here."""
    rules, problems = compile_file("test.yml", text.encode())
    return RuleSet(tuple(rules), tuple(problems))


def event(fields: dict, *, message: str = "", log_format: str = "test", at_s: float = 0.0) -> tuple[Decoded, int]:
    """A decoded event of the log source category "test", at that many seconds after the epoch."""
    return Decoded(log_format, int(at_s * 1e6), message, {"event.category": "test", **fields}), int(at_s * 1e6)
