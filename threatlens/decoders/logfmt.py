"""logfmt: "time=2026-11-23T06:51:07Z level=info msg=\"user logged in\" user=alice", as Go programs write it.

The whole line must be pairs and name a level or a message; other lines of pairs are "keyvalue".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from threatlens.decoders.base import LineDecoder, ObjectDecoder, Opened, compiled
from threatlens.decoders.json_lines import Products
from threatlens.decoders.pairs import MESSAGES, TIMES, put_pairs
from threatlens.decoders.times import Clock, Moment
from threatlens.event import TIME_ERROR, Fields

NAME = "logfmt"

_PAIR = compiled(r'\s*([\w@][\w.@/-]{0,100})=(?:"([^"\\]*(?:\\.[^"\\]*)*)"|([^\s"=]*))(?=\s|$)').match
_MARK = compiled(r"(?:^|\s)(?:level|lvl|msg|severity)=").search
_ESCAPED = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_MAX_PAIRS = 400


def pairs_of(line: str) -> list[tuple[str, str]] | None:
    """The pairs that a line consists of; None if anything else stands in it."""
    at = 0
    found: list[tuple[str, str]] = []
    end = len(line.rstrip())
    while at < end:
        pair = _PAIR(line, at)
        if pair is None or len(found) >= _MAX_PAIRS:
            return None
        name, quoted, bare = pair.groups()
        if quoted is not None and "\\" in quoted:
            quoted = _ESCAPED.sub(lambda escape: _ESCAPES.get(escape[1], escape[1]), quoted)
        found.append((name, bare if quoted is None else quoted))
        at = pair.end()
    return found


def time_of(pairs: list[tuple[str, str]], clock: Clock) -> Moment:
    """The first pair that is a time: ISO, or a number since the epoch."""
    for name, value in pairs:
        if name.lower() in TIMES:
            if len(value) <= 20 and value.replace(".", "", 1).isdecimal():
                return clock.epoch(float(value))
            return clock.iso(value)
    return None, TIME_ERROR


def message_of(pairs: list[tuple[str, str]], line: str) -> str:
    """The pair that is the message, else the line."""
    return next((value for name, value in pairs if name in MESSAGES and value), line)


def decoder(products: Sequence[ObjectDecoder]) -> LineDecoder:
    """The decoder of such lines; products that write the same members as JSON or as pairs are read as theirs."""
    of_names = Products(products)

    def open_line(line: str, clock: Clock) -> Opened | None:
        """The pairs, if the line is nothing else."""
        if not _MARK(line):
            return None
        pairs = pairs_of(line)
        if pairs is None or len(pairs) < 2:
            return None
        fields: Fields = {}
        flags = put_pairs(pairs, "logfmt.", fields)
        timestamp_us, time_flags = time_of(pairs, clock)
        name = NAME
        members = dict(pairs)
        for product in of_names[tuple(members)]:
            if product.read(members, fields) is not None:
                name = product.name
                break
        return name, timestamp_us, flags | time_flags, "", message_of(pairs, line), fields

    return LineDecoder(
        name=NAME,
        about="logfmt: pairs with a level and a message.",
        open=open_line,
        leads=("a", "A", "@"),
        strict=False,
    )
