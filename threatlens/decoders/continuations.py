"""Lines that continue an event: stack traces and whatever else a program writes on more than one line.

A line continues the one before when that one has a time of its own and is of a kind that goes on, no decoder knows this
one, and it is indented or begins as the parts of stack traces do. So an ordinary line is never swallowed, whatever
stands before it.
"""

from __future__ import annotations

import re

from threatlens.decoders.base import VALUE_CHARS
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
