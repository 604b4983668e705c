"""Kinds of values that a configuration may hold, and reading a section of them: what is wrong is noted, all of it."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from threatlens.config_file import Entry, Listing, Node, Scalar, Section, is_null, yaml_meaning
from threatlens.config_paths import PathRules
from threatlens.errors import ConfigError
from threatlens.outbound_urls import Permissions
from threatlens.visible import is_plain

_NUMBER = re.compile(r"[-+]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_WHOLE = re.compile(r"[-+]?(0|[1-9]\d*)")


@dataclass(slots=True)
class Reading:
    """What is known while one origin is checked, and what was found wrong with it."""

    file: str  # named in errors
    formats: frozenset[str]  # decoder names
    rules: PathRules
    outbound: Permissions = field(default_factory=Permissions)
    channels: frozenset[str] = frozenset()  # channel names that other origins define
    taken: frozenset[str] = frozenset()  # source names that cannot be used
    whole_file_system: bool = False
    errors: list[ConfigError] = field(default_factory=list)
    clear_secrets: list[str] = field(default_factory=list)  # keys
    open_secrets: list[str] = field(default_factory=list)  # keys, of references too: what is to be sealed when saved
    references: bool = True  # whether a secret may be env:NAME or file:/path
    dangling: list[ConfigError] | None = None  # names that lead to nothing; None: they are errors
    lost: list[ConfigError] = field(default_factory=list)  # what was saved and is not there any more, such as a key
    unseal: Callable[[str], str] | None = None  # for what was saved; raises SecretError

    def refuse(self, place: Node | Entry, key: str, message: str, *, dangling: bool = False) -> None:
        """Note a mistake. Dangling: a name that leads to nothing, without which the rest may hold."""
        errors = self.errors if self.dangling is None or not dangling else self.dangling
        errors.append(ConfigError(message, file=self.file, line=place.line, column=place.column, key=key))


#: Reads one value; `key` is where it stands, dotted. Raises ConfigError, or notes mistakes in parts of it.
Kind = Callable[[Node, str, Reading], Any]


def read_section(
    node: Node, key: str, reading: Reading, table: Mapping[str, Kind], required: Collection[str] = ()
) -> dict[str, Any]:
    """The values of a section's known keys that are right; mistakes are noted. Raises ConfigError if it is none."""
    if not isinstance(node, Section):
        raise ConfigError("must be keys with values")
    values: dict[str, Any] = {}
    for name in [*(name for name in table if name in node.entries), *(set(node.entries) - set(table))]:
        entry = node.entries[name]
        where = f"{key}.{name[:60]}" if key else name[:60]
        if name not in table:
            reading.refuse(entry, where, f"unknown key{nearest(name, table)}")
        elif not is_null(entry.value):
            for value in _attempt(table[name], entry.value, where, reading):
                values[name] = value
    for name in required:
        if name not in node.entries or is_null(node.entries[name].value):
            reading.refuse(node, key, f"{name!r} is missing")
    return values


def _attempt(kind: Kind, node: Node, key: str, reading: Reading) -> list[Any]:
    """The value, alone in a list; an empty list if it or a part of it is wrong, which is noted."""
    before = len(reading.errors)
    try:
        value = kind(node, key, reading)
    except ConfigError as error:
        reading.refuse(node, key, error.message)
    return [value] if len(reading.errors) == before else []


def text(longest: int = 200, check: Callable[[str], str] | None = None) -> Kind:
    """Text of at most `longest` characters, refined by `check`."""

    def read(node: Node, _key: str, _reading: Reading) -> str:
        value = text_of(node)
        if len(value) > longest:
            raise ConfigError(f"is longer than {longest} characters")
        return check(value) if check else value

    return read


def whole(lowest: int, highest: int) -> Kind:
    """A whole number."""

    def read(node: Node, _key: str, _reading: Reading) -> int:
        wanted = f"must be a whole number from {lowest} to {highest}"
        if not (isinstance(node, Scalar) and node.plain and len(node.text) <= 20 and _WHOLE.fullmatch(node.text)):
            raise ConfigError(wanted)
        if not lowest <= int(node.text) <= highest:
            raise ConfigError(f"{wanted}, not {node.text}")
        return int(node.text)

    return read


def number(lowest: float, highest: float, unit: str) -> Kind:
    """A number with or without a fraction."""

    def read(node: Node, _key: str, _reading: Reading) -> float:
        wanted = f"must be a number from {lowest:g} to {highest:g} ({unit})"
        if not (isinstance(node, Scalar) and node.plain and len(node.text) <= 40 and _NUMBER.fullmatch(node.text)):
            raise ConfigError(wanted)
        value = float(node.text)
        if not (math.isfinite(value) and lowest <= value <= highest):
            raise ConfigError(f"{wanted}, not {node.text}")
        return value

    return read


def boolean(node: Node, _key: str, _reading: Reading) -> bool:
    """true or false."""
    value = node.text.lower() if isinstance(node, Scalar) and node.plain else ""
    if value in {"true", "yes", "on"}:
        return True
    if value in {"false", "no", "off"}:
        return False
    raise ConfigError("must be true or false")


def choice(*names: str) -> Kind:
    """One of some words."""

    def read(node: Node, _key: str, _reading: Reading) -> str:
        value = text_of(node)
        if value not in names:
            raise ConfigError(f"{value[:60]!r} is not one of: {', '.join(names)}")
        return value

    return read


def listing(kind: Kind) -> Kind:
    """A list of values of one kind."""

    def read(node: Node, key: str, reading: Reading) -> tuple[Any, ...]:
        if not isinstance(node, Listing):
            raise ConfigError("must be a list")
        values: list[Any] = []
        for index, item in enumerate(node.items):
            values += _attempt(kind, item, f"{key}.{index}", reading)
        return tuple(values)

    return read


def named(kind: Kind, what: str) -> Kind:
    """A list of sections, each with a `name` of its own."""

    def read(node: Node, key: str, reading: Reading) -> tuple[Any, ...]:
        seen: dict[str, int] = {}
        for index, item in enumerate(node.items if isinstance(node, Listing) else ()):
            name = item.entries["name"].value if isinstance(item, Section) and "name" in item.entries else None
            if not isinstance(name, Scalar):
                continue
            if name.text in seen:
                lines = f": in lines {seen[name.text]} and {name.line}" if name.line else ""
                reading.refuse(name, f"{key}.{index}.name", f"two {what} are named {name.text[:60]!r}{lines}")
            seen[name.text] = name.line
        values: tuple[Any, ...] = listing(kind)(node, key, reading)
        return values

    return read


def text_of(node: Node) -> str:
    if not isinstance(node, Scalar):
        raise ConfigError("must be text")
    if meaning := yaml_meaning(node):
        raise ConfigError(f"must be text, but {node.text[:60]} without quotes is {meaning}; write '{node.text[:60]}'")
    return node.text


def nearest(name: str, known: Collection[str]) -> str:
    """The end of a message about an unknown word: the word that was meant, or all there are."""
    if close := difflib.get_close_matches(name, known, n=1):
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(known)}"


def checked_name(value: str) -> str:
    if not is_plain(value) or value != value.strip():
        raise ConfigError("must be a name: printable characters, no blank at either end")
    return value
