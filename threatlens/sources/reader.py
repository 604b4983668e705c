"""Reading the followed files: opening them when it is their turn, and handing on what they say.

Turns are bounded, so a huge file delays no other; the queue's back pressure is felt in ``emit``, which waits a moment
and then refuses, so that a full queue does not keep us from opening what is new.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable

from threatlens.errors import SourceError
from threatlens.event import LogEntry
from threatlens.sources.base import Emit, StreamBook
from threatlens.sources.content import Content, content_of, head_of
from threatlens.sources.held import PatientBook
from threatlens.sources.identity import HEAD_BYTES
from threatlens.sources.paths import display, explain
from threatlens.sources.source import FollowedSource
from threatlens.sources.stream import Limits, Replaced, Stream
from threatlens.sources.table import StreamTable

log = logging.getLogger(__name__)

_TURN_BYTES = 4 << 20  # per stream before the next one has its turn
_SLOW_EMIT_S = 0.05  # an emit that waited this long ends the turn
#: An event that may go on is handed on when nothing came for this long, or when it has been waiting for that long.
_QUIET_EVENT_S, _LONGEST_WAIT_S = 0.5, 2.0
#: There are too many open files, in this process or in the system.
MANY = (errno.EMFILE, errno.ENFILE)

Signature = tuple[int, int, int]


def signature(status: os.stat_result) -> Signature:
    """What changes when a file is written: (size, mtime_ns, ctime_ns)."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def order(stream: Stream) -> tuple[int, bool, int, int]:
    """What is read first: urgent sources, then what only our descriptor keeps alive, then whoever waits longest."""
    return stream.source.config.priority if stream.source else 10, not stream.unlinked, stream.turn, stream.born_ns


class Reader:
    """Reads streams. What happens when a file is not what it was is decided by the Follower, its subclass."""

    def __init__(
        self,
        *,
        emit: Emit,
        book: StreamBook,
        clock: Callable[[], float],
        wall: Callable[[], float],
        limits: Limits,
        quiet_s: float,
        table: StreamTable,
    ) -> None:
        self.emit = emit
        self.book = PatientBook(book)
        self.clock = clock
        self.wall = wall
        self.limits = limits
        self.quiet_s = quiet_s
        self.table = table
        self.ready: dict[int, Stream] = {}  # streams that may have bytes to read
        self.touched: dict[str, None] = {}  # paths to be looked at
        self.holding: dict[int, float] = {}  # streams whose last event may go on: clock, when it is handed on
        self.refused = False  # the last entry was not taken: the queue is full, or we are stopping
        self.emitting: float | None = None  # clock, since when an entry waits to be taken
        self._turns = 0
        self._warned_at = -1e9

    def replaced(self, stream: Stream) -> None:
        """The file holds other content than was read from it."""
        raise NotImplementedError

    def lost(self, stream: Stream) -> None:
        """The file cannot be found under its name."""
        raise NotImplementedError

    def wants_reading(self, stream: Stream) -> None:
        """There may be bytes to read."""
        stream.stale = True
        if not stream.dirty:
            stream.dirty = True
            stream.ended = False
        if stream.source is not None:
            self.ready[stream.stream_id] = stream

    def no_reading(self, stream: Stream) -> None:
        """There is nothing to read for now."""
        stream.dirty = False
        self.ready.pop(stream.stream_id, None)

    def end_waits(self) -> None:
        """Read on where an event has waited long enough for lines that belong to it."""
        now = self.clock()
        for stream_id in [stream_id for stream_id, due in self.holding.items() if due <= now]:
            del self.holding[stream_id]
            if (stream := self.table.by_id.get(stream_id)) is not None and stream.held is not None:
                self.wants_reading(stream)

    def open(self, source: FollowedSource, real: str) -> int:
        """Open a file of a source; when there are too many, close idle ones first."""
        try:
            return source.fence.open(real)
        except OSError as error:
            if error.errno not in MANY:
                raise
            if self.clock() - self._warned_at >= 60.0:
                self._warned_at = self.clock()
                log.warning("too many open files; closing some that are idle")
            self.table.make_room(max(4, self.table.max_open // 2))
            return source.fence.open(real)

    def ready_to_read(self, stream: Stream) -> None:
        """Open and verify; raises OSError, SourceError, or Replaced when it is not this stream's file."""
        if stream.source is None:
            raise FileNotFoundError(errno.ENOENT, "no source", stream.path)
        if stream.content is None:
            fd = self.open(stream.source, stream.path)
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) != stream.key:
                os.close(fd)
                raise FileNotFoundError(errno.ENOENT, "another file is there now", stream.path)
            try:
                stream.content = content_of(fd, max_unpacked_bytes=self.limits.max_unpacked_bytes)
            except SourceError:
                os.close(fd)
                raise Replaced from None
        self.table.opened(stream)
        if not stream.verified:
            if stream.content.compressed != stream.compressed and stream.position:
                raise Replaced
            stream.compressed = stream.content.compressed
            if not stream.verify(stream.content):
                raise Replaced
            stream.verified = True
        if stream.position == 0:
            present = head_of(stream.content)
            stream.stale = False
            if present != stream.present:
                stream.present = present
                self.table.index(stream)

    def turn(self, stream: Stream) -> None:
        """Read on from one stream, up to one turn's worth."""
        self._turns += 1
        stream.turn = self._turns
        try:
            self.ready_to_read(stream)
            self._read(stream)
        except Replaced:
            if self.release(stream):
                self.replaced(stream)
        except FileNotFoundError:
            self.no_reading(stream)
            self.lost(stream)
        except SourceError as error:
            self._trouble(stream, error)
        except OSError as error:
            self.table.close(stream)
            self._trouble(stream, explain(error, stream.path))

    def _trouble(self, stream: Stream, error: SourceError) -> None:
        self.no_reading(stream)
        stream.seen = (-1, 0, 0)
        if stream.source is not None:
            stream.source.problems[stream.shown] = error

    def _read(self, stream: Stream) -> None:
        content, source = stream.content, stream.source
        if content is None or source is None:
            return
        status = os.fstat(content.fd)
        if not content.compressed:
            source.note_size(stream, status.st_size)
        stop_at = stream.scanned + _TURN_BYTES
        while stream.scanned < stop_at:
            scanned = stream.scanned
            entry = stream.next_entry(self.limits, self.wall(), self.clock()) or self._due(stream, source, content)
            if entry is None:
                if stream.scanned - scanned >= 1 << 20:
                    return  # within a long line; more next turn
                break
            if not self._hand_on(stream, source, entry):
                return
        else:
            return
        if source.config.whole_files and not self.flush(stream):
            return
        self._at_end(stream, source, content, status)

    def _due(self, stream: Stream, source: FollowedSource, content: Content) -> LogEntry | None:
        """The event that was held at the end of the file, if it need not wait for more lines."""
        held = stream.held
        if held is None:
            return None
        if source.config.whole_files and content.size() > held.entry.end_offset:
            return None  # the rest goes with it: see flush
        due = min(held.grown_s + _QUIET_EVENT_S, held.since_s + _LONGEST_WAIT_S)
        if source.config.whole_files or content.complete or due <= self.clock():
            return held.entry
        self.holding[stream.stream_id] = due
        return None

    def release(self, stream: Stream) -> bool:
        """Hand on what is held, as its file is gone or is another; False if it was not taken."""
        if stream.held is not None and stream.source is not None:
            self._hand_on(stream, stream.source, stream.held.entry)
            return not self.refused
        return True

    def _hand_on(self, stream: Stream, source: FollowedSource, entry: LogEntry) -> bool:
        """Emit; False when the turn is over (the queue was full for long, or we are stopping)."""
        since = self.clock()
        if self.emitting is None:
            self.emitting = since
        if not self.emit(entry):
            self.refused = True
            return False
        self.emitting = None
        growing = len(stream.fingerprint.head) < HEAD_BYTES
        source.bytes_read += entry.end_offset - stream.position
        source.last_read_us = int(entry.timestamp * 1_000_000)
        stream.advance(entry)
        if stream.size < stream.position:
            source.note_size(stream, stream.position)
        if growing:
            self.table.index(stream)
        return self.clock() - since < _SLOW_EMIT_S

    def flush(self, stream: Stream) -> bool:
        """Hand on what stands behind the last newline; False if it was not taken."""
        if stream.source is None or (stream.scanned <= stream.position and stream.held is None):
            return True
        self.ready_to_read(stream)
        while (entry := stream.unterminated(self.limits, self.wall())) is not None and not self.refused:
            self._hand_on(stream, stream.source, entry)
        return not self.refused

    def _at_end(self, stream: Stream, source: FollowedSource, content: Content, status: os.stat_result) -> None:
        stream.seen = signature(status)
        stream.ended = True
        self.no_reading(stream)
        source.problems.pop(stream.shown, None)
        source.damage.pop(stream.shown, None)
        if content.problem:
            source.damage[stream.shown] = SourceError(f"{display(stream.path)}: {content.problem}", state="error")
        if content.stuck:
            source.warnings[stream.shown] = f"{display(stream.path)} ends in the middle; waiting for the rest"
        elif stream.long_line:
            source.warnings[stream.shown] = (
                f"{display(stream.path)} has a line longer than {self.limits.max_line_bytes:,} bytes; it will be cut"
            )
        else:
            source.warnings.pop(stream.shown, None)
