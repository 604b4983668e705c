"""Regular expressions of rules over text that an attacker writes.

RE2 runs them, in time that grows with the text and nothing else. It lacks look-around and back-references: a pattern
that needs those runs in Python's engine if no text can make it run long, and is refused otherwise. The text is cut
before it is matched.
"""

from __future__ import annotations

import contextlib
import re
import re._constants as constants  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import re2

MATCHED_CHARS = 16_384  # of a value; longer ones are matched up to here
MAX_PATTERN_CHARS = 20_000
BACKTRACKED_CHARS = 2_048  # the same in Python's engine
_MANY = 16  # a repeat up to here is as good as its copies in a row
_REPEATS = (constants.MAX_REPEAT, constants.MIN_REPEAT, constants.POSSESSIVE_REPEAT)

_GROUP_NAMES = re.compile(r"\(\?P?<([A-Za-z_][A-Za-z0-9_]*)>")

Search = Callable[[str], object]


def refusal(pattern: str, flags: str) -> str:
    """Why the pattern cannot run; "" if it can."""
    if len(pattern) > MAX_PATTERN_CHARS:
        return f"is longer than {MAX_PATTERN_CHARS:,} characters"
    names = _GROUP_NAMES.findall(pattern)
    if len(names) > len(set(names)):
        return "is not valid: it has two groups of one name"
    try:
        compile_search(pattern, flags)
    except ValueError as error:
        return str(error)
    return ""


def compile_search(pattern: str, flags: str) -> Search:
    """A function that looks for the pattern anywhere in a text. Raises ValueError with the reason."""
    try:
        return _compile_re2(f"(?{flags}){pattern}" if flags else pattern)
    except re2.error as error:
        detail = error.args[0]
        reason = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
        return _compile_python(pattern, flags, reason)


def compile_searches(patterns: Sequence[tuple[str, str]]) -> list[Search]:
    """Functions of which one finds something if one of the (pattern, flags) does: as few as can be, as each call costs
    more than the search. Raises ValueError."""
    if len(patterns) > 1:
        with contextlib.suppress(re2.error):
            return [_compile_re2("|".join(f"(?{flags}:{pattern})" for pattern, flags in patterns))]
    return [compile_search(pattern, flags) for pattern, flags in patterns]


def _compile_re2(pattern: str) -> Search:
    """Raises re2.error."""
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True  # groups would have to be found again by a slower matcher
    options.max_mem = 16 << 20
    search = re2.compile(pattern, options).search
    # Half of a surrogate pair is text for us and none for RE2.
    return lambda text: search(
        text[:MATCHED_CHARS] if text.isascii() else text[:MATCHED_CHARS].encode("utf-8", "replace").decode()
    )


def _compile_python(pattern: str, flags: str, reason: str) -> Search:
    bits = 0
    for flag in flags:
        bits |= {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL}[flag]
    try:
        parsed = parser.parse(pattern, bits)
        found = list(ambiguous(parsed))
        search = re.compile(pattern, bits).search
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is not valid: {error}") from error
    if found:
        raise ValueError(f"can be made to run without end, and RE2 cannot run it: {reason}")
    return lambda text: search(text[:BACKTRACKED_CHARS])


def ambiguous(tokens: Any, inside: bool = False) -> Iterator[str]:
    """What could make a backtracking matcher run long: a repeat or a choice inside a repeat, a second repeat
    without an upper bound, a reference to a group."""
    many = 0
    for name in _repeats(tokens, inside):
        many += name == "repeat"
        if name != "repeat" or many > 1:
            yield name


def _repeats(tokens: Any, inside: bool) -> Iterator[str]:
    for operation, argument in tokens:
        if operation in _REPEATS:
            _, high, body = argument
            many = high is constants.MAXREPEAT or high > _MANY
            if many or (inside and high > 1):
                yield "nested" if inside else "repeat"
            yield from _repeats(body, inside or many)
        elif operation is constants.GROUPREF:
            yield "reference"
        elif operation is constants.BRANCH and inside:
            yield "nested"  # two ways to read the same text, again and again: (a|a)*
        else:
            for part in _parts(operation, argument):
                yield from _repeats(part, inside)


def _parts(operation: Any, argument: Any) -> list[Any]:
    if operation is constants.SUBPATTERN:
        return [argument[3]]
    if operation is constants.BRANCH:
        return list(argument[1])
    if operation in {constants.ASSERT, constants.ASSERT_NOT}:
        return [argument[1]]
    if operation is constants.ATOMIC_GROUP:
        return [argument]
    if operation is constants.GROUPREF_EXISTS:
        return [part for part in argument[1:] if part is not None]
    return []
