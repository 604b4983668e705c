"""Memory that was freed and lies between what is still used: the C library keeps it for itself until it is asked.

Every batch takes and frees memory in pieces of all sizes, of which some stay (a connection's cache, what a rule waits
for). So the heap gets holes, and without this a process that works for hours has some 20 MB of them.
"""

from __future__ import annotations

import ctypes
from typing import Any


def _trim() -> Any:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it; musl keeps little and has no such call
    if trim is not None:
        trim.argtypes, trim.restype = (ctypes.c_size_t,), ctypes.c_int
    return trim


def give_back() -> bool:
    """Give whole free pages back to the system, in about a millisecond; whether there were any (malloc_trim(3))."""
    trim = _trim()
    return trim is not None and trim(0) == 1
