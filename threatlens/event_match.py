"""FieldTest: what the query language asks of an event's fields, as a value, and whether an event passes it.

This is what a test means; the store narrows down with columns and indexes and then asks here. So a page, an answer of
the API and a live feed show the same events.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

#: What a query may call a field, and the fields that are meant: any of them.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "sev": ("severity",),
    "severity": ("severity",),
    "source": ("source",),
    "category": ("category",),
    "format": ("format",),
    "file": ("path",),
    "flag": ("flag",),
    "rule": ("rule.id", "rule.name"),
    "ip": ("source.ip", "destination.ip", "client.ip", "server.ip", "source.nat.ip", "destination.nat.ip"),
    "src": ("source.ip",),
    "dst": ("destination.ip",),
    "port": ("source.port", "destination.port"),
    "user": ("user.name",),
    "host": ("host.name",),
    "process": ("process.name",),
    "program": ("process.name",),
    "pid": ("process.pid",),
    "action": ("event.action",),
    "outcome": ("event.outcome",),
    "code": ("event.code",),
    "status": ("http.response.status_code",),
    "method": ("http.request.method",),
    "url": ("url.original",),
    "agent": ("user_agent.original",),
    "level": ("log.level",),
    "service": ("service.name",),
    "session": ("session.id",),
    "country": ("source.geo.country_iso_code",),
}
#: Fields that are columns of every event; the others are read out of the line.
OWN = ("severity", "source", "category", "format", "path", "flag", "rule.id", "rule.name")
#: The fields that the roll-up knows.
COUNTED = frozenset(("severity", "source", "category"))
#: Columns, and what is put to the fields that were read.
_MORE_THAN_THE_LINE = frozenset((*OWN, "event.original_bytes"))
NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,9})?", re.ASCII)

ValueTest = Callable[[str], bool]


class Matchable(Protocol):
    """An event, as far as tests look at it."""

    @property
    def severity(self) -> int: ...
    @property
    def source(self) -> str: ...
    @property
    def category(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def raw(self) -> str: ...
    @property
    def fields(self) -> Mapping[str, Any]: ...
    @property
    def flag_names(self) -> list[str]: ...
    @property
    def detections(self) -> tuple[Mapping[str, Any], ...]: ...


@dataclass(frozen=True, slots=True)
class FieldTest:
    """One condition on the fields of an event; without a name its values are words of the raw line."""

    name: str  # as it is written: an alias or a field; "" for words
    operator: str  # ":" any of the values, ">", ">=", "<", "<=" a number, "has": the field is there
    values: tuple[str, ...] = ()  # texts, numbers, ranges 5..7, networks 10.0.0.0/8, "*" for anything
    negated: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that the name means."""
        return ALIASES.get(self.name, (self.name,))

    @property
    def is_counted(self) -> bool:
        """Whether the roll-up can answer it."""
        return self.operator != "has" and set(self.fields) <= COUNTED

    @property
    def is_of_line(self) -> bool:
        """Whether the fields that are read out of a line answer it, and nothing else of its event."""
        return bool(self.name) and self.operator != "has" and set(self.fields).isdisjoint(_MORE_THAN_THE_LINE)

    def passes_fields(self, fields: Mapping[str, Any]) -> bool:
        """Whether a line with these fields passes; of a test that is of the line."""
        texts = [text for name in self.fields for text in _texts(fields.get(name))]
        return any(test(text) for test in self.value_tests() for text in texts) is not self.negated

    def passes(self, event: Matchable) -> bool:
        """Whether the event is one of those that are asked for."""
        return self._holds(event) is not self.negated

    def _holds(self, event: Matchable) -> bool:
        if not self.name:
            return any(stands_in((word,), event.raw) for word in self.values)
        if self.operator == "has":
            return any(self._is_there(event, value) for value in self.values)
        texts = [text for name in self.fields for text in texts_of(event, name)]
        return any(test(text) for test in self.value_tests() for text in texts)

    def value_tests(self) -> tuple[ValueTest, ...]:
        """A test of a field's text for each value; the field passes if one holds."""
        if self.operator == ":":
            return tuple(value_test(value) for value in self.values)
        return tuple(compared(self.operator, value) for value in self.values)

    @staticmethod
    def _is_there(event: Matchable, value: str) -> bool:
        names = ALIASES.get(value, (value,))
        below = tuple(name + "." for name in names)
        return any(any(texts_of(event, name)) for name in names) or any(name.startswith(below) for name in event.fields)


def texts_of(event: Matchable, name: str) -> Iterator[str]:
    """The values of a field as texts: none, one, or those of a list."""
    if name in OWN:
        yield from _own(event, name)
        return
    yield from _texts(event.fields.get(name))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, list):
        yield from map(str, value)
    elif value is not None:
        yield str(value).lower() if isinstance(value, bool) else str(value)


def _own(event: Matchable, name: str) -> Iterator[str]:
    if name == "flag":
        yield from event.flag_names
    elif name.startswith("rule."):
        yield from (str(detection.get(name, "")) for detection in event.detections)
        if name in event.fields:
            yield str(event.fields[name])
    else:
        yield str(getattr(event, name))


@lru_cache(maxsize=4_096)
def value_test(value: str) -> ValueTest:
    """What a field's text must be: in this range, of this network, the same address, like this text ignoring case."""
    low, dots, high = value.partition("..")
    if dots and (low or high) and all(not end or NUMBER.fullmatch(end) for end in (low, high)):
        least, most = float(low or "-inf"), float(high or "inf")
        return lambda text: bool(NUMBER.fullmatch(text)) and least <= float(text) <= most
    net = network(value)
    if net is not None:
        return lambda text: _is_of(text, net)
    if "*" in value:
        parts = value.lower().split("*")
        return lambda text: _is_like(text.lower(), parts)
    same = value.lower()
    return lambda text: text.lower() == same


@lru_cache(maxsize=1_024)
def compared(operator: str, value: str) -> ValueTest:
    """A comparison with a number; a text that is none does not pass."""
    limit = float(value)
    tests: dict[str, Callable[[float], bool]] = {
        ">": lambda number: number > limit,
        ">=": lambda number: number >= limit,
        "<": lambda number: number < limit,
        "<=": lambda number: number <= limit,
    }
    test = tests[operator]
    return lambda text: bool(NUMBER.fullmatch(text)) and test(float(text))


@lru_cache(maxsize=4_096)
def network(value: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network or address that a value names; None: it names none."""
    if "%" in value or not ("." in value or ":" in value):
        return None
    try:
        return ipaddress.ip_network(value, strict=False)
    except ValueError:
        return None


def _is_like(text: str, parts: list[str]) -> bool:
    """Whether the parts stand in the text one after the other, the first at its start, the last at its end.

    In one pass, whatever the text: a pattern of a person meets text of an attacker here.
    """
    first, *middle, last = parts
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _is_of(text: str, net: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    address = network(text)
    if address is None or address.version != net.version:
        return False
    first, last = int(net.network_address), int(net.broadcast_address)
    return first <= int(address.network_address) and int(address.broadcast_address) <= last


def stands_in(words: tuple[str, ...], raw: str) -> bool:
    """Whether every word is in the line, ignoring case, beginning where a word of the line begins.

    A word of a line is a run of letters, digits and ". - _ @", as in the full-text index; so a feed and a search of
    the same filter show the same events.
    """
    line = raw.lower()
    for word in words:
        sought = word.lower()
        at = line.find(sought)
        while at > 0 and _in_word(sought[0]) and _in_word(line[at - 1]):
            at = line.find(sought, at + 1)
        if at < 0:
            return False
    return True


def _in_word(char: str) -> bool:
    return char.isalnum() or char in ".-_@"
