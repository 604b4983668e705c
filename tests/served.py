"""ThreatLens as `serve` starts it, once for all tests that talk to it over its socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PASSWORD = b"unlikely granite teapot\n"


@dataclass(frozen=True)
class Served:
    """A running ThreatLens with the administrator anna (PASSWORD)."""

    path: str  # of its socket
    token: str  # an administrator's
    data: str  # its data folder
    log: str  # the file that it writes its log to
    pid: int

    def memory(self) -> int:
        """Bytes of all its processes at their peaks."""
        pids = [self.pid]
        for pid in pids:
            pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    def raw(self, *pieces: bytes) -> bytes:
        """Everything that is answered to these very bytes until the connection ends; the first is sent at once."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(self.path)
            answer = b""
            try:
                for piece in pieces:
                    connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it has answered and closed
            try:
                while piece := connection.recv(65536):
                    answer += piece
            except ConnectionResetError:
                pass
        return answer


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The running server."""
    data, path = tmp_path_factory.mktemp("data"), str(tmp_path_factory.mktemp("s") / "web.sock")
    data.chmod(0o700)
    environ = dict(os.environ, THREATLENS_DATA=str(data), HOST=f"unix:{path}",
                   THREATLENS_ARGON2_MEMORY_KIB="8", THREATLENS_ARGON2_TIME="1")  # fmt: skip
    program = [sys.executable, "-m", "threatlens"]

    def command(*arguments: str, given: bytes = b"") -> str:
        done = subprocess.run(
            [*program, *arguments], cwd=ROOT, env=environ, input=given, capture_output=True, timeout=300, check=True
        )
        return done.stdout.decode().strip()

    command("user", "create", "--name", "anna", "--role", "admin", given=PASSWORD)
    token = command("token", "create", "--name", "tests", "--role", "admin")
    log = str(tmp_path_factory.mktemp("log") / "own.log")
    with (
        open(log, "ab") as errors,
        subprocess.Popen([*program, "serve"], cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if b"listens on" in line:
                break
        yield Served(path, token, str(data), log, process.pid)
        process.terminate()
        process.stdout.read()
        assert process.wait(60) == 0
