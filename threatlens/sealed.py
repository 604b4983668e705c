"""TLS over a socket, of which we hold the sealed bytes: who has to know when the last one is sent sends it himself.

Python's own SSLSocket lets OpenSSL write to the socket, and nothing tells whether all of it is out before it returns.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import TypeVar, cast

_RECEIVED_BYTES = 65_536
T = TypeVar("T")


class Sealed:
    """A TLS client's side of a connection; like a socket as far as clients need one."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, host: str | None) -> None:
        """Agree on keys, within the time limit of the connection, which is closed where that fails.

        Raises TimeoutError, ssl.SSLError and other OSErrors.
        """
        self.connection = connection
        self._timeout_s = connection.gettimeout()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        try:
            self._do(self.tls.do_handshake)
            connection.sendall(self._outgoing.read())
        except OSError:
            with contextlib.suppress(OSError):  # the other side is told why
                connection.sendall(self._outgoing.read())
            connection.close()
            raise

    def settimeout(self, timeout_s: float | None) -> None:
        """How long one of the methods may take."""
        self._timeout_s = timeout_s
        self.connection.settimeout(timeout_s)

    def gettimeout(self) -> float | None:
        return self._timeout_s

    def seal(self, plain: bytes) -> bytes:
        """What has to be sent so that the other side reads this."""
        left = memoryview(plain)
        while left:
            piece = left
            left = left[self._do(lambda: self.tls.write(piece)) :]  # noqa: B023  (called at once)
        return self._outgoing.read()

    def sendall(self, plain: bytes) -> None:
        self.connection.settimeout(self._timeout_s)
        self.connection.sendall(self.seal(plain))

    def recv(self, most: int) -> bytes:
        """b"": the other side has ended."""
        try:
            return self._do(lambda: self.tls.read(most))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def recv_into(self, room: memoryview) -> int:
        """0: the other side has ended."""
        try:
            return cast("int", self._do(lambda: self.tls.read(len(room), room)))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return 0

    def close(self) -> None:
        self.connection.close()

    def _do(self, step: Callable[[], T]) -> T:
        until = None if self._timeout_s is None else time.monotonic() + self._timeout_s
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.connection.settimeout(self._timeout_s)
                self.connection.sendall(self._outgoing.read())
                if until is not None:
                    self.connection.settimeout(max(1e-3, until - time.monotonic()))
                if received := self.connection.recv(_RECEIVED_BYTES):
                    self._incoming.write(received)
                else:
                    self._incoming.write_eof()
