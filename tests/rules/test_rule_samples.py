"""Every shipped rule against its own samples, decoded and detected as they would be live."""

from __future__ import annotations

from functools import cache

import pytest

from threatlens import rulebook
from threatlens.decoders import SourceDecoder
from threatlens.detectors import BUILTIN, DetectionEngine, RuleSet, load_rules, load_tables

RULES = [(path, document) for path, document in rulebook.documents() if "threatlens" in document]
READ_AT_S = 1_795_700_000.0  # 2026-11-26: the samples are of days before


@cache
def pack() -> RuleSet:
    return load_rules([BUILTIN])


@cache
def tables():
    return load_tables()


@cache
def engine_of(path: str) -> DetectionEngine:
    """An engine of the rules in one file, which hold all that its correlations need."""
    engine = DetectionEngine(
        RuleSet(tuple(rule for rule in pack().rules if rule.path == str(rulebook.FOLDER / path))), tables()
    )
    assert not engine.problems
    return engine


def rules_that_match(path: str, sample: str | list[str]) -> set[str]:
    decoder = SourceDecoder()
    events = []
    at_us = int(READ_AT_S * 1_000_000)
    for line in sample if isinstance(sample, list) else [sample]:
        decoded = decoder.decode(line, READ_AT_S)
        at_us = decoded.timestamp_us if decoded.timestamp_us is not None else at_us
        events.append((decoded, at_us))
    engine = engine_of(path)
    engine.restore([])
    found = (*engine.detect(events).matches, *engine.finish().matches)
    return {match.rule_id for match in found}


@pytest.mark.parametrize(
    ("path", "document"),
    RULES,
    ids=[f"{path.with_suffix('').as_posix()}: {document['title']}" for path, document in RULES],
)
def test_a_rule_matches_its_samples_and_none_of_its_decoys(path, document):
    for sample in document["threatlens"]["matching"]:
        assert document["id"] in rules_that_match(path.as_posix(), sample), f"is to match: {sample}"
    for sample in document["threatlens"]["decoys"]:
        assert document["id"] not in rules_that_match(path.as_posix(), sample), f"must not match: {sample}"


def test_every_shipped_rule_can_run():
    engine = DetectionEngine(pack(), tables())
    assert [str(problem) for problem in engine.problems] == []
    assert len(engine.rules) == len(list(rulebook.documents()))
