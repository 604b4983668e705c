"""Streams in the database: where every file's life has come to. The StreamBook that sources are handed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection

from threatlens.clock import now_us
from threatlens.errors import StoreUnavailable
from threatlens.sources.base import StreamState
from threatlens.store_database import Database

#: Milliseconds that the one thread that follows files waits for another writer: it has new files to open meanwhile.
BUSY_MS = 250


class StreamTable:
    """The table log_streams. Each call is one transaction; positions go forward in EventStore.commit only."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.when_full: Callable[[], None] | None = None  # the disk has no room for where a file begins: make some

    def streams(self) -> list[StreamState]:
        """All remembered streams."""
        with self.database.reading(timeout_s=60) as connection:
            rows = connection.exec_driver_sql(
                "SELECT id, source_id, path, device, inode, compressed, position, fingerprint, retired FROM log_streams"
            )
            return [
                StreamState(row[0], row[1], row[2], row[3], row[4], bool(row[5]), row[6], row[7], bool(row[8]))
                for row in rows
            ]

    @contextmanager
    def _booking(self, *, synced: bool = False) -> Iterator[Connection]:
        """One small transaction that cannot wait, for the disk neither: the files show again what a power cut takes
        back, and what is stored after it is kept with it only."""
        try:
            with self.database.writing(busy_ms=BUSY_MS, synced=synced) as connection:
                yield connection
        except StoreUnavailable as error:
            if error.reason == "disk_full" and self.when_full is not None:
                self.when_full()
            raise

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
        """A new stream at this position; its id."""
        now = now_us()
        with self._booking(synced=not listed) as connection:
            return int(
                connection.exec_driver_sql(
                    "INSERT INTO log_streams (source_id, path, device, inode, compressed, position, fingerprint,"
                    " retired, created_at, updated_at) VALUES (?,?,?,?,?,?,?,0,?,?) RETURNING id",
                    (source_id, path, device, inode, int(compressed), position, b"", now, now),
                ).scalar_one()
            )

    def rebind(self, stream_id: int, *, path: bytes, device: int, inode: int, compressed: bool) -> None:
        """The content goes on in another file; a retired stream lives again."""
        with self._booking() as connection:
            connection.exec_driver_sql(
                "UPDATE log_streams SET path = ?, device = ?, inode = ?, compressed = ?, retired = 0,"
                " updated_at = ? WHERE id = ?",
                (path, device, inode, int(compressed), now_us(), stream_id),
            )

    def rename(self, paths: Sequence[tuple[int, bytes]]) -> None:
        """These streams' files have other names now: (stream, its path)."""
        now = now_us()
        with self._booking() as connection:
            connection.exec_driver_sql(
                "UPDATE log_streams SET path = ?, updated_at = ? WHERE id = ?",
                [(path, now, stream_id) for stream_id, path in paths],
            )

    def retire(self, stream_id: int) -> None:
        """Its file holds other content now."""
        with self._booking() as connection:
            connection.exec_driver_sql(
                "UPDATE log_streams SET retired = 1, inode = 0, updated_at = ? WHERE id = ?", (now_us(), stream_id)
            )

    def rewind(self, stream_id: int, *, expected: int, position: int, fingerprint: bytes) -> bool:
        """Move a position back by compare-and-set."""
        with self._booking() as connection:
            moved = connection.exec_driver_sql(
                "UPDATE log_streams SET position = ?, fingerprint = ?, updated_at = ? WHERE id = ? AND position = ?",
                (position, fingerprint, now_us(), stream_id, expected),
            )
            return moved.rowcount == 1

    def position(self, stream_id: int) -> int | None:
        """The committed position in bytes; None: no such stream."""
        with self.database.reading() as connection:
            value = connection.exec_driver_sql("SELECT position FROM log_streams WHERE id = ?", (stream_id,)).scalar()
            return None if value is None else int(value)
