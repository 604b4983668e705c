"""The --no-skips plugin, run over small suites of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SUITE = """
import pytest
def test_a(): pass
def test_b(): pytest.skip("no nginx here")
@pytest.mark.skipif(True, reason="no Chromium here")
def test_c(): pass
"""


def run(folder: Path, suite: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_suite.py").write_text(suite)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.no_skips", "-p", "no:cacheprovider", *options, str(folder)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # they take a second to load
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_skipped_tests_are_counted_and_named(tmp_path: Path) -> None:
    result = run(tmp_path, SUITE)

    assert result.returncode == 0
    assert "2 skipped: not tested here" in result.stdout
    assert "test_suite.py::test_b: no nginx here" in result.stdout
    assert "test_suite.py::test_c: no Chromium here" in result.stdout


def test_under_no_skips_a_skip_is_a_failure(tmp_path: Path) -> None:
    result = run(tmp_path, SUITE, "--no-skips")

    assert result.returncode == 1
    assert "2 skipped: a failure under --no-skips" in result.stdout
    assert "test_suite.py::test_b: no nginx here" in result.stdout


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "1")], ids=["one process", "a worker"])
def test_a_module_that_skips_itself_is_a_skip_too(tmp_path: Path, options: tuple[str, ...]) -> None:
    suite = 'import pytest\npytest.importorskip("no_such_module_anywhere")\ndef test_a(): pass\n'

    result = run(tmp_path, suite, "--no-skips", *options)

    assert result.returncode != 0
    assert "1 skipped: a failure under --no-skips" in result.stdout


@pytest.mark.parametrize(
    "suite",
    ["def test_a(): pass\n", "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_a(): assert False\n"],
    ids=["all pass", "an expected failure"],
)
def test_without_a_skip_the_option_changes_nothing(tmp_path: Path, suite: str) -> None:
    result = run(tmp_path, suite, "--no-skips")

    assert result.returncode == 0
    assert "skipped:" not in result.stdout
