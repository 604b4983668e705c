"""What a client hands in, as whole lines: text and NDJSON as they are, the elements of a JSON array one by one.

Everything streams: neither a body, nor what a gzip unpacks to, nor an array is ever held in memory as a whole. Elements
keep their exact text, so that what is stored is what was sent.
"""

from __future__ import annotations

import codecs
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, NoReturn

from threatlens.errors import IngestError

MAX_PACKED = 50 * 1024 * 1024  # bytes of a body
MAX_UNPACKED = 200 * 1024 * 1024  # bytes of what a gzip unpacks to
MAX_RATIO = 100  # unpacked to packed, looked at once there are RATIO_FROM unpacked bytes
RATIO_FROM = 1024 * 1024
MAX_ELEMENT = 1024 * 1024  # characters of one element of a JSON array
CHUNK = 64 * 1024
_BLANK = " \t\r\n"


def read_chunks(stream: IO[bytes], announced: int | None = None) -> Iterator[bytes]:
    """The bytes of a body; raises IngestError: 413 beyond MAX_PACKED, 400 when there are fewer than announced."""
    size = 0
    while chunk := stream.read(CHUNK):
        size += len(chunk)
        if size > MAX_PACKED:
            raise IngestError(f"at most {MAX_PACKED} bytes are taken at once", status=413)
        yield chunk
    if announced is not None and size < announced:
        raise IngestError("the body is cut off", status=400)


def gunzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """What a gzip (of one or more members) unpacks to; raises IngestError: 400 for a broken one, 413 for a bomb."""
    packed = unpacked = 0
    member = zlib.decompressobj(wbits=31)
    begun = False
    for chunk in chunks:
        packed += len(chunk)
        rest = chunk
        while rest:
            begun = True
            try:
                data = member.decompress(rest, CHUNK)
            except zlib.error as error:
                raise IngestError("the gzip is broken", status=400) from error
            unpacked += len(data)
            if unpacked > MAX_UNPACKED or (unpacked > RATIO_FROM and unpacked > MAX_RATIO * packed):
                raise IngestError("the gzip unpacks to more than is taken at once", status=413)
            if data:
                yield data
            rest = member.unconsumed_tail
            if member.eof:
                rest = member.unused_data
                member = zlib.decompressobj(wbits=31)
                begun = bool(rest)
    if begun or not packed:
        raise IngestError("the gzip is cut off", status=400)


def array_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """One line for each element of a JSON array: a string's text or an object's own text.

    A string with line breaks becomes an object with a `message`, so that it stays one event. Raises IngestError: 400
    for what is not JSON, 422 for elements of other kinds.
    """
    text = _Text(chunks)
    if text.next() != "[":
        raise IngestError("the body is not a JSON array", status=422)
    text.position += 1
    number = 0
    if text.next() == "]":
        text.position += 1
    else:
        while True:
            number += 1
            yield _line(*text.element(number), number)
            separator = text.next()
            text.position += 1
            if separator == "]":
                break
            if separator != ",":
                _broken(number)
    if text.next():
        raise IngestError("there is something behind the JSON array", status=400)


class _Text:
    """A window that moves over the text of a body."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._json = json.JSONDecoder(parse_constant=_refuse_constant)
        self._window = ""
        self._ended = False
        self.position = 0

    def next(self) -> str:
        """The next character that is not blank, which stays; "" at the end."""
        while True:
            while self.position < len(self._window) and self._window[self.position] in _BLANK:
                self.position += 1
            if self.position < len(self._window) or not self._grow():
                return self._window[self.position : self.position + 1]

    def element(self, number: int) -> tuple[Any, str]:
        """The next value and its text."""
        if self.next() not in {'"', "{"}:
            raise IngestError(f"element {number} is neither a string nor an object", status=422)
        tried = 0  # characters at the last try: a long element is not parsed again for every chunk
        while True:
            there = len(self._window) - self.position
            if there >= 2 * tried or self._ended:
                try:
                    value, end = self._json.raw_decode(self._window, self.position)
                except RecursionError:
                    raise IngestError(f"element {number} is nested too deep", status=400) from None
                except ValueError:
                    if self._ended:
                        _broken(number)
                    tried = there
                else:
                    text = self._window[self.position : end]
                    self.position = end
                    return value, text
            if there > MAX_ELEMENT:
                raise IngestError(f"element {number} is longer than {MAX_ELEMENT} characters or broken", status=400)
            self._grow()

    def _grow(self) -> bool:
        """Take another chunk in; False at the end."""
        if self._ended:
            return False
        chunk = next(self._chunks, b"")
        self._ended = not chunk
        try:
            text = self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            raise IngestError("the body is not UTF-8", status=400) from error
        self._window = self._window[self.position :] + text
        self.position = 0
        return not self._ended


def _line(value: Any, text: str, number: int) -> bytes:
    if isinstance(value, str):
        text = value.removesuffix("\n").removesuffix("\r")
        if "\n" in text or "\r" in text:
            text = json.dumps({"message": text}, ensure_ascii=False)
    elif "\n" in text or "\r" in text:
        text = json.dumps(value, ensure_ascii=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError as error:
        raise IngestError(f"element {number} holds half of a surrogate pair", status=400) from error


def _broken(number: int) -> NoReturn:
    raise IngestError(f"the JSON is broken at element {number}", status=400)


def _refuse_constant(name: str) -> NoReturn:
    raise IngestError(f"{name} is not JSON", status=400)
