from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rule_texts import rule_set

from threatlens.detectors import DetectionEngine, load_rules, load_tables
from threatlens.detectors.rule import RuleSet


@pytest.fixture(scope="session")
def tables():
    return load_tables()


@pytest.fixture
def engine(tables) -> Callable[..., DetectionEngine]:
    """Makes an engine of the rules in a text."""

    def make(text: str, **options) -> DetectionEngine:
        made = DetectionEngine(rule_set(text), tables, **options)
        assert not made.problems, [str(problem) for problem in made.problems]
        return made

    return make


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., RuleSet]:
    """Writes files into a folder and loads it, by way of a cache."""

    def loaded(**files: str) -> RuleSet:
        for name, text in files.items():
            (tmp_path / f"{name}.yml").write_text(text)
        return load_rules([str(tmp_path)], cache=str(tmp_path / "cache" / "rules.json"))

    return loaded
