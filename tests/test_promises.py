"""docs/promises.md: every promise names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")


def test_every_test_that_a_promise_names_exists() -> None:
    named = re.findall(r"`((?:[a-z_]+/)*test_[a-z_]+\.py)(?:::(test_\w+))?`", PAGE)
    assert len(named) > 30
    for file, test in named:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        have = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert not test or test in have, (file, test)


def test_every_promise_is_shown_by_something() -> None:
    rows = [row for row in PAGE.splitlines() if row.startswith(("| **", "| the ", "| a ", "| too ", "| memory"))]
    assert len(rows) > 20
    for row in rows:
        assert re.search(r"`(?:[a-z_]+/)*(?:test_[a-z_]+|soak)\.py", row), row[:80]
