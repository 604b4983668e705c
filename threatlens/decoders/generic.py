"""Any line that begins with a full date and time, with its level if it names one near the front.

The last resort before "unknown": log4j, Python's logging and most home-made logs look like this. It reads the time,
the level and the text behind them, and nothing else.
"""

from __future__ import annotations

from threatlens.decoders.base import ANY_LINE, LineDecoder, Opened, compiled
from threatlens.decoders.levels import LEVELS
from threatlens.decoders.times import Clock
from threatlens.event import Fields

NAME = "generic"

_LINE = compiled(
    r"\[?([0-9]{4}[-/.][0-9]{2}[-/.][0-9]{2}[T _][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?"
    r"(?: ?(?:Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2}))?)\]?[\s:,|-]{1,8}(.*)"
).fullmatch
#: Days in front, months by name, no marks between the parts.
_OTHER = compiled(
    r"[\[(]?((?:[0-9]{2}\.[0-9]{2}\.[0-9]{4}|[0-9]{2}[/-][A-Z][a-z]{2}[/-][0-9]{4}|[0-9]{8})[T :]?[ :_-]?"
    r"[0-9]{2}:?[0-9]{2}:?[0-9]{2}(?:[.,][0-9]{1,9})?(?: ?(?:Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2}))?)"
    r"[\])]?[\s:,|-]{1,8}(.*)"
).fullmatch
_BSD = compiled(
    r"\[?(?:[A-Z][a-z]{2},? )?([A-Z][a-z]{2} {1,2}[0-9]{1,2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?: [0-9]{4})?)\]?"
    r"[\s:,|-]{1,8}(.*)"
).fullmatch
_LEVEL = compiled(
    r"(?P<head>(?:[^\s]{1,80}\s{1,5}){0,4}?)[\[(<|]?(?P<level>TRACE|DEBUG|INFO|INFORMATION|NOTICE|WARN|WARNING|ERROR|ERR|SEVERE|"
    r"FATAL|CRITICAL|CRIT|ALERT|EMERG|PANIC|trace|debug|info|notice|warn|warning|error|fatal|critical)[\])>|]?"
    r"(?:[\s:,-]{1,8}|$)(?P<text>.*)"
).fullmatch


def open_line(line: str, clock: Clock) -> Opened | None:
    """Time, level, text."""
    found = _LINE(line)
    if found is not None:
        timestamp_us, flags = clock.iso(found[1])
    elif (found := _BSD(line)) is not None:
        timestamp_us, flags = clock.bsd(found[1])
    elif (found := _OTHER(line)) is not None:
        timestamp_us, flags = clock.any(found[1])
        if timestamp_us is None:
            return None
    else:
        return None
    fields: Fields = {}
    message = found[2]
    levelled = _LEVEL(message)
    if levelled is not None:
        word = levelled["level"].lower()
        fields["log.level"] = LEVELS.get(word, word)
        message = levelled["head"] + levelled["text"]
    return NAME, timestamp_us, flags, "", message, fields


DECODER = LineDecoder(
    name=NAME,
    about="Any line with a full date and time in front, and a level if it names one.",
    open=open_line,
    leads=(
        "0000-00-00",
        "0000/00/00",
        "0000.00.00",
        "[0000-00-00",
        "[0000/00/00",
        "[Aaa ",
        "Aaa ",
        "Aaa, ",
        "00.00.0000 00:",
        "[00.00.0000 00:",
        "00/Aaa/0000",
        "[00/Aaa/0000",
        "00-Aaa-0000",
        "[00-Aaa-0000",
        "00000000 00:",
        "00000000A00",
    ),
    strict=False,
    goes_on=ANY_LINE,
)
