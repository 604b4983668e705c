"""What signals do to the server (docs/deployment.md): they stop it or nothing, and never in the middle of a write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from typing import Any

from test_smoke import LINE, folder, free_port, server, wait_for  # noqa: F401 - folder is a fixture

from threatlens.settings import PROJECT
from threatlens.store_schema import HEAD, revision


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=300) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_start_that_is_broken_off_says_nothing_and_hurts_nothing(tmp_path: Any) -> None:
    data = tmp_path / "data"
    environ = dict(os.environ, THREATLENS_DATA=str(data), PORT=str(free_port()))
    process = subprocess.Popen(
        [sys.executable, "-m", "threatlens", "serve"], cwd=PROJECT, env=environ,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for((data / "migrate.lock").exists)

    process.send_signal(signal.SIGINT)

    _, said = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "Traceback" not in said
    database = str(data / "threatlens.db")
    assert revision(database) in (None, HEAD)


def test_signals_for_log_rotation_and_broken_pipes_stop_nothing_and_two_stops_are_one(folder: Any) -> None:  # noqa: F811
    log = folder / "logs" / "auth.log"
    log.write_text(LINE)
    with server(folder) as (process, port, _):
        for harmless in (signal.SIGUSR1, signal.SIGPIPE, signal.SIGHUP):
            process.send_signal(harmless)
            assert wait_for(lambda: healthy(port)), harmless
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert revision(str(folder / "data" / "threatlens.db")) == HEAD
