"""Fixtures for the tests of following files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from follow_bench import Bench


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**options: object) -> Bench:
        root = Path(os.path.realpath(tmp_path)) / "logs"
        root.mkdir(exist_ok=True)
        made.append(Bench(root, **options))
        return made[-1]

    yield make
    for bench in made:
        bench.monitor.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()
