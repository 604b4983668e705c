"""From a compiled rule to a function of an event: Python is written from the tree and compiled.

The function takes (g, o, text): `g(name)` is the lower-case value of a field or None, `o(name)` the value as it is,
`text` all lower-case values in one, for keywords. Every text of a rule enters the program through repr() or as a
constant beside it; names of fields too. So what a rule holds is never read as Python.

A field that holds several values is a `Values`: a test holds if it does for one of them.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Self

from threatlens.detectors.patterns import compile_searches
from threatlens.detectors.rule import Tree

#: Between two values in `text`: a character that no keyword holds.
SEPARATOR = "\x1f"
#: Name of a field -> its value: text, Values or None. Of None: every single value.
Get = Callable[[str | None], Any]
Predicate = Callable[[Get, Get, str], object]
#: Names of a rule's field -> names to look under, in order.
Names = Callable[[str], Sequence[str]]

_LONGEST_ADDRESS = 45  # characters
_DEEPEST = 60  # levels of one expression; Python's own limit is 200 brackets


class Values(str):
    """Several values of one field; as text, one per line. Any of them may be the one that a test is about."""

    __slots__ = ("items",)
    items: tuple[str, ...]

    def __new__(cls, items: Iterable[str]) -> Self:
        items = tuple(items)
        made = super().__new__(cls, "\n".join(items))
        made.items = items
        return made

    def __eq__(self, other: object) -> bool:
        return other in self.items

    def __ne__(self, other: object) -> bool:
        return other not in self.items

    __hash__ = str.__hash__

    def __contains__(self, part: object) -> bool:
        return any(part in item for item in self.items)  # type: ignore[operator]

    def startswith(self, *args: Any) -> bool:
        return any(item.startswith(*args) for item in self.items)

    def endswith(self, *args: Any) -> bool:
        return any(item.endswith(*args) for item in self.items)


def each(value: str | None) -> tuple[str, ...]:
    """The values of a field: none, one or several."""
    if value is None:
        return ()
    return value.items if type(value) is Values else (value,)


def make_predicate(tree: Tree, names: Names) -> Predicate:
    """A function that says whether an event meets the tree. Raises ValueError for a tree that cannot be run."""
    writer = _Writer(names)
    body = writer.expression(tree, 0)
    program = f"def predicate(g, o, text):\n    return {body}\n"
    scope: dict[str, Any] = dict(writer.constants)
    try:
        exec(compile(program, "<rule>", "exec"), scope)  # noqa: S102 - written above; texts are repr() or constants
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"is too deeply nested: {error}") from error
    predicate: Predicate = scope["predicate"]
    return predicate


_EFFORT = {"glob": 1, "cidr": 2, "cmp": 2, "ref": 2, "time": 3, "re": 4}


def _effort(tree: Tree) -> int:
    """How much work a tree may be: what is quick is asked first, as the order changes no answer."""
    if tree[0] in {"and", "or"}:
        return max(map(_effort, tree[1]))
    if tree[0] in {"not", "sel"}:
        return _effort(tree[-1])
    return _EFFORT.get(tree[0], 0)


class _Writer:
    """Writes the expression of one rule, and gathers its constants."""

    def __init__(self, names: Names) -> None:
        self.constants: dict[str, Any] = {}
        self._names = names

    def _constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def expression(self, tree: Tree, depth: int) -> str:
        if depth > _DEEPEST:
            raise ValueError("is too deeply nested")
        op = tree[0]
        if op in {"and", "or"}:
            return "(" + f" {op} ".join(self.expression(item, depth + 1) for item in sorted(tree[1], key=_effort)) + ")"
        if op == "not":
            return f"(not {self.expression(tree[1], depth + 1)})"
        if op == "sel":
            return self.expression(tree[2], depth)
        _, field, cased, values = tree
        if field is None:
            return self._keyword(op, cased, values)
        return self._test(op, field, cased, values)

    def _value(self, field: str, cased: bool) -> str:
        """The expression of a field's value, None if it has none."""
        get = "o" if cased else "g"
        looked = [f"{get}({name!r})" for name in self._names(field)]
        return looked[0] if len(looked) == 1 else "(" + " or ".join(looked) + ")"

    def _text(self, field: str, cased: bool) -> str:
        """The same, "" if it has none."""
        return f"({self._value(field, cased)} or '')"

    def _test(self, op: str, field: str, cased: bool, values: Any) -> str:
        if op == "eq":
            if len(values) == 1:
                return f"({self._value(field, cased)} == {values[0]!r})"
            if len(values) <= 4:
                return f"({self._value(field, cased)} in {tuple(values)!r})"
            return f"{self._constant(_is_one_of(values))}({self._value(field, cased)})"
        if op in {"pre", "suf"}:
            method = "startswith" if op == "pre" else "endswith"
            argument = repr(values[0]) if len(values) == 1 else self._constant(tuple(values))
            return f"{self._text(field, cased)}.{method}({argument})"
        if op == "in":
            if len(values) == 1:
                return f"({values[0]!r} in {self._text(field, cased)})"
            return f"{self._constant(_holds_one_of(values))}({self._text(field, cased)})"
        if op == "null":
            return f"(not {self._value(field, False)})"
        if op == "any":
            return f"({self._value(field, False)} is not None)"
        if op == "exists":
            tests = " or ".join(f"g({name!r}) is not None" for name in self._names(field))
            return f"(({tests}) is {bool(values)})"
        if op == "ref":
            refs = [f"{self._constant(_refers(how))}({{value}}, {self._value(other, cased)})" for other, how in values]
            return "(" + " or ".join(ref.format(value=self._value(field, cased)) for ref in refs) + ")"
        return f"{self._constant(_single(op, values))}({self._value(field, cased)})"

    def _keyword(self, op: str, cased: bool, values: Any) -> str:
        if op in {"in", "eq"} and not cased:
            return "(" + " or ".join(f"{value!r} in text" for value in values) + ")"
        if op in {"in", "eq", "pre", "suf"}:
            test: Callable[[str], object] = _holds_one_of(values)
        else:
            test = _single(op, [[0, *parts, 0] for parts in values] if op == "glob" else values)
        found = self._constant(test)
        return f"any({found}(value) for value in {'o' if cased else 'g'}(None))"


# Each makes the function of one test. They take a value, several as Values, or None.


def _is_one_of(values: Sequence[str]) -> Callable[[str | None], bool]:
    known = frozenset(values)
    return lambda value: value in known if type(value) is not Values else any(item in known for item in value.items)


def _holds_one_of(values: Sequence[str]) -> Callable[[str], bool]:
    parts = tuple(values)

    def test(value: str) -> bool:
        for part in parts:  # noqa: SIM110 - twice as fast as any()
            if part in value:
                return True
        return False

    return test


def _refers(how: str) -> Callable[[str | None, str | None], bool]:
    compare: Callable[[str, str], bool] = {
        "eq": lambda a, b: a == b,
        "pre": lambda a, b: a.startswith(b),
        "suf": lambda a, b: a.endswith(b),
        "in": lambda a, b: b in a,
    }[how]
    return lambda value, other: any(compare(a, b) for a in each(value) for b in each(other))


def _single(op: str, values: Any) -> Callable[[str | None], bool]:
    """The function of a test that looks at one value at a time."""
    tests: Sequence[Callable[[str], object]]
    if op == "glob":
        tests = [re.compile(glob_pattern(parts), re.DOTALL).fullmatch for parts in values]
    elif op == "re":
        tests = compile_searches(values)
    elif op == "cidr":
        tests = [_in_networks(values)]
    elif op == "cmp":
        tests = [_compares(word, number) for word, number in values]
    elif op == "time":
        tests = [_has_part(part, number) for part, number in values]
    else:
        raise ValueError(f"holds the test {op!r}, which cannot be run")
    if len(tests) == 1:
        only = tests[0]
        return lambda value: (
            value is not None
            and (bool(only(value)) if type(value) is not Values else any(only(item) for item in value.items))
        )
    return lambda value: any(test(item) for item in each(value) for test in tests)


def glob_pattern(parts: Sequence[str | int]) -> str:
    """Texts and wildcards as a pattern for a whole value. A text after "*" is taken where it stands first, and never
    tried elsewhere: that is as good, and no value makes it run long."""
    pieces = [""]
    for part in parts:
        if isinstance(part, str):
            pieces[-1] += re.escape(part)
        elif part == 1:
            pieces[-1] += "."
        else:
            pieces.append("")
    if len(pieces) == 1:
        return pieces[0]
    first, *middle, last = pieces
    return first + "".join(f"(?>.*?{piece})" for piece in middle) + f".*{last}"


@lru_cache(maxsize=10_000)
def _number_of(text: str) -> tuple[int, int]:
    """An address as its version and number, (0, 0) for what is none; IPv4 inside IPv6 is IPv4."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return 0, 0
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.version, int(address)


def _in_networks(values: Sequence[str]) -> Callable[[str], bool]:
    networks = [ipaddress.ip_network(value, strict=False) for value in values]
    four = [(int(n.network_address), int(n.netmask)) for n in networks if n.version == 4]
    six = [(int(n.network_address), int(n.netmask)) for n in networks if n.version == 6]

    def test(value: str) -> bool:
        text = value.partition("%")[0]
        if len(text) > _LONGEST_ADDRESS:
            return False
        version, number = _number_of(text)
        return any(number & mask == network for network, mask in (four if version == 4 else six if version else ()))

    return test


def as_number(value: str) -> float:
    """A value as a number, hexadecimal with 0x too; NaN, which is neither less nor greater, if it is none."""
    try:
        return float(int(value, 16)) if value[:2] in {"0x", "0X"} else float(value)
    except (ValueError, OverflowError):
        return math.nan


def _compares(word: str, number: float) -> Callable[[str], bool]:
    compare: Callable[[float], bool] = {
        "gt": lambda x: x > number,
        "gte": lambda x: x >= number,
        "lt": lambda x: x < number,
        "lte": lambda x: x <= number,
        "neq": lambda x: x == x and x != number,  # noqa: PLR0124 - not NaN
    }[word]
    return lambda value: compare(as_number(value))


def _has_part(part: str, number: int) -> Callable[[str], bool]:
    def test(value: str) -> bool:
        moment = as_time(value)
        if moment is None:
            return False
        return (moment.isocalendar().week if part == "week" else getattr(moment, part)) == number

    return test


def as_time(value: str) -> dt.datetime | None:
    """A time in a field: ISO 8601, or seconds or milliseconds since the epoch. UTC unless it says otherwise."""
    try:
        if value.replace(".", "", 1).isdecimal() and len(value) >= 9:
            seconds = float(value)
            return dt.datetime.fromtimestamp(seconds / 1000 if seconds > 1e11 else seconds, dt.UTC)
        return dt.datetime.fromisoformat(re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", value[:40].upper()))
    except (ValueError, OverflowError, OSError):
        return None
