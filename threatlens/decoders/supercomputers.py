"""Logs of supercomputers, as their centres publish them: alert tag ("-" for none), epoch and node in front."""

from __future__ import annotations

from threatlens.decoders import syslog_rfc3164
from threatlens.decoders.base import LineDecoder, Opened, compiled
from threatlens.decoders.tables import layout
from threatlens.decoders.times import Clock

_BEHIND = compiled(r"(\S{1,40}) ([0-9]{10}) [0-9]{4}\.[0-9]{2}\.[0-9]{2} (\S{1,100}) ([A-Z][a-z]{2} .*)").fullmatch


def _open_syslog(line: str, clock: Clock) -> Opened | None:
    """Tag, epoch, date and node, then a line of syslog whose host is "node/node" or "user@node"."""
    found = _BEHIND(line)
    if found is None:
        return None
    tag, epoch, node, rest = found.groups()
    inner = syslog_rfc3164.open_line(rest, clock)
    if inner is None:
        return None
    timestamp_us, flags = clock.epoch(int(epoch))
    _, _, _, program, message, fields = inner
    fields["host.name"] = node
    if tag != "-":
        fields["event.code"] = tag
    return "supercomputer.syslog", timestamp_us, flags, program, message, fields


DECODERS = (
    layout(
        "supercomputer.ras",
        r"(?:-|(?P<code>[A-Z]\w{0,39})) (?P<time>[0-9]{10}) [0-9]{4}\.[0-9]{2}\.[0-9]{2} \S{1,100} "
        r"[0-9]{4}(?:-[0-9]{2}){2}-[0-9.]{8}\.[0-9]{1,6} (?P<host>\S{1,100}) (?P<event__dataset>\S{1,40}) "
        r"(?P<logger>[\w-]{1,60}) (?P<level>[A-Z]{1,20})(?: (?P<message>.*))?",
        about="Blue Gene/L's reliability events.",
        leads=("- 0000000000 0000.00.00 ", "A"),
        marks=(" RAS ", " NULL "),
    ),
    LineDecoder(
        name="supercomputer.syslog",
        about="Syslog of clusters (Thunderbird, Spirit, Liberty) with tag, epoch and node in front.",
        open=_open_syslog,
        leads=("- 0000000000 0000.00.00 ", "A"),
        marks=(" 20", " 19"),
    ),
    layout(
        "supercomputer.hpc",
        r"(?P<event__id>[0-9]{1,12}) (?P<host>\S{1,100}) (?P<logger>[\w.-]{1,100}) (?P<event__action>[\w.-]{1,100}) "
        r"(?P<time>[0-9]{9,10}) (?P<event__code>[0-9]{1,5}) (?P<message>.*)",
        about="High-performance clusters: number, node, component, state, epoch, flag.",
        leads=tuple("0" * digits + " a" for digits in range(1, 9)),
        marks=(" 1 ", " 0 "),
    ),
)
