"""SocketWriter: the one way out of a WebSocket, whoever writes.

The WebSocket library answers pings and closes from a thread of its own while a handler sends; both go through here, a
whole frame at a time. A client that takes nothing for a while is cut off instead of holding its thread for ever, and
one that sends without being listened to is cut off before it fills the memory.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable

#: Seconds without one byte taken after which a client counts as gone.
STALL_S = 20.0
#: Bytes that a client may send between two looks of its handler.
MAX_UNHEARD = 256 * 1024


class SocketWriter:
    """A connected socket as the WebSocket library uses one."""

    def __init__(self, sock: socket.socket, stopping: Callable[[], bool], stall_s: float = STALL_S) -> None:
        self._sock = sock
        self._stopping = stopping
        self._stall_s = stall_s
        self._lock = threading.Lock()
        self._unheard = 0

    def fileno(self) -> int:
        return self._sock.fileno()

    def recv(self, size: int) -> bytes:
        """Wait for bytes; raises ConnectionError for a client that talks too much."""
        data = self._sock.recv(size)
        self._unheard += len(data)
        if self._unheard > MAX_UNHEARD:
            raise ConnectionAbortedError("more than is listened to")
        return data

    def heard(self) -> None:
        """The handler has looked at everything that came."""
        self._unheard = 0

    def send(self, data: bytes) -> int:
        """Send all of it, however long the client takes, or raise OSError; frames of two threads never mix."""
        if not self._lock.acquire(timeout=self._stall_s):
            raise TimeoutError("another thread waits for this client")
        try:
            self._send_all(memoryview(data))
        finally:
            self._lock.release()
        return len(data)

    def _send_all(self, rest: memoryview) -> None:
        deadline = time.monotonic() + self._stall_s
        while rest:
            try:
                rest = rest[self._sock.send(rest, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                if time.monotonic() > deadline or self._stopping():
                    self.hang_up()
                    raise TimeoutError("the client takes nothing") from None
                self._wait_for_room()
            else:
                deadline = time.monotonic() + self._stall_s

    def _wait_for_room(self) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        poll.poll(250)

    def finish(self, join_reader: Callable[[float], object], linger_s: float, *, said_goodbye: bool) -> None:
        """The end: let what was written arrive, then end the library's thread.

        said_goodbye: the last frame was ours and the client has to answer; else the library is about to send one.
        """
        if said_goodbye:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
        join_reader(linger_s)
        self.hang_up()
        join_reader(1.0)  # it wakes at once; a socket closed before it did would leave it waiting for its next ping

    def hang_up(self) -> None:
        """Wake whoever waits for this client; nothing more is said."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()
