"""Opening a file while somebody swaps what lies on the way to it (R27)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from threatlens.errors import SourceError
from threatlens.sources.paths import Fence

SWAPS = 100_000


def _swapped_file(root: Path, outside: Path) -> tuple[str, Callable[[int], None]]:
    """A file that is, in turn, itself and a link to the secret."""
    path, real, link = str(root / "app.log"), str(root / "real"), str(root / "link")
    Path(real).write_text("fine")
    os.symlink(outside / "secret", link)

    def swap(number: int) -> None:
        # rename() replaces the name in one step: what an attacker does at best
        os.link(link if number % 2 else real, path + ".new", follow_symlinks=False)
        os.rename(path + ".new", path)

    return path, swap


def _swapped_folder(root: Path, outside: Path) -> tuple[str, Callable[[int], None]]:
    """A folder on the way that is, in turn, itself and a link to the folder of the secret."""
    way = root / "way"
    way.mkdir()
    (way / "secret").write_text("fine")
    os.symlink(outside, root / "link")

    def swap(number: int) -> None:
        first, second = (way, root / "aside") if number % 2 == 0 else (way, root / "link")
        os.rename(first, second)
        os.rename(root / ("link" if number % 2 == 0 else "aside"), way)

    return str(way / "secret"), swap


@pytest.mark.parametrize("arrange", [_swapped_file, _swapped_folder])
def test_a_hundred_thousand_swaps_let_nothing_out(
    tmp_path: Path, arrange: Callable[..., tuple[str, Callable[[int], None]]]
) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("SECRET")
    path, swap = arrange(root, outside)
    fence = Fence((str(root),), ())
    done = threading.Event()

    def swapper() -> None:
        try:
            for number in range(SWAPS):
                swap(number)
        finally:
            done.set()

    thread = threading.Thread(target=swapper)
    thread.start()
    opened = refused = 0
    contents = set()
    while not done.is_set():
        try:
            descriptor = fence.open(path)
        except (SourceError, OSError):
            refused += 1
            continue
        opened += 1
        contents.add(os.read(descriptor, 100))
        os.close(descriptor)
    thread.join(60)

    assert contents == {b"fine"}
    assert opened > 100
    assert refused > 100
