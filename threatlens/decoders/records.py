"""Decoded lines as flat objects, the way `decode` prints them: ECS names, one object per line that is not blank."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from threatlens.decoders import SourceDecoder, explain
from threatlens.decoders.source import Registry
from threatlens.decoders.spans import marks
from threatlens.event import FLAG_NAMES, Decoded, rfc3339

#: DEL, C1 controls, bidi and zero-width characters, in UTF-8.
_HIDDEN = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf")


def decode_file(
    stream: Iterable[str | bytes],
    *,
    format: str = "auto",  # noqa: A002  (the name on the command line)
    year: int | None = None,
    timezone: str = "UTC",
    read_at_s: float,
    template_id: Callable[[str], str],
    why: bool = False,
    whole: bool = False,
    registry: Registry | None = None,
) -> Iterator[dict[str, Any]]:
    """One object per line, in order. Lines are text or UTF-8, with or without their terminators. `read_at_s`: seconds
    since the epoch; `template_id` names a message's shape; `why` adds how each line found its decoder;
    `whole` joins the lines of a stack trace to their event, which then comes one line later; `registry` knows more
    decoders than ours.
    Raises ValueError for an unknown format or time zone."""
    decoder = SourceDecoder(format=format, timezone=timezone, year=year, registry=registry)
    zone = None if timezone == "UTC" else ZoneInfo(timezone)
    lines = (raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw for raw in stream)
    each = ((line, decoder.decode(line, read_at_s)) for line in (line.rstrip("\r\n") for line in lines) if line.strip())
    for line, decoded in _whole(each, decoder) if whole else each:
        record: dict[str, Any] = {}
        if decoded.timestamp_us is not None:
            record["@timestamp"] = _local(decoded.timestamp_us, zone)
        record["message"] = decoded.message
        record["event.original"] = line
        record["log.format"] = decoded.format
        record.update(decoded.fields)
        record["threatlens.template.id"] = template_id(decoded.message)
        if decoded.flags:
            record["threatlens.flags"] = [name for bit, name in FLAG_NAMES.items() if decoded.flags & bit]
        if why:
            record["threatlens.explain"] = explanation(line, read_at_s, decoded, registry)
        yield record


def _whole(each: Iterable[tuple[str, Decoded]], decoder: SourceDecoder) -> Iterator[tuple[str, Decoded]]:
    """Lines that continue an event joined to it; an event is given when the next one has begun."""
    waiting: tuple[str, Decoded] | None = None
    for line, decoded in each:
        if waiting is not None:
            text, head = waiting
            whole = decoder.join(head, text, line, decoded)
            if whole is not None:
                waiting = f"{text}\n{line}", whole
                continue
            yield waiting
        waiting = line, decoded
    if waiting is not None:
        yield waiting


def explanation(line: str, read_at_s: float, decoded: Decoded, registry: Registry | None = None) -> dict[str, Any]:
    """How the line found its decoder, and where its fields stand in it, for people who ask."""
    found = explain(line, read_at_s, decoded.format, registry)
    return {
        "envelopes": list(found.envelopes),
        "program": found.program,
        "decoder": decoded.format,
        "runners_up": [
            {"format": each.format, "would_read_it_too": True}
            if each.late
            else {"format": each.format, "read_characters": each.read, "failed_at": each.word}
            for each in found.attempts
        ],
        "spans": {name: list(place) for place, names in sorted(marks(line, decoded.fields).items()) for name in names},
    }


def to_json(record: dict[str, Any]) -> bytes:
    """One line of NDJSON with its newline. Text that UTF-8 cannot write is replaced; what a terminal would obey and
    nobody see is written as \\uXXXX, which is the same text in JSON."""
    try:
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        line = orjson.dumps(_writable(record), option=orjson.OPT_APPEND_NEWLINE)
    if line.isascii() and b"\x7f" not in line:
        return line
    return _HIDDEN.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), line)


def _writable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_writable(key): _writable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_writable(item) for item in value]
    return value


def _local(timestamp_us: int, zone: ZoneInfo | None) -> str:
    if zone is None:
        return rfc3339(timestamp_us)
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=timestamp_us)
    return moment.astimezone(zone).isoformat()
