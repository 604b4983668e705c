"""Where lines end: finding whole lines in bytes, and taking an entry apart into its records.

Only the encoded newline ends a line (one carriage return before it belongs to it); nothing else does, so
``str.splitlines`` is never used. A byte order mark counts into the offsets but is no part of the first record.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from threatlens.event import BAD_ENCODING, LogEntry

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BOM_OF = {codec: mark for mark, codec in _BOMS}
#: A configured name that leaves the byte order to the mark, and the order without one.
_UNORDERED = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}
_NULS_AT_LINE_START = re.compile(rb"\A\0+|(?<=\n)\0+")


class Framing(NamedTuple):
    """How lines are told apart in one encoding."""

    codec: str  # Python codec name
    newline: bytes  # encoded
    carriage_return: bytes  # encoded
    byte_order_mark: bytes  # what a file may begin with; empty: nothing

    @property
    def wide(self) -> bool:
        """Whether a character takes more than one byte each time, so that newlines lie on multiples."""
        return len(self.newline) > 1


@lru_cache(maxsize=64)
def framing(codec: str) -> Framing:
    """The framing of a Python codec; an unknown name counts as UTF-8."""
    try:
        name = codecs.lookup(codec).name
    except LookupError:
        name = "utf-8"
    name = {"utf-8-sig": "utf-8"}.get(name, _UNORDERED.get(name, name))
    try:
        newline, carriage_return = "\n".encode(name), "\r".encode(name)
    except (LookupError, UnicodeError):  # a codec that is no text encoding
        name, newline, carriage_return = "utf-8", b"\n", b"\r"
    return Framing(name, newline, carriage_return, _BOM_OF.get(name, b""))


def framing_of(encoding: str, first: bytes) -> Framing:
    """The framing of a file: its configured encoding, or (auto, utf-16, utf-32) what its first bytes say."""
    if encoding in ("auto", "") or encoding.lower().replace("_", "-") in _UNORDERED:
        for mark, codec in _BOMS:
            if first.startswith(mark):
                return framing(codec)
    return framing("utf-8" if encoding in ("auto", "") else encoding)


def last_line_end(data: bytes, start: int, base: int, frame: Framing) -> int:
    """The index just behind the last newline in data[start:], -1 if none. base: offset of data[0] in the file."""
    newline = frame.newline
    at = data.rfind(newline, start)
    if frame.wide:
        while at >= 0 and (base + at) % len(newline):
            at = data.rfind(newline, start, at + len(newline) - 1)
    return at + len(newline) if at >= 0 else -1


def first_line_end(data: bytes, base: int, frame: Framing) -> int:
    """The index just behind the first newline in data, -1 if none. base: offset of data[0] in the file."""
    newline = frame.newline
    at = data.find(newline)
    if frame.wide:
        while at >= 0 and (base + at) % len(newline):
            at = data.find(newline, at + 1)
    return at + len(newline) if at >= 0 else -1


def lines_backwards(data: bytes, frame: Framing) -> Iterator[bytes]:
    """The lines of data, which ends with a newline, with their terminators, the last one first."""
    if frame.wide:
        records, end = [], 0
        while (size := first_line_end(data[end:], 0, frame)) > 0:
            records.append(data[end : end + size])
            end += size
        yield from reversed(records)
        return
    end = len(data)
    while end > 0:
        start = data.rfind(frame.newline, 0, end - 1) + 1
        yield data[start:end]
        end = start


def without_nuls(content: bytes, frame: Framing) -> bytes:
    """Content without the NULs that lines begin with: what a hole in a sparse file reads as."""
    if frame.wide or b"\0" not in content:  # much quicker than looking for a newline with a NUL behind it
        return content
    return _NULS_AT_LINE_START.sub(b"", content)


def cut_to_characters(content: bytes, frame: Framing) -> bytes:
    """Content without the torn character it may end with."""
    if frame.wide:
        return content[: len(content) - len(content) % len(frame.newline)]
    if frame.codec != "utf-8":
        return content
    for back in range(1, min(4, len(content) + 1)):
        byte = content[-back]
        if byte < 0x80:
            break
        if byte >= 0xC0:  # the first byte of a character: is it whole?
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return content if length == back else content[:-back]
    return content


def count_lines(content: bytes, frame: Framing) -> int:
    """How many records the content has; one without a newline at the end counts."""
    if frame.wide:
        return len(_split_wide(content, frame))
    return content.count(frame.newline) + (not content.endswith(frame.newline))


def split_records(entry: LogEntry) -> list[bytes]:
    """The lines of an entry in its encoding, without terminators; as many as entry.lines, blank ones included.

    A byte order mark at the beginning of the file is dropped: it says how to read the file and is no text of it.
    """
    frame = framing(entry.encoding)
    content = entry.content
    if entry.file_offset == 0 and frame.byte_order_mark and content.startswith(frame.byte_order_mark):
        content = content[len(frame.byte_order_mark) :]
        if not content:
            return [b""]
    if frame.wide:
        return _split_wide(content, frame)
    records = content.split(frame.newline)
    rest = records.pop()
    if frame.carriage_return + frame.newline in content:
        records = [r[:-1] if r.endswith(frame.carriage_return) else r for r in records]
    if rest:
        records.append(rest)
    return records


def _split_wide(content: bytes, frame: Framing) -> list[bytes]:
    records = []
    start = 0
    while start < len(content):
        end = first_line_end(content[start:], 0, frame)
        if end < 0:
            records.append(content[start:])
            break
        records.append(content[start : start + end - len(frame.newline)].removesuffix(frame.carriage_return))
        start += end
    return records


def texts(entry: LogEntry) -> Iterable[tuple[str | bytes, str, str | None, int]]:
    """The lines of an entry as (what is stored, text, encoding unless UTF-8, flags)."""
    if entry.encoding == "utf-8" and b"\r" not in entry.content and b"\0" not in entry.content:
        try:
            lines = entry.content.decode().split("\n")
        except UnicodeDecodeError:
            pass
        else:
            if lines and not lines[-1]:
                lines.pop()
            return ((line, line.removeprefix("\ufeff"), None, 0) for line in lines)
    return (_text(record, entry.encoding) for record in split_records(entry))


def _text(record: bytes, encoding: str) -> tuple[str | bytes, str, str | None, int]:
    try:
        text = record.decode(encoding)
    except UnicodeDecodeError:
        return record, record.decode(encoding, "replace").removeprefix("\ufeff"), encoding, BAD_ENCODING
    if encoding == "utf-8":
        return text, text.removeprefix("\ufeff"), None, 0
    return record, text.removeprefix("\ufeff"), encoding, 0
