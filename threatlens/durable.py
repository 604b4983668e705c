"""Names that survive a power cut. Whoever writes a file syncs what is in it; its name is durable once its folder is."""

from __future__ import annotations

import os


def put_in_place(temporary: str, path: str) -> None:
    """Give a file that is written and synced its name, over whatever had it. Raises OSError."""
    os.replace(temporary, path)
    sync_folder(os.path.dirname(path))


def sync_folder(folder: str) -> None:
    """What this folder lists now is what it lists after a power cut. Raises OSError."""
    descriptor = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
