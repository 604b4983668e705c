"""Receiving an answer straight into memory that outlives this process.

What the system has received for us is lost with us until we have put it somewhere. So it puts it there itself: the room
is part of a mapped file, and a thread that waits for the answer waits within the system call that fills it.
"""

from __future__ import annotations

import socket
import ssl
import struct


def receive_into(connection: socket.socket, room: memoryview, timeout_s: float) -> int:
    """Receive what comes first into the room; how many bytes, 0: the other side has ended.

    Raises TimeoutError, and OSError where the connection broke.
    """
    if isinstance(connection, ssl.SSLSocket):  # OpenSSL would begin to wait anew again and again
        connection.settimeout(timeout_s)
        return connection.recv_into(room)
    # A time limit of Python's waits first and receives then, and in between for the interpreter; the system's does not.
    seconds, microseconds = divmod(max(1, int(timeout_s * 1e6)), 1_000_000)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", seconds, microseconds))
    connection.settimeout(None)
    try:
        return connection.recv_into(room)
    except BlockingIOError as error:
        raise TimeoutError("timed out") from error
