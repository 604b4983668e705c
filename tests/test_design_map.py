"""docs/design-map.md says where things live; this looks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAP = (ROOT / "docs" / "design-map.md").read_text(encoding="utf-8")
ROWS = [line.split("|")[2].strip() for line in MAP.splitlines() if line.startswith("| ") and "in the code" not in line]
PLACES = sorted({place for row in ROWS for place in re.findall(r"`([\w/]+(?:\.py|/))`(?:: `(\w+)`)?", row)})


def test_the_map_is_read() -> None:
    assert len(PLACES) > 15


@pytest.mark.parametrize(("path", "name"), PLACES, ids=lambda value: value or "-")
def test_what_the_map_names_exists(path: str, name: str) -> None:
    assert (ROOT / path).exists()
    if name:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(
            rf"^(class {name}\b|from threatlens\S* import .*\b{name}\b|    {name},$)", source, re.MULTILINE
        )
