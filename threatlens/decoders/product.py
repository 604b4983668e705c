"""JSON of one product, said in a row: which members it has, which ECS field takes which member, what values mean.

Members are named with dots for their nesting. What a row does not name stays under "json.", as any JSON.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from threatlens.decoders.base import ADDRESSES, MAX_FIELDS, ObjectDecoder, ReadObject, put_address, put_port
from threatlens.decoders.tables import Row
from threatlens.event import Fields

Constants = Mapping[str, str]
#: Dotted name of a member -> its value as text in lower case -> what is then true. "" stands for any other value.
Cases = Mapping[str, Mapping[str, Constants]]
Put = Callable[[Fields, str, str], None]
#: A field, how a text gets into it, and its members: name, whether it is nested, and where any JSON keeps it.
_Entry = tuple[str, Put | None, tuple[tuple[str, bool, str], ...]]


class _Plan(NamedTuple):
    """How objects with the same members are read."""

    single: tuple[tuple[str, str, _Entry], ...]  # fields with one member, at the top: where it ends up, and its name
    others: tuple[_Entry, ...]
    speaks: bool  # whether a member is there that is read as a text


_MAX_READERS = 1_000
_MAX_REFUSED, _MAX_REFUSED_CHARS = 500, 100
_NOTHING = frozenset(("", "-", "--", "N/A", "n/a", "null", "<nil>", "None", "undefined"))


def at(document: Mapping[str, Any], dotted: str) -> Any:
    """The member of that name, through objects and first elements of lists; None if there is none."""
    if dotted in document:
        return document[dotted]
    if "." not in dotted:
        return None
    value: Any = document
    for name in dotted.split("."):
        if isinstance(value, list):
            value = value[0] if value else None
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text_of(value: Any) -> str:
    """A member's text; "" for what has none or says nothing."""
    if value is None:
        return ""
    if type(value) is str:
        return "" if value in _NOTHING else value
    if isinstance(value, list):
        value = value[0] if value else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return value if isinstance(value, str) and value not in _NOTHING else ""


def login(outcome: str, action: str = "login") -> Constants:
    """What is true of a sign-in with this outcome."""
    return {"event.category": "authentication", "event.action": action, "event.outcome": outcome}


def product(
    name: str,
    about: str,
    keys: str,
    *,
    when: Mapping[str, Sequence[str]] | None = None,
    holds: Mapping[str, str] | None = None,
    fields: Mapping[str, str] | None = None,
    constants: Constants | None = None,
    cases: Cases | None = None,
    said: Mapping[str, Sequence[Row]] | None = None,
    only_said: bool = False,
    web: bool = False,
    times: str = "",
) -> ObjectDecoder:
    """A row.

    `keys` and `times`: names divided by blanks. `when`: members that must say something, and begin with one of these
    texts; `holds`: members that must hold this text. `fields`: ECS field -> members divided by blanks, of which the
    first with a value counts; "source" and "destination" take addresses, with a port or
    not. `said`: rows for the text of a member; with `only_said` an object
    whose text fits none is not of this product. `web`: a request, whose outcome its status says.
    """
    wanted = [(names.split(), field) for field, names in (fields or {}).items()]
    held = list((holds or {}).items())
    conditions = [(member, tuple(begin)) for member, begin in (when or {}).items()]
    spoken = [(member, [row.read for row in rows]) for member, rows in (said or {}).items()]
    decided = list((cases or {}).items())
    fixed = dict(constants or {})
    if web:
        fixed = {"event.category": "web", "event.action": "http_request", **fixed}

    #: What the one member that decides has said in vain: most objects that only look like this product's say the same.
    only = spoken[0][0] if only_said and len(spoken) == 1 else ""
    refused: set[str] = set()

    def refuse(document: Mapping[str, Any]) -> None:
        text = document.get(only)
        if type(text) is str and len(text) <= _MAX_REFUSED_CHARS:
            if len(refused) >= _MAX_REFUSED:
                refused.clear()
            refused.add(text)

    def read_like(names: tuple[str, ...]) -> ReadObject:
        single, others, speaks = _plan(names, wanted, spoken)

        def read(document: Mapping[str, Any], found: Fields) -> str | None:
            for member, begin in conditions:
                text = text_of(at(document, member))
                if not text or not text.startswith(begin):
                    return None
            for member, part in held:
                if part not in (text_of(at(document, member)) or ""):
                    return None
            said_fields: Fields | None = None
            if speaks or only_said:
                said_fields = {}
                if not _says(document, spoken, said_fields) and only_said:
                    refuse(document)
                    return None
            found.update(fixed)
            for place, member, entry in single:  # mostly what any JSON has put there already, under this very name
                value = document[member]
                here = found.get(place)
                if here is not value and (here is None or type(value) is not str or ADDRESSES[value] != here):
                    _put(document, found, entry)
            for entry in others:
                _put(document, found, entry)
            for member, values in decided:
                value = text_of(at(document, member)).lower()
                if value:
                    found.update(values.get(value) or values.get("", {}))
            if said_fields:
                found.update(said_fields)
            if found.get("user.name") in _NOTHING:
                found.pop("user.name", None)
            if web and "event.outcome" not in found:
                status = found.get("http.response.status_code")
                if isinstance(status, int):
                    found["event.outcome"] = "failure" if status >= 400 else "success"
            if len(found) > MAX_FIELDS:
                for over in [name for name in found if name.startswith("json.")][: len(found) - MAX_FIELDS]:
                    del found[over]
            return ""

        return read

    readers = _Readers(read_like)
    return ObjectDecoder(
        name=name,
        about=about,
        keys=tuple(keys.split()),
        read=lambda document, found: readers[tuple(document)](document, found),
        times=tuple(times.split()),
        only=only,
        refused=refused,
        read_like=read_like,
    )


class _Readers(dict[tuple[str, ...], ReadObject]):
    """Names of members -> the reader of objects that have these; bounded."""

    def __init__(self, read_like: Callable[[tuple[str, ...]], ReadObject]) -> None:
        super().__init__()
        self._read_like = read_like

    def __missing__(self, names: tuple[str, ...]) -> ReadObject:
        read = self._read_like(names)
        if len(self) >= _MAX_READERS:
            self.clear()
        self[names] = read
        return read


def _plan(
    names: Collection[str],
    wanted: Sequence[tuple[list[str], str]],
    spoken: Sequence[tuple[str, Sequence[Callable[[str, Fields], bool]]]],
) -> _Plan:
    """How an object with these members is read."""
    single: list[tuple[str, str, _Entry]] = []
    others: list[_Entry] = []
    for members, field in wanted:
        here = tuple(
            (name, name not in names, "json." + name)
            for name in members
            if name in names or name.partition(".")[0] in names
        )
        if len(here) == 1 and not here[0][1]:
            single.append((field + ".ip" if "." not in field else field, here[0][0], (field, _putting(field), here)))
        elif here:
            others.append((field, _putting(field), here))
    speaks = any(member.partition(".")[0] in names or member in names for member, _ in spoken)
    return _Plan(tuple(single), tuple(others), speaks)


def _put(document: Mapping[str, Any], found: Fields, entry: _Entry) -> None:
    """Put the first of an entry's members that says something."""
    field, put, members = entry
    for member, nested, foreign in members:
        value = at(document, member) if nested else document[member]
        text = value if type(value) is str and value not in _NOTHING else text_of(value)
        if text:
            if put is None:
                found[field] = text
            else:
                put(found, field, text)
            if foreign in found:
                del found[foreign]
            return


def _says(
    document: Mapping[str, Any], spoken: Sequence[tuple[str, Sequence[Callable[[str, Fields], bool]]]], found: Fields
) -> bool:
    """Whether one of the members says something that its readers know."""
    for member, readers in spoken:
        text = at(document, member)
        if isinstance(text, str):
            for reader in readers:
                if reader(text, found):
                    return True
    return False


def _putting(field: str) -> Put | None:
    """How a member's text gets into this field, as what it should be; None: as it is."""
    if field in {"source", "destination"}:
        return put_endpoint
    if field.endswith(".port"):
        return put_port
    if field in _NUMBERS:
        return _put_number
    return _put_version if field == "http.version" else None


def _put_number(found: Fields, field: str, text: str) -> None:
    whole = text if text.isdecimal() else text.partition(".")[0]
    if len(whole) <= 18 and whole.isdecimal():
        found[field] = int(whole)


def _put_version(found: Fields, field: str, text: str) -> None:
    found[field] = text.removeprefix("HTTP/")


_NUMBERS = frozenset(
    ("http.response.status_code", "http.response.body.bytes", "event.severity", "process.pid", "process.parent.pid",
     "source.bytes", "destination.bytes")
)  # fmt: skip


def put_endpoint(found: Fields, side: str, text: str) -> None:
    """An address with a port ("192.0.2.1:80", "[2001:db8::1]:80") or without, or a name.

    Of several, as proxies hand them on, the last public one counts: clients may write what they like before it.
    """
    if "," in text:
        hops = [hop.strip() for hop in text.split(",")]
        text = next(
            (hop for hop in reversed(hops) if ADDRESSES[hop] and ipaddress.ip_address(ADDRESSES[hop]).is_global),
            hops[-1],
        )
    if address := ADDRESSES[text]:
        found[side + ".ip"] = address
        return
    host, _, port = text.rpartition(":")
    if address := ADDRESSES[host]:
        found[side + ".ip"] = address
        put_port(found, side + ".port", port)
    else:
        put_address(found, side, text)
