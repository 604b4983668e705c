"""Unknown files: judging what each of them is, and acting on it.

A verdict is remembered while neither the file nor the stream it is about changes, so that looking again is cheap. A
file that cannot be booked, because the database takes nothing, is kept open until it can.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from threatlens.errors import SourceError, StoreUnavailable
from threatlens.sources.base import Emit, StreamBook, StreamState
from threatlens.sources.content import Content, content_of, head_of, last_position
from threatlens.sources.held import HeldFile, HeldFiles
from threatlens.sources.identity import Fingerprint, tail_start
from threatlens.sources.losses import LossWatch
from threatlens.sources.matching import Finding, Unknown, Verdict, judge
from threatlens.sources.paths import display, family, is_newer, looks_rotated
from threatlens.sources.reader import MANY, Reader
from threatlens.sources.salvage import Salvage
from threatlens.sources.source import FollowedSource
from threatlens.sources.stream import Key, Limits, Replaced, Stream
from threatlens.sources.table import StreamTable

_MAX_JUDGED = 100_000
_NOBODYS = Verdict(Finding.NEW)
#: What a verdict about a stream depends on.
StreamMoment = tuple[bool, bool, Key, int]


@dataclass(slots=True)
class Judged:
    """A verdict that stands while neither the file nor the stream it is about changes."""

    size: int
    mtime_ns: int
    verdict: Verdict | None  # None: it holds no lines; NEW: nobody's, and no pattern names it
    since: float  # clock
    shown: str
    stream_state: StreamMoment | None
    only_known: bool


class Discovery(Reader):
    """Finds the stream for a file that none is known to carry, or begins one."""

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
        salvage: Salvage,
    ) -> None:
        super().__init__(
            emit=emit, book=book, clock=clock, wall=wall, limits=limits, quiet_s=quiet_s, table=StreamTable(max_open)
        )
        self.judged: dict[Key, Judged] = {}
        self.ours: set[Key] = set()  # files of a source although no pattern names them
        self.renamed: dict[int, Stream] = {}  # renamed, but not booked
        self.held = HeldFiles(self.table)
        self.losses = LossWatch(clock, wall)
        self.salvage = salvage
        self.between: Callable[[], None] = lambda: None  # called now and then in a long search

    def reconsider(self, stream: Stream) -> None:
        for judged in self.judged.values():
            if judged.verdict is not None and judged.verdict.stream is stream:
                self.touched[judged.shown] = None

    def drop_binding(self, stream: Stream) -> None:
        """No file carries the stream: what it was compared with is judged anew."""
        self.no_reading(stream)
        self.table.unbind(stream)
        if stream.source is not None:
            stream.source.streams.discard(stream)
        self.reconsider(stream)

    def search_rests(self, source: FollowedSource, first: bool) -> None:
        """What happened to the streams that were found without a file in this look, or, first, since the last start?"""
        families: dict[str, set[str]] = {}
        lost, source.unsought = source.unsought, set()
        if first:
            lost |= {s.path for s in self.table.by_id.values() if s.source is source and not s.listed}
        for folder, name in map(os.path.split, lost):
            families.setdefault(folder, set()).add(family(name))
        for folder, names in families.items():
            self.search_siblings(source, folder, names)

    def search_siblings(self, source: FollowedSource, folder: str, families: set[str]) -> None:
        """Look for what carries on streams of these name families that have lost their files."""
        try:
            with os.scandir(folder) as entries:
                related = [e for e in entries if family(e.name) in families and e.is_file(follow_symlinks=False)]
        except OSError:
            return
        paths, before = sorted(e.path for e in related), len(source.streams)
        for path in paths:
            self._search_one(source, path)
        if len(source.streams) > before:  # one that was found may show that another lived after it
            for path in paths:
                self._search_one(source, path)

    def _search_one(self, source: FollowedSource, path: str) -> None:
        try:
            status = os.stat(path, follow_symlinks=False)
        except OSError:
            return
        key = (status.st_dev, status.st_ino)
        if key in self.table.by_key or not status.st_size or self.held.waits(key):
            return
        self.between()
        with contextlib.suppress(StoreUnavailable):  # then it is kept open and judged later
            if self.book.away is None:
                self.judge(source, path, path, status, only_known=True)
                return
        self.keep(source, path, path, key, only_known=True)

    def judge(
        self, source: FollowedSource, shown: str, real: str, status: os.stat_result, *, only_known: bool = False
    ) -> None:
        """Decide what an unknown file is, and act on it. only_known: never start a stream of its own."""
        key = (status.st_dev, status.st_ino)
        if status.st_size == 0:
            if not only_known:  # it may be written and renamed before it is looked at again
                self.keep(source, shown, real, key, waits=False)
            return
        judged = self.judged.get(key)
        if judged is not None and self._stands(judged, status, source, real, only_known=only_known):
            return
        self._settle_relatives(real)
        if key in self.table.by_key:
            return
        held = self.held.get(key)
        fd = os.dup(held.fd) if held is not None else self.open(source, real)
        content: Content | None = None
        keep = False
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
            verdict = judge(Unknown(content, key, real, shown, self.salvage.is_copy(key)), self.table, self._confirm)
            if key in self.table.by_key:  # judging found a stream replaced, whose rest was looked for and found here
                return
            if self._act(source, shown, real, opened, content, verdict, only_known=only_known):
                content = None  # the stream keeps it
                fd = -1
            elif verdict.finding in {Finding.HELD, Finding.NOTHING_YET}:
                keep = self.salvage.is_gone(opened) or (held is not None and not verdict.for_good)
        except StoreUnavailable:
            keep = key in self.held or self._has_room(source, key)
            raise
        finally:
            if not keep:
                self.held.let_go(key)
            elif not self.held.waits(key):
                self.held.put(key, HeldFile(fd, source, shown, only_known, waits=True, real=held.real if held else ""))
                fd = -1
            if fd >= 0:
                os.close(fd)

    def _settle_relatives(self, real: str) -> None:
        """Find out first which related files were deleted or written anew: the unknown one may be what they became."""
        for stream in self.table.relatives(real):
            if stream.content is not None and not stream.unlinked and self.salvage.is_gone(os.fstat(stream.content.fd)):
                self.lost(stream)
            if not (stream.dirty and stream.position and stream.path != real) or stream.compressed:
                continue
            source, shown, path, key = stream.source, stream.shown, stream.path, stream.key
            self._confirm(stream)
            if self.table.by_key.get(key) is not stream and source is not None:
                status = os.stat(path, follow_symlinks=False)
                if (status.st_dev, status.st_ino) == key:
                    self.judge(source, shown, path, status)

    def keep(
        self, source: FollowedSource, shown: str, real: str, key: Key, *, only_known: bool = False, waits: bool = True
    ) -> None:
        """Keep a file open that no stream carries yet; waits: until the database takes something."""
        stream = self.table.by_key.get(key)
        if key in self.held and not only_known:
            self.held.is_named(key, shown, waits=waits)
        if key in self.held or (stream is not None and stream.content is not None):
            return
        if not self._has_room(source, key, waits=waits):
            return
        try:
            fd = self.open(source, real)
        except OSError as error:
            if error.errno not in MANY:
                raise
            source.unheld.add(key)
            return
        status = os.fstat(fd)
        found = (status.st_dev, status.st_ino)
        if found != key and (found in self.held or found in self.table.by_key):
            os.close(fd)
        else:
            self.held.put(found, HeldFile(fd, source, shown, only_known, waits))

    def _has_room(self, source: FollowedSource, key: Key, *, waits: bool = True) -> bool:
        if self.held.room(waits=waits):
            return True
        source.unheld.add(key)
        return False

    def close_all(self) -> None:
        """Close every file."""
        self.table.close_all()
        self.held.close_all()

    def _stands(
        self, judged: Judged, status: os.stat_result, source: FollowedSource, real: str, *, only_known: bool
    ) -> bool:
        if (judged.size, judged.mtime_ns) != (status.st_size, status.st_mtime_ns):
            return False
        verdict = judged.verdict
        if verdict is None:
            return only_known or not judged.only_known
        if verdict is _NOBODYS:
            return only_known and not self._came_between(source, real)
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
        if len(self.judged) >= _MAX_JUDGED:
            del self.judged[next(iter(self.judged))]
        self.judged[key] = Judged(status.st_size, status.st_mtime_ns, verdict, since, shown, state, only_known)

    def _confirm(self, stream: Stream) -> Content | None:
        """A followed stream's content, if its file still is its own, or if another was found that carries it on."""
        if stream.source is None:
            return None
        try:
            self.ready_to_read(stream)
        except Replaced:
            self.replaced(stream)
        except FileNotFoundError:
            self.lost(stream)
            if stream.alive:
                self.ready_to_read(stream)
        else:
            content, mark, tail = stream.content, stream.fingerprint, stream.tail
            start = tail_start(stream.position)
            if content is not None and tail is not None and not content.holds(mark.head_start, mark.head, start, tail):
                self.replaced(stream)
        return stream.content if stream.alive and stream.verified else None

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
                source.damage[shown] = SourceError(f"{display(shown)}: {content.problem}", state="error")
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
            if only_known and key not in self.ours and not self._came_between(source, real):
                self._remember(key, status, _NOBODYS, shown, only_known=True)
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
        self.renamed.pop(stream.stream_id, None)
        before, was_gone = stream.key, stream.unlinked
        self.table.close(stream)
        if was_gone and before != key and before not in self.held:
            self.salvage.closed(before)
        gone = self.salvage.is_gone(os.fstat(content.fd))
        self.table.bind(stream, key, real, unlinked=gone)
        stream.compressed = content.compressed
        if stream.source is None:
            stream.source = source
        stream.source.streams.add(stream)
        stream.content, stream.tail, stream.verified = content, tail, True
        if gone or not listed or looks_rotated(os.path.basename(real)):
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
            and is_newer(name, os.path.basename(stream.path))
            for stream in source.streams
            if not stream.listed
        )

    def _begin(
        self, source: FollowedSource, shown: str, real: str, key: Key, content: Content, *, listed: bool
    ) -> None:
        """Start a stream of its own."""
        at_end = source.config.start_at == "end" and not (source.looked or source.seen_before)
        position, mark = last_position(content, source.config.encoding) if at_end else (0, Fingerprint())
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
            listed=listed,
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
        if self.salvage.is_gone(os.fstat(content.fd)):
            stream.unlinked = stream.lost_path = True
        before = self.table.last_at.get(shown)
        if before is not None and before.alive and before.dirty:
            stream.waits_for = before
        self.table.add(stream)
        self.table.last_at[shown] = stream
        source.streams.add(stream)
        self.judged.pop(key, None)
        self.ours.discard(key)
        self.table.opened(stream)
        self.wants_reading(stream)
        stream.stale = False
        if position:
            with contextlib.suppress(StoreUnavailable):  # then the first entry brings its identity
                self.book.rewind(number, expected=position, position=position, fingerprint=mark.pack())


def _state_of(stream: Stream) -> StreamMoment:
    return stream.alive, stream.matchable, stream.key, stream.position if stream.matchable else -1
