"""Coverage: does every rule still fire on its own samples, does every decoder still read its own, and which rules wait
for a kind of log that no source here provides?

The rules are those that are loaded, with the lists and filters in force; the decoders those in use. What the samples
give is looked at and thrown away: nothing of it is stored, counted, announced or told.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from threatlens.decoders import SourceDecoder
from threatlens.decoders.samples import READ_AT_S, read_decoder_samples
from threatlens.decoders.source import Registry
from threatlens.detectors import DetectionEngine, Rule, RuleSet, load_tables
from threatlens.detectors.engine import Tables
from threatlens.detectors.rule import LogSource
from threatlens.detectors.samples import Samples, read_samples
from threatlens.rule_library import Loaded
from threatlens.settings import PROJECT

SAMPLES_FOLDER = os.path.join(PROJECT, "tests", "samples")
#: Failures and rules without a source that are named.
NAMED = 200


@dataclass(frozen=True, slots=True)
class Failure:
    """A rule that cannot fire or a decoder that cannot read."""

    id: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the samples gave. `needs`: of every rule that is on, the names of log sources of which one must come."""

    at_us: int
    seconds: float
    rules: int  # that are on and have samples
    failing: tuple[Failure, ...]
    untested: int  # that are on and have none
    off: int
    decoders: int
    decoder_samples: int  # 0: they are not installed here
    decoders_failing: tuple[Failure, ...]
    needs: Mapping[str, tuple[str, ...]]

    def absent(self, provided: Iterable[str]) -> dict[str, str]:
        """Rule id -> what no source here provides, of the rules that cannot fire for that reason."""
        here = set(provided)
        return {
            rule_id: " or ".join(names) for rule_id, names in self.needs.items() if names and here.isdisjoint(names)
        }

    def sentence(self, provided: Iterable[str]) -> str:
        """In one sentence, what works and what is missing."""
        absent = self.absent(provided)
        kinds = sorted(set(absent.values()))
        text = f"{self.rules - len(self.failing)} of {self.rules} rules can fire"
        if absent:
            shown = ", ".join(kinds[:4]) + (f" and {len(kinds) - 4} more" if len(kinds) > 4 else "")
            text += f"; {len(absent)} cannot here because no source provides {shown}"
        return text

    def as_json(self, provided: Iterable[str]) -> dict[str, Any]:
        """For the engine's status, pages and the API."""
        here = frozenset(provided)
        values = asdict(self)
        del values["needs"]
        values["failing"] = values["failing"][:NAMED]
        values["decoders_failing"] = values["decoders_failing"][:NAMED]
        return {
            **values,
            "can_fire": self.rules - len(self.failing),
            "absent": self.absent(here),
            "sentence": self.sentence(here),
        }


def try_all(
    loaded: Loaded,
    roots: Sequence[str],
    registry: Registry,
    *,
    samples_folder: str = SAMPLES_FOLDER,
    wall: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> Coverage:
    """Try every sample. `roots`: where the rules' files are."""
    begun = monotonic()
    on = {rule.id: rule for rule in loaded.rules if rule.id not in loaded.off}
    active = [rule for rule in on.values() if rule.kind != "filter"]
    named = {name: rule for rule in on.values() for name in (rule.id, rule.reference) if name}
    samples = [
        sample for root in roots if os.path.exists(root) for sample in read_samples(root)
        if sample.matching and (rule := named.get(sample.rule_id)) is not None and rule.path == sample.path
    ]  # fmt: skip
    tables, read_at_s = load_tables(), wall()
    failing: list[Failure] = []
    for path in dict.fromkeys(sample.path for sample in samples):
        of_file = [sample for sample in samples if sample.path == path]
        failing += _try_file(of_file, named, loaded, tables, registry, read_at_s)
    tried = 0
    broken: dict[str, Failure] = {}
    if os.path.isdir(samples_folder):
        for each in read_decoder_samples(samples_folder):
            tried += 1
            if fault := each.fault(SourceDecoder(registry=registry).decode(each.line, READ_AT_S)):
                broken.setdefault(each.format, Failure(each.format, each.format, f"line {each.number}: {fault}"))
    told = [rule for rule in active if rule.level != "informational"]
    have = {named[sample.rule_id].id for sample in samples}
    shown = {rule.id: needs(rule, named) for rule in told}
    untested = sum(rule.id not in have for rule in told)
    return Coverage(
        int(wall() * 1e6), round(monotonic() - begun, 2), len(samples), tuple(failing), untested,
        len(loaded.off), len(registry.by_name), tried, tuple(broken.values()), shown,
    )  # fmt: skip


def _try_file(
    samples: Sequence[Samples], named: Mapping[str, Rule], loaded: Loaded, tables: Tables, registry: Registry,
    read_at_s: float,
) -> Iterator[Failure]:  # fmt: skip
    """The failures among the samples of one file."""
    filters = [rule for rule in named.values() if rule.kind == "filter"]
    rules = {base.id: base for sample in samples for base in _family(named[sample.rule_id], named)}
    rules.update((rule.id, rule) for rule in filters)
    engine = DetectionEngine(RuleSet(tuple(rules.values())), tables, lists=loaded.lists)
    problems = {problem.rule_id: problem.reason for problem in engine.problems}
    for sample in samples:
        rule = named[sample.rule_id]
        if rule.id in problems:
            yield Failure(rule.id, rule.name, problems[rule.id])
            continue
        for lines in sample.matching:
            engine.restore([])
            before = engine.hits[rule.id]
            decoder = SourceDecoder(registry=registry)
            events = [(one, one.timestamp_us if one.timestamp_us is not None else int(read_at_s * 1e6))
                      for one in (decoder.decode(line, read_at_s) for line in lines)]  # fmt: skip
            engine.detect(events)
            engine.finish()
            if engine.hits[rule.id] == before:
                reason = "its own sample does not match"
                yield Failure(rule.id, rule.name, f"{reason}; a filter may hold it back" if filters else reason)
                break


def _family(rule: Rule, named: Mapping[str, Rule]) -> list[Rule]:
    """The rule and those that it counts, and those that they count."""
    found = {rule.id: rule}
    waiting = list(rule.correlation.rules if rule.correlation else ())
    while waiting:
        base = named.get(waiting.pop())
        if base is not None and base.id not in found:
            found[base.id] = base
            waiting += base.correlation.rules if base.correlation else ()
    return list(found.values())


def needs(rule: Rule, named: Mapping[str, Rule]) -> tuple[str, ...]:
    """Names of the log sources of which one must come for the rule to fire; empty: any line may do."""
    bases = [base for base in _family(rule, named) if base.correlation is None]
    names = {source_name(base.logsource) for base in bases}
    return () if "" in names else tuple(sorted(names))


def source_name(source: LogSource) -> str:
    """A log source in words, such as "linux auditd"; "": any."""
    return " ".join(part for part in (source.product, source.category, source.service) if part)


def wanted(loaded: Loaded) -> dict[str, LogSource]:
    """The log sources that rules ask for, by name."""
    return {
        name: rule.logsource for rule in loaded.rules if rule.kind == "rule" and (name := source_name(rule.logsource))
    }
