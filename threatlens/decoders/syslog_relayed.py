"""What stands in front of lines of syslog and others on their way: octet counts, TAI64N, epochs, a second envelope.

Each takes its prefix off and has the rest read as a line of any format; a time in front counts where the rest has none.
"""

from __future__ import annotations

from threatlens.decoders.base import ANY_PROGRAM, LineDecoder, Opened, compiled
from threatlens.decoders.priority import put_priority
from threatlens.decoders.times import Clock
from threatlens.event import TIME_ERROR, Fields

_COUNTED = compiled(r"[1-9][0-9]{0,5} (<[0-9]{1,3}>.*)").fullmatch
_TAI = compiled(r"@([0-9a-f]{24}|[0-9a-f]{16})[ \t](.*)").fullmatch
_EPOCH = compiled(r"\[?([0-9]{10}(?:\.[0-9]{1,9})?|[0-9]{13}|[0-9]{16}|[0-9]{19})\]?(?::|[ \t]|: )(\S.*)").fullmatch
_PRIORITY = compiled(r"<([0-9]{1,3})>(?: ?[0-9]{1,10}: )?(\S.*)").fullmatch


def _open_counted(line: str, clock: Clock) -> Opened | None:  # noqa: ARG001  (an Open)
    """RFC 6587: "83 <34>1 2026-..."."""
    found = _COUNTED(line)
    return None if found is None else ("syslog.counted", None, TIME_ERROR, ANY_PROGRAM, found[1], {})


def _open_tai64n(line: str, clock: Clock) -> Opened | None:
    """multilog and s6-log: "@4000000065..." and the text."""
    found = _TAI(line)
    if found is None:
        return None
    timestamp_us, flags = clock.tai64(found[1])
    return "tai64n", timestamp_us, flags, ANY_PROGRAM, found[2], {}


def _open_epoch(line: str, clock: Clock) -> Opened | None:
    """Seconds, milliseconds, microseconds or nanoseconds since the epoch, and the text."""
    found = _EPOCH(line)
    if found is None:
        return None
    number = found[1]
    timestamp_us, flags = clock.epoch(float(number) if "." in number else int(number))
    return "epoch", timestamp_us, flags, ANY_PROGRAM, found[2], {}


def _open_priority(line: str, clock: Clock) -> Opened | None:  # noqa: ARG001  (an Open)
    """A priority and no usual syslog line behind it, as devices send."""
    found = _PRIORITY(line)
    if found is None or int(found[1]) > 191:
        return None
    fields: Fields = {}
    put_priority(fields, int(found[1]))
    return "syslog.bare", None, TIME_ERROR, ANY_PROGRAM, found[2], fields


DECODERS = (
    LineDecoder(
        name="syslog.counted", about="Syslog framed by octet counts (RFC 6587).", open=_open_counted,
        leads=tuple("0" * digits + " <0" for digits in range(1, 7)), inside=False,
    ),
    LineDecoder(
        name="tai64n", about="Lines behind a TAI64N label (multilog, s6-log).", open=_open_tai64n, leads=("@0",),
        inside=False,
    ),
    LineDecoder(
        name="epoch", about="Lines behind a time since the epoch.", open=_open_epoch,
        leads=("0000000000", "[0000000000"), strict=False, inside=False,
    ),
    LineDecoder(
        name="syslog.bare", about="A priority in front of a line that is no usual syslog.", open=_open_priority,
        leads=("<0",), strict=False, inside=False,
    ),
)  # fmt: skip
STRICT, HABITS = DECODERS[:2], DECODERS[2:]
