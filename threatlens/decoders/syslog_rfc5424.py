"""RFC 5424: "<34>1 2026-11-23T06:51:07.003Z web1 su 4211 ID47 [origin ip=\"192.0.2.1\"] text".

The structured data is kept as log.syslog.structured_data.<id>.<name>; a time of "-" is no time.
"""

from __future__ import annotations

import re

from threatlens.decoders.base import LineDecoder, Opened, compiled
from threatlens.decoders.priority import put_priority
from threatlens.decoders.times import Clock
from threatlens.event import TIME_ERROR, Fields

NAME = "syslog.rfc5424"

_LINE = compiled(
    r"(?:<([0-9]{1,3})>)?1 (\S{1,64}) (\S{1,255}) (\S{1,255}) (\S{1,128}) (\S{1,64}) (?:-(?: (.*))?|(\[.*))"
).fullmatch
_ELEMENT_AT = compiled(r"\[([^\s=\"\]]{1,64})").match
_PARAMETER_AT = compiled(r" ([^\s=\"\]]{1,64})=\"([^\"\\]*(?:\\.[^\"\\]*)*)\"").match
_ESCAPED = re.compile(r"\\([\"\\\]])")


def open_line(line: str, clock: Clock) -> Opened | None:
    """The envelope and what is in it."""
    found = _LINE(line)
    if found is None:
        return None
    priority, time, host, program, pid, message_id, message, data = found.groups()
    if time != "-" and time[4:5] != "-":
        return None
    timestamp_us, flags = clock.iso(time) if time != "-" else (None, TIME_ERROR)
    fields: Fields = {}
    if host != "-":
        fields["host.name"] = host
    if program == "-":
        program = ""
    else:
        if program[0] == "/":
            program = program.rpartition("/")[2] or program
        fields["process.name"] = program
    if pid.isdecimal() and len(pid) <= 10:
        fields["process.pid"] = int(pid)
    if message_id != "-":
        fields["log.syslog.msgid"] = message_id
    if priority is not None:
        put_priority(fields, int(priority))
    if data is not None:
        message = _take_structured_data(data, fields)
    return NAME, timestamp_us, flags, program, (message or "").removeprefix("\ufeff"), fields


def _take_structured_data(text: str, fields: Fields) -> str:
    """Move "[id name="value" ...]" elements from the front of the text into the fields; the rest is the message."""
    at = 0
    while (element := _ELEMENT_AT(text, at)) is not None:
        after = element.end()
        found: Fields = {}
        while (parameter := _PARAMETER_AT(text, after)) is not None:
            name, value = parameter.groups()
            found[f"log.syslog.structured_data.{element[1]}.{name}"] = (
                _ESCAPED.sub(r"\1", value) if "\\" in value else value
            )
            after = parameter.end()
        if text[after : after + 1] != "]":
            break
        fields.update(found)
        at = after + 1
    return text[at:].removeprefix(" ")


DECODER = LineDecoder(
    name=NAME,
    about="The IETF syslog envelope (RFC 5424) with its structured data.",
    open=open_line,
    leads=("<0>0 ", "<00>0 ", "<000>0 ", "0 0000-00-0", "0 - "),
    inside=False,
)
