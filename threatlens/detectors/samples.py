"""The samples that stand in a rule: lines that it must match (`matching`) and lines that it must not (`decoys`).

A sample is one line, or a list of lines that arrive one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from threatlens.detectors.compiled import MAX_BYTES
from threatlens.detectors.documents import DocumentError, read_documents
from threatlens.detectors.engine import DetectionEngine, Tables
from threatlens.detectors.loading import rule_files
from threatlens.detectors.rule import Rule, RuleSet
from threatlens.event import Decoded

Lines = tuple[str, ...]
#: Lines -> decoded events with their times, microseconds since the epoch.
DecodeLines = Callable[[Iterable[str]], Sequence[tuple[Decoded, int]]]


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of one rule."""

    rule_id: str
    path: str
    line: int
    matching: tuple[Lines, ...]
    decoys: tuple[Lines, ...]


def read_samples(root: str) -> list[Samples]:
    """The samples of every rule in a folder or file that has some. Files that are broken have none."""
    found = []
    for path in rule_files(root):
        try:
            with open(path, "rb") as file:
                documents = read_documents(file.read(MAX_BYTES + 1))
        except (OSError, DocumentError):
            continue
        for document in documents:
            ours = document.value.get("threatlens")
            rule_id = document.value.get("id") or document.value.get("name")
            if isinstance(ours, dict) and isinstance(rule_id, str):
                matching, decoys = _listed(ours.get("matching")), _listed(ours.get("decoys"))
                if matching or decoys:
                    found.append(Samples(rule_id, path, document.line, matching, decoys))
    return found


def _listed(value: object) -> tuple[Lines, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(tuple(map(str, item)) if isinstance(item, list) else (str(item),) for item in value)


def try_samples(
    rules: RuleSet,
    samples: Iterable[Samples],
    tables: Tables,
    decode: DecodeLines,
    lists: Mapping[str, Sequence[str]],
) -> list[str]:
    """Which samples do not hold, a sentence each."""
    failures = []
    known = {name: rule for rule in rules.rules for name in (rule.id, rule.reference) if name}
    for sample in samples:
        where = f"{sample.path}:{sample.line}"
        rule = known.get(sample.rule_id)
        if rule is None:
            failures.append(f"{where}: cannot be loaded, so its samples were not tried")
            continue
        needed = RuleSet(tuple(_needed(rule, known).values()))
        for lines, wanted in [*((each, True) for each in sample.matching), *((each, False) for each in sample.decoys)]:
            engine = DetectionEngine(needed, tables, lists=lists)
            if engine.problems:
                failures.append(f"{where}: {engine.problems[0].reason}")
                break
            matches = (*engine.detect(decode(lines)).matches, *engine.finish().matches)
            if any(match.rule_id == rule.id for match in matches) is not wanted:
                shown = lines[0] if len(lines) == 1 else f"{len(lines)} lines from {lines[0]}"
                failures.append(f"{where}: {'does not match' if wanted else 'matches the decoy'}: {shown}")
    return failures


def _needed(rule: Rule, known: Mapping[str, Rule]) -> dict[str, Rule]:
    """The rule and those that it is about; what stands above it and would keep it silent is left out."""
    found = {rule.id: rule}
    waiting = list(rule.correlation.rules if rule.correlation is not None else ())
    while waiting:
        base = known.get(waiting.pop())
        if base is not None and base.id not in found:
            found[base.id] = base
            waiting.extend(base.correlation.rules if base.correlation is not None else ())
    return found
