"""Where the values of decoded fields stand in the raw line, so that raw and decoded can be shown as one thing.

Decoders do not say where they read a value; most values stand in the line as they are, and those are found again
here. A value that was changed on the way (a path unescaped, an action named) is simply not marked.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from threatlens.event import Fields

MAX_MARKED_CHARS = 20_000  # a longer line is shown whole, marked up to here
MAX_MARKS = 200


class Piece(NamedTuple):
    """A stretch of the raw line, and the fields whose value it is."""

    text: str
    fields: tuple[str, ...]  # empty: no field's


def pieces(raw: str, fields: Fields) -> list[Piece]:
    """The raw line cut at the values found in it; the pieces joined are the line."""
    found = marks(raw, fields)
    cut: list[Piece] = []
    end = 0
    for (start, stop), names in sorted(found.items()):
        if start > end:
            cut.append(Piece(raw[end:start], ()))
        cut.append(Piece(raw[start:stop], tuple(names)))
        end = stop
    if end < len(raw) or not cut:
        cut.append(Piece(raw[end:], ()))
    return cut


def marks(raw: str, fields: Fields) -> dict[tuple[int, int], list[str]]:
    """Disjoint stretches and their fields: long values first, so that no short one takes a part of theirs."""
    marked: dict[tuple[int, int], list[str]] = {}
    by_value: dict[str, list[str]] = {}
    for name, value in fields.items():
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, bool) and str(text).strip():
                by_value.setdefault(str(text), []).append(name)
    for text, names in sorted(by_value.items(), key=lambda item: -len(item[0]))[:MAX_MARKS]:
        places = _places(raw, text)
        free = [place for place in places if all(place[1] <= start or place[0] >= stop for start, stop in marked)]
        for name, place in zip(names, free, strict=False):
            marked[place] = [name]
        if free and len(names) > len(free):
            marked[free[-1]] += names[len(free) :]
    return marked


def _places(raw: str, text: str) -> list[tuple[int, int]]:
    """Where the text stands as a word of its own: 22 is not found in 2201."""
    before = r"(?<![\w])" if text[0].isalnum() else ""
    behind = r"(?![\w])" if text[-1].isalnum() else ""
    pattern = re.compile(before + re.escape(text) + behind)
    return [match.span() for match in pattern.finditer(raw, 0, MAX_MARKED_CHARS)][:20]
