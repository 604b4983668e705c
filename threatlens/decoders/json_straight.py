"""Objects with the same members, met often: a function made for them puts their members into fields one by one.

It says the same as json_lines.flatten, or nothing: for any kind of value that such objects seldom have. Its source is
made of the places of the members only; their names, which a log can choose, are handed to it as values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from threatlens.event import Fields

#: So many objects alike make it worth the making (half a millisecond).
OFTEN = 100
MAX_MEMBERS = 40
_EXACT = 2**53
Put = Callable[[Fields, Any], None]
#: Of a member: its name with the dots of its nesting, the field of text that it sets ("" for what is read elsewhere,
#: None for no such field), what checks its value, and the field that keeps what nobody knows ("": a long name).
Member = tuple[str, str | None, Put | None, str]
#: Puts an object's members into the fields; gives the number of its keys and strings, -1: not one of the usual kind.
Straight = Callable[[dict[str, Any], Fields], int]


class Often:
    """How often objects of a shape have been met, and what reads them since it was often."""

    __slots__ = ("_count", "_members", "_times", "read")

    def __init__(self, members: Sequence[Member], times: AbstractSet[str]) -> None:
        """`times`: names of members that are read elsewhere, be they texts or numbers."""
        self._members = members
        self._times = times
        self._count = 0
        self.read: Straight | None = None

    def again(self) -> None:
        """One more."""
        self._count += 1
        if self._count == OFTEN and 2 <= len(self._members) <= MAX_MEMBERS and all(each[3] for each in self._members):
            self.read = _made(self._members, self._times)


def _made(members: Sequence[Member], times: AbstractSet[str]) -> Straight:
    scope: dict[str, object] = {}
    places = range(len(members))
    lines = [
        "def read(document, fields):",
        f"    {', '.join(f'v{at}' for at in places)} = document.values()",
        f"    texts = {len(members)}",
    ]
    for at, (name, text_name, put, other) in zip(places, members, strict=True):
        if text_name is not None:
            scope[f"name{at}"] = text_name
            lines += [f"    if type(v{at}) is str:", "        texts += 1"]
            if text_name:
                lines.append(f"        fields[name{at}] = v{at}")
            elif name in times:
                lines += [f"    elif type(v{at}) is int or type(v{at}) is float:", "        pass"]
            lines += ["    else:", "        return -1"]
            continue
        scope |= {f"name{at}": other, f"put{at}": put}
        lines += [
            f"    if type(v{at}) is str:",
            "        texts += 1",
            f"    elif not (type(v{at}) is int or type(v{at}) is float) or not -{_EXACT} < v{at} < {_EXACT}:",
            "        return -1",
            f"    put{at}(fields, v{at})" if put is not None else f"    fields[name{at}] = v{at}",
        ]
    lines.append("    return texts")
    exec("\n".join(lines), scope)  # noqa: S102  (source made of numbers; names are values)
    return scope["read"]  # type: ignore[return-value]
