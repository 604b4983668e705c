"""What others wrote is what its README says it is."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

VENDOR = Path(__file__).parents[2] / "static" / "vendor"
ROW = re.compile(r"^(\S+\.(?:js|css))\s+(\S+)\s+(\d[\d.]*)\s+(\S+)\s+([0-9a-f]{64})$", re.MULTILINE)


def rows() -> dict[str, tuple[str, str, str, str]]:
    return {row[0]: (row[1], row[2], row[3], row[4]) for row in ROW.findall((VENDOR / "README").read_text())}


def test_every_vendored_file_has_the_hash_that_its_readme_says() -> None:
    code = [path for path in VENDOR.iterdir() if path.suffix in (".js", ".css")]
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in code}
    assert files
    assert {name: row[3] for name, row in rows().items()} == files


def test_what_only_tests_load_has_the_hash_that_its_readme_says() -> None:
    folder = Path(__file__).parents[1] / "browser" / "vendor"
    said = {row[0]: row[4] for row in ROW.findall((folder / "README").read_text())}
    assert said == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.js")} != {}


def test_htmx_stays_at_2() -> None:
    versions = {package: version for package, version, _, _ in rows().values()}
    assert versions["htmx.org"].startswith("2.")
    assert versions["htmx-ext-ws"].startswith("2.")


def test_every_package_comes_with_its_licence() -> None:
    for name in rows():
        stem = re.sub(r"-\d.*", "", name)
        assert "ermission to use" in (VENDOR / f"{stem}-LICENSE").read_text()
