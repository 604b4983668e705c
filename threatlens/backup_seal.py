"""Encryption of a backup with a passphrase: a stream of pieces, each sealed (AES-256-GCM) with its place in the row.

A piece that is changed, moved, left out or repeated is found, and so is an end that is missing: the last piece says
that it is the last. The key comes from the passphrase by scrypt.
"""

from __future__ import annotations

import io
import os
from typing import IO, TYPE_CHECKING

from threatlens.errors import BackupError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"ThreatLens backup, sealed 1\n"
_PIECE = 1 << 20
_SALT = 16
_TAG = 16


def _cipher(passphrase: str, salt: bytes) -> AESGCM:
    # 7 MB that a server without encrypted backups does without: only here.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return AESGCM(Scrypt(salt=salt, length=32, n=1 << 15, r=8, p=1).derive(passphrase.encode("utf-8")))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


class SealingWriter(io.RawIOBase):
    """A file to write to; what arrives in `target` is sealed. Closing it writes the end, not closing it leaves none."""

    def __init__(self, target: IO[bytes], passphrase: str) -> None:
        salt = os.urandom(_SALT)
        self._target = target
        self._cipher = _cipher(passphrase, salt)
        self._held = bytearray()
        self._number = 0
        target.write(MAGIC + salt)

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._held += data
        while len(self._held) > _PIECE:
            self._put(bytes(self._held[:_PIECE]), last=False)
            del self._held[:_PIECE]
        return len(data)

    def finish(self) -> None:
        """Write the last piece."""
        self._put(bytes(self._held), last=True)
        self._held.clear()

    def _put(self, piece: bytes, *, last: bool) -> None:
        self._target.write(self._cipher.encrypt(_nonce(self._number, last=last), piece, MAGIC))
        self._number += 1


class OpeningReader(io.RawIOBase):
    """The reverse: reads what was sealed, MAGIC already read. Raises BackupError for a wrong passphrase or damage."""

    def __init__(self, source: IO[bytes], passphrase: str) -> None:
        salt = source.read(_SALT)
        if len(salt) != _SALT:
            msg = "the backup is cut off"
            raise BackupError(msg)
        self._source = source
        self._cipher = _cipher(passphrase, salt)
        self._ready = memoryview(b"")
        self._next = source.read(_PIECE + _TAG)
        self._number = 0
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready and not self._ended:
            self._open_piece()
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _open_piece(self) -> None:
        from cryptography.exceptions import InvalidTag

        piece, self._next = self._next, self._source.read(_PIECE + _TAG)
        self._ended = not self._next
        try:
            self._ready = memoryview(self._cipher.decrypt(_nonce(self._number, last=self._ended), piece, MAGIC))
        except InvalidTag as error:
            first = self._number == 0
            msg = "the passphrase is wrong, or the backup is damaged" if first else "the backup is damaged or cut off"
            raise BackupError(msg) from error
        self._number += 1
