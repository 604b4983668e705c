"""Who runs the engine, how fast it is, and the small file in which it says so."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from typing import Any


class Lease:
    """The right to run the engine on this data folder; the kernel takes it back when the process dies."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: Any = None

    @property
    def held(self) -> bool:
        return self._file is not None

    def acquire(self) -> bool:
        """Take the lease if nobody has it."""
        if self._file is not None:
            return True
        file = open(self._path, "a+")  # noqa: SIM115 - held open for as long as the lease is
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file
        return True

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def owner(self) -> int:
        """The process that holds or held it last; 0: unknown."""
        with contextlib.suppress(OSError, ValueError), open(self._path) as file:
            return int(file.read().strip() or 0)
        return 0


class Rate:
    """Lines a second over the last ten looks."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def add(self, at_s: float, total: int) -> None:
        self._seen = [*self._seen[-9:], (at_s, total)]

    @property
    def per_second(self) -> float:
        if len(self._seen) < 2:
            return 0.0
        (t0, n0), (t1, n1) = self._seen[0], self._seen[-1]
        return (n1 - n0) / (t1 - t0) if t1 > t0 else 0.0


def write_json(path: str, document: dict[str, Any]) -> None:
    """Replace a small file whole."""
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w") as file:
        file.write(json.dumps(document))  # five times as quick as json.dump()
    os.replace(temporary, path)
