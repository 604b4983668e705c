"""One followed file: reading its next whole lines, never lines of another file's life.

Each read begins with the bytes before the position, so one call brings both the proof that the file is still the
same and the data; afterwards head and tail are checked once more, and a chunk that fails is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from threatlens.event import TRUNCATED, UNTERMINATED, LogEntry
from threatlens.sources.base import OpenLines, StreamState
from threatlens.sources.identity import HEAD_BYTES, Fingerprint, tail_start
from threatlens.sources.lines import (
    Framing,
    count_lines,
    cut_to_characters,
    first_line_end,
    framing_of,
    last_line_end,
    lines_backwards,
    without_nuls,
)
from threatlens.sources.paths import display

if TYPE_CHECKING:
    from threatlens.sources.content import Content
    from threatlens.sources.source import FollowedSource

CHUNK_BYTES = 128 << 10
_LONG_STEP_BYTES = 1 << 20
_LONG_TURN_BYTES = 4 << 20

Key = tuple[int, int]  # (device, inode)


class Replaced(Exception):
    """The file no longer holds what was read from it."""


@dataclass(slots=True)
class Limits:
    """What reading is bounded by."""

    max_line_bytes: int = 1 << 20
    max_unpacked_bytes: int = 64 << 30
    open_lines: OpenLines | None = None  # None: every line is whole


class Held(NamedTuple):
    """The last event of what was read, while lines that belong to it may still be written."""

    entry: LogEntry
    data: bytes  # of the file, from Stream.begin on
    next: tuple[Fingerprint, bytes]  # what the stream is known by behind it
    since_s: float  # clock, when it began
    grown_s: float  # clock, when its last line came


class Stream:
    """A stream and, while it lives, the file that carries it."""

    __slots__ = (
        "_blob",
        "_fingerprint",
        "_next",
        "alive",
        "begin",
        "born_ns",
        "changed_at",
        "compressed",
        "content",
        "dirty",
        "ended",
        "held",
        "key",
        "listed",
        "long_head",
        "long_line",
        "looked",
        "lost_path",
        "owner",
        "path",
        "position",
        "present",
        "scanned",
        "seen",
        "shown",
        "size",
        "sought",
        "source",
        "stale",
        "stream_id",
        "tail",
        "turn",
        "unlinked",
        "verified",
        "waits_for",
    )

    def __init__(self, state: StreamState, source: FollowedSource | None, path: str) -> None:
        self.stream_id = state.stream_id
        self.owner = state.source_id  # the source it is remembered under
        self.source = source
        self.path = path  # resolved
        self.shown = path  # as the source names it (differs for symbolic links)
        self.key: Key = (state.device, state.inode)
        self.compressed = state.compressed
        self.position = state.position
        self._blob: bytes | None = state.fingerprint
        self._fingerprint: Fingerprint | None = None
        self.alive = not state.retired and state.inode != 0  # a file carries it
        self.verified = False  # the file has been found to be this stream's since it was opened
        self.content: Content | None = None
        self.tail: bytes | None = None  # the bytes before the position; None: not read yet
        self.begin = state.position  # of the pending line, behind NULs
        self.scanned = state.position  # no newline in [begin, scanned)
        self.long_head = b""  # the kept beginning of a line that is too long (compressed files only)
        self.long_line = False  # the pending line is longer than max_line_bytes
        self.size = 0
        self.seen: tuple[int, int, int] = (-1, 0, 0)  # (size, mtime_ns, ctime_ns) when it was last read to its end
        self.dirty = False  # there may be bytes to read
        self.looked: tuple[int, int, int] = (-1, 0, 0)  # the same when it was last looked at
        self.ended = False  # read to its end since it last changed
        self.changed_at = 0.0  # clock, when it last changed
        self.lost_path = False  # renamed, unlinked or replaced
        self.listed = False  # its source's pattern names it
        self.present: tuple[int, bytes] = (0, b"")  # how the file begins while nothing of it is read
        self.stale = True  # the file may have changed since then
        self.turn = 0
        self.born_ns = 0  # when its file was last written before it was followed: older files are read first
        self.waits_for: Stream | None = None
        self.unlinked = False
        self.sought = False  # once unlinked: what carries it on was looked for
        self.held: Held | None = None
        self._next: tuple[Fingerprint, bytes] | None = None

    @property
    def fingerprint(self) -> Fingerprint:
        """Its identity as of the position; unpacked when first needed."""
        if self._fingerprint is None:
            self._fingerprint = Fingerprint.unpack(self._blob or b"")
            self._blob = None
        return self._fingerprint

    def fold(self) -> None:
        """Keep the identity in its small form until it is needed again."""
        if self._fingerprint is not None:
            self._blob, self._fingerprint = self._fingerprint.pack(), None

    def reset(self, position: int, fingerprint: Fingerprint) -> None:
        """Read from this position next."""
        self.position = self.begin = self.scanned = position
        self._fingerprint, self._blob = fingerprint, None
        self.tail = None
        self.long_head, self.long_line = b"", False
        self.held = None
        self.verified = False
        self.ended = False

    @property
    def matchable(self) -> bool:
        """Whether no file carries it any more, so that its content may go on in another one."""
        return not self.alive or (self.unlinked and self.ended and not self.dirty)

    def advance(self, entry: LogEntry) -> None:
        """The entry just made has been taken: go on behind it."""
        held, self.held = self.held, None
        behind = held.next if held is not None and held.entry is entry else self._next
        if behind is None:
            raise RuntimeError("there is no entry to go on behind")
        self._fingerprint, self.tail = behind
        self._next = None
        self.position = self.begin = self.scanned = entry.end_offset
        self.long_head, self.long_line = b"", False

    def verify(self, content: Content) -> bool:
        """Whether this content is this stream's: same head, same bytes before the position."""
        if self.position == 0:
            self.tail = b""
            return True
        mark = self.fingerprint
        if mark.marks:
            if mark.marks[-1][0] != self.position or content.pread(len(mark.head), mark.head_start) != mark.head:
                return False
            if not content.matches(mark)[1]:
                return False
        start = tail_start(self.position)
        tail = content.pread(self.position - start, start)
        if len(tail) < self.position - start:
            return False
        self.tail = tail
        return True

    def _check(self) -> None:
        content, mark = self._opened()
        if not content.holds(mark.head_start, mark.head, tail_start(self.position), self.tail or b""):
            raise Replaced

    def _opened(self) -> tuple[Content, Fingerprint]:
        if self.content is None or self.tail is None:
            raise RuntimeError("the stream is not open")
        return self.content, self.fingerprint

    def _frame(self, data: bytes) -> Framing:
        mark = self.fingerprint
        first = mark.head[:4] or (data[:4] if self.position == 0 else b"")
        encoding = self.source.config.encoding if self.source else "auto"
        return framing_of(encoding, first)

    def next_entry(self, limits: Limits, now_s: float, clock_s: float) -> LogEntry | None:
        """The next run of whole lines, or None at the end. Raises Replaced when the file has other content now.

        The stream's position does not move: see `advance`. An event at the end that may go on is kept in `held`, so
        that no run ends within an event; only one that fills a whole chunk is cut.
        """
        content, _ = self._opened()
        if self.begin > self.position and content.pread(1, self.begin - 1) != b"\0":  # there were NULs
            self.begin = self.scanned = self.position
            self.long_head, self.long_line = b"", False
        if self.scanned - self.begin > CHUNK_BYTES:
            return self._long_line(limits, now_s)
        start = tail_start(self.position)
        if self.begin == self.position:
            data = content.pread(CHUNK_BYTES + self.position - start, start)
            lead = self.position - start
            if data[:lead] != self.tail:
                raise Replaced
        else:
            data, lead, start = content.pread(CHUNK_BYTES, self.begin), 0, self.begin
        if self.held is not None and not data.startswith(self.held.data, lead):
            raise Replaced
        if len(data) == lead:
            self._check()
            return None
        frame = self._frame(data[lead : lead + 4])
        if data[lead] == 0 and not frame.wide and self._skip_nuls(data[lead:]):
            return self.next_entry(limits, now_s, clock_s)
        end = last_line_end(data, lead, start, frame)
        if end < 0:
            self._check()
            self.scanned = start + len(data) - len(data) % len(frame.newline)
            return self._long_line(limits, now_s) if len(data) - lead >= CHUNK_BYTES else None
        self._check_read(data, lead, start)
        closed = end - self._open_bytes(data[lead:end], frame, limits, now_s)
        if closed == lead and len(data) - lead < CHUNK_BYTES:
            self._hold(data[lead:end], start + end, frame, now_s, clock_s)
            return None
        end = closed if closed > lead else end
        return self._entry(data[lead:end], start + end, frame, now_s)

    def _open_bytes(self, data: bytes, frame: Framing, limits: Limits, now_s: float) -> int:
        """How many bytes at the end are an event that may still go on."""
        if limits.open_lines is None or self.source is None:
            return 0
        sizes: list[int] = []

        def lines() -> Iterator[str]:
            for line in lines_backwards(data, frame):
                sizes.append(len(line))
                yield line.decode(frame.codec, "replace").strip("\r\n\ufeff")

        return sum(sizes[: limits.open_lines(self.source.config, lines(), now_s)])

    def _hold(self, data: bytes, end: int, frame: Framing, now_s: float, clock_s: float) -> None:
        """Keep what is read but may go on."""
        before = self.held
        if before is not None and len(before.data) == len(data):
            return
        entry = self._entry(data, end, frame, now_s)
        if self._next is not None:
            since_s = clock_s if before is None else before.since_s
            self.held = Held(entry, data, self._next, since_s, clock_s)

    def _check_read(self, data: bytes, lead: int, start: int) -> None:
        """Check again after the read; a stream's first read is its own proof."""
        content, mark = self._opened()
        if mark.head:
            self._check()
        elif not content.compressed:
            head = data[lead : lead + HEAD_BYTES]
            if content.pread(len(head), start + lead) != head:
                raise Replaced

    def _skip_nuls(self, data: bytes) -> bool:
        """Move the beginning of the pending line behind NULs; True if bytes other than NUL follow now."""
        content, _ = self._opened()
        body = data.lstrip(b"\0")
        at = self.begin + len(data) - len(body)
        while not body:
            at = max(at, content.next_data(at))
            data = content.pread(_LONG_STEP_BYTES, at)
            if not data:
                break
            body = data.lstrip(b"\0")
            at += len(data) - len(body)
        self._check()
        moved = at > self.begin
        self.begin = self.scanned = at
        return moved

    def _long_line(self, limits: Limits, now_s: float) -> LogEntry | None:
        """Look for the end of a long line without keeping it; None while it has none."""
        content, _ = self._opened()
        frame = self._frame(b"" if self.position else content.pread(4, self.begin))
        stop = -1
        budget = _LONG_TURN_BYTES
        while stop < 0:
            data = content.pread(_LONG_STEP_BYTES, self.scanned)
            stop = first_line_end(data, self.scanned, frame)
            if stop < 0:
                self.scanned += len(data) - len(data) % len(frame.newline)
                self.long_line = self.long_line or self.scanned - self.begin > limits.max_line_bytes
                if self.long_line and content.compressed and not self.long_head:
                    self.long_head = content.pread(limits.max_line_bytes, self.begin)
                self._check()
                budget -= len(data)
                if len(data) < _LONG_STEP_BYTES or budget <= 0:
                    return None
        end = self.scanned + stop
        total = end - len(frame.newline) - self.begin
        if total <= limits.max_line_bytes:
            body = content.pread(end - self.begin, self.begin)
            self._check()
            return self._entry(body, end, frame, now_s)
        body = self.long_head or content.pread(limits.max_line_bytes, self.begin)
        body = cut_to_characters(body[: limits.max_line_bytes], frame)
        before = tail_start(end)
        tail = content.pread(end - before, before)
        self._check()
        return self._entry(body, end, frame, now_s, flags=TRUNCATED, true_bytes=total, tail=tail)

    def unterminated(self, limits: Limits, now_s: float) -> LogEntry | None:
        """What stands behind the last newline, as a line of its own; None if nothing does."""
        content, _ = self._opened()
        end = content.size() if not content.compressed else max(self.scanned, content.size())
        total = end - self.begin
        if total <= 0:
            return None
        held = len(self.held.data) if self.held is not None else 0
        if self.held is not None and not 0 < total - held <= CHUNK_BYTES:
            return self.held.entry
        body = self.long_head or content.pread(min(total, max(limits.max_line_bytes, held + CHUNK_BYTES)), self.begin)
        frame = self._frame(body[:4])
        flags, true_bytes = UNTERMINATED, 0
        if total > limits.max_line_bytes and not held:
            flags, true_bytes = UNTERMINATED | TRUNCATED, total
            body = cut_to_characters(body[: limits.max_line_bytes], frame)
        before = tail_start(end)
        tail = content.pread(end - before, before)
        self._check()
        if not frame.wide and not body.strip(b"\0"):
            return None
        return self._entry(body, end, frame, now_s, flags=flags, true_bytes=true_bytes, tail=tail)

    def _entry(
        self,
        content: bytes,
        end: int,
        frame: Framing,
        now_s: float,
        *,
        flags: int = 0,
        true_bytes: int = 0,
        tail: bytes | None = None,
    ) -> LogEntry:
        source = self.source
        if source is None:
            raise RuntimeError("the stream has no source")
        grown = self.fingerprint.copy()
        if len(grown.head) < HEAD_BYTES:
            grown.grow_head(self.begin, content)
        if tail is None:
            length = end - tail_start(end)
            tail = content[-length:]
            if len(tail) < length and self.begin == self.position:
                tail = ((self.tail or b"") + content)[-length:]
            if len(tail) < length:
                tail = self._opened()[0].pread(length, end - length)
        grown.mark(end, tail)
        self._next = (grown, tail)
        content = without_nuls(content, frame)
        return LogEntry(
            stream_id=self.stream_id,
            source_id=source.config.source_id,
            source_name=source.config.source_name,
            source_path=display(self.path),
            content=content,
            file_offset=self.position,
            end_offset=end,
            lines=1 if flags & TRUNCATED else count_lines(content, frame),
            priority=source.config.priority,
            timestamp=now_s,
            encoding=frame.codec,
            flags=flags,
            true_bytes=true_bytes,
            fingerprint=grown.pack(),
        )
