"""Files whose records are no lines: Windows event logs, journald's export format, XML, JSON in arrays or spread out.

Each record becomes one line of text: JSON, or one XML element. Everything else is lines already.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import IO

import evtx
import orjson

from threatlens.errors import RecordsError

LOOKED_AT = 4_096  # bytes of the beginning that tell what a file is
MAX_DOCUMENT = 256 << 20  # bytes of a JSON document that is read whole
_CHUNK = 1 << 20
_MAX_FIELD = 16 << 20  # bytes of one field of journald's
_EVTX = b"ElfFile\x00"
_ARRAY = re.compile(rb"\s*\[\s*[{\]]")
_SPREAD = re.compile(rb"\s*\{\s*\n")
_XML = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml [^>]{0,200}\?>\s*)?<Events?[\s>]")
_JOURNAL = re.compile(rb"__(?:CURSOR|REALTIME_TIMESTAMP)=[^\n]+\n")
_ELEMENT = re.compile(rb"<Event[\s>].*?</Event>", re.DOTALL)


def kind_of(start: bytes) -> str:
    """What a file that begins like this is: "evtx", "journal", "xml", "json", "utf-16" or "lines"."""
    if start.startswith(_EVTX):
        return "evtx"
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    for kind, pattern in (("journal", _JOURNAL), ("xml", _XML), ("json", _ARRAY), ("json", _SPREAD)):
        if pattern.match(start):
            return kind
    return "lines"


def records(start: bytes, stream: IO[bytes], path: str) -> Iterator[bytes]:
    """The records of a file of which `start` has been read. `path` is opened again for an event log.

    Raises RecordsError for a file that is damaged or cannot be read from a pipe.
    """
    kind = kind_of(start)
    if kind == "evtx":
        yield from event_log(path)
    elif kind == "xml":
        yield from _elements(start, stream)
    elif kind == "journal":
        yield from _journal_entries(_Reader(start, stream))
    elif kind == "json":
        yield from _documents(start, stream)
    elif kind == "utf-16":
        yield from (start + stream.read()).decode("utf-16", "replace").encode(errors="replace").splitlines()
    else:
        yield from _lines(start, stream)


def event_log(path: str) -> Iterator[bytes]:
    """The events of a .evtx file as JSON, one after the other."""
    if not os.path.isfile(path):
        raise RecordsError("an event log must be a file: it is read in no order")
    try:
        for record in evtx.PyEvtxParser(path).records_json():
            if record is not None:
                yield orjson.dumps(orjson.loads(record["data"]))
    except (OSError, RuntimeError, ValueError) as error:
        raise RecordsError(f"it is not a readable event log: {error}") from error


def _lines(start: bytes, stream: IO[bytes]) -> Iterator[bytes]:
    *whole, rest = start.split(b"\n")
    yield from whole
    if rest := rest + stream.readline():
        yield rest
    yield from stream


def _elements(start: bytes, stream: IO[bytes]) -> Iterator[bytes]:
    """Every <Event> element, on one line."""
    waiting = start
    while True:
        chunk = stream.read(_CHUNK)
        waiting += chunk
        end = 0
        for found in _ELEMENT.finditer(waiting):
            yield b" ".join(found[0].split())
            end = found.end()
        waiting = waiting[end:]
        if not chunk:
            return
        if len(waiting) > MAX_DOCUMENT:
            raise RecordsError("an event in it has no end")


class _Reader:
    """Lines and counted bytes of a stream of which the beginning has been read."""

    def __init__(self, start: bytes, stream: IO[bytes]) -> None:
        self._start = start
        self._stream = stream

    def line(self) -> bytes:
        head, found, self._start = self._start.partition(b"\n")
        return head + found if found else head + self._stream.readline(_MAX_FIELD)

    def exactly(self, count: int) -> bytes:
        head, self._start = self._start[:count], self._start[count:]
        return head + self._stream.read(count - len(head))


def _journal_entries(reader: _Reader) -> Iterator[bytes]:
    """journalctl -o export: NAME=text, or NAME, a length of 8 bytes and as many bytes; a blank line ends an entry."""
    entry: dict[str, str] = {}
    while line := reader.line():
        name, sign, text = line.rstrip(b"\n").partition(b"=")
        if not name:
            if entry:
                yield orjson.dumps(entry)
            entry = {}
            continue
        if not sign:
            size = int.from_bytes(reader.exactly(8), "little")
            if size > _MAX_FIELD:
                raise RecordsError("a field in it has an impossible length")
            text = reader.exactly(size)
            reader.line()
        entry[name.decode("ascii", "replace")] = text.decode("utf-8", "replace")
    if entry:
        yield orjson.dumps(entry)


def _documents(start: bytes, stream: IO[bytes]) -> Iterator[bytes]:
    """The objects of an array, or objects one after the other; lines if it is neither."""
    content = start + stream.read(MAX_DOCUMENT)
    text = content.decode("utf-8", "replace").removeprefix("\ufeff")
    try:
        found = list(_objects(text))
    except (ValueError, RecursionError):
        found = []
    yield from found or content.splitlines()


def _objects(text: str) -> Iterator[bytes]:
    decoder = json.JSONDecoder()
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        value, at = decoder.raw_decode(text, at)
        values: Iterable[object] = value if isinstance(value, list) else [value]
        for each in values:
            yield json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
