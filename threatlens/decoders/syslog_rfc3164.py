"""The classic syslog line: "Nov 23 06:51:07 web1 sshd[4211]: text", with or without <PRI>.

The program is the word up to "[", ":" or "("; the message is all that follows. Lines without a program
("last message repeated 3 times") keep their host only.
"""

from __future__ import annotations

from threatlens.decoders.base import Head, LineDecoder, Opened, compiled
from threatlens.decoders.priority import put_priority
from threatlens.decoders.times import Clock
from threatlens.event import Fields

NAME = "syslog.rfc3164"

_TIME_CHARS = len("Nov 23 06:51:07")
_TIME = compiled(r"[A-Z][a-z][a-z] [ 0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9]").fullmatch
_COMMON = compiled(r" (\S++) ([^\s:\[(/]++)(?:\[([0-9]{1,10})\])?+: ?+").match
_ANY = compiled(
    r"(?:<([0-9]{1,3})>)?"
    r"([A-ZÀ-ÞŞА-Я][a-zß-ÿźğа-я]{2} {1,2}[0-9]{1,2}(?: [0-9]{4})?,? "
    r"[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?: [0-9]{4})?):? +(.*)"
).fullmatch
_TAG = compiled(
    r"(?:(\S+) +)?([^\s:\[(=\"]+(?:\([^\s()]*\))?)(?: ?\[([0-9]{1,10})\](?: ?\([^()]{1,200}\))?)?(?: [0-9.]{1,12})?:"
    r" ?(.*)"
).fullmatch
#: macOS programs have blanks in their names: "Google Chrome Helper[4211]".
_SPACED_TAG = compiled(
    r"(\S+) +([\w.-]{1,60}(?: [\w.-]{1,60}){1,4})\[([0-9]{1,10})\](?: \([^()]{1,200}\))?: ?(.*)"
).fullmatch
#: SSSD before 2.3 names its helpers like this: "[sssd[krb5_child[4211]]]: ".
_BRACKETED_TAG = compiled(r"(\S+) \[sssd\[(\w{1,40})\[([0-9]{1,10})\]\]\]: ?(.*)").fullmatch
#: ProFTPD leaves the colon out.
_BARE_TAG = compiled(r"(\S+) +([\w.-]{1,60})\[([0-9]{1,10})\] (\S.*)").fullmatch
_PACKET = compiled(r"\[[\w.-]{1,80}\] ?(?:DESCR=\"[^\"]{0,200}\" )?IN=\S* OUT=\S* .*\bSRC=").match
_RELAYED = compiled(r"(?:<[0-9]{1,3}>)?[A-Z][a-z]{2} [ 0-9]?[0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} \S").match
_HOST = compiled(r"([\w.:-]+) (.*)").fullmatch
_MAX_HEAD = 200


def read_head(start: str, clock: Clock) -> tuple[int, int, str, str] | None:
    """What "Nov 23 06:51:07 web1 sshd" says: timestamp_us, flags, host, program. None: not to be relied on."""
    moment = clock.known.get(start[:_TIME_CHARS])
    if moment is None or moment[0] is None or moment[0] > clock.latest_us:
        return None
    host, _, program = start[_TIME_CHARS + 1 :].rpartition(" ")
    head = moment[0], moment[1], host, program
    if len(start) <= _MAX_HEAD:
        clock.keep_head(start, head)
    return head


def open_line(line: str, clock: Clock) -> Opened | None:
    """The envelope and what is in it; the program is empty where the line names none."""
    time = line[:_TIME_CHARS]
    moment = clock.known.get(time)
    if moment is None:
        if _TIME(time) is None:
            return _open_unusual(line, clock)
        moment = clock.bsd(time)
    found = _COMMON(line, _TIME_CHARS)
    if found is None:
        return _open_unusual(line, clock)
    host, program, pid = found.groups()
    fields: Fields = {"host.name": host, "process.name": program}
    if pid is not None:
        fields["process.pid"] = int(pid)
    return NAME, moment[0], moment[1], program, line[found.end() :], fields


def _open_unusual(line: str, clock: Clock) -> Opened | None:
    """With <PRI>, a year, a fraction, "program(module)", or no program at all."""
    found = _ANY(line)
    if found is None:
        return None
    priority, time, rest = found.groups()
    timestamp_us, flags = clock.bsd(time)
    fields: Fields = {}
    if priority is not None:
        put_priority(fields, int(priority))
    tag = _TAG(rest) or _SPACED_TAG(rest) or _BRACKETED_TAG(rest) or _BARE_TAG(rest)
    program = ""
    if tag is not None:
        host, program, pid, message = tag.groups()
        if host:
            fields["host.name"] = host
        if program[0] == "/":
            fields["process.executable"] = program
            program = program.rpartition("/")[2] or program
        fields["process.name"] = program.partition("(")[0] or program
        if pid is not None:
            fields["process.pid"] = int(pid)
        return NAME, timestamp_us, flags, program, message, fields
    named = _HOST(rest)
    if named is None:
        return NAME, timestamp_us, flags, program, rest, fields
    message = named[2]
    if (inner := _relayed(message, clock)) is not None:
        _, inner_us, inner_flags, program, message, inner_fields = inner
        fields["log.relay.name"] = named[1]
        fields |= inner_fields
        return NAME, inner_us, inner_flags, program, message, fields
    fields["host.name"] = named[1]
    if _PACKET(message) is not None:
        program = "kernel"  # of a UniFi gateway, which does not say so
    return NAME, timestamp_us, flags, program, message.removeprefix(": "), fields


def _relayed(message: str, clock: Clock) -> Opened | None:
    """The envelope inside the envelope that a relay has put around it."""
    return open_line(message, clock) if _RELAYED(message) is not None else None


DECODER = LineDecoder(
    name=NAME,
    about="Classic (BSD) syslog envelope, with or without priority.",
    open=open_line,
    leads=("Aaa 00 00", "Aaa  0 00", "Aaa 0 0", "Aaa 00 0", "<0>Aaa ", "<00>Aaa ", "<000>Aaa ", "Aaa 00, ", "Aaa  0, "),
    inside=False,
    head=Head(
        pattern=r"(.{15} \S++ (?:PROGRAMS))",
        groups=("start",),
        moment="clock.heads.get(start) or read_head(start, clock)",
        scope={"read_head": read_head},
    ),
)
