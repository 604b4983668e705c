"""Following files: noticing what happened to those that carry a stream.

Whatever happens to a file is decided here in one order: the book is told first, memory follows; so an unavailable
database leaves everything as it was, and the next look tries again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from threatlens.errors import StoreUnavailable
from threatlens.sources.content import Content, content_of, head_of, last_position
from threatlens.sources.held import HeldFile
from threatlens.sources.identity import Fingerprint, digest, tail_start
from threatlens.sources.losses import Suspect, holds_part, only_newline_gone
from threatlens.sources.matching import Finding
from threatlens.sources.paths import display, family, looks_rotated
from threatlens.sources.reader import signature
from threatlens.sources.rescue import DELETED, Rescuer
from threatlens.sources.source import FollowedSource
from threatlens.sources.stream import Key, Replaced, Stream

_FORGET_S = 25 * 3600.0  # a rotated file that no pattern names is followed this long after its last change
#: A file that keeps at least this share of what was read, and all of it the same, was cut, not begun anew.
_SHRUNK_SHARE = 0.75


class Follower(Rescuer):
    """The files behind all sources. Used from one thread."""

    def load(self, sources: dict[int, FollowedSource]) -> None:
        """Take in the remembered streams; raises StoreUnavailable."""
        for state in self.book.streams():
            if state.stream_id not in self.table.by_id:
                source = sources.get(state.source_id)
                stream = Stream(state, source, os.fsdecode(state.path))
                self.table.add(stream)
                if source is not None:
                    source.seen_before = True
                    if stream.alive:
                        source.streams.add(stream)

    def let_go(self, source: FollowedSource) -> None:
        """The source is not followed any more, or in another way."""
        for stream in list(source.streams):
            self.no_reading(stream)
            self.table.close(stream)
            stream.source = None
            stream.seen = (-1, 0, 0)
        source.streams.clear()
        for key in self.held.keys(source):
            self.held.let_go(key)
        self.salvage.let_go(source.config.source_id)

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
            self.reconsider(stream)

    def found(self, source: FollowedSource, shown: str, real: str, status: os.stat_result) -> bool:
        """A file that the source's pattern names. False: it is unknown and has to be judged."""
        key = (status.st_dev, status.st_ino)
        try:
            return self._known(source, shown, real, key, status)
        except StoreUnavailable:
            self.keep(source, shown, real, key)
            raise

    def take_in(self, source: FollowedSource, shown: str, real: str, status: os.stat_result) -> None:
        """A file that the source's pattern names or has named: find its stream, or begin one."""
        if not self.found(source, shown, real, status):
            try:
                self.judge(source, shown, real, status)
            except StoreUnavailable:
                self.keep(source, shown, real, (status.st_dev, status.st_ino))
                raise

    def _known(self, source: FollowedSource, shown: str, real: str, key: Key, status: os.stat_result) -> bool:
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
            if self.is_at(stream, stream.path):
                source.warnings[shown] = (
                    f"{display(shown)} and {display(stream.path)} are one file; each line is read once"
                )
                return True
            if not self.carries(stream, real):
                self.losses.suspect(stream, in_place=False)
                self.lose(stream)
                source.unsought.add(stream.path)  # when all that the pattern names is known
                return False
            self._rename(stream, real)
        elif _may_be_a_copy(stream, status):
            self.ours.add(key)
            self.lose(stream)
            return False
        self.table.last_at[shown] = stream
        stream.shown = shown
        stream.listed = True
        self.look(stream, status)
        return True

    def lose(self, stream: Stream) -> None:
        """The stream's file is gone or is another file now; its content may go on elsewhere."""
        self.release(stream)
        self.book.retire(stream.stream_id)
        self.drop_binding(stream)

    def _rename(self, stream: Stream, real: str) -> None:
        self.renamed[stream.stream_id] = stream
        self.table.bind(stream, stream.key, real)
        stream.lost_path = True

    def book_names(self) -> None:
        """Book the new names of renamed files, all in one. A rotation renames hundreds, and the book may be asked for
        a new file meanwhile; until then, and after a kill before it, they are found by their inodes."""
        if self.renamed and self.book.away is None:
            with contextlib.suppress(StoreUnavailable):  # next time
                self.book.rename([(number, os.fsencode(stream.path)) for number, stream in self.renamed.items()])
                self.renamed.clear()

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
        # Opened at once: it may be deleted before its turn comes, and unread copies of it must be known as such.
        early = not stream.position or (stream.content is None and not stream.compressed and self.table.has_room)
        if early and stale and stream.source is not None and status.st_size:
            with contextlib.suppress(Replaced, FileNotFoundError):
                self.ready_to_read(stream)
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
            if self.salvage.is_gone(status):
                if not stream.unlinked:
                    stream.unlinked = stream.lost_path = True
                    self.losses.suspect(stream, in_place=False)
                    self.reconsider(stream)
                self.secure(stream, content, status)
            else:
                path = os.readlink(f"/proc/self/fd/{content.fd}")
                if path != stream.path and not DELETED.search(path):
                    self._rename(stream, path)
            self.look(stream, status)
            return
        try:
            status = os.stat(stream.path, follow_symlinks=False)
            found = (status.st_dev, status.st_ino) == stream.key
        except FileNotFoundError:
            found = False
        if found and _may_be_a_copy(stream, status) and stream.source is not None:
            self.ours.add(stream.key)
            self._lose_and_judge(stream, [stream.path])
        elif found:
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
            if path != stream.path and self.is_at(stream, path) and self.carries(stream, path):
                self._rename(stream, path)
                self.look(stream, os.stat(path, follow_symlinks=False))
                return
        self.has_no_file(stream, names)

    def has_no_file(self, stream: Stream, paths: Sequence[str]) -> None:
        """Its own is gone, or cannot be found; what carries it on is sought. At these paths are files with its key."""
        source = stream.source
        self.losses.suspect(stream, in_place=False)
        self._lose_and_judge(stream, paths)
        if source is not None:
            folder, name = os.path.split(stream.path)
            self.search_siblings(source, folder, {family(name)})

    def _lose_and_judge(self, stream: Stream, paths: Sequence[str]) -> None:
        """The stream has lost its file; what is at these paths now, with its key, may be ours all the same."""
        source, key = stream.source, stream.key
        try:
            self.lose(stream)
        except StoreUnavailable:
            for path in paths:
                if source is not None:
                    self.keep(source, path, path, key)
            raise
        if source is not None:
            for path in paths:
                status = os.stat(path, follow_symlinks=False)
                if (status.st_dev, status.st_ino) in self.ours:
                    self.judge(source, path, path, status, only_known=True)

    def replaced(self, stream: Stream) -> None:
        """The file holds other content now: the rest of the stream may be in a copy, the file is judged anew."""
        if stream.unlinked or not self._shrunk(stream):
            source, shown, path, key = stream.source, stream.shown, stream.path, stream.key
            if stream.content is None or not only_newline_gone(stream.content, stream.fingerprint):
                self.losses.suspect(stream, in_place=True)
            kept = None  # nobody else has what was written to a deleted file last
            if source is not None and stream.content is not None and self.salvage.is_gone(os.fstat(stream.content.fd)):
                kept = HeldFile(os.dup(stream.content.fd), source, shown, only_known=False, waits=True)
            try:
                self.lose(stream)
                if kept is not None:
                    self.held.put(key, kept)
                    kept = None
            finally:
                if kept is not None:
                    os.close(kept.fd)
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
        before = stream.position
        position, shorter = last_position(content, stream.source.config.encoding if stream.source else "auto")
        kept = stream.fingerprint.copy()
        kept.rewind(position)
        if shorter.marks and position > (kept.marks[-1][0] if kept.marks else 0):
            kept.marks.append(shorter.marks[-1])
        if position == 0:
            kept = Fingerprint()
        self.no_reading(stream)
        stream.seen = (-1, 0, 0)
        if stream.source is not None and size + len(b"\r\n") < before:  # before it is booked, lest a kill hide it
            self.losses.tell(stream.source, stream.path, before, size, "cut at its end")
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

    def look_for_losses(self, source: FollowedSource) -> None:
        """Decide about files that do not hold any more what was read from them: were lines moved away, or removed?"""
        for suspect in self.losses.due(source):
            stream, path = suspect.stream, suspect.path
            if stream.alive and stream.key != suspect.key:
                continue  # its content goes on elsewhere
            if suspect.in_place and stream.alive:
                self.losses.wait(suspect)  # that it is gone is not booked yet
            elif stream.alive and not stream.unlinked:
                continue  # renamed
            elif suspect.in_place:
                if not self._copied(suspect):
                    left = os.stat(path, follow_symlinks=False).st_size
                    self.losses.tell(source, path, suspect.position, left, "emptied or written anew")
            elif (left := self._left(suspect)) >= 0:
                self.losses.tell(source, path, suspect.position, left, "replaced by a part of itself")

    def _copied(self, suspect: Suspect) -> bool:
        """Whether a file was found that holds what the stream held."""
        return any(
            judged.verdict is not None
            and judged.verdict.stream is suspect.stream
            and judged.verdict.finding in {Finding.COPY, Finding.HELD}
            for judged in self.judged.values()
        )

    def _left(self, suspect: Suspect) -> int:
        """The size of the file that has the name now, if it holds a part of what was read, but not all; else -1."""
        try:
            fd = self.open(suspect.source, suspect.path)
        except FileNotFoundError:
            return -1
        try:
            content = content_of(fd, max_unpacked_bytes=self.limits.max_unpacked_bytes)
            stream = suspect.stream
            whole = content.matches(stream.fingerprint)[1] and stream.position >= suspect.position
            return content.size() if not whole and holds_part(content, stream, suspect.position) else -1
        finally:
            os.close(fd)

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
        if (stream.unlinked and quiet >= self.quiet_s and stream.key not in self.salvage) or forgotten:
            self.lose(stream)

    def _finish_compressed(self, stream: Stream, content: Content) -> None:
        """Remember that a compressed file was read to its end, so that a restart need not unpack it again."""
        finished = stream.seen[:2]
        unread = stream.scanned > stream.position or stream.held is not None
        if stream.fingerprint.finished == finished or unread or content.problem:
            return
        mark = stream.fingerprint.copy()
        mark.finished = finished
        if self.book.rewind(
            stream.stream_id, expected=stream.position, position=stream.position, fingerprint=mark.pack()
        ):
            stream.fingerprint.finished = finished
            self.table.close(stream)


def _may_be_a_copy(stream: Stream, status: os.stat_result) -> bool:
    """Whether nothing is known of its file but the inode, noted by the process before, and it lies where copies of
    other files are put: it may be one by now that was given the same inode."""
    unknown = not stream.position and not stream.present[1] and status.st_size
    return bool(unknown) and looks_rotated(os.path.basename(stream.path))
