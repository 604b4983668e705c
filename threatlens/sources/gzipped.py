"""Reading a .gz file as the content it holds, in bounded memory.

Offsets are those of the content. Reading forward is cheap; reading back beyond the window starts again from the
beginning. What cannot be read further (damage, a bomb) ends the content there, with the reason in ``problem``.
"""

from __future__ import annotations

import os
import zlib

from threatlens.sources.identity import Fingerprint, digest, tail_start

MAGIC = b"\x1f\x8b"
_INPUT_BYTES = 64 << 10
_OUTPUT_BYTES = 256 << 10
_WINDOW_BYTES = 4 << 20
_RATIO_FROM_BYTES = 64 << 20  # below this much content any ratio is fine
_MAX_RATIO = 100


class GzipContent:
    """The content of one compressed file."""

    compressed = True

    def __init__(self, fd: int, *, max_bytes: int = 64 << 30) -> None:
        self.fd = fd
        self.max_bytes = max_bytes  # content beyond this is not read
        self.problem = ""  # why reading ended before the end; empty: it did not
        self.complete = False  # the end of the content has been reached
        self._restart()

    def _restart(self, exact_from: int | None = None) -> None:
        self._raw = 0  # offset of the next compressed byte to feed
        self._piece_start = 0  # offset of the piece being fed
        self._inflate = zlib.decompressobj(wbits=31)
        self._window = bytearray()
        self._window_start = 0
        self._member_started = False
        self._exact_from = exact_from  # from here on feed byte by byte, to get all that lies before the damage
        self.complete = False
        self.problem = ""

    def pread(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes of content; fewer only at its (present) end."""
        if offset < self._window_start:
            self._restart(self._exact_from)
        while self._end < offset + length and self._advance(offset):
            pass
        at = offset - self._window_start
        return bytes(self._window[at : at + length]) if at >= 0 else b""

    @property
    def _end(self) -> int:
        return self._window_start + len(self._window)

    def _advance(self, needed: int) -> bool:
        """Decompress a little more, keeping what lies from `needed` on; False if there is nothing more for now."""
        if self.problem or self.complete:
            return False
        step = _INPUT_BYTES if self._exact_from is None or self._raw < self._exact_from else 1
        data = self._inflate.unconsumed_tail
        if not data:
            data = os.pread(self.fd, step, self._raw)
            if data and not self._member_started and not self._begin_member(data):
                return not self.problem
            self._piece_start = self._raw
            self._raw += len(data)
        if not data and not self._member_started:
            self.complete = True
            return False
        try:
            out = self._inflate.decompress(data, _OUTPUT_BYTES)
        except zlib.error as error:
            return self._damaged(error, len(data))
        if not data and not out:
            return False
        self._keep(out, needed)
        if self._inflate.eof:
            self._raw -= len(self._inflate.unused_data)
            self._inflate = zlib.decompressobj(wbits=31)
            self._member_started = False
        self._check_limits()
        return True

    def _begin_member(self, data: bytes) -> bool:
        """Whether another member begins here. Zeros behind the last one are padding, anything else is garbage."""
        if self._raw == 0 or MAGIC.startswith(data[:2]) or data.startswith(MAGIC):
            self._member_started = True
            return True
        padding = len(data) - len(data.lstrip(b"\0"))
        self._raw += padding
        if padding == 0:
            self.problem = "bytes follow the end of the compressed data; they are ignored"
        return False

    def _damaged(self, error: zlib.error, step: int) -> bool:
        if step == 1:
            self.problem = f"the compressed data is damaged: {error}"
            return False
        window_start = self._window_start
        self._restart(exact_from=self._piece_start)
        self._skip_to(window_start)
        return True

    def _skip_to(self, offset: int) -> None:
        while self._end < offset and self._advance(offset):
            pass

    def _keep(self, out: bytes, needed: int) -> None:
        self._window += out
        surplus = len(self._window) - _WINDOW_BYTES
        if surplus > _WINDOW_BYTES // 2:
            drop = max(0, min(surplus, needed - self._window_start))
            del self._window[:drop]
            self._window_start += drop

    def _check_limits(self) -> None:
        end = self._end
        if end > _RATIO_FROM_BYTES and end > _MAX_RATIO * max(self._raw, 1):
            self.problem = f"it expands more than {_MAX_RATIO}:1, which no log does; reading stopped"
        elif end > self.max_bytes:
            self.problem = f"it holds more than {self.max_bytes} bytes; reading stopped"

    def holds(self, head_start: int, head: bytes, tail_start: int, tail: bytes) -> bool:  # noqa: ARG002
        """Whether the content is still what was read: compressed content does not change in place."""
        return True

    def first(self, length: int) -> tuple[int, bytes]:
        """(offset, up to `length` bytes) from the first byte that is not NUL; (0, b"") if there is none yet."""
        offset = 0
        while data := self.pread(length, offset):
            body = data.lstrip(b"\0")
            if body:
                offset += len(data) - len(body)
                return offset, self.pread(length, offset)
            offset += len(data)
        return 0, b""

    def next_data(self, offset: int) -> int:
        """The next offset that is not in a hole; compressed content has none."""
        return offset

    def size(self) -> int:
        """How many bytes of content are known to exist: those read so far."""
        return self._end

    @property
    def stuck(self) -> bool:
        """Whether the file ends before its content does (it is still being written, or cut)."""
        return not self.complete and not self.problem

    def matches(self, fingerprint: Fingerprint) -> tuple[int, bool]:
        """(how far the marks agree, whether all of them do), walking the content once."""
        agreed = 0
        for position, wanted in fingerprint.marks:
            start = tail_start(position)
            tail = self.pread(position - start, start)
            if len(tail) < position - start:
                return agreed, False
            if digest(tail) != wanted:
                return -1, False
            agreed = position
        return agreed, True
