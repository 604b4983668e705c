"""Receiving an answer straight into memory that outlives this process.

What the system has received for us is lost with us until we have put it somewhere. So it puts it there itself: the room
is part of a mapped file, and a thread that waits for the answer waits within the system call that fills it.
"""

from __future__ import annotations

import socket
import struct

from threatlens.handing_over import Note
from threatlens.sealed import Sealed

#: Who has not answered after this long may not have read the message either.
PATIENCE_S = 5.0


def receive_answer(connection: socket.socket | Sealed, room: memoryview, note: Note, timeout_s: float) -> int:
    """Receive the beginning of an answer into the note's room, or what is left of it.

    While it does not come for long, the note says no more that the message was handed over. Raises as receive_into.
    """
    patient_s = min(timeout_s, PATIENCE_S)
    try:
        return receive_into(connection, room, patient_s)
    except TimeoutError:
        note.take_back()
        if timeout_s - patient_s < 1e-3:
            raise
    return receive_into(connection, room, timeout_s - patient_s)


def receive_into(connection: socket.socket | Sealed, room: memoryview, timeout_s: float) -> int:
    """Receive what comes first into the room; how many bytes, 0: the other side has ended.

    Raises TimeoutError, and OSError where the connection broke.
    """
    if isinstance(connection, Sealed):
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
