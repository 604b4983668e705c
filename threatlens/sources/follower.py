"""Following files: which stream each one carries.

Whatever happens to a file is decided here in one order: the book is told first, memory follows; so an unavailable
database leaves everything as it was, and the next look tries again.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from threatlens.errors import SourceError, StoreUnavailable
from threatlens.sources.base import Emit, StreamBook, StreamState
from threatlens.sources.content import Content, content_of, head_of
from threatlens.sources.identity import Fingerprint, digest, tail_start
from threatlens.sources.lines import framing_of, last_line_end
from threatlens.sources.matching import Finding, Unknown, Verdict, judge
from threatlens.sources.paths import display, family, is_newer, looks_rotated
from threatlens.sources.reader import Reader, signature
from threatlens.sources.source import FollowedSource
from threatlens.sources.stream import Key, Limits, Replaced, Stream
from threatlens.sources.table import StreamTable

_DELETED = re.compile(r" \(deleted\)$")


_FORGET_S = 25 * 3600.0  # a rotated file that no pattern names is followed this long after its last change
#: What a verdict about a stream depends on.
StreamMoment = tuple[bool, bool, Key, int]
#: A file that keeps at least this share of what was read, and all of it the same, was cut, not begun anew.
_SHRUNK_SHARE = 0.75


@dataclass(slots=True)
class Judged:
    """A verdict that stands while neither the file nor the stream it is about changes."""

    size: int
    mtime_ns: int
    verdict: Verdict | None  # None: it holds no lines; only_known: it is nobody's continuation
    since: float  # clock
    shown: str
    stream_state: StreamMoment | None
    only_known: bool


class Follower(Reader):
    """The files behind all sources. Used from one thread."""

    def __init__(
        self,
        *,
        emit: Emit,
        book: StreamBook,
        clock: Callable[[], float],
        wall: Callable[[], float],
        limits: Limits,
        quiet_s: float,
        max_open: int,
    ) -> None:
        super().__init__(
            emit=emit, book=book, clock=clock, wall=wall, limits=limits, quiet_s=quiet_s, table=StreamTable(max_open)
        )
        self.judged: dict[Key, Judged] = {}
        self.empty: OrderedDict[Key, tuple[int, FollowedSource, str]] = OrderedDict()  # (descriptor, source, name)

    # -- what is remembered

    def load(self, sources: dict[int, FollowedSource]) -> None:
        """Take in the remembered streams; raises StoreUnavailable."""
        for state in self.book.streams():
            if state.stream_id not in self.table.by_id:
                source = sources.get(state.source_id)
                stream = Stream(state, source, os.fsdecode(state.path))
                self.table.add(stream)
                if source is not None and stream.alive:
                    source.streams.add(stream)

    def reset(self, stream_id: int) -> None:
        """Take the committed position of a stream again; raises StoreUnavailable."""
        stream = self.table.by_id.get(stream_id)
        if stream is None:
            return
        state = next((s for s in self.book.streams() if s.stream_id == stream_id), None)
        if state is None:
            self.ready.pop(stream_id, None)
            self.table.remove(stream)
            self.touched[stream.path] = None
            return
        stream.reset(state.position, Fingerprint.unpack(state.fingerprint))
        stream.seen = (-1, 0, 0)
        self.table.index(stream)
        if stream.alive:
            self.wants_reading(stream)
        else:
            self._reconsider(stream)

    def _drop_binding(self, stream: Stream) -> None:
        """No file carries the stream: what it was compared with is judged anew."""
        self.no_reading(stream)
        self.table.unbind(stream)
        if stream.source is not None:
            stream.source.streams.discard(stream)
        self._reconsider(stream)

    def _reconsider(self, stream: Stream) -> None:
        for judged in self.judged.values():
            if judged.verdict is not None and judged.verdict.stream is stream:
                self.touched[judged.shown] = None

    # -- looking at files

    def found(self, source: FollowedSource, shown: str, real: str, status: os.stat_result) -> bool:
        """A file that the source's pattern names. False: it is unknown and has to be judged."""
        key = (status.st_dev, status.st_ino)
        stream = self.table.by_key.get(key)
        before = self.table.last_at.get(shown)
        if before is not None and before is not stream and before.alive:
            before.lost_path = True
        if stream is None:
            return False
        if stream.source is None:
            stream.source = source
            source.streams.add(stream)
        elif stream.source is not source:
            other = stream.source.config.source_name
            source.warnings[shown] = f"{display(shown)} is read by the source {other!r} already; each line is read once"
            return True
        if stream.path != real:
            if self._is_at(stream, stream.path):
                source.warnings[shown] = (
                    f"{display(shown)} and {display(stream.path)} are one file; each line is read once"
                )
                return True
            if not self._carries(stream, real):
                self._lose(stream)
                return False
            self._rename(stream, real)
        self.table.last_at[shown] = stream
        stream.shown = shown
        stream.listed = True
        self.look(stream, status)
        return True

    def _is_at(self, stream: Stream, path: str) -> bool:
        try:
            status = os.stat(path, follow_symlinks=False)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == stream.key

    def _carries(self, stream: Stream, real: str) -> bool:
        """Whether the file with the stream's inode at this path is its own: inodes are used again."""
        if (stream.content is not None and stream.verified) or stream.source is None:
            return True
        status = os.stat(real, follow_symlinks=False)
        if stream.compressed and stream.fingerprint.finished == (status.st_size, status.st_mtime_ns):
            return True
        before, stream.path = stream.path, real
        try:
            self.ready_to_read(stream)
        except Replaced:
            self.table.close(stream)
            return False
        finally:
            stream.path = before
        return True

    def _lose(self, stream: Stream) -> None:
        """The stream's file is gone or is another file now; its content may go on elsewhere."""
        self.book.retire(stream.stream_id)
        self._drop_binding(stream)

    def _rename(self, stream: Stream, real: str) -> None:
        device, inode = stream.key
        self.book.rebind(
            stream.stream_id, path=os.fsencode(real), device=device, inode=inode, compressed=stream.compressed
        )
        self.table.bind(stream, stream.key, real)
        stream.lost_path = True

    def look(self, stream: Stream, status: os.stat_result) -> None:
        """Notice what changed in a stream's own file."""
        if stream.source is not None:
            stream.source.note_size(
                stream, max(status.st_size, stream.position) if stream.compressed else status.st_size
            )
        now = signature(status)
        if stream.compressed and stream.fingerprint.finished == (status.st_size, status.st_mtime_ns):
            stream.seen = now
            stream.ended = True
            self.no_reading(stream)
        if now == stream.seen:
            return
        stale = now != stream.looked or not stream.present[1]
        stream.looked = now
        if stream.position == 0 and stale and stream.source is not None and status.st_size:
            with contextlib.suppress(Replaced, FileNotFoundError):
                self.ready_to_read(stream)  # so that copies of it are known as such
        if not stream.dirty:
            stream.changed_at = self.clock()
        if stream.compressed and stream.content is not None and stream.seen[0] >= 0 and stream.seen[:2] != now[:2]:
            self.table.close(stream)  # what was decompressed may not be what is there now
        self.wants_reading(stream)

    def recheck(self, stream: Stream) -> None:
        """Look at a stream whose file no pattern has named: renamed, deleted, or a former link target."""
        content = stream.content
        if content is not None:
            status = os.fstat(content.fd)
            if status.st_nlink == 0:
                if not stream.unlinked:
                    stream.unlinked = stream.lost_path = True
                    self._reconsider(stream)
            else:
                path = os.readlink(f"/proc/self/fd/{content.fd}")
                if path != stream.path and not _DELETED.search(path):
                    self._rename(stream, path)
            self.look(stream, status)
            return
        try:
            status = os.stat(stream.path, follow_symlinks=False)
            found = (status.st_dev, status.st_ino) == stream.key
        except FileNotFoundError:
            found = False
        if found:
            self.look(stream, status)
        else:
            stream.lost_path = True
            self._search_by_inode(stream)

    def _search_by_inode(self, stream: Stream) -> None:
        """Find a closed file that was renamed; without success the stream has lost its file."""
        folder = os.path.dirname(stream.path)
        try:
            with os.scandir(folder) as entries:
                names = [e.path for e in entries if e.inode() == stream.key[1] and e.is_file(follow_symlinks=False)]
        except OSError:
            names = []
        for path in names:
            if path != stream.path and self._is_at(stream, path) and self._carries(stream, path):
                self._rename(stream, path)
                self.look(stream, os.stat(path, follow_symlinks=False))
                return
        source = stream.source
        self._lose(stream)
        if source is not None:
            self.search_siblings(source, folder, {family(os.path.basename(stream.path))})

    def search_siblings(self, source: FollowedSource, folder: str, families: set[str]) -> None:
        """Look for what carries on streams of these name families that have lost their files."""
        try:
            with os.scandir(folder) as entries:
                related = [e for e in entries if family(e.name) in families and e.is_file(follow_symlinks=False)]
        except OSError:
            return
        for path in sorted(e.path for e in related):
            try:
                status = os.stat(path, follow_symlinks=False)
            except OSError:
                continue
            key = (status.st_dev, status.st_ino)
            if key not in self.table.by_key and status.st_size:
                self.judge(source, path, path, status, only_known=True)

    # -- judging unknown files

    def judge(
        self, source: FollowedSource, shown: str, real: str, status: os.stat_result, *, only_known: bool = False
    ) -> None:
        """Decide what an unknown file is, and act on it. only_known: never start a stream of its own."""
        key = (status.st_dev, status.st_ino)
        if status.st_size == 0:
            if not only_known:
                self._hold_empty(source, shown, real, key)
            return
        judged = self.judged.get(key)
        if judged is not None and self._stands(judged, status, only_known=only_known):
            return
        self._settle_relatives(real)
        if key in self.table.by_key:
            return
        fd = self.open(source, real)
        content: Content | None = None
        try:
            opened = os.fstat(fd)
            if (opened.st_dev, opened.st_ino) != key:
                self.touched[shown] = None
                return
            try:
                content = content_of(fd, max_unpacked_bytes=self.limits.max_unpacked_bytes)
            except SourceError as error:
                source.warnings[shown] = f"{display(shown)} is skipped: {error}"
                self._remember(key, opened, None, shown, only_known=only_known)
                return
            verdict = judge(Unknown(content, key, real, shown), self.table, self._confirm)
            if key in self.table.by_key:  # judging found a stream replaced, whose rest was looked for and found here
                return
            if self._act(source, shown, real, opened, content, verdict, only_known=only_known):
                content = None  # the stream keeps it
                fd = -1
        finally:
            if fd >= 0:
                os.close(fd)

    def _settle_relatives(self, real: str) -> None:
        """Find out first which related files were written anew, as the unknown one may be a copy of what they hold."""
        for stream in self.table.relatives(real):
            if not (stream.dirty and stream.position and stream.path != real) or stream.compressed:
                continue
            source, shown, path, key = stream.source, stream.shown, stream.path, stream.key
            if self._confirm(stream) is None and not stream.alive and source is not None:
                status = os.stat(path, follow_symlinks=False)
                if (status.st_dev, status.st_ino) == key:
                    self.judge(source, shown, path, status)

    def _hold_empty(self, source: FollowedSource, shown: str, real: str, key: Key) -> None:
        """Keep an empty file open: it may be written and renamed before it is looked at again."""
        if key in self.empty:
            return
        while len(self.empty) >= max(1, self.table.max_open // 4):
            self.let_empty_go(next(iter(self.empty)))
        fd = self.open(source, real)
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) == key:
            self.empty[key] = (fd, source, shown)
        else:
            os.close(fd)

    def let_empty_go(self, key: Key) -> None:
        """Close a file that is kept open although it is empty."""
        fd, _, _ = self.empty.pop(key)
        os.close(fd)

    def close_all(self) -> None:
        """Close every file."""
        self.table.close_all()
        for key in list(self.empty):
            self.let_empty_go(key)

    def look_at_empty(self, source: FollowedSource) -> None:
        """Judge the files that were empty when they were found, and lost their names since."""
        for key, (fd, owner, shown) in list(self.empty.items()):
            status = os.fstat(fd)
            if owner is not source:
                continue
            if key in self.table.by_key or status.st_nlink == 0:
                self.let_empty_go(key)
            elif status.st_size:
                real = os.readlink(f"/proc/self/fd/{fd}")
                self.let_empty_go(key)
                self.judge(source, shown if real == os.path.realpath(shown) else real, real, status)

    def _stands(self, judged: Judged, status: os.stat_result, *, only_known: bool) -> bool:
        if (judged.size, judged.mtime_ns) != (status.st_size, status.st_mtime_ns):
            return False
        verdict = judged.verdict
        if verdict is None:
            return only_known or not judged.only_known
        if verdict.stream is not None and judged.stream_state != _state_of(verdict.stream):
            return False
        return verdict.for_good or self.clock() - judged.since < self.quiet_s

    def _remember(
        self, key: Key, status: os.stat_result, verdict: Verdict | None, shown: str, *, only_known: bool
    ) -> None:
        before = self.judged.get(key)
        same = before is not None and (before.size, before.mtime_ns) == (status.st_size, status.st_mtime_ns)
        since = before.since if before is not None and same else self.clock()
        state = _state_of(verdict.stream) if verdict is not None and verdict.stream is not None else None
        self.judged[key] = Judged(status.st_size, status.st_mtime_ns, verdict, since, shown, state, only_known)

    def _confirm(self, stream: Stream) -> Content | None:
        """A followed stream's content, if its file still is its own."""
        if stream.source is None:
            return None
        try:
            self.ready_to_read(stream)
        except Replaced:
            self.replaced(stream)
            return None
        except FileNotFoundError:
            self.recheck(stream)
            if not stream.alive:
                return None
            self.ready_to_read(stream)
        content = stream.content
        mark = stream.fingerprint
        if content is not None and stream.tail is not None:
            if content.holds(mark.head_start, mark.head, tail_start(stream.position), stream.tail):
                return content
            self.replaced(stream)
        return None

    def _act(
        self,
        source: FollowedSource,
        shown: str,
        real: str,
        status: os.stat_result,
        content: Content,
        verdict: Verdict,
        *,
        only_known: bool,
    ) -> bool:
        """Do what the verdict says; True if a stream has taken the opened file."""
        key = (status.st_dev, status.st_ino)
        finding = verdict.finding
        if finding is Finding.NOTHING_YET:
            if content.problem:
                source.problems[shown] = SourceError(f"{display(shown)}: {content.problem}", state="error")
            self._remember(key, status, None, shown, only_known=only_known)
            return False
        if finding is Finding.CONTINUES and verdict.stream is not None:
            self._carry_on(source, verdict.stream, shown, real, key, content, listed=not only_known)
            return True
        if finding is Finding.HELD and not verdict.for_good:
            judged = self.judged.get(key)
            same = judged is not None and (judged.size, judged.mtime_ns) == (status.st_size, status.st_mtime_ns)
            if judged is not None and same and self.clock() - judged.since >= self.quiet_s:
                finding = Finding.NEW
        if finding is Finding.NEW:
            if only_known and not self._came_between(source, real):
                self._remember(key, status, None, shown, only_known=True)
                return False
            self._begin(source, shown, real, key, content, listed=not only_known)
            return True
        self._remember(key, status, verdict, shown, only_known=only_known)
        return False

    def _carry_on(
        self, source: FollowedSource, stream: Stream, shown: str, real: str, key: Key, content: Content, *, listed: bool
    ) -> None:
        start = tail_start(stream.position)
        tail = content.pread(stream.position - start, start)
        self.book.rebind(
            stream.stream_id, path=os.fsencode(real), device=key[0], inode=key[1], compressed=content.compressed
        )
        self.table.close(stream)
        self.table.bind(stream, key, real)
        stream.compressed = content.compressed
        if stream.source is None:
            stream.source = source
        stream.source.streams.add(stream)
        stream.content, stream.tail, stream.verified = content, tail, True
        if not listed or looks_rotated(os.path.basename(real)):
            stream.lost_path = True
        elif stream.shown == shown:
            stream.lost_path = False
        if listed:
            stream.shown = shown
            self.table.last_at[shown] = stream
        stream.listed = listed
        stream.seen = (-1, 0, 0)
        stream.changed_at = self.clock()
        self.judged.pop(key, None)
        self.table.opened(stream)
        self.wants_reading(stream)

    def _came_between(self, source: FollowedSource, real: str) -> bool:
        """Whether this rotated file lived between one that was followed, now rotated too, and the present one."""
        folder, name = os.path.split(real)
        return any(
            os.path.dirname(stream.path) == folder
            and family(os.path.basename(stream.path)) == family(name)
            and stream.path != stream.shown
            and is_newer(name, os.path.basename(stream.path))
            for stream in source.streams
            if not stream.listed
        )

    def _begin(
        self, source: FollowedSource, shown: str, real: str, key: Key, content: Content, *, listed: bool
    ) -> None:
        """Start a stream of its own."""
        at_end = source.config.start_at == "end" and not source.looked
        position, mark = _last_position(content, source.config.encoding) if at_end else (0, Fingerprint())
        start = tail_start(position)
        tail = content.pread(position - start, start)
        device, inode = key
        number = self.book.create(
            source.config.source_id,
            path=os.fsencode(real),
            device=device,
            inode=inode,
            compressed=content.compressed,
            position=position,
        )
        state = StreamState(
            number, source.config.source_id, os.fsencode(real), device, inode, content.compressed, position, b"", False
        )
        stream = Stream(state, source, real)
        stream.reset(position, mark)
        stream.shown = shown
        stream.listed = listed
        stream.lost_path = not listed
        stream.content, stream.tail, stream.verified = content, tail, True
        stream.present = (0, b"") if position else head_of(content)
        stream.changed_at = self.clock()
        stream.born_ns = os.fstat(content.fd).st_mtime_ns
        if key in self.empty:
            self.let_empty_go(key)
        before = self.table.last_at.get(shown)
        if before is not None and before.alive and before.dirty:
            stream.waits_for = before
        self.table.add(stream)
        self.table.last_at[shown] = stream
        source.streams.add(stream)
        self.judged.pop(key, None)
        self.table.opened(stream)
        self.wants_reading(stream)
        stream.stale = False
        if position:
            with contextlib.suppress(StoreUnavailable):  # then the first entry brings its identity
                self.book.rewind(number, expected=position, position=position, fingerprint=mark.pack())

    def replaced(self, stream: Stream) -> None:
        """The file holds other content now: the rest of the stream may be in a copy, the file is judged anew."""
        if stream.unlinked or not self._shrunk(stream):
            source, shown, path = stream.source, stream.shown, stream.path
            self._lose(stream)
            if source is not None:
                self.search_siblings(source, os.path.dirname(path), {family(os.path.basename(path))})
            self.touched[shown] = None

    def _shrunk(self, stream: Stream) -> bool:
        """Whether only the end of the file was cut off; then go back to the end of its last whole line."""
        content = stream.content
        if content is None or content.compressed or not stream.position:
            return False
        size = content.size()
        if not stream.position * _SHRUNK_SHARE <= size < stream.position:
            return False
        head_start, head = head_of(content)
        if not stream.fingerprint.agrees(head_start, head) or not self._was_cut(stream, content, size):
            return False
        position, shorter = _last_position(content, stream.source.config.encoding if stream.source else "auto")
        kept = stream.fingerprint.copy()
        kept.rewind(position)
        if shorter.marks and position > (kept.marks[-1][0] if kept.marks else 0):
            kept.marks.append(shorter.marks[-1])
        if position == 0:
            kept = Fingerprint()
        self.no_reading(stream)
        stream.seen = (-1, 0, 0)
        if self.book.rewind(
            stream.stream_id, expected=stream.position, position=position, fingerprint=kept.pack()
        ):  # else what was read is not stored yet: the next look tries again
            stream.reset(position, kept)
            self.wants_reading(stream)
        return True

    def _was_cut(self, stream: Stream, content: Content, size: int) -> bool:
        """Whether what is left was read: by a mark in it, by the bytes remembered, or with its newline put back."""
        agreed, _ = content.matches(stream.fingerprint)
        if agreed < 0:
            return False
        start = tail_start(stream.position)
        left = content.pread(size - start, start) if size > start else b""
        if stream.tail is not None and left:
            return stream.tail.startswith(left)
        last = stream.fingerprint.marks[-1:]
        return agreed > 0 or any(
            size + len(end) == stream.position and digest(left + end) == wanted
            for end in (b"\n", b"\r\n")
            for _, wanted in last
        )

    def lost(self, stream: Stream) -> None:
        """The file cannot be found under its name."""
        self.recheck(stream)

    def settle(self, stream: Stream) -> None:
        """At the end of a file: flush what nobody will finish, let go of what is gone. Raises StoreUnavailable."""
        quiet = self.clock() - stream.changed_at
        over = stream.unlinked or stream.lost_path or looks_rotated(os.path.basename(stream.path))
        content = stream.content
        if stream.unlinked and not stream.sought and stream.source is not None:
            stream.sought = True
            folder, name = os.path.split(stream.path)
            self.search_siblings(stream.source, folder, {family(name)})
            if stream.stream_id in self.ready:
                return
        if stream.compressed and content is not None and content.complete:
            over = True
            self._finish_compressed(stream, content)
        if over and quiet >= self.quiet_s and stream.scanned > stream.position and not self.flush(stream):
            return
        forgotten = stream.lost_path and not stream.listed and quiet >= _FORGET_S
        if (stream.unlinked and quiet >= self.quiet_s) or forgotten:
            self._lose(stream)

    def _finish_compressed(self, stream: Stream, content: Content) -> None:
        """Remember that a compressed file was read to its end, so that a restart need not unpack it again."""
        finished = stream.seen[:2]
        if stream.fingerprint.finished == finished or stream.scanned > stream.position or content.problem:
            return
        mark = stream.fingerprint.copy()
        mark.finished = finished
        if self.book.rewind(
            stream.stream_id, expected=stream.position, position=stream.position, fingerprint=mark.pack()
        ):
            stream.fingerprint.finished = finished
            self.table.close(stream)


def _state_of(stream: Stream) -> StreamMoment:
    return stream.alive, stream.matchable, stream.key, stream.position if stream.matchable else -1


def _last_position(content: Content, encoding: str) -> tuple[int, Fingerprint]:
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
