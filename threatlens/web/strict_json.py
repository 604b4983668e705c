"""JSON as programs exchange it: nothing ambiguous is taken in, and nothing that was stored fails on the way out.

Duplicate keys, NaN, infinities, byte order marks and lone surrogates are where two readers of one document may
disagree; a document that holds one is refused, not repaired.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import orjson

from threatlens.errors import QueryError


def loads(data: bytes | str, *, max_depth: int = 32) -> Any:
    """The value of a JSON document; raises QueryError with one sentence that says why it is not taken."""
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        if text.startswith("\ufeff"):
            _refuse("begins with a byte order mark")
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except UnicodeDecodeError:
        _refuse("is not UTF-8")
    except RecursionError:
        _refuse(f"is nested deeper than {max_depth}")
    except ValueError as error:
        what = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else "a number"
        _refuse(f"is not valid JSON: {what}")
    _inspect(value, max_depth)
    return value


def dumps(value: Any) -> bytes:
    """The JSON text of a value, as UTF-8; whatever a log line brought (huge integers, half surrogates) has a form."""
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        _refuse("names a key twice in one object")
    return value


def _constant(name: str) -> NoReturn:
    _refuse(f"holds {name}, which is not JSON")


def _inspect(value: Any, max_depth: int) -> None:
    """Depth, half surrogates and numbers beyond measure, without recursion."""
    level = [value]
    for depth in range(max_depth + 1):
        if not level:
            return
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                if depth == max_depth:
                    _refuse(f"is nested deeper than {max_depth}")
                below += item.keys()
                below += item.values()
            elif isinstance(item, list):
                if depth == max_depth:
                    _refuse(f"is nested deeper than {max_depth}")
                below += item
            elif isinstance(item, str):
                if any(0xD800 <= ord(character) < 0xE000 for character in item):
                    _refuse("holds half of a surrogate pair")
            elif isinstance(item, float) and not math.isfinite(item):
                _refuse("holds a number beyond measure")
        level = below


def _refuse(what: str) -> NoReturn:
    msg = f"The JSON {what}."
    raise QueryError(msg, field="body")
