"""Tables of patterns: how a decoder says what it knows without code of its own.

A row is a pattern whose group names say where their text goes, and what is true of every line that fits it. A name is
one of the short ones below, or that of any ECS field with "__" for its dots: (?P<http__request__method>[A-Z]+). Each
row becomes one generated function that stores its fields directly: at log speed a loop over names and converters would
cost more than the pattern itself. The source of these functions is made of this module's constants and of the rows.

`layout` makes a decoder of whole lines in the same way: its pattern names the time, the level, the program and the
message besides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from threatlens.decoders.base import (
    ADDRESSES,
    FLAGS,
    Head,
    LineDecoder,
    Open,
    Quick,
    Read,
    compiled,
    noted,
    put_address,
)
from threatlens.decoders.levels import LEVELS
from threatlens.decoders.times import Clock
from threatlens.event import TIME_ERROR, Decoded, Fields

#: Group name -> the field that takes its text.
TEXTS = {
    "user": "user.name",
    "target": "user.target.name",
    "target_uid": "user.target.id",
    "effective": "user.effective.name",
    "group": "group.name",
    "gid": "group.id",
    "command": "process.command_line",
    "folder": "process.working_directory",
    "child": "process.name",
    "tty": "process.tty",
    "signal": "process.signal",
    "method": "event.method",
    "reason": "event.reason",
    "unit": "service.name",
    "key": "ssh.key.fingerprint",
    "session": "session.id",
    "file": "file.path",
    "interface": "observer.ingress.interface.name",
    "host": "host.name",
    "program": "process.name",
    "logger": "log.logger",
    "thread": "process.thread.name",
    "code": "event.code",
    "url": "url.original",
    "http_method": "http.request.method",
    "http_version": "http.version",
    "referrer": "http.request.referrer",
    "agent": "user_agent.original",
    "domain": "url.domain",
    "question": "dns.question.name",
    "record_type": "dns.question.type",
    "sender": "email.from.address",
    "recipient": "email.to.address",
    "queue_id": "email.local_id",
    "message_id": "email.message_id",
    "protocol": "network.protocol",
    "transport": "network.transport",
    "database": "database.name",
    "container": "container.name",
    "rule": "rule.name",
    "error": "error.message",
}
#: Group name -> the field that takes its number; the pattern bounds its digits (at most 18).
NUMBERS = {
    "child_pid": "process.pid",
    "pid": "process.pid",
    "tid": "process.thread.id",
    "exit_code": "process.exit_code",
    "count": "event.count",
    "status": "http.response.status_code",
    "size": "http.response.body.bytes",
}
#: Fields that hold numbers, for groups named after a field.
NUMERIC = frozenset(
    (
        "destination.bytes", "destination.packets", "event.duration", "event.severity", "event.sequence", "file.size",
        "http.request.body.bytes", "http.request.bytes", "log.origin.file.line",
        "http.response.bytes", "network.bytes", "network.packets",
        "process.parent.pid", "process.thread.id", "source.bytes", "source.packets",
    )
)  # fmt: skip
ADDRESS_SIDES = {
    "src": "source", "dst": "destination", "src_nat": "source.nat", "dst_nat": "destination.nat",
    "observer_ip": "observer", "server": "server",
}  # fmt: skip
PORTS = {"sport": "source.port", "dport": "destination.port"}
#: Groups of a layout that are no fields by themselves.
_PARTS = frozenset(("time", "date", "level", "message"))


class Row:
    """One kind of message: the pattern that covers it as a whole, and what is always true of it.

    Its expression and its reader are made when they are first needed: most kinds are never met on one machine.
    """

    __slots__ = ("_names", "_read", "constants", "pattern")

    def __init__(self, pattern: str, constants: Fields) -> None:
        self.pattern = noted(pattern)
        self.constants = constants
        self._names: tuple[str, ...] = ()  # with _read
        self._read: Read | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the pattern's groups, in their order."""
        self.read  # noqa: B018  (makes them)
        return self._names

    @property
    def read(self) -> Read:
        """Stores what a message says, if the pattern covers it: the generated function (message, fields) -> bool."""
        if self._read is None:
            expression = re.compile(self.pattern, FLAGS)
            self._names = _names(expression)
            lines = [
                "def read(message, fields):",
                "    found = match(message)",
                "    if found is None:",
                "        return False",
            ]
            if self._names:
                lines.append(f"    {', '.join(self._names)}, = found.groups()")
            lines += [f"    fields[{name!r}] = {value!r}" for name, value in self.constants.items()]
            for name in self._names:
                lines += _storing(name)
            lines.append("    return True")
            self._read = _function("read", lines, match=expression.fullmatch)
        return self._read


def row(
    pattern: str,
    action: str = "",
    outcome: str = "",
    *,
    category: str = "authentication",
    level: str = "",
    also: Mapping[str, str] | None = None,
) -> Row:
    """A kind of message and what it says: an ECS action, its outcome, its category, its level, and other fields."""
    return Row(pattern, _constants(category, action, outcome, level, also))


def layout(
    name: str,
    pattern: str,
    *,
    about: str,
    leads: tuple[str, ...],
    marks: tuple[str, ...] = (),
    program: str = "",
    messages: Table | None = None,
    only_messages: bool = False,
    category: str = "",
    action: str = "",
    outcome: str = "",
    also: Mapping[str, str] | None = None,
    strict: bool = True,
    programs: tuple[str, ...] = (),
    goes_on: tuple[str, ...] = (),
) -> LineDecoder:
    """A decoder of whole lines that one pattern describes.

    Groups: `time` (whatever Clock.any reads; or `date` and `time`, joined by a blank), `level` (any usual word),
    `message` (else the message is the whole line), and those of a row. `program` says whose readers go on with the
    message; `messages` reads on by itself, and with `only_messages` a line that it does not know is not of this format.
    `programs` write the same messages to syslog. More lines may follow one that holds one of `goes_on`.
    """
    expression = compiled(pattern)
    names = _names(expression)
    constants = _constants(category, action, outcome, "", also)
    lines = [
        "def open_line(line, clock):",
        "    found = match(line)",
        "    if found is None:",
        "        return None",
    ]
    if names:
        lines.append(f"    {', '.join(names)}, = found.groups()")
    lines.append(f"    fields = {dict(constants)!r}")
    if "date" in names:
        lines.append("    timestamp_us, flags = clock.any(date + ' ' + time)")
    elif "time" in names:
        lines.append("    timestamp_us, flags = clock.any(time) if time else (None, TIME_ERROR)")
    else:
        lines.append("    timestamp_us, flags = None, TIME_ERROR")
    if "level" in names:
        lines += ["    if level:", "        fields['log.level'] = levels.get(level) or level.lower()"]
    for group in names:
        if group not in _PARTS:
            lines += _storing(group)
    message = "message" if "message" in names else "line"
    if message == "message":
        lines += ["    if message is None:", "        message = ''"]
    if messages is not None and only_messages:
        lines += [f"    if not read({message}, fields):", "        return None"]
    elif messages is not None:
        lines.append(f"    read({message}, fields)")
    lines.append(f"    return {name!r}, timestamp_us, flags, {program!r}, {message}, fields")
    read = messages.read if messages is not None else None
    scope = {"match": expression.fullmatch, "levels": LEVELS, "read": read, "TIME_ERROR": TIME_ERROR}
    open_line: Open = _function("open_line", lines, **scope)
    return LineDecoder(
        name=name,
        about=about,
        open=open_line,
        leads=leads,
        marks=marks,
        strict=strict,
        programs=programs,
        read=read if programs else None,
        goes_on=goes_on,
    )


def _names(expression: re.Pattern[str]) -> tuple[str, ...]:
    """The names of the groups in their order; raises ValueError for a group without one."""
    names = tuple(sorted(expression.groupindex, key=expression.groupindex.__getitem__))
    if len(names) != expression.groups:
        raise ValueError(f"a group without a name in {expression.pattern}")
    return names


def _constants(category: str, action: str, outcome: str, level: str, also: Mapping[str, str] | None) -> Fields:
    constants: Fields = {"event.category": category} if category else {}
    for name, value in (("event.action", action), ("event.outcome", outcome), ("log.level", level)):
        if value:
            constants[name] = value
    constants |= also or {}
    return constants


def field_of(name: str) -> str:
    """The field that a group of this name fills, beside addresses, ports and the parts of a layout."""
    return NUMBERS.get(name) or TEXTS.get(name) or name.replace("__", ".")


def is_number(name: str) -> bool:
    """Whether that field holds a number."""
    return name in NUMBERS or field_of(name) in NUMERIC


def _place(name: str) -> tuple[str, list[str]]:
    """The field that takes a group's text, and the statements that put it there, where there is one."""
    if name in ADDRESS_SIDES:
        side = ADDRESS_SIDES[name]
        return f"{side}.ip", [
            f"    if address := addresses[{name}]:",
            f"        fields['{side}.ip'] = address",
            "    else:",
            f"        fields.pop('{side}.ip', None)",
            f"        put_address(fields, {side!r}, {name})",
        ]
    if name in PORTS:
        return PORTS[name], [
            f"    if (port := int({name})) <= 65535:",
            f"        fields[{PORTS[name]!r}] = port",
            "    else:",
            f"        fields.pop({PORTS[name]!r}, None)",
        ]
    field = field_of(name)
    if is_number(name):
        return field, [f"    fields[{field!r}] = int({name})"]
    if "." not in field:
        raise ValueError(f"no field is meant by a group named {name}")
    return field, [f"    fields[{field!r}] = {name}"]


def _storing(name: str) -> list[str]:
    """The statements that put a group's text into its field, if it has one."""
    return [f"    if {name}:", *(f"    {line}" for line in _place(name)[1])]


def _function(name: str, lines: list[str], **scope: object) -> Any:
    """The function that these lines of source define."""
    scope |= {"addresses": ADDRESSES, "put_address": put_address}
    exec("\n".join(lines), scope)  # noqa: S102  (source made of constants above; no line of a log gets here)
    return scope[name]


def joined(owner: str, head: Head, programs: Iterable[str], rows: Sequence[Row]) -> Quick:
    """One expression for the head of a line and the message behind it.

    It reads lines of these programs whose message fits one of the rows, as the owner's. Fields begin as a copy of what
    all lines of a row have, at a quarter of the cost of naming it anew.
    """
    alternatives = "|".join(re.sub(r"\(\?P<\w+>", "(", row.pattern) for row in rows)
    before = head.pattern.replace("PROGRAMS", "|".join(programs))
    match = compiled(rf"{before}\[([0-9]{{1,10}})\]: (?=(.*))(?:{alternatives})").fullmatch
    readers: dict[int | None, Callable[[re.Match[str], Clock], Decoded | None]] = {}
    own = range(1, len(head.groups) + 3)
    group = own.stop
    for row in rows:
        groups = range(group, group + len(row.names))
        taken = ", ".join((*head.groups, "pid", "message", *row.names))
        lines = [
            "def read(found, clock):",
            f"    {taken} = found.group({', '.join(map(str, (*own, *groups)))})",
            f"    moment = {head.moment}",
            "    if moment is None:",
            "        return None",
            "    timestamp_us, flags, host, program = moment",
            "    fields = begun()",
            "    fields['host.name'] = host",
            "    fields['process.name'] = program",
            "    fields['process.pid'] = int(pid)",
        ]
        begun: Fields = {"host.name": "", "process.name": "", "process.pid": 0, **row.constants}
        for name in row.names:
            field, storing = _place(name)
            begun[field] = ""
            lines += [
                f"    if {name}:",
                *(f"    {line}" for line in storing),
                "    else:",
                f"        del fields[{field!r}]",
            ]
        lines.append(f"    return new(Decoded, ({owner!r}, timestamp_us, message, fields, flags))")
        scope = {**head.scope, "begun": begun.copy, "new": tuple.__new__, "Decoded": Decoded}
        readers |= dict.fromkeys(groups, _function("read", lines, **scope))
        group = groups.stop

    def read_line(line: str, clock: Clock) -> Decoded | None:
        found = match(line)
        return readers[found.lastindex](found, clock) if found is not None else None

    return read_line


class Table:
    """Rows by the first word of the message; the rows under "" are tried when no other fits."""

    __slots__ = ("_readers", "_rows")

    def __init__(self, rows: Mapping[str, Iterable[Row]]) -> None:
        self._rows = {word: tuple(group) for word, group in rows.items()}
        self._readers = _Readers(self._rows)

    def read(self, message: str, fields: Fields) -> bool:
        """Add what the first row that fits says; False: none fits."""
        for read in self._readers[message.partition(" ")[0]]:  # noqa: SIM110  (any() costs a generator)
            if read(message, fields):
                return True
        return False

    def patterns(self, message: str) -> tuple[str, ...]:
        """The patterns that a message with this first word meets; all of them where no row has its word."""
        own = self._rows.get(message.partition(" ")[0])
        groups = self._rows.values() if own is None else (own, self._rows.get("", ()))
        return tuple(row.pattern for group in groups for row in group)


class _Readers(dict[str, tuple[Read, ...]]):
    """First word -> the readers to try, made when a message begins with it."""

    def __init__(self, rows: Mapping[str, tuple[Row, ...]]) -> None:
        self._rows = rows

    def __missing__(self, word: str) -> tuple[Read, ...]:
        if word and word in self._rows:
            self[word] = readers = (*(row.read for row in self._rows[word]), *self[""])
            return readers
        if "" not in self:
            self[""] = tuple(row.read for row in self._rows.get("", ()))
        return self[""]
