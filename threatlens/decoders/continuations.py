"""Lines that continue an event: stack traces and whatever else a program writes on more than one line.

A line continues the one before when that one has a time of its own and is of a kind that goes on, no decoder knows this
one, and it is indented or begins as the parts of stack traces do. So an ordinary line is never swallowed, whatever
stands before it. Inside the lines of a container or of the journal's JSON the same holds for what they carry.

Other lines say themselves to what they belong: audit records by their number, a container's parts of a long line by
their tag, a CSV record by the quote that it leaves open, a report of Erlang's by its head.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from threatlens.decoders import auditd, containers
from threatlens.decoders.base import UNKNOWN, VALUE_CHARS
from threatlens.event import Decoded

MAX_LINES = 500  # of one event
MAX_CHARS = 65_536
_PART = re.compile(
    r"Traceback \(most recent call last\):|Caused by: |Suppressed: |\.\.\. [0-9]{1,5} more|During handling of"
    r"|The above exception was|Stack trace:|goroutine [0-9]{1,10} \[|stack backtrace:|#[0-9]{1,3} "
)
_RAISED = re.compile(r"[A-Za-z_][\w.$]{0,200}(?:Error|Exception|Warning|Interrupt|Exit|Throwable)\b")
_CLASS = re.compile(r"[a-z][\w$]{0,60}(?:\.[\w$]{1,100}){1,12}(?:(?<=Error)|(?<=Exception)|(?<=Throwable))(?:: |$)")
_TRACE = re.compile(r"^\s+at \S|^\s+File \"|^Traceback \(|^Caused by: |^goroutine [0-9]", re.MULTILINE)


#: The journal's JSON and which process wrote into it.
_JOURNAL = re.compile(r'"_PID" ?: ?"([0-9]{1,10})"')
#: What begins a trace in a container's output that no decoder knows.
_STARTS = re.compile(r"Traceback|Exception|Error|panic: |Caused by|Stack trace|fatal error")
_TRACED = re.compile(r"\s+(?:at |File \"|\.\.\. )|\t")
#: Formats of which a line may be a part of the event before it, by what it says itself.
PARTS = frozenset((UNKNOWN, auditd.NAME, containers.CRI, "json"))
#: Formats whose events may hold any line, as quotes or a head say how far they reach.
ENCLOSING = frozenset(("postgresql.csv", "erlang.report"))


def origin(decoded: Decoded, line: str) -> tuple[str, str] | None:
    """The output within a container, or the process in the journal, that a line of theirs comes from."""
    stream = decoded.fields.get("log.iostream")
    if type(stream) is str:
        return stream, ""
    if line.startswith("{") and '"__REALTIME_TIMESTAMP"' in line and (found := _JOURNAL.search(line)) is not None:
        return "", found[1]
    return None


def is_open(decoded: Decoded, line: str) -> bool:
    """Whether the line itself says that more may follow, or is output in which a trace begins."""
    if decoded.format == auditd.NAME:
        return auditd.may_follow(decoded.fields)
    if decoded.format in ENCLOSING or decoded.fields.get("log.partial") is True:
        return True
    return decoded.format in PARTS and origin(decoded, line) is not None and _STARTS.search(decoded.message) is not None


def is_trace_part(decoded: Decoded, line: str) -> bool:
    """Whether the line is one of a container or the journal that carries a part of a trace."""
    return (
        decoded.format in PARTS
        and decoded.message != line
        and decoded.message[:1].strip("\n\r") != ""
        and may_continue(decoded.message)
        and origin(decoded, line) is not None
    )


def join_part(
    head: Decoded, text: str, line: str, decoded: Decoded, goes_on: bool, read: Callable[[str], Decoded]
) -> Decoded | None:
    """The event of `head`, whose lines so far are `text`, together with `line`, by itself `decoded`; None: that is
    another event. `goes_on`: the head is of a kind that does; `read` decodes a line put together of several."""
    lines = text.count("\n") + 1
    if not line or line.isspace():
        return None
    if lines >= MAX_LINES or len(text) + len(line) > MAX_CHARS:
        return None
    if head.format == "postgresql.csv":
        if text.count('"') % 2 == 0:
            return None
        whole = f"{text}\n{line}"
        return read(whole) if whole.count('"') % 2 == 0 else head._replace(message=f"{head.message}\n{line}")
    if head.format == "erlang.report":
        return _report(head, text, line, decoded, read)
    if decoded.format == auditd.NAME:
        return auditd.merged(head, decoded, line) if head.format == auditd.NAME else None
    whence = origin(decoded, line)
    if whence is None:
        return joined_trace(head, text, line, decoded, lines) if goes_on and decoded.format == UNKNOWN else None
    first = text.partition("\n")[0]
    if whence != origin(head, first):
        return None
    if head.fields.get("log.partial") is True:
        whole = containers.whole([*text.split("\n"), line])
        return read(whole) if whole else None
    if not is_trace_part(decoded, line):
        return None
    part = decoded._replace(format=UNKNOWN)
    if goes_on or (head.format in PARTS and (lines > 1 or _TRACED.match(part.message) or _PART.match(part.message))):
        rest = head.message.partition("\n")[2] if lines > 1 else ""
        return joined_trace(head, f"\n{rest}" if rest else "", part.message, part, lines)
    return None


def _report(head: Decoded, text: str, line: str, decoded: Decoded, read: Callable[[str], Decoded]) -> Decoded | None:
    """The report with one line more. In a container's output each line has an envelope, which the text goes without."""
    first, *more = text.split("\n")
    whence = origin(head, first)
    if whence is None:
        return None if line.startswith("=") else _of_report(read(f"{text} {line}"), head)
    if decoded.message.startswith("=") or origin(decoded, line) != whence:
        return None
    return _of_report(read(" ".join((first, *(read(each).message for each in more), decoded.message))), head)


def _of_report(whole: Decoded, head: Decoded) -> Decoded:
    """A report with its text; one that nobody knows keeps its head's time."""
    if whole.format != UNKNOWN:
        return whole
    return head._replace(format=UNKNOWN, message=whole.message, flags=head.flags)


def joined_trace(head: Decoded, text: str, line: str, decoded: Decoded, lines: int) -> Decoded | None:
    """`joined`, if the line continues the event."""
    if not continues(decoded, line, head, lines, 0):
        return None
    rest = text.partition("\n")[2]
    return joined(head, f"{rest}\n{line}" if rest else line, line)


def may_continue(line: str) -> bool:
    """Whether the line, which is not blank, could be one that continues an event: most lines could not."""
    return line[0] in " \t" or any(pattern.match(line) for pattern in (_PART, _CLASS, _RAISED))


def continues(decoded: Decoded, line: str, head: Decoded, lines: int, chars: int) -> bool:
    """Whether `line`, by itself `decoded`, belongs to the event of `head`, which has `lines` and `chars` so far and is
    of a kind that goes on (SourceDecoder.goes_on)."""
    if decoded.format != "unknown" or head.timestamp_us is None:
        return False
    if lines >= MAX_LINES or chars + len(line) > MAX_CHARS:
        return False
    if line[0] in " \t" or _PART.match(line) is not None or _CLASS.match(line) is not None:
        return True
    return lines > 1 and _RAISED.match(line) is not None


def joined(head: Decoded, rest: str, added: str) -> Decoded:
    """The event with what was `added` to it; `rest` is all that stands behind its first line by now."""
    fields = head.fields
    if _TRACE.search(rest[:VALUE_CHARS]) is not None:
        fields = {**fields, "error.stack_trace": rest[:VALUE_CHARS]}
    return head._replace(message=f"{head.message}\n{added}", fields=fields)
