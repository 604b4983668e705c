"""Tables of patterns: how a message decoder says what it knows without code of its own.

A row is a pattern whose group names say where their text goes, and what is true of every line that fits it. Each row
becomes one generated function that stores its fields directly: at log speed a loop over names and converters would
cost more than the pattern itself. The source of these functions is made of this module's constants and of the rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from threatlens.decoders.base import ADDRESSES, Read, compiled, put_address
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


def row(
    pattern: str,
    action: str = "",
    outcome: str = "",
    *,
    category: str = "authentication",
    level: str = "",
) -> Read:
    """A reader of the messages that the pattern covers as a whole."""
    expression = compiled(pattern)
    names = sorted(expression.groupindex, key=expression.groupindex.__getitem__)
    if len(names) != expression.groups:
        raise ValueError(f"a group without a name in {pattern}")
    constants: Fields = {"event.category": category}
    for name, value in (("event.action", action), ("event.outcome", outcome), ("log.level", level)):
        if value:
            constants[name] = value
    return _generate(expression, names, constants)


def _generate(expression: re.Pattern[str], names: list[str], constants: Fields) -> Read:
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
        lines.append(f"    if {name}:")
        if name in ADDRESS_SIDES:
            side = ADDRESS_SIDES[name]
            lines += [
                f"        address = addresses[{name}]",
                "        if address:",
                f"            fields['{side}.ip'] = address",
                "        else:",
                f"            put_address(fields, {side!r}, {name})",
            ]
        elif name in PORTS:
            lines += [
                f"        port = int({name})",
                "        if port <= 65535:",
                f"            fields[{PORTS[name]!r}] = port",
            ]
        elif name in NUMBERS:
            lines.append(f"        fields[{NUMBERS[name]!r}] = int({name})")
        else:
            lines.append(f"        fields[{TEXTS[name]!r}] = {name}")
    lines.append("    return True")
    scope: dict[str, object] = {"match": expression.fullmatch, "addresses": ADDRESSES, "put_address": put_address}
    exec("\n".join(lines), scope)  # noqa: S102  (source made of constants above; no line of a log gets here)
    read: Callable[[str, Fields], bool] = scope["read"]  # type: ignore[assignment]
    return read


class Table:
    """Rows by the first word of the message; the rows under "" are tried when no other fits."""

    __slots__ = ("_any", "_rows")

    def __init__(self, rows: Mapping[str, Iterable[Read]]) -> None:
        self._any = tuple(rows.get("", ()))
        self._rows = {word: (*group, *self._any) for word, group in rows.items() if word}

    def read(self, message: str, fields: Fields) -> bool:
        """Add what the first row that fits says; False: none fits."""
        for read in self._rows.get(message.partition(" ")[0], self._any):  # noqa: SIM110  (any() costs a generator)
            if read(message, fields):
                return True
        return False
