"""Tables of patterns: how a message decoder says what it knows without code of its own.

A row is a pattern whose group names say where their text goes, and what is true of every line that fits it. Each row
becomes one generated function that stores its fields directly: at log speed a loop over names and converters would
cost more than the pattern itself. The source of these functions is made of this module's constants and of the rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from threatlens.decoders.base import ADDRESSES, Head, Open, Opened, Read, compiled, put_address
from threatlens.decoders.times import Clock
from threatlens.event import Fields

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
}
#: Group name -> the field that takes its number; the pattern bounds its digits.
NUMBERS = {"child_pid": "process.pid", "exit_code": "process.exit_code", "count": "event.count"}
ADDRESS_SIDES = {"src": "source", "dst": "destination"}
PORTS = {"sport": "source.port", "dport": "destination.port"}


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One kind of message: the pattern that covers it as a whole, what is always true of it, and its reader."""

    pattern: str
    names: tuple[str, ...]  # of the pattern's groups, in their order
    constants: Fields
    read: Read


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
    expression = compiled(pattern)
    names = tuple(sorted(expression.groupindex, key=expression.groupindex.__getitem__))
    if len(names) != expression.groups:
        raise ValueError(f"a group without a name in {pattern}")
    constants: Fields = {"event.category": category}
    for name, value in (("event.action", action), ("event.outcome", outcome), ("log.level", level)):
        if value:
            constants[name] = value
    constants |= also or {}
    lines = [
        "def read(message, fields):",
        "    found = match(message)",
        "    if found is None:",
        "        return False",
    ]
    if names:
        lines.append(f"    {', '.join(names)}, = found.groups()")
    lines += [f"    fields[{name!r}] = {value!r}" for name, value in constants.items()]
    for name in names:
        lines += _storing(name)
    lines.append("    return True")
    read: Read = _function("read", lines, match=expression.fullmatch)
    return Row(pattern, names, constants, read)


def _storing(name: str) -> list[str]:
    """The statements that put a group's text into its field."""
    if name in ADDRESS_SIDES:
        side = ADDRESS_SIDES[name]
        return [
            f"    if {name}:",
            f"        if address := addresses[{name}]:",
            f"            fields['{side}.ip'] = address",
            "        else:",
            f"            put_address(fields, {side!r}, {name})",
        ]
    if name in PORTS:
        return [f"    if {name} and (port := int({name})) <= 65535:", f"        fields[{PORTS[name]!r}] = port"]
    if name in NUMBERS:
        return [f"    if {name}:", f"        fields[{NUMBERS[name]!r}] = int({name})"]
    return [f"    if {name}:", f"        fields[{TEXTS[name]!r}] = {name}"]


def _function(name: str, lines: list[str], **scope: object) -> Any:
    """The function that these lines of source define."""
    scope |= {"addresses": ADDRESSES, "put_address": put_address}
    exec("\n".join(lines), scope)  # noqa: S102  (source made of constants above; no line of a log gets here)
    return scope[name]


def joined(owner: str, head: Head, programs: Iterable[str], rows: Sequence[Row], open_any: Open) -> Open:
    """`open_any` with a shortcut: one expression for the head of a line and the message behind it.

    It reads lines of these programs whose message fits one of the rows, as the owner's; all others are left to
    `open_any`. Fields begin as a copy of what all lines of a row have, at a quarter of the cost of naming it anew.
    """
    alternatives = "|".join(re.sub(r"\(\?P<\w+>", "(", row.pattern) for row in rows)
    pattern = rf"{head.time} ({head.host}) ({'|'.join(programs)})\[([0-9]{{1,10}})\]: (?:{alternatives})"
    match = compiled(pattern).fullmatch
    readers: dict[int | None, Callable[[re.Match[str], Clock], Opened | None]] = {}
    group = 5
    for row in rows:
        groups = range(group, group + len(row.names))
        taken = ", ".join(map(str, (1, 2, 3, 4, *groups)))
        lines = [
            "def read(found, clock):",
            f"    time, host, program, pid, {', '.join(row.names)}, = found.group({taken})",
            f"    moment = {head.moment}",
            "    if moment is None:",
            "        return open_any(found.string, clock)",
            "    fields = begun()",
            "    fields['host.name'] = host",
            "    fields['process.name'] = program",
            "    fields['process.pid'] = int(pid)",
        ]
        for name in row.names:
            lines += _storing(name)
        lines.append(f"    return {owner!r}, moment[0], moment[1], '', found.string[found.end(4) + 3:], fields")
        begun: Fields = {"host.name": "", "process.name": "", "process.pid": 0, **row.constants}
        reader = _function("read", lines, begun=begun.copy, open_any=open_any)
        readers |= dict.fromkeys(groups, reader)
        group = groups.stop

    def open_line(line: str, clock: Clock) -> Opened | None:
        found = match(line)
        return open_any(line, clock) if found is None else readers[found.lastindex](found, clock)

    return open_line


class Table:
    """Rows by the first word of the message; the rows under "" are tried when no other fits."""

    __slots__ = ("_any", "_rows")

    def __init__(self, rows: Mapping[str, Iterable[Row]]) -> None:
        self._any = tuple(row.read for row in rows.get("", ()))
        self._rows = {word: (*(row.read for row in group), *self._any) for word, group in rows.items() if word}

    def read(self, message: str, fields: Fields) -> bool:
        """Add what the first row that fits says; False: none fits."""
        for read in self._rows.get(message.partition(" ")[0], self._any):  # noqa: SIM110  (any() costs a generator)
            if read(message, fields):
                return True
        return False
