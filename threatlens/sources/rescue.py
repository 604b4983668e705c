"""Files that nobody can find by name any more: kept open while they cannot be booked, copied lest a kill end them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence

from threatlens.errors import SourceError, StoreUnavailable
from threatlens.sources.content import Content, content_of
from threatlens.sources.discovery import Discovery
from threatlens.sources.held import HeldFile
from threatlens.sources.identity import HEAD_BYTES, tail_start
from threatlens.sources.salvage import Copy
from threatlens.sources.source import FollowedSource
from threatlens.sources.stream import Key, Replaced, Stream

DELETED = re.compile(r" \(deleted\)$")
#: Of a larger file only what is not stored is copied.
WHOLE_BYTES = 8 << 20
#: At least what the queue holds.
_ON_THE_WAY_BYTES = 128 << 20


class Rescuer(Discovery):
    """Looks after files that only our descriptors, or our copies, keep alive."""

    def lose(self, stream: Stream) -> None:
        """The stream's file is gone or is another file now; its content may go on elsewhere."""
        raise NotImplementedError

    def has_no_file(self, stream: Stream, paths: Sequence[str]) -> None:
        """Lose it, and look for what carries it on. At these paths are files with its key."""
        raise NotImplementedError

    def look_at_held(self, key: Key) -> None:
        """Judge a file that is kept open, whatever its name is now. Raises StoreUnavailable."""
        file = self.held.get(key)
        if file is None:
            return
        status = os.fstat(file.fd)
        gone = self.salvage.is_gone(status)
        real = _real(file)
        self._secure_held(key)
        if self.book.away is not None:
            return
        stream = self.table.by_key.get(key)
        if stream is not None and not gone and not self._is_its_own(stream, real):
            self.has_no_file(stream, [])
            stream = None
        if stream is not None:
            if stream.content is None and gone:
                self._hand_over(stream, file)
            if self.table.by_key.get(key) is stream:
                self.held.let_go(key)
        elif status.st_size:
            at_its_name = not gone and real == os.path.realpath(file.shown)
            shown = file.shown if at_its_name or gone else real
            self.judge(file.source, shown, real, status, only_known=file.only_known)
        elif gone:
            self.held.let_go(key)

    def keep(
        self, source: FollowedSource, shown: str, real: str, key: Key, *, only_known: bool = False, waits: bool = True
    ) -> None:
        super().keep(source, shown, real, key, only_known=only_known, waits=waits)
        if self.held.waits(key):
            self._secure_held(key)

    def _secure_held(self, key: Key) -> None:
        """Copy what the next process would not find; of the target of a link note where it is, lest the link move."""
        file = self.held.get(key)
        if file is None:
            return
        status = os.fstat(file.fd)
        if not status.st_size or not self.salvage.needs(key, status.st_size):
            return
        real = _real(file)
        size, spans = status.st_size, [(0, status.st_size)]
        at_its_name = _key_at(file.shown) == key
        if not self.salvage.is_gone(status) and (at_its_name or self._is_named(file)):
            if not at_its_name or real == file.shown or key in self.salvage:
                return
            size, spans = 0, []
        copy = Copy(file.source.config.source_id, file.shown, real, file.only_known, *key, size=size)
        self.salvage.keep(key, file.fd, spans, copy)

    def _is_its_own(self, stream: Stream, real: str) -> bool:
        """Whether the file with the stream's key at this path is the one that it was read from."""
        if stream.content is not None or stream.path == real or self.is_at(stream, stream.path):
            return True
        try:
            return self.carries(stream, real)
        except FileNotFoundError:
            return True  # the next look knows more

    def is_at(self, stream: Stream, path: str) -> bool:
        """Whether the file at this path, not where a link leads, has the stream's key."""
        return _key_at(path, follow_links=False) == stream.key

    def carries(self, stream: Stream, real: str) -> bool:
        """Whether the file with the stream's key at this path is its own: inodes are used again."""
        if (stream.content is not None and stream.verified) or stream.source is None:
            return True
        if stream.position == 0:  # nothing to know it by, and nothing lost by judging the file anew
            self.ours.add(stream.key)
            return False
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

    def _is_named(self, file: HeldFile) -> bool:
        """Whether a pattern names a file that is not booked where it lies, so that the next process would find it."""
        folder, name = os.path.split(os.readlink(f"/proc/self/fd/{file.fd}"))
        return any(os.path.realpath(each.folder) == folder and each.matches(name) for each in file.source.listings)

    def _hand_over(self, stream: Stream, file: HeldFile) -> None:
        """Give a stream its file, which was deleted before the stream could open it."""
        fd = os.dup(file.fd)
        try:
            stream.content = content_of(fd, max_unpacked_bytes=self.limits.max_unpacked_bytes)
        except SourceError:
            os.close(fd)
            return
        if stream.source is None:
            stream.source = file.source
            file.source.streams.add(stream)
        stream.unlinked = stream.lost_path = True
        self.table.opened(stream)
        try:
            self.ready_to_read(stream)
        except Replaced:
            self.lose(stream)
        else:
            self.wants_reading(stream)

    def secure(self, stream: Stream, content: Content, status: os.stat_result) -> None:
        """Copy what is not stored of a deleted file, as it ends with this process."""
        size = status.st_size
        if stream.source is None or not self.salvage.needs(stream.key, size):
            return
        try:
            stored = self.book.position(stream.stream_id) or 0
        except StoreUnavailable:
            stored = max(0, stream.position - _ON_THE_WAY_BYTES)
        if stream.compressed:
            over, spans = _at_end(stream) and content.complete and stored >= stream.position, [(0, size)]
        else:
            begin = tail_start(stored) if size > WHOLE_BYTES else 0
            head = stream.fingerprint.head_start
            over, spans = stored >= size, [(head, max(head, min(head + HEAD_BYTES, begin))), (begin, size)]
        if not over:
            number, known = stream.source.config.source_id, stored > 0  # what is known goes on, or is elsewhere by now
            copy = Copy(number, stream.shown, stream.path, known, *stream.key, size=size)
            self.salvage.keep(stream.key, content.fd, spans, copy)

    def tend_salvaged(self, source: FollowedSource) -> None:
        """Open the copies that an earlier process left, and drop those of what is stored. Raises StoreUnavailable."""
        for key in self.salvage.of(source.config.source_id):
            stream = self.table.by_key.get(key)
            if self.salvage.unopened(key):
                if self._has_room(source, key):
                    self._take_up(source, key)
                    source.next_look = 0.0
            elif stream is not None:
                if _at_end(stream) and (self.book.position(stream.stream_id) or 0) >= stream.position:
                    self.salvage.drop(key)
            elif key not in self.held or self._is_elsewhere(key):
                self.held.let_go(key)
                self.salvage.drop(key)
        for key in self.salvage.owed():
            self._secure_again(source, key)

    def _secure_again(self, source: FollowedSource, key: Key) -> None:
        """Try again to copy a file for which there was no room, if it is this source's."""
        stream, file = self.table.by_key.get(key), self.held.get(key)
        if stream is not None and stream.content is not None:
            if stream.source is source:
                self.salvage.forgive(key)
                status = os.fstat(stream.content.fd)
                if self.salvage.is_gone(status):
                    self.secure(stream, stream.content, status)
        elif file is None or file.source is source:
            self.salvage.forgive(key)
            self._secure_held(key)

    def _take_up(self, source: FollowedSource, key: Key) -> None:
        """Open a copy; or what it was made of, where that is still there although nothing names it."""
        try:
            fd, copy = self.salvage.open(key)
        except FileNotFoundError:
            self.salvage.drop(key)
            return
        original, theirs = -1, (copy.device, copy.inode)
        with contextlib.suppress(OSError, SourceError):
            original = self.open(source, copy.real)
        if original >= 0 and _same_file(original, fd, copy):
            os.close(fd)
            self.salvage.belongs_to(key, theirs)
            if theirs in self.held:
                os.close(original)
            else:
                self.held.put(theirs, HeldFile(original, source, copy.shown, copy.only_known, waits=True))
            return
        if original >= 0:
            os.close(original)
        self.held.put(key, HeldFile(fd, source, copy.shown, copy.only_known, waits=True, real=copy.real))

    def _is_elsewhere(self, key: Key) -> bool:
        """Whether all that a kept file holds was stored from another one, of which it is a copy."""
        judged, file = self.judged.get(key), self.held.get(key)
        if judged is None or judged.verdict is None or file is None or judged.size != os.fstat(file.fd).st_size:
            return False
        twin = judged.verdict.stream
        if twin is None or not (judged.verdict.for_good or judged.size <= HEAD_BYTES):
            return False
        return (self.book.position(twin.stream_id) or 0) >= judged.size


def _at_end(stream: Stream) -> bool:
    """Whether all that its file holds was handed on."""
    return stream.ended and not stream.dirty and stream.held is None and stream.scanned <= stream.position


def _real(file: HeldFile) -> str:
    """Its resolved path, or the one that it had."""
    return file.real or DELETED.sub("", os.readlink(f"/proc/self/fd/{file.fd}"))


def _key_at(path: str, *, follow_links: bool = True) -> Key | None:
    try:
        status = os.stat(path, follow_symlinks=follow_links)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _same_file(original: int, copied: int, copy: Copy) -> bool:
    """Whether this file is what the copy was made of: inodes are used again."""
    status = os.fstat(original)
    last = tail_start(copy.size)
    return (status.st_dev, status.st_ino) == (copy.device, copy.inode) and all(
        os.pread(original, length, start) == os.pread(copied, length, start)
        for start, length in ((0, min(HEAD_BYTES, copy.size)), (last, copy.size - last))
    )
