"""The bytes of an opened file: as they are, or what a .gz holds. What else is compressed or binary is named.

Both kinds offer ``pread``, ``first``, ``holds``, ``matches``; offsets are always those of the content.
"""

from __future__ import annotations

import errno
import os

from threatlens.errors import SourceError
from threatlens.sources import gzipped
from threatlens.sources.identity import HEAD_BYTES, Fingerprint, digest, tail_start
from threatlens.sources.lines import framing_of, last_line_end

#: What is certainly not lines of text, by its first bytes.
_NOT_LOGS = (
    (b"\x28\xb5\x2f\xfd", "zstd-compressed"),
    (b"\xfd7zXZ\0", "xz-compressed"),
    (b"BZh", "bzip2-compressed"),
    (b"\x04\x22\x4d\x18", "lz4-compressed"),
    (b"PK\x03\x04", "a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\xd4\xc3\xb2\xa1", "a packet capture"),
    (b"\xa1\xb2\xc3\xd4", "a packet capture"),
    (b"\x4d\x3c\xb2\xa1", "a packet capture"),
    (b"\x0a\x0d\x0d\x0a", "a packet capture"),
    (b"\x89PNG\r\n", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"%PDF-", "a PDF"),
    (b"LPKSHHRH", "a systemd journal"),
    (b"ElfFile\0", "a Windows event log"),
)


class PlainContent:
    """The content of a file that is not compressed."""

    compressed = False
    problem = ""
    complete = False
    stuck = False

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def pread(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes; fewer only at the present end."""
        data = os.pread(self.fd, length, offset)
        if data and len(data) < length:  # a signal or a page boundary may cut a read short
            while more := os.pread(self.fd, length - len(data), offset + len(data)):
                data += more
                if len(data) == length:
                    break
        return data

    def size(self) -> int:
        """Bytes in the file now."""
        return os.fstat(self.fd).st_size

    def next_data(self, offset: int) -> int:
        """The next offset that is not in a hole of a sparse file, or the size."""
        try:
            return os.lseek(self.fd, offset, os.SEEK_DATA)
        except OSError as error:
            return self.size() if error.errno == errno.ENXIO else offset

    def first(self, length: int) -> tuple[int, bytes]:
        """(offset, up to `length` bytes) from the first byte that is not NUL; (0, b"") if there is none yet."""
        offset = 0
        while True:
            data = self.pread(max(length, 64 << 10) if offset else length, offset)
            body = data.lstrip(b"\0")
            if body:
                offset += len(data) - len(body)
                return offset, body[:length] if len(body) >= length else self.pread(length, offset)
            if not data:
                return 0, b""
            offset = max(offset + len(data), self.next_data(offset + len(data)))

    def holds(self, head_start: int, head: bytes, tail_start: int, tail: bytes) -> bool:
        """Whether the file still has these bytes at these offsets."""
        return os.pread(self.fd, len(head), head_start) == head and os.pread(self.fd, len(tail), tail_start) == tail

    def matches(self, fingerprint: Fingerprint) -> tuple[int, bool]:
        """(the last mark within the file, or -1 if the file differs there; whether it is the fingerprint's last)."""
        mark = fingerprint.mark_at_most(self.size())
        if mark is None:
            return 0, not fingerprint.marks
        position, wanted = mark
        start = tail_start(position)
        if digest(self.pread(position - start, start)) != wanted:
            return -1, False
        return position, position == fingerprint.marks[-1][0]


Content = PlainContent | gzipped.GzipContent


def content_of(fd: int, *, max_unpacked_bytes: int) -> Content:
    """The content behind a descriptor, by its first bytes; raises SourceError (refused) for what holds no lines."""
    first = os.pread(fd, 16, 0)
    if first.startswith(gzipped.MAGIC):
        return gzipped.GzipContent(fd, max_bytes=max_unpacked_bytes)
    for magic, kind in _NOT_LOGS:
        if first.startswith(magic):
            raise SourceError(
                f"it is {kind}, not lines of text",
                state="refused",
                remedy="Narrow the pattern of the source, or unpack the file.",
            )
    return PlainContent(fd)


def is_prefix(content: Content, other: Content) -> bool:
    """Whether all of `content` is what `other` begins with."""
    offset, step = 0, 256 << 10
    while data := content.pread(step, offset):
        if other.pread(len(data), offset) != data:
            return False
        offset += len(data)
    return True


def head_of(content: Content) -> tuple[int, bytes]:
    """(head_start, head) of a content as it is now."""
    return content.first(HEAD_BYTES)


def last_position(content: Content, encoding: str) -> tuple[int, Fingerprint]:
    """The end of the last whole line, with the identity of everything before it."""
    head_start, head = head_of(content)
    frame = framing_of(encoding, head[:4])
    if content.compressed:
        step, size = 1 << 20, 0
        while data := content.pread(step, size):
            size += len(data)
    else:
        size = content.size()
    base = max(0, size - (1 << 20))
    base -= base % len(frame.newline)
    end = last_line_end(content.pread(size - base, base), 0, base, frame)
    position = base + end if end > 0 else 0
    if not position:
        return 0, Fingerprint()
    start = tail_start(position)
    mark = Fingerprint(head_start, head[: max(0, position - head_start)])
    mark.marks = [(position, digest(content.pread(position - start, start)))]
    return position, mark
