"""Why a line was read as it was: which decoders were asked, which one took it, and where the others gave up.

It asks the decoders that the pipeline asks. Where one gave up is found by trying the beginnings of its patterns: the
longest beginning that fits tells the place, the word that stands there is the one it could not read.
"""

from __future__ import annotations

import re
import re._compiler as compiler  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.source import Registry
from threatlens.decoders.tables import Table
from threatlens.decoders.times import Clock

EXPLAINED_CHARS = 4_000  # of a line; what lies behind is not looked at
MAX_PATTERNS = 60  # tried per decoder
_WORD = re.compile(r"\S{1,60}")


class Attempt(NamedTuple):
    """A decoder that was asked and did not take the line."""

    format: str
    read: int  # characters that fit one of its patterns
    word: str  # what stands there; "" where the line ends, or where it only came too late
    late: bool  # True: it could read the line as well, but another one is asked earlier


class Explanation(NamedTuple):
    """How a line found its decoder."""

    envelopes: tuple[str, ...]  # from the outside in
    program: str  # what the innermost envelope says wrote it; "" for none
    attempts: tuple[Attempt, ...]  # nearest first


def explain(registry: Registry, line: str, read_at_s: float, taken: str, *, most: int = 5) -> Explanation:
    """Ask again what was asked for a line that `taken` has read ("unknown": nobody)."""
    clock = Clock()
    clock.move(read_at_s)
    line = line[:EXPLAINED_CHARS]
    envelopes: list[str] = []
    program, message = "", line
    attempts: list[Attempt] = []
    for depth in range(3):
        opened = None
        for member in registry.candidates(message):
            if depth and not member.inside:
                continue
            found = member.open(message, clock)
            if found is None:
                attempts.append(_attempt(member.name, patterns_of(member.open), message))
            elif opened is None:
                opened = found
            elif found[0] != taken:
                attempts.append(Attempt(found[0], len(message), "", late=True))
        if opened is None or not opened[3]:
            break
        envelopes.append(opened[0])
        program, message = opened[3], opened[4]
    attempts += [
        _attempt(reader.name, patterns_of(reader.read, message), message) for reader in _readers(registry, program)
    ]
    if taken == "unknown" and not attempts:
        attempts = [_attempt(each.name, patterns_of(each.open), line) for each in registry.line_decoders]
    best: dict[str, Attempt] = {}
    for attempt in attempts:
        known = best.get(attempt.format)
        if not (attempt.word or attempt.late):  # its pattern fits: something else did not please it
            continue
        if attempt.format != taken and (known is None or known.read < attempt.read):
            best[attempt.format] = attempt
    nearest = sorted(best.values(), key=lambda attempt: (-attempt.read, attempt.format))
    return Explanation(tuple(envelopes), "" if program == "*" else program, tuple(nearest[:most]))


def _readers(registry: Registry, program: str) -> Iterator[MessageDecoder]:
    for name in dict.fromkeys(name for name, _ in registry.readers_of(program)):
        member = registry.by_name.get(name)
        if isinstance(member, MessageDecoder):
            yield member


def _attempt(name: str, patterns: Iterable[str], text: str) -> Attempt:
    furthest = max((_fitting(pattern, text) for pattern in patterns), default=0)
    word = _WORD.search(text, furthest)
    return Attempt(name, furthest, word[0] if word else "", late=False)


def patterns_of(function: Any, message: str = "", depth: int = 2) -> list[str]:
    """The patterns that a decoder's function tries; of a table, those for messages with this first word."""
    table = getattr(function, "__self__", None)
    if isinstance(table, Table):
        return list(table.patterns(message))[:MAX_PATTERNS]
    found: list[str] = []
    for value in _named_in(function):
        owner = getattr(value, "__self__", None)
        if isinstance(owner, re.Pattern) and isinstance(owner.pattern, str):
            found.append(owner.pattern)
        elif isinstance(owner, Table):
            found += owner.patterns(message)
        elif isinstance(value, FunctionType) and depth:
            found += patterns_of(value, message, depth - 1)
    return found[:MAX_PATTERNS]


def _named_in(function: Any) -> Iterator[Any]:
    """What the names in a function's code stand for, in its module and in the modules that it names."""
    scope = getattr(function, "__globals__", {})
    names = getattr(getattr(function, "__code__", None), "co_names", ())
    for name in names:
        value = scope.get(name)
        if isinstance(value, ModuleType):
            yield from (getattr(value, each, None) for each in names)
        else:
            yield value


def _fitting(pattern: str, text: str) -> int:
    """How many characters of the text the longest fitting beginning of the pattern covers."""
    low, high, covered = 0, _length(pattern), 0
    while low < high:  # a beginning fits only if those before it fit
        middle = (low + high) // 2
        found = _beginning(pattern, middle + 1).match(text)
        if found is None:
            high = middle
        else:
            low, covered = middle + 1, max(covered, found.end())
    return covered


@lru_cache(maxsize=2_000)
def _length(pattern: str) -> int:
    return len(parser.parse(pattern, re.ASCII | re.DOTALL))


@lru_cache(maxsize=5_000)
def _beginning(pattern: str, parts: int) -> re.Pattern[str]:
    """The pattern up to behind that many of its parts."""
    compiled: re.Pattern[str] = compiler.compile(
        parser.parse(pattern, re.ASCII | re.DOTALL)[:parts], re.ASCII | re.DOTALL
    )
    return compiled
