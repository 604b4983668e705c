"""Copies of deleted files that hold lines which are not stored yet.

A deleted file lives as long as our descriptor, so not longer than this process. What is not stored of it is copied into
a folder of ours, and read there by the next process. Offsets stay those of the file: where its lines are stored the
copy of a large one has a hole. The copies are for a kill, not for a power cut: nothing is fsynced.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

from threatlens.sources.stream import Key

log = logging.getLogger(__name__)

_STEP_BYTES = 1 << 20
_MAX_BYTES = 1 << 30  # of all copies together
_LEFT_BYTES = 256 << 20  # on the disk, whatever is copied
#: What is not larger may be copied to a disk that is nearly full too, as long as so much is left. While events wait
#: because it is full, half of the reserve is free.
_SMALL_BYTES, _LEFT_OF_RESERVE_BYTES = 256 << 10, 1 << 20

_TELLING_BYTES = 64 << 10  # of the end of a copy, which tell whether a file goes on from it

Span = tuple[int, int]  # of bytes: start, end


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy, as its note says."""

    source_id: int
    shown: str  # as the source named the file
    real: str  # its resolved path, when it had one
    only_known: bool  # it may carry on a stream, but begins none
    device: int
    inode: int
    size: int  # how much of the file is copied, in bytes from its beginning; 0: its place is noted
    copied: int = 0  # bytes on the disk


class Salvage:
    """The copies, by the file that they are read as: the deleted one itself, or, of an earlier process, the copy."""

    def __init__(
        self, folder: str, *, make_room: Callable[[], None] = lambda: None, max_bytes: int = _MAX_BYTES
    ) -> None:
        """folder: made when it is needed; "": nothing is ever copied. make_room: asked when there is none on the disk
        for a few lines."""
        self._folder = folder
        self._make_room = make_room
        self._max_bytes = max_bytes
        self._copies: dict[Key, Copy] = {}
        self._paths: dict[Key, str] = {}
        self._inherited: set[Key] = set()
        self._opened: set[Key] = set()
        self._given_up: set[Key] = set()  # until the next try
        self._told: set[Key] = set()
        if folder:
            self._inherit()

    def __contains__(self, key: Key) -> bool:
        return key in self._copies

    def of(self, source_id: int) -> list[Key]:
        """What is there of a source, the oldest first."""
        return [key for key, copy in self._copies.items() if copy.source_id == source_id]

    def open(self, key: Key) -> tuple[int, Copy]:
        """(descriptor, what it is a copy of) of one that an earlier process made; raises OSError."""
        fd = os.open(self._paths[key], os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._opened.add(key)
        return fd, self._copies[key]

    def belongs_to(self, key: Key, original: Key) -> None:
        """The file that this copy of an earlier process was made of is still there, and is read instead."""
        copy, path = self._copies.pop(key), self._paths.pop(key)
        if original not in self._copies:
            self._copies[original], self._paths[original] = copy, path
        elif self._paths[original] != path:
            _remove(path)
        self._inherited.discard(key)
        self._opened.discard(key)

    def unopened(self, key: Key) -> bool:
        """Whether it is of an earlier process, and not `open`ed yet."""
        return key in self._inherited - self._opened

    def is_copy(self, key: Key) -> bool:
        """Whether this file is a copy that an earlier process made."""
        return key in self._inherited

    def is_gone(self, status: os.stat_result) -> bool:
        """Whether this open file has no name that anybody else knows."""
        return not status.st_nlink or (status.st_dev, status.st_ino) in self._inherited

    def needs(self, key: Key, size: int) -> bool:
        """Whether bytes of this file are not copied that could be."""
        if not self._folder or key in self._given_up or key in self._inherited:
            return False
        copy = self._copies.get(key)
        return copy is None or copy.size < size

    def keep(self, key: Key, fd: int, spans: Iterable[Span], described: Copy) -> None:
        """Copy these spans of a deleted file, or what was added behind its copy; `described.size` is its size now.

        What cannot be copied, for want of space above all, is logged once, and not tried again until it is forgiven.
        """
        before = self._copies.get(key)
        if before is not None and before.size and not _begins_with(fd, self._paths[key], before):
            self.drop(key)  # of a file that had the inode before
            before = None
        wanted = [(before.size, described.size)] if before is not None and before.size else list(spans)
        n_bytes = sum(end - start for start, end in wanted)
        try:
            self._check_space(n_bytes)
            name = f"{key[0]:x}-{key[1]:x}-{os.fstat(fd).st_mtime_ns:x}"
            path = self._paths.setdefault(key, os.path.join(self._folder, name))
            self._write(path, fd, wanted)
            copied = n_bytes + (before.copied if before is not None else 0)
            self._note(key, replace(described, copied=copied))
        except OSError as error:
            if key not in self._told:
                log.warning("the unread lines of %s, which is deleted, are in memory only: %s", described.real, error)
            if before is None:
                self.drop(key)
            self._given_up.add(key)
            self._told.add(key)

    def owed(self) -> list[Key]:
        """The files that could not be copied."""
        return list(self._given_up)

    def forgive(self, key: Key) -> None:
        """Let it be tried again, once."""
        self._given_up.discard(key)

    def drop(self, key: Key) -> None:
        """What was copied is stored now, or is of no use."""
        path = self._paths.pop(key, "")
        self._copies.pop(key, None)
        self._inherited.discard(key)
        self._opened.discard(key)
        self._given_up.discard(key)
        self._told.discard(key)
        if path:
            _remove(path)

    def closed(self, key: Key) -> None:
        """What it held goes on elsewhere, and nobody has the deleted file open: its inode may be another's by now."""
        if key in self._copies and key not in self._inherited:
            self.drop(key)

    def let_go(self, source_id: int) -> None:
        """The files of a source are not open any more: from now on they are read as copies."""
        for key in self.of(source_id):
            if key not in self._inherited:
                path = self._paths[key]
                try:
                    status = os.stat(path)
                except OSError:
                    self.drop(key)
                    continue
                copy = self._copies.pop(key)
                del self._paths[key]
                self._take(path, (status.st_dev, status.st_ino), copy)

    def _take(self, path: str, key: Key, copy: Copy) -> None:
        self._copies[key], self._paths[key] = copy, path
        self._inherited.add(key)

    def _inherit(self) -> None:
        """Find what an earlier process has left; a copy without a note was not finished."""
        try:
            paths = [os.path.join(self._folder, name) for name in os.listdir(self._folder)]
            notes = {path for path in paths if path.endswith(".json")}
            files = sorted(set(paths) - notes, key=lambda path: os.stat(path).st_mtime_ns)
        except OSError:
            return
        for path in files:
            try:
                with open(path + ".json", encoding="ascii") as note:
                    copy = Copy(**json.load(note))
                status = os.stat(path)
                if status.st_size > copy.size:
                    os.truncate(path, copy.size)  # it was being added to
            except (OSError, ValueError, TypeError):
                notes.add(path)
            else:
                notes.discard(path + ".json")
                self._take(path, (status.st_dev, status.st_ino), copy)
        for path in notes:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _check_space(self, n_bytes: int) -> None:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        if n_bytes + sum(copy.copied for copy in self._copies.values()) > self._max_bytes:
            raise OSError(f"more than {self._max_bytes >> 20} MB of such lines")
        if n_bytes > _SMALL_BYTES:
            fits = self._fits(n_bytes + _LEFT_BYTES)
        elif not (fits := self._fits(n_bytes + _LEFT_OF_RESERVE_BYTES)):
            self._make_room()
            fits = self._fits(n_bytes + _LEFT_OF_RESERVE_BYTES)
        if not fits:
            raise OSError("the disk is nearly full")

    def _fits(self, n_bytes: int) -> bool:
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize >= n_bytes

    def _write(self, path: str, source: int, spans: Iterable[Span]) -> None:
        to = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            for at, end in spans:
                while at < end and (data := os.pread(source, min(_STEP_BYTES, end - at), at)):
                    at += os.pwrite(to, data, at)  # noqa: PLW2901
            status = os.fstat(source)
            os.utime(to, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(to)

    def _note(self, key: Key, copy: Copy) -> None:
        path = self._paths[key] + ".json"
        with open(path + ".part", "w", encoding="ascii") as note:
            json.dump(asdict(copy), note)
        os.replace(path + ".part", path)
        self._copies[key] = copy


def _begins_with(fd: int, path: str, copy: Copy) -> bool:
    """Whether a file goes on from what its copy holds, as told by the last bytes of that."""
    start = copy.size - min(copy.copied, _TELLING_BYTES)
    try:
        with open(path, "rb") as kept:
            kept.seek(start)
            return os.pread(fd, copy.size - start, start) == kept.read(copy.size - start)
    except OSError:
        return False  # somebody has deleted the copy


def _remove(path: str) -> None:
    for name in (path + ".json", path):
        with contextlib.suppress(OSError):
            os.unlink(name)
