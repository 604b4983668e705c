"""How rules see an event: its fields by the names that rules use, as text.

Our own rules use ECS names, and those are the fields as they are. Rules of SigmaHQ use the names of each product:
fields.yml says which ECS fields stand for them, by log source; and a Windows event, of whatever JSON shape (as dumped
from .evtx, Winlogbeat, NXLog), has its EventData fields under their own names. Names ignore case.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from threatlens.detectors.predicates import SEPARATOR, Get, Values, each
from threatlens.event import Decoded, FieldValue, rfc3339

_MAX_NAMES = 20_000
_SUMMED_UP = frozenset({"windows.evtx", "windows.xml"})
_MAX_SHAPES = 1_000
_NESTING = re.compile(r"(?:^|\.)(?:event_?data|user_?data|system)\.", re.IGNORECASE)
_ATTRIBUTES = re.compile(r"\.?[#@]attributes\.", re.IGNORECASE)
_WINLOG = {
    "event_id": "eventid", "provider_name": "provider_name", "channel": "channel", "computer_name": "computer",
    "record_id": "eventrecordid", "provider_guid": "provider_guid", "event.code": "eventid",
    "process.pid": "execution_processid", "process.thread.id": "execution_threadid",
    "user.identifier": "security_userid",
    "eventtime": "eventtime", "sourcename": "provider_name", "hostname": "computer", "recordnumber": "eventrecordid",
}  # fmt: skip


class _Names(dict[str, tuple[str, ...]]):
    """Name of a field -> the names that rules may know it by. Forgotten when there are many: a log can invent names."""

    def __missing__(self, name: str) -> tuple[str, ...]:
        if len(self) >= _MAX_NAMES:
            self.clear()
        names = self[name] = _names_of(name)
        return names


def _names_of(name: str) -> tuple[str, ...]:
    plain = name.lower()
    foreign = plain.partition(".")[2] if plain.startswith(("json.", "logfmt.", "keyvalue.", "winlog.")) else ""
    if not foreign:
        return (plain,)
    short = _ATTRIBUTES.sub("_", foreign).removesuffix(".#text").removesuffix("#text")
    if found := _NESTING.search(short):
        short = short[found.end() :]
        if "user" in found.group().lower():
            short = short.rpartition(".")[2]
        elif "system" in found.group().lower():
            short = short.replace(".", "_")
    short = short.removeprefix("winlog.")
    names = [plain, foreign, _WINLOG.get(short, short)]
    if " " in short:
        names.append(short.replace(" ", ""))
    return tuple(dict.fromkeys(names))


NAMES: Mapping[str, tuple[str, ...]] = _Names()


#: The network of source.ip, /16 or /32 of IPv6: what correlations count who ask how far apart addresses are.
NETWORK = "source.network"
#: Names that stand for something beside the fields.
NO_FIELDS = frozenset({"message", "log.format", "@timestamp", NETWORK})


@lru_cache(maxsize=10_000)
def network_of(address: str) -> str | None:
    """The network of an address; None for what is none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    known = mapped or parsed
    return str(ipaddress.ip_network((known, 16 if known.version == 4 else 32), strict=False))


def text_of(value: FieldValue) -> str:
    """A single value as rules compare it."""
    if type(value) is str:
        return value
    if value is True:
        return "true"
    return "false" if value is False else str(value)


def message_of(decoded: Decoded) -> str:
    """The message, unless it repeats what the fields hold: a whole JSON object, the data of a Windows event."""
    message = decoded.message
    if decoded.format in _SUMMED_UP or (message[:1] == "{" and decoded.format != "unknown"):
        return ""
    return message


def searched_text(decoded: Decoded) -> str:
    """Everything in the event that a test may be about, lower case: what the prefilter looks through."""
    texts = [
        value if type(value) is str else SEPARATOR.join(value) if type(value) is list else text_of(value)
        for value in decoded.fields.values()
    ]
    return SEPARATOR.join((message_of(decoded), decoded.format, *texts)).lower()


class _Values(dict[str | None, Any]):
    """Name -> value as it stands in the event, looked up when it is first asked for; None if there is none.

    Under None: every single value, for keywords.
    """

    __slots__ = ("_decoded", "_places", "_timestamp_us")

    def __init__(self, decoded: Decoded, places: Mapping[str, str], timestamp_us: int) -> None:  # one per event
        self._decoded = decoded
        self._places = places
        self._timestamp_us = timestamp_us

    def __missing__(self, name: str | None) -> Any:
        decoded = self._decoded
        value: Any = None
        if name is None:
            shown = [self[own] for own in ("message", *map(str.lower, decoded.fields))]
            value = tuple(text for one in shown for text in each(one))
        elif (place := self._places.get(name)) is not None:
            value = decoded.fields[place]
            if type(value) is not str:
                value = Values(value) if type(value) is list else text_of(value)
        elif name == "message":
            value = message_of(decoded) or None
        elif name == "log.format":
            value = decoded.format
        elif name == "@timestamp":
            value = rfc3339(self._timestamp_us)
        elif name == NETWORK:
            address = self["source.ip"]
            value = network_of(address) if type(address) is str else None
        self[name] = value
        return value


class _Lower(dict[str | None, Any]):
    """The same in lower case."""

    __slots__ = ("_original",)

    def __init__(self, original: _Values) -> None:
        self._original = original

    def __missing__(self, name: str | None) -> Any:
        value = self._original[name]
        if type(value) is str:
            value = value.lower()
        elif type(value) is Values:
            value = Values(item.lower() for item in value.items)
        elif value is not None:
            value = tuple(item.lower() for item in value)
        self[name] = value
        return value


class _Shapes(dict[tuple[str, ...], dict[str, str]]):
    """The fields of an event -> under which of them a name is to be looked up. Forgotten when there are many."""

    def __missing__(self, shape: tuple[str, ...]) -> dict[str, str]:
        if len(self) >= _MAX_SHAPES:
            self.clear()
        places: dict[str, str] = {}
        for field in shape:
            own, *others = NAMES[field]
            places[own] = field
            for other in others:
                places.setdefault(other, field)
        self[shape] = places
        return places


SHAPES: Mapping[tuple[str, ...], dict[str, str]] = _Shapes()


class View:
    """One event, as predicates ask for it."""

    __slots__ = ("get", "text", "values")

    def __init__(self, decoded: Decoded, text: str, timestamp_us: int) -> None:
        """`text`: what searched_text() gave."""
        original = _Values(decoded, SHAPES[tuple(decoded.fields)], timestamp_us)
        self.text = text
        self.values: Get = original.__getitem__  # name -> value as it is, None without one
        self.get: Get = _Lower(original).__getitem__  # the same, lower case


class FieldMap:
    """Which fields stand for a name that rules of a log source use."""

    def __init__(self, sections: Iterable[Mapping[str, Any]]) -> None:
        """`sections` as in fields.yml: product, category, service (each may be absent) and fields."""
        self._sections = [
            (
                tuple((key, section[key]) for key in ("product", "category", "service") if key in section),
                {str(name).lower(): _listed(ours) for name, ours in section["fields"].items()},
            )
            for section in sections
        ]

    def names(self, product: str | None, category: str | None, service: str | None) -> Callable[[str], Sequence[str]]:
        """A function from a rule's name of a field to the names to look under, its own first."""
        of_rule = {"product": product, "category": category, "service": service}
        fields: dict[str, tuple[str, ...]] = {}
        for wanted, mapped in self._sections:
            if all(of_rule[key] == value for key, value in wanted):
                for name, ours in mapped.items():
                    fields[name] = (*fields.get(name, (name,)), *ours)
        return lambda name: fields.get(name, (name,))


def _listed(value: Any) -> tuple[str, ...]:
    return tuple(str(item).lower() for item in value) if isinstance(value, list) else (str(value).lower(),)
