"""Lines of name=value pairs without logfmt's habits, with an optional ISO time in front, as appliances write them."""

from __future__ import annotations

from threatlens.decoders.base import LineDecoder, Opened, compiled
from threatlens.decoders.logfmt import message_of, pairs_of, time_of
from threatlens.decoders.pairs import put_pairs
from threatlens.decoders.times import Clock
from threatlens.event import TIME_ERROR, Fields

NAME = "keyvalue"

_TIME = compiled(r"([0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}[^\s]{0,16}) (.*)").fullmatch
_MIN_PAIRS = 3


def open_line(line: str, clock: Clock) -> Opened | None:
    """The pairs, if the line is nothing else; "date=" and "time=" make one time."""
    timed = _TIME(line)
    timestamp_us, flags = clock.iso(timed[1]) if timed is not None else (None, TIME_ERROR)
    text = timed[2] if timed is not None else line
    pairs = pairs_of(text.replace(", ", " ")) if "=" in text else None
    if pairs is None or len(pairs) < _MIN_PAIRS:
        return None
    fields: Fields = {}
    names = dict(reversed(pairs))
    if timestamp_us is None and "date" in names and "time" in names:
        timestamp_us, flags = clock.iso(f"{names['date']} {names['time']}{names.get('tz', '')}")
        pairs = [pair for pair in pairs if pair[0] not in {"date", "time", "tz"}]
    elif timestamp_us is None:
        timestamp_us, flags = time_of(pairs, clock)
    flags |= put_pairs(pairs, "keyvalue.", fields)
    return NAME, timestamp_us, flags, "", message_of(pairs, text), fields


DECODER = LineDecoder(
    name=NAME,
    about="Three or more name=value pairs and nothing else.",
    open=open_line,
    leads=("a", "A", "0000-00-00", "@"),
    strict=False,
)
