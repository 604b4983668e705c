"""Ingestions: data that the API or the command line hands in.

It is made durable first (a file in the spool, fsynced, moved into place) and acknowledged then; the engine follows the
spool like any other folder, so the promise of exactly once holds here too, in whichever process the request arrived.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError

from threatlens.clock import now_us
from threatlens.demo import made_up_attack
from threatlens.durable import sync_folder
from threatlens.errors import IngestError
from threatlens.settings import Settings
from threatlens.sources.base import TEST_ATTACK, TEST_ATTACK_TOLD
from threatlens.store import EventStore

#: Bytes that may wait in the spool; beyond that the client is asked to come back.
MAX_SPOOL_BYTES = 1 << 30
#: Bytes of one person or token that may wait in it, so that nobody fills it alone.
MAX_WAITING_BYTES = 1 << 28
RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class Ingestion:
    """One piece of data handed in."""

    id: str
    source: str
    state: str  # accepted, processing, done
    size: int  # bytes
    stored: int  # bytes of those that are stored
    accepted: int  # lines
    created_at: int  # microseconds since the epoch


class Ingestions:
    """Accept data, and tell how far it has come."""

    def __init__(self, settings: Settings, store: EventStore) -> None:
        self._settings = settings
        self._store = store

    def accept(
        self,
        chunks: Iterable[bytes],
        source_name: str,
        *,
        log_format: str = "auto",
        idempotency_key: str | None = None,
        author: str = "",
        source_id: int = 0,
    ) -> Ingestion:
        """Make the data durable and return its ingestion; with a key seen before by this author, the earlier one.

        chunks are whole lines in pieces of any size; a missing last newline is added. Raises IngestError (409 when the
        key was used for data of another size: what is new would be lost, and nobody would be told; 429 when the
        spool is full, or what waits of this author; "" is the machine's own user, who has no share); whatever the
        iterable raises leaves nothing behind. source_id: of a source that is there; 0: of the one with this name.
        """
        mark = _mark(author)
        if idempotency_key is not None:
            idempotency_key = f"{mark}{idempotency_key}"
            earlier = self._by_key(idempotency_key)
            if earlier is not None:
                return _same(earlier, *_measured(chunks))
        if self.spooled_bytes() > MAX_SPOOL_BYTES:
            msg = "too much data waits already; come back later"
            raise IngestError(msg, status=429, retry_after_s=RETRY_AFTER_S)
        if author and self.spooled_bytes(mark) > MAX_WAITING_BYTES:
            msg = "too much of what you handed in waits already; come back later"
            raise IngestError(msg, status=429, retry_after_s=RETRY_AFTER_S)
        source_id = source_id or self._store.put_api_source(source_name, log_format)
        folder = os.path.join(self._settings.spool, str(source_id))
        if not os.path.isdir(folder):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            sync_folder(self._settings.spool)
        ingestion_id = mark + secrets.token_urlsafe(12)
        path = os.path.join(folder, ingestion_id + ".log")
        size, lines = _write_durably(path, chunks)
        try:
            self._store.add_ingestion(ingestion_id, source_id, path, size, lines, idempotency_key)
        except IntegrityError:
            # The same key at the same time: the other request won.
            os.unlink(path + ".part")
            earlier = self._by_key(idempotency_key or "")
            if earlier is None:
                raise
            return _same(earlier, size, lines)
        with contextlib.suppress(FileNotFoundError):  # the engine may have moved it already
            os.rename(path + ".part", path)
        sync_folder(folder)
        return Ingestion(ingestion_id, source_name, "accepted", size, 0, lines, now_us())

    def fire_test_attack(self, *, tells: bool) -> None:
        """Let a small made-up attack arrive as lines do. Raises IngestError.

        tells: whoever is told of real attacks is told of this one.
        """
        lines = "\n".join(made_up_attack(dt.datetime.now(dt.UTC))).encode()
        name = TEST_ATTACK_TOLD if tells else TEST_ATTACK
        self.accept([lines], name, source_id=self._store.put_test_source(tells=tells))

    def get(self, ingestion_id: str) -> Ingestion | None:
        """One ingestion and how far it has come; None: unknown."""
        row = self._store.ingestion("id", ingestion_id)
        return None if row is None else Ingestion(*row)

    def settle(self) -> None:
        """Mark what is wholly stored as done and remove its file. Called by the engine."""
        for ingestion_id, path in self._store.stored_ingestions():
            if path.startswith(self._settings.spool + os.sep):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            self._store.finish_ingestion(ingestion_id, now_us())
        self._finish_interrupted()

    def spooled_bytes(self, mark: str = "") -> int:
        """Bytes that wait in the spool; with a mark those of one author."""
        total = 0
        for folder in _folders(self._settings.spool):
            for entry in os.scandir(folder):
                if not entry.name.startswith(mark):
                    continue
                with contextlib.suppress(FileNotFoundError):  # stored and removed meanwhile
                    total += entry.stat().st_size
        return total

    def _by_key(self, key: str) -> Ingestion | None:
        row = self._store.ingestion("idempotency_key", key)
        return None if row is None else Ingestion(*row)

    def _finish_interrupted(self) -> None:
        """A kill between the row and the rename leaves a durable .part of an ingestion that exists: it counts."""
        for folder in _folders(self._settings.spool):
            for entry in list(os.scandir(folder)):
                if not entry.name.endswith(".log.part"):
                    continue
                ingestion_id = entry.name.removesuffix(".log.part")
                if self._store.ingestion("id", ingestion_id) is not None:
                    with contextlib.suppress(FileNotFoundError):
                        os.rename(entry.path, entry.path.removesuffix(".part"))
                elif now_us() / 1e6 - entry.stat().st_mtime > 3600:
                    os.unlink(entry.path)


def _mark(author: str) -> str:
    """What the ids of somebody's ingestions begin with: it says that two are of one author, not whose they are."""
    return f"{hashlib.blake2b(author.encode(), digest_size=6).hexdigest()}-" if author else ""


def _write_durably(path: str, chunks: Iterable[bytes]) -> tuple[int, int]:
    """Write to path + ".part" and fsync it; (bytes, lines). Nothing is left if anything fails."""
    part = path + ".part"
    try:
        with open(part, "wb") as file:
            size, lines = _measured(chunks, file.write)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        if isinstance(error, OSError):
            msg = f"the data cannot be kept: {error.strerror}"
            raise IngestError(msg, status=503, retry_after_s=RETRY_AFTER_S) from error
        raise
    return size, lines


def _measured(chunks: Iterable[bytes], write: Callable[[bytes], object] = len) -> tuple[int, int]:
    """(bytes, lines) of these chunks, with the newline that the last one may lack; all of it is written."""
    size = lines = 0
    last = b"\n"
    for chunk in chunks:
        if chunk:
            write(chunk)
            size += len(chunk)
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    if last != b"\n":
        write(b"\n")
        size += 1
        lines += 1
    return size, lines


def _same(earlier: Ingestion, size: int, lines: int) -> Ingestion:
    if (earlier.size, earlier.accepted) != (size, lines):
        raise IngestError("this Idempotency-Key was used for other data; take a new one", status=409)
    return earlier


def _folders(spool: str) -> list[str]:
    return [entry.path for entry in os.scandir(spool) if entry.is_dir()]
