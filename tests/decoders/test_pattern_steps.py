"""No pattern that meets a line can be made to run long: its steps on lines made from itself grow with their length."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from steps import Matcher, runs_long

import threatlens.decoders
from threatlens.decoders.base import PATTERNS

_ANYWHERE = ("search", "findall", "finditer", "sub", "split")


@pytest.fixture(autouse=True)
def deep_recursion():
    """A repeat of the matcher's is a call within a call."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(50_000)
    yield
    sys.setrecursionlimit(before)


def all_patterns() -> dict[tuple[str, int], str]:
    """(pattern, flags) -> how it meets a line, for all that the modules of decoders hold, in tables or by name."""
    found = dict.fromkeys(((pattern, int(re.ASCII | re.DOTALL)) for pattern in PATTERNS), "fullmatch")
    for info in pkgutil.iter_modules(threatlens.decoders.__path__):
        module = importlib.import_module(f"threatlens.decoders.{info.name}")
        for name, value in vars(module).items():
            for pattern, way in patterns_of(module, name, value):
                if isinstance(pattern.pattern, str):
                    found[pattern.pattern, pattern.flags & ~re.UNICODE] = way
    return found


def patterns_of(module: ModuleType, name: str, value: object) -> Iterator[tuple[re.Pattern, str]]:
    owner = getattr(value, "__self__", None)
    if isinstance(owner, re.Pattern):
        yield owner, way_of(value.__name__)
    elif isinstance(value, re.Pattern):
        used = re.search(rf"\b{name}\.({'|'.join(_ANYWHERE)})\(", inspect.getsource(module))
        yield value, "search" if used else "match"
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from patterns_of(module, name, item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from patterns_of(module, name, item)


def way_of(method: str) -> str:
    return "search" if method in _ANYWHERE else method


def test_all_patterns_of_all_decoders_are_looked_at():
    found = all_patterns()
    assert len(found) > 1_000
    assert set(found.values()) == {"fullmatch", "match", "search"}


def test_no_pattern_runs_long_on_lines_made_to_make_it():
    long = {
        pattern: evil
        for (pattern, flags), way in all_patterns().items()
        if (evil := next(runs_long(pattern, flags, way), None)) is not None
    }
    assert long == {}


@pytest.mark.parametrize(
    ("pattern", "way"),
    [
        (r"(a+)+b", "fullmatch"),
        (r"user (.*) from (.*) port (.*) end", "fullmatch"),
        (r"x.{0,300}y.{0,300}z", "match"),
        (r"\s*\s*z", "match"),
        (r"a*b", "search"),
        (r"(?:\w+ ?)*:", "match"),
    ],
)
def test_patterns_that_run_long_are_found(pattern, way):
    assert list(runs_long(pattern, re.ASCII | re.DOTALL, way))


@pytest.mark.parametrize(
    "pattern", [r"user (.*) from (\S+) port ([0-9]+)", r"(?>(.*) from )(.*) port", r"(?:[a-z]+ )*x", r"[^ ]++ [^:]*+:"]
)
def test_patterns_that_do_not_are_left_alone(pattern):
    assert list(runs_long(pattern, re.ASCII | re.DOTALL, "fullmatch")) == []


def test_the_matcher_decides_as_re_does():
    lines = ["", "a", "ab", "aab b", "x=1 y=22", "a\nb", "user a from b port 22", "---", "AAAb"]
    for pattern in (
        r"a*b?",
        r"(?>a+)b",
        r"(?:\w+=(\d+) ?)+",
        r"(?i)a+b",
        r"\bb",
        r"(?!a).*",
        r".+?(?<=b)",
        r"[^-]*+-?",
    ):
        for line in lines:
            for way in ("fullmatch", "match", "search"):
                matcher = Matcher(pattern, re.DOTALL, way)
                assert matcher.matches(line) == bool(getattr(re.compile(pattern, re.DOTALL), way)(line)), (
                    pattern, line, way,
                )  # fmt: skip
