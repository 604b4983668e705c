"""The fonts are the files that their folder says they are."""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "threatlens" / "fonts"


def test_every_font_has_the_hash_that_is_written_down():
    written = dict(reversed(line.split()) for line in (FOLDER / "SHA256SUMS").read_text().splitlines())
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.glob("*.ttf")}
    assert found == written
    assert (FOLDER / "LICENSE").is_file()
