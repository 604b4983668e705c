"""How rules see an event: its fields by the names that rules use, as text.

Our own rules use ECS names, and those are the fields as they are. Rules of SigmaHQ use the names of each product:
fields.yml says which ECS fields stand for them, by log source; and a Windows event, of whatever JSON shape (as dumped
from .evtx, Winlogbeat, NXLog), has its EventData fields under their own names. Names ignore case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from threatlens.detectors.predicates import SEPARATOR, Values, field_values
from threatlens.event import Decoded, FieldValue, rfc3339

_MAX_NAMES = 20_000
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
        short = short.rpartition(".")[2] if "user" in found.group().lower() else short
    short = short.removeprefix("winlog.")
    names = [plain, foreign, _WINLOG.get(short, short)]
    if " " in short:
        names.append(short.replace(" ", ""))
    return tuple(dict.fromkeys(names))


NAMES: Mapping[str, tuple[str, ...]] = _Names()


def text_of(value: FieldValue) -> str:
    """A single value as rules compare it."""
    if type(value) is str:
        return value
    if value is True:
        return "true"
    return "false" if value is False else str(value)


def message_of(decoded: Decoded) -> str:
    """The message, unless it is a whole JSON object, whose members are all fields."""
    message = decoded.message
    return "" if message[:1] == "{" and decoded.format != "unknown" else message


def searched_text(decoded: Decoded) -> str:
    """Everything in the event that a test may be about, lower case: what the prefilter looks through."""
    parts = [message_of(decoded), decoded.format]
    for value in decoded.fields.values():
        if type(value) is str:
            parts.append(value)
        elif type(value) is list:
            parts.extend(value)
        else:
            parts.append(text_of(value))
    return SEPARATOR.join(parts).lower()


class View:
    """One event, as predicates ask for it."""

    __slots__ = ("get", "lower", "original", "text", "values")

    def __init__(self, decoded: Decoded, text: str, timestamp_us: int) -> None:
        """`text`: what searched_text() gave."""
        original: dict[str, str] = {"log.format": decoded.format, "@timestamp": rfc3339(timestamp_us)}
        if message := message_of(decoded):
            original["message"] = message
        names = NAMES
        for name, value in decoded.fields.items():
            shown = value if type(value) is str else Values(value) if type(value) is list else text_of(value)
            for known in names[name]:
                if known not in original or known == name:
                    original[known] = shown
        lower = {
            name: value.lower() if type(value) is str else Values(item.lower() for item in value.items)  # type: ignore[attr-defined]
            for name, value in original.items()
        }
        self.original: Mapping[str, str] = original
        self.lower: Mapping[str, str] = lower
        self.text = text
        self.get: Callable[..., Any] = _getter(lower)
        self.values: Callable[..., Any] = _getter(original)


def _getter(values: Mapping[str, str]) -> Callable[..., Any]:
    get = values.get

    def looked_up(name: str | None, default: str | None = None) -> Any:
        return field_values(values) if name is None else get(name, default)

    return looked_up


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
