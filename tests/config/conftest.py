"""What the tests of the configuration share."""

from __future__ import annotations

from pathlib import Path

import pytest
from machines import Machine, machine_in


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return machine_in(tmp_path)
