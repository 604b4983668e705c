"""The files in deploy/, as far as they can be tried without installing them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SYSTEMD_ANALYZE = shutil.which("systemd-analyze")


@pytest.mark.skipif(SYSTEMD_ANALYZE is None, reason="systemd-analyze is not installed")
def test_the_systemd_unit_exposes_little() -> None:
    assert SYSTEMD_ANALYZE is not None
    answer = subprocess.run(
        [SYSTEMD_ANALYZE, "security", "--offline=true", "--no-pager", str(ROOT / "deploy" / "threatlens.service")],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for threatlens\.service: ([0-9.]+)", answer.stdout)

    assert found, answer.stderr
    assert float(found[1]) <= 2.5


def test_the_container_holds_all_that_runs_and_no_data() -> None:
    text = (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8")
    copied = {word for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for word in line.split()[:-1]}

    assert all((ROOT / name).exists() for name in copied)
    files = {"requirements.lock", "wsgi.py", "gunicorn.conf.py"}
    assert copied == files | {"threatlens", "templates", "static", "tests/samples"}
    assert re.search(r"^USER (?!0|root)", text, re.MULTILINE)
    assert "--require-hashes -r requirements.lock" in text
    assert ("HEALTHCHECK" in text) == ("podman build --format docker" in text), "no other format keeps it"
