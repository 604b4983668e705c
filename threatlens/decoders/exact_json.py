"""JSON read slowly, by what sees double keys and keeps digits that a float would lose."""

from __future__ import annotations

import json
from typing import Any

from threatlens.event import DUPLICATE_KEY, PARSE_ERROR, TIME_ERROR

_INFINITE = float("inf")


def load_exactly(line: str) -> tuple[dict[str, Any] | None, int]:
    """Read again with the slow reader, which sees double keys and keeps the digits of numbers. None: not JSON."""
    doubles = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = {_clean(key): _clean(value) for key, value in pairs}
        if len(found) < len(pairs):
            doubles.append(1)
        return found

    try:
        document = json.loads(
            line, object_pairs_hook=members, parse_int=_exact_int, parse_float=_exact_float, parse_constant=str
        )
    except (ValueError, RecursionError):
        return None, TIME_ERROR | PARSE_ERROR
    return document, DUPLICATE_KEY if doubles else 0


def quotes(line: str) -> int:
    """How many quotes stand around keys and strings: two each, unless a key is double. -1: cannot tell cheaply."""
    quotes = line.count('"')
    if "\\" not in line:
        return quotes
    return -1 if "\\\\" in line else quotes - line.count('\\"')


def _clean(value: Any) -> Any:
    """Half of a surrogate pair, which JSON can escape and UTF-8 cannot write, becomes a question mark."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    return [_clean(item) if isinstance(item, str) else item for item in value] if isinstance(value, list) else value


def _exact_int(digits: str) -> int | str:
    if len(digits) < 19:
        return int(digits)
    return int(digits) if len(digits) <= 20 and -(2**63) <= int(digits) < 2**63 else digits


def _exact_float(digits: str) -> float | str:
    number = float(digits)
    return number if -_INFINITE < number < _INFINITE else digits
