"""A client of /ws/events that reads many connections in one thread, and knows when each line it sees was written.

Lines carry the moment of their writing (`t=<monotonic nanoseconds>`), which both ends of one machine can compare.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import time
from collections.abc import Iterator

import websocket

WRITTEN = re.compile(rb"bench seq=(\d+) t=(\d+)")


def line(number: int) -> bytes:
    """One line of a log, written now."""
    return b"bench seq=%d t=%d\n" % (number, time.monotonic_ns())


class Feed:
    """Subscribed connections."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._connections: list[socket.socket] = []
        self.closed = 0

    def subscribe(self, port: int, token: str) -> None:
        """One more client of new events."""
        client = websocket.create_connection(
            f"ws://127.0.0.1:{port}/ws/events", header=[f"Authorization: Bearer {token}"], timeout=20
        )
        client.send(json.dumps({"action": "subscribe", "event_types": ["new_event"], "after": None}))
        client.send(json.dumps({"action": "ping"}))
        while '"pong"' not in client.recv():
            pass  # the subscription stands before anything is written
        assert client.sock is not None
        self.add(client.sock)

    def add(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connections.append(connection)
        self._selector.register(connection, selectors.EVENT_READ)

    def read(self, timeout_s: float) -> Iterator[tuple[int, int, float]]:
        """What arrives within this time: (connection, line number, seconds since it was written)."""
        for key, _ in self._selector.select(timeout_s):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            try:
                data = connection.recv(1 << 20)
            except BlockingIOError:
                continue
            if not data:
                self._selector.unregister(connection)
                self.closed += 1
                continue
            now = time.monotonic_ns()
            # A line may stand in a frame more than once (raw and message); the reader keeps the first.
            for number, written in WRITTEN.findall(data):
                yield key.fd, int(number), (now - int(written)) / 1e9

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self._selector.close()
