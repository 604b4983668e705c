"""What makes a stream the same stream: its head and the marks along it.

The head is the first bytes that are not NUL; a mark is a hash of the few bytes before a position where an entry
ended. Marks lie dense near the position and ever thinner behind it, so that a copy that ends earlier (the one made
before a file was truncated) is recognised too. A stream that has committed nothing has no identity and needs none.
"""

from __future__ import annotations

import struct
from hashlib import blake2b

HEAD_BYTES = 1024
TAIL_BYTES = 64
MAX_MARKS = 32
_FORMAT = 1
_FRONT = struct.Struct("<BQHBB")  # format, head_start, head length, number of marks, finished
_MARK = struct.Struct("<Q8s")
_FINISHED = struct.Struct("<Qq")


def digest(tail: bytes) -> bytes:
    """The eight bytes that stand for the last bytes before a position."""
    return blake2b(tail, digest_size=8).digest()


def tail_start(position: int) -> int:
    """Where the bytes begin that a mark at this position covers."""
    return max(0, position - TAIL_BYTES)


class Fingerprint:
    """Head and marks of one stream as of its position. Mutable: it grows as the stream is read."""

    __slots__ = ("finished", "head", "head_start", "marks")

    def __init__(self, head_start: int = 0, head: bytes = b"", marks: list[tuple[int, bytes]] | None = None) -> None:
        self.head_start = head_start
        self.head = head
        self.marks = marks or []  # (position, digest), ascending
        self.finished: tuple[int, int] | None = None  # (size, mtime_ns) of a compressed file read to its end

    def copy(self) -> Fingerprint:
        """An independent copy."""
        twin = Fingerprint(self.head_start, self.head, list(self.marks))
        twin.finished = self.finished
        return twin

    def pack(self) -> bytes:
        """The form that is stored; opaque outside this module."""
        marks = self.marks
        parts = [
            _FRONT.pack(_FORMAT, self.head_start, len(self.head), len(marks), self.finished is not None),
            self.head,
        ]
        parts += [_MARK.pack(*mark) for mark in marks]
        if self.finished is not None:
            parts.append(_FINISHED.pack(*self.finished))
        return b"".join(parts)

    @classmethod
    def unpack(cls, blob: bytes) -> Fingerprint:
        """Read the stored form; one that cannot be read (another format) is no identity."""
        try:
            version, head_start, head_length, n_marks, finished = _FRONT.unpack_from(blob)
            if version != _FORMAT:
                return cls()
            at = _FRONT.size
            head = blob[at : at + head_length]
            at += head_length
            marks = [_MARK.unpack_from(blob, at + i * _MARK.size) for i in range(n_marks)]
            self = cls(head_start, head, marks)
            if finished:
                size, mtime_ns = _FINISHED.unpack_from(blob, at + n_marks * _MARK.size)
                self.finished = (size, mtime_ns)
        except struct.error:
            return cls()
        return self

    def grow_head(self, start: int, content: bytes) -> bool:
        """Let the head grow by content that begins at this offset; True if it did."""
        if not self.head:
            body = content.lstrip(b"\0")
            if not body:
                return False
            self.head_start = start + len(content) - len(body)
            self.head = body[:HEAD_BYTES]
            return True
        have = len(self.head)
        at = self.head_start + have - start
        if have >= HEAD_BYTES or not 0 <= at < len(content):
            return False
        self.head += content[at : at + HEAD_BYTES - have]
        return True

    def mark(self, position: int, tail: bytes) -> None:
        """Set a mark; the ones far behind are thinned so that their distances stay in proportion."""
        marks = self.marks
        if marks and marks[-1][0] >= position:
            self.rewind(position)
            if marks and marks[-1][0] == position:
                return
        marks.append((position, digest(tail)))
        if len(marks) > MAX_MARKS:
            self._thin(position)

    def _thin(self, position: int) -> None:
        marks = self.marks
        best, best_ratio = 1, float("inf")
        for i in range(1, len(marks) - 4):
            ratio = (marks[i + 1][0] - marks[i - 1][0]) / (position - marks[i][0])
            if ratio < best_ratio:
                best, best_ratio = i, ratio
        del marks[best]

    def rewind(self, position: int) -> None:
        """Forget what lies beyond a position."""
        self.head = self.head[: max(0, position - self.head_start)]
        marks = self.marks
        while marks and marks[-1][0] > position:
            marks.pop()
        self.finished = None

    def mark_at_most(self, size: int) -> tuple[int, bytes] | None:
        """The last mark within a file of this size."""
        for mark in reversed(self.marks):
            if mark[0] <= size:
                return mark
        return None

    def agrees(self, head_start: int, head: bytes) -> bool:
        """Whether two heads are the same as far as both go."""
        if head_start != self.head_start or not head or not self.head:
            return False
        n = min(len(head), len(self.head))
        return head[:n] == self.head[:n]
