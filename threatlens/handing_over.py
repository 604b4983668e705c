"""Handing a message to the system, so that the system itself notes that it has all of it.

What the system has taken it delivers, also when our process is gone. Whether it had taken everything is known from the
last byte, which is sent alone, by sendmmsg(2): that writes how much it took into its own argument before it returns,
and the argument is part of a mapped file. So between taking and noting lies nothing of ours, and no kill.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
import sys
from dataclasses import dataclass

from threatlens.sealed import Sealed


class _Piece(ctypes.Structure):
    """The system's `iovec`."""

    _fields_ = (("at", ctypes.c_void_p), ("bytes", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """The system's `msghdr`."""

    _fields_ = (
        ("name", ctypes.c_void_p), ("name_bytes", ctypes.c_uint32), ("pieces", ctypes.c_void_p),
        ("n_pieces", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )  # fmt: skip


class _Call(ctypes.Structure):
    """The system's `mmsghdr`."""

    _fields_ = (("header", _Header), ("taken", ctypes.c_uint32))


#: The argument of the call, and where in it the system writes how many bytes it took.
CALL_BYTES = ctypes.sizeof(_Call)
_TAKEN = slice(_Call.taken.offset, _Call.taken.offset + _Call.taken.size)
_ALL = (1).to_bytes(_Call.taken.size, sys.byteorder)
_sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg


@dataclass(frozen=True, slots=True)
class Note:
    """What is known of one message although this process is killed. Without a file it lasts as long as the process."""

    room: memoryview  # the answer's beginning is received into it
    call: memoryview  # CALL_BYTES: the argument of the call that hands over the last byte
    file: int = -1  # the descriptor of the file of which both are mapped parts
    call_at: int = 0  # where in it `call` is

    def put(self, call: bytes) -> None:
        """Write the argument; by a system call, which fails where a disk is full. Raises OSError."""
        if self.file < 0:
            self.call[:] = call
        else:
            os.pwrite(self.file, call, self.call_at)

    def take_back(self) -> None:
        """It is not known any more whether the other side will get it."""
        with contextlib.suppress(OSError):  # a disk that is full
            self.put(bytes(CALL_BYTES))


def handed_over(call: bytes | memoryview) -> bool:
    """Whether the system has taken the last byte, by what stands in the argument of the call."""
    return bytes(call[_TAKEN]) == _ALL


def hand_over(connection: socket.socket | Sealed, message: bytes, note: Note | None) -> None:
    """Send the end of a message within the connection's time limit; `note` then says so.

    Raises TimeoutError, and OSError where the connection is broken.
    """
    if isinstance(connection, Sealed):
        message = connection.seal(message)
        connection.connection.settimeout(connection.gettimeout())
        connection = connection.connection
    if note is None or not message:
        connection.sendall(message)
        return
    connection.sendall(memoryview(message)[:-1], socket.MSG_MORE)
    byte = ctypes.create_string_buffer(message[-1:], 1)
    piece = _Piece(ctypes.addressof(byte), 1)
    call = _Call(_Header(pieces=ctypes.addressof(piece), n_pieces=1))
    try:
        note.put(bytes(call))
    except OSError:  # a disk that is full: nothing will be known
        connection.sendall(message[-1:])
        return
    _send_noted(connection, _Call.from_buffer(note.call), message[-1:])


def _send_noted(connection: socket.socket, call: _Call, last: bytes) -> None:
    """The last byte, to which the call leads. The time limit is the system's: Python's would wait first, then send."""
    seconds, microseconds = divmod(int((connection.gettimeout() or 0) * 1e6), 1_000_000)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", seconds, microseconds))
    connection.settimeout(None)
    while _sendmmsg(connection.fileno(), ctypes.byref(call), 1, socket.MSG_NOSIGNAL) < 0:
        number = ctypes.get_errno()
        if number in (errno.ENOSYS, errno.EPERM):  # whoever confines us does not let us: nothing will be known
            connection.settimeout(seconds + microseconds / 1e6 or None)
            connection.sendall(last)
            return
        if number == errno.EFAULT:  # it was sent, and the disk has no room for the note
            return
        if number == errno.EAGAIN:
            msg = "timed out"
            raise TimeoutError(msg)
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
