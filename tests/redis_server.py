"""A Redis server for tests: in a folder of its own, with a password, killed and started again at will."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

PROGRAM = shutil.which("redis-server", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")


class RedisServer:
    """Keeps nothing on disk, so that a kill forgets all it was told."""

    def __init__(self, folder: str, password: str = "s3cret+word") -> None:
        self.folder = folder
        self.password = password
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.start()

    @property
    def url(self) -> str:
        return f"redis://:{self.password.replace('+', '%2B')}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns once it listens."""
        assert PROGRAM is not None
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.folder,
                   "--requirepass", self.password]  # fmt: skip
        self._process = subprocess.Popen([PROGRAM, *options], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if b"Ready to accept" in line:
                return
        raise AssertionError("the server ended")

    def kill(self) -> None:
        """At once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
