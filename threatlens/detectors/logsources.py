"""Which log sources of Sigma an event is of: what decides which rules are asked about it.

An event may be of several: a line of sshd is of product linux, of the services sshd, auth and syslog, and of the
category that its event.category names. The tables are in logsources.yml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from threatlens.detectors.rule import LogSource
from threatlens.event import Decoded, Fields

_MAX_KNOWN = 20_000
_CHANNELS = (
    "json.Event.System.Channel", "winlog.channel", "json.winlog.channel", "json.Channel", "json.System.Channel",
    "json.log_name", "json.event.System.Channel",
)  # fmt: skip
_NUMBERS = (
    "json.Event.System.EventID", "event.code", "winlog.event_id", "json.winlog.event_id", "json.EventID",
    "json.System.EventID", "json.Event.System.EventID.#text", "json.event_id", "json.event.System.EventID",
)  # fmt: skip
CHANNELS = frozenset(_CHANNELS)
#: Fields whose values decide of which log sources an event is; besides them only its format and its fields' names do.
DECIDING = ("event.category", "process.name", *_CHANNELS, *_NUMBERS)


class Kinds(NamedTuple):
    """The products, categories and services of an event."""

    products: frozenset[str]
    categories: frozenset[str]
    services: frozenset[str]

    def meets(self, wanted: LogSource) -> bool:
        """Whether a rule of that log source is to be asked."""
        return (
            (wanted.product is None or wanted.product in self.products)
            and (wanted.category is None or wanted.category in self.categories)
            and (wanted.service is None or wanted.service in self.services)
        )


class LogSources:
    """The tables, and the answers given so far (bounded: lines can invent names of programs)."""

    def __init__(self, tables: Mapping[str, Any]) -> None:
        """`tables` as in logsources.yml."""
        formats: Mapping[str, Mapping[str, Any]] = tables["formats"]
        self._formats = {name: row for name, row in formats.items() if not name.endswith(".*")}
        self._beginnings = [(name[:-1], row) for name, row in formats.items() if name.endswith(".*")]
        self._objects: Sequence[Mapping[str, Any]] = tables["objects"]
        self._channels = {str(name).lower(): _listed(services) for name, services in tables["channels"].items()}
        self._events: Mapping[str, Mapping[str, Any]] = {
            service: {str(number): category for number, category in rows.items()}
            for service, rows in tables["events"].items()
        }
        self._known: dict[tuple[object, ...], Kinds] = {}

    def of(self, decoded: Decoded) -> Kinds:
        """The log sources of one event."""
        name, fields = decoded.format, decoded.fields
        get = fields.get
        key: tuple[object, ...] = (name, get("event.category"), get("process.name"))
        if _may_name_channel(name):
            channel = _channel(fields)
            if channel is not None:
                key = (
                    name,
                    get("event.category"),
                    channel,
                    next((v for each in _NUMBERS if (v := get(each))), None),
                    0,
                )
            else:
                key = (*key, self._object(fields))
        try:
            found = self._known.get(key)
        except TypeError:  # a list, from a JSON document
            key = tuple(str(part) for part in key)
            found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            found = self._known[key] = self._windows(key) if len(key) == 5 else self._plain(key)
        return found

    def _object(self, fields: Fields) -> int | None:
        for place, row in enumerate(self._objects):
            if all(each in fields for each in row["has"]):
                return place
        return None

    def _windows(self, key: tuple[object, ...]) -> Kinds:
        _, category, channel, number, _ = key
        services = self._channels.get(str(channel).lower(), set())
        categories = {category} if isinstance(category, str) else set()
        for service in services:
            categories |= _listed(self._events.get(service, {}).get(str(number)))
        return Kinds(frozenset({"windows"}), frozenset(categories), frozenset(services))

    def _plain(self, key: tuple[object, ...]) -> Kinds:
        name, category, program = str(key[0]), key[1], key[2]
        row: Mapping[str, Any] = self._formats.get(name) or next(
            (row for beginning, row in self._beginnings if name.startswith(beginning)), {}
        )
        services = {name, *_listed(row.get("service"))}
        categories = _listed(row.get("category"))
        products = _listed(row.get("product"))
        if isinstance(category, str):
            categories.add(category)
        if isinstance(program, str):
            services.add(program.lower())
            if not products and name != "json":  # what a program wrote into syslog, read by a decoder of its own
                products.add("linux")
                services.add("syslog")
        if len(key) == 4 and isinstance(key[3], int):
            found = self._objects[key[3]]
            products |= _listed(found.get("product"))
            categories |= _listed(found.get("category"))
            services |= _listed(found.get("service"))
        return Kinds(frozenset(products), frozenset(categories), frozenset(services))


def _may_name_channel(format_name: str) -> bool:
    return format_name == "json" or format_name.startswith("windows")


def _channel(fields: Fields) -> object:
    return next((value for each in _CHANNELS if (value := fields.get(each))), None)


def is_told_by_channel(decoded: Decoded) -> bool:
    """Whether an event's log sources are told by the Windows channel that it names, whatever its program."""
    return _may_name_channel(decoded.format) and _channel(decoded.fields) is not None


def _listed(value: Any) -> set[str]:
    if value is None:
        return set()
    return {str(item) for item in value} if isinstance(value, list) else {str(value)}
