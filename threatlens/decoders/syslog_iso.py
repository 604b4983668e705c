"""Syslog with an ISO 8601 time: "2026-11-23T06:51:07.123456+00:00 web1 sshd[4211]: text".

rsyslog writes it by default since Debian 12. The zone may be missing where a process number shows that it is syslog.
"""

from __future__ import annotations

from threatlens.decoders.base import Head, LineDecoder, Opened, compiled
from threatlens.decoders.priority import put_priority
from threatlens.decoders.times import Clock
from threatlens.event import Fields

NAME = "syslog.iso"

_TIME = (
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:Z|[+-][0-9]{2}:?[0-9]{2}))"
)
_BARE = compiled(
    r"()([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?) "
    r"([\w.-]{1,255}) ([^\s:\[(=\"]+(?:\([^\s()]*\))?)(?:\[([0-9]{1,10})\]): ?(.*)"
).fullmatch
_LINE = compiled(
    rf"(?:<([0-9]{{1,3}})>)?{_TIME} "
    r"(\S++) ([^\s:\[(=\"]+(?:\([^\s()]*\))?)(?:\[([0-9]{1,10})\])?: ?(.*)"
).fullmatch
_WORDS = frozenset(
    ["TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL", "stdout", "stderr"]
)


def read_head(time: str, host: str, program: str, clock: Clock) -> tuple[int, int, str, str] | None:
    """The head of a line: timestamp_us, flags, host, program. None: not to be relied on."""
    timestamp_us, flags = clock.iso(time)
    return None if timestamp_us is None or timestamp_us > clock.latest_us else (timestamp_us, flags, host, program)


def open_line(line: str, clock: Clock) -> Opened | None:
    """The envelope and what is in it."""
    found = _LINE(line) or _BARE(line)
    if found is None:
        return None
    priority, time, host, program, pid, message = found.groups()
    if host in _WORDS or host[0] == "[":
        return None
    timestamp_us, flags = clock.iso(time)
    if program[0] == "/":
        program = program.rpartition("/")[2] or program
    fields: Fields = {"host.name": host, "process.name": program}
    if program[-1] == ")":
        fields["process.name"] = program.partition("(")[0] or program
    if pid is not None:
        fields["process.pid"] = int(pid)
    if priority:
        put_priority(fields, int(priority))
    return NAME, timestamp_us, flags, program, message, fields


DECODER = LineDecoder(
    name=NAME,
    about="Syslog envelope with an RFC 3339 time, as rsyslog writes it by default since Debian 12.",
    open=open_line,
    leads=("0000-00-00T", "<0>0000-00-", "<00>0000-00", "<000>0000-0"),
    inside=False,
    head=Head(
        pattern=_TIME + r" ([\w.-]++) (PROGRAMS)",
        groups=("time", "host", "program"),
        moment="read_head(time, host, program, clock)",
        scope={"read_head": read_head},
    ),
)
