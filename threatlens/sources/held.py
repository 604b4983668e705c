"""Files that are kept open before any stream carries them: empty ones, and those that cannot be booked yet.

Whatever is seen is opened at once, as it may be renamed and deleted while the database takes nothing; what is open can
be read to its end. The descriptors count against the same limit as those of the streams.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from threatlens.errors import StoreUnavailable
from threatlens.sources.base import StreamBook, StreamState
from threatlens.sources.source import FollowedSource
from threatlens.sources.stream import Key
from threatlens.sources.table import StreamTable

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class HeldFile:
    """One file that is kept open."""

    fd: int
    source: FollowedSource
    shown: str  # as the source named it when it was first seen
    only_known: bool  # it may carry on a stream, but begins none
    waits: bool  # for the database, with lines in it: not given up for another file
    real: str = ""  # its resolved path when it had a name, of a copy


class HeldFiles:
    """The files kept open, in the order in which they were first seen."""

    def __init__(self, table: StreamTable) -> None:
        self._table = table
        self._files: OrderedDict[Key, HeldFile] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        return key in self._files

    def waits(self, key: Key) -> bool:
        """Whether this file is kept and waits for the database."""
        return key in self._files and self._files[key].waits

    def keys(self, source: FollowedSource, *, waiting: bool = False) -> list[Key]:
        """Those of a source; waiting: only those that could not be booked."""
        return [key for key, file in self._files.items() if file.source is source and (file.waits or not waiting)]

    def get(self, key: Key) -> HeldFile | None:
        """The file with this key, which stays."""
        return self._files.get(key)

    def at(self, path: str) -> tuple[FollowedSource, Key] | None:
        """(source, key) of the kept file with this name, which no pattern needs to name: a link may lead to it."""
        try:
            status = os.stat(path, follow_symlinks=False)
        except OSError:
            return None
        key = (status.st_dev, status.st_ino)
        return (self._files[key].source, key) if key in self._files else None

    def put(self, key: Key, file: HeldFile) -> None:
        """Keep a file, for which `room` was asked; in the place of the same one that did not wait."""
        before = self._files.get(key)
        if before is not None:
            os.close(before.fd)
            if file.only_known and not before.only_known:
                file = replace(file, only_known=False, shown=before.shown)
        self._files[key] = file
        self._table.n_held = len(self._files)

    def is_named(self, key: Key, shown: str, *, waits: bool) -> None:
        """A pattern names a file that is kept, so that it may begin a stream; waits: there are lines in it by now."""
        file = self._files[key]
        if file.only_known or (waits and not file.waits):
            shown = shown if file.only_known else file.shown
            self._files[key] = replace(file, only_known=False, shown=shown, waits=waits or file.waits)

    def let_go(self, key: Key) -> None:
        """Close a file, if it is kept."""
        file = self._files.pop(key, None)
        self._table.n_held = len(self._files)
        if file is not None:
            os.close(file.fd)

    def close_all(self) -> None:
        """Close every file."""
        for key in list(self._files):
            self.let_go(key)

    def room(self, *, waits: bool) -> bool:
        """Whether one more file may be kept; closes what can be opened again, and empty files of long ago."""
        empty = [key for key, file in self._files.items() if not file.waits]
        if not waits:
            while len(empty) >= max(1, self._table.max_open // 4):
                self.let_go(empty.pop(0))
            return True
        if self._table.n_open + len(self._files) < self._table.max_open or self._table.make_room(1):
            return True
        if empty:
            self.let_go(empty[0])
            return True
        return not self._files


class PatientBook:
    """The book as the monitor uses it: after a call that failed none is tried until `retry`, as each may take time."""

    def __init__(self, book: StreamBook) -> None:
        self._book = book
        self.away: StoreUnavailable | None = None

    def retry(self) -> None:
        """The next call is tried again."""
        self.away = None

    def _call(self, call: Callable[[], Result]) -> Result:
        if self.away is not None:
            raise StoreUnavailable(str(self.away), reason=self.away.reason)
        try:
            return call()
        except StoreUnavailable as error:
            self.away = error
            raise

    def streams(self) -> list[StreamState]:
        """See StreamBook, as of all that follow."""
        return self._call(self._book.streams)

    def create(
        self,
        source_id: int,
        *,
        path: bytes,
        device: int,
        inode: int,
        compressed: bool,
        position: int,
        listed: bool = False,
    ) -> int:
        return self._call(
            lambda: self._book.create(
                source_id, path=path, device=device, inode=inode, compressed=compressed, position=position,
                listed=listed,
            )
        )  # fmt: skip

    def rebind(self, stream_id: int, *, path: bytes, device: int, inode: int, compressed: bool) -> None:
        self._call(lambda: self._book.rebind(stream_id, path=path, device=device, inode=inode, compressed=compressed))

    def rename(self, paths: Sequence[tuple[int, bytes]]) -> None:
        self._call(lambda: self._book.rename(paths))

    def retire(self, stream_id: int) -> None:
        self._call(lambda: self._book.retire(stream_id))

    def rewind(self, stream_id: int, *, expected: int, position: int, fingerprint: bytes) -> bool:
        return self._call(
            lambda: self._book.rewind(stream_id, expected=expected, position=position, fingerprint=fingerprint)
        )

    def position(self, stream_id: int) -> int | None:
        return self._call(lambda: self._book.position(stream_id))
