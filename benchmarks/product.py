"""The product, run from outside: only what its users may rely on (commands, environment, HTTP, the table `events`)."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PASSWORD = "lamps along the winter quay"
TICKS_S = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def workshop() -> Iterator[str]:
    """A folder for one benchmark, removed afterwards. TMPDIR chooses the disk."""
    folder = tempfile.mkdtemp(prefix="threatlens-bench-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, done: Callable[[], bool], *, timeout_s: float = 60.0, every_s: float = 0.02) -> float:
    """Look until it is so; the seconds it took. Raises TimeoutError."""
    begun = time.perf_counter()
    while not done():
        if time.perf_counter() - begun > timeout_s:
            raise TimeoutError(f"{what} did not happen within {timeout_s:.0f} s")
        time.sleep(every_s)
    return time.perf_counter() - begun


class Web:
    """A server under measurement: its processes and a connection to it."""

    def __init__(
        self, command: list[str], port: int, env: dict[str, str], *, ready: str, log: str, cwd: str = ROOT
    ) -> None:
        self.port = port
        self.token = ""
        self.cookie = ""
        self._ready = ready
        self._log = log
        with open(log, "ab") as output:
            self._process = subprocess.Popen(command, cwd=cwd, env=env, stdout=output, stderr=output)

    def wait_ready(self, timeout_s: float = 60.0) -> float:
        """Seconds until it answered 200."""
        try:
            return wait_for(f"an answer from {self._ready}", self._is_ready, timeout_s=timeout_s, every_s=0.01)
        except TimeoutError as error:
            with open(self._log, encoding="utf-8", errors="replace") as log:
                raise TimeoutError(f"{error}; it said:\n{log.read()[-3000:]}") from error

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise TimeoutError(f"the server ended with {self._process.returncode}")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", self._ready)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def get(self, connection: http.client.HTTPConnection, path: str) -> tuple[float, int]:
        """Seconds until the whole answer was there, and its size in bytes."""
        headers = {"Cookie": self.cookie} if self.cookie else {}
        if self.token and path.startswith("/api/"):
            headers = {"Authorization": f"Bearer {self.token}"}
        begun = time.perf_counter()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        taken = time.perf_counter() - begun
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}: {body[:300]!r}")
        return taken, len(body)

    def log_in(self, name: str, password: str) -> None:
        """Come in as a person does; pages are asked for with the cookie from then on."""
        kept: dict[str, str] = {}
        connection = self.connect()
        connection.request("GET", "/login")
        answer = connection.getresponse()
        form = answer.read().decode().split('name="csrf_token" value="')[1].split('"')[0]
        for _step in range(2):
            for header, value in answer.getheaders():
                if header.lower() == "set-cookie":
                    kept.update([value.split(";")[0].split("=", 1)])
            self.cookie = "; ".join(f"{key}={value}" for key, value in kept.items())
            if answer.status == 303:
                break
            body = urllib.parse.urlencode({"csrf_token": form, "name": name, "password": password})
            headers = {"Cookie": self.cookie, "Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", "/login", body, headers)
            answer = connection.getresponse()
            answer.read()
        connection.close()
        if answer.status != 303:
            raise RuntimeError(f"the login answered {answer.status}")

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    @property
    def pids(self) -> list[int]:
        """Its processes: the one started and all that came from it."""
        found = [self._process.pid]
        for pid in found:
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children") as children:
                found += map(int, children.read().split())
        return found

    def memory(self, what: str = "VmRSS") -> int:
        """Bytes of all its processes: VmRSS now, VmHWM at their peaks."""
        total = 0
        for pid in self.pids:
            with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as status:
                total += sum(int(line.split()[1]) * 1024 for line in status if line.startswith(what))
        return total

    def cpu_s(self) -> float:
        """CPU seconds of all its processes so far."""
        total = 0
        for pid in self.pids:
            with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as stat:
                fields = stat.read().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        return total / TICKS_S

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL for all its processes."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> float:
        """End it; the seconds it took."""
        begun = time.perf_counter()
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        return time.perf_counter() - begun


class Product:
    """A data folder and what is done with it."""

    def __init__(self, folder: str) -> None:
        self.data = os.path.join(folder, "data")
        self.logs = os.path.join(folder, "logs")
        self.folder = folder
        os.makedirs(self.data, exist_ok=True)
        os.makedirs(self.logs, exist_ok=True)
        self.database = os.path.join(self.data, "threatlens.db")

    def configure(self, **source: str | float | bool | None) -> None:
        """One source; by default everything in the folder of logs."""
        named = {"name": "bench", "path": self.logs, "file_pattern": "*.log", "start_at": "beginning", **source}
        named = {key: value for key, value in named.items() if value is not None}
        with open(os.path.join(self.data, "threatlens.yaml"), "w", encoding="utf-8") as file:
            file.write(json.dumps({"allowed_roots": [self.folder], "sources": [named]}))

    def env(self, port: int = 0, **more: str) -> dict[str, str]:
        return os.environ | {"THREATLENS_DATA": self.data, "PORT": str(port or 8000), "HOST": "127.0.0.1"} | more

    def command(self, *arguments: str, given: str = "") -> str:
        """Run one of its commands with this on its standard input; what it printed."""
        command = [sys.executable, "-m", "threatlens", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self.env(), input=given, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr[-2000:]}")
        return done.stdout

    def start(self, within: Sequence[str] = (), ready: str = "/readyz", **env: str) -> Web:
        """The server, starting; within: a command that runs it."""
        port = free_port()
        command = [*within, sys.executable, "-m", "threatlens", "serve"]
        log = os.path.join(self.folder, "server.log")
        return Web(command, port, self.env(port, **env), ready=ready, log=log)

    @contextlib.contextmanager
    def serving(self, **env: str) -> Iterator[Web]:
        """The server, ready, with a token for it."""
        web = self.start(**env)
        try:
            web.wait_ready()
            name = f"bench-{time.time_ns()}"  # a folder may be served many times, and a port come again
            web.token = self.command("token", "create", "--name", name, "--role", "admin").strip()
            self.command("user", "create", "--name", name, "--role", "admin", given=PASSWORD + "\n")
            web.log_in(name, PASSWORD)
            yield web
        finally:
            web.stop()

    def fill(self, events: int, kind: str = "sshd", source: str = "filled") -> None:
        """Store this many events, by its own `ingest`."""
        from benchmarks import corpus

        path = os.path.join(self.folder, f"fill-{kind}.log")
        corpus.write(path, kind, events, seed=7)
        self.command("ingest", "--source", source, path)
        os.unlink(path)

    def connection(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10, isolation_level=None)

    def last_id(self) -> int:
        """The newest event's id; 0 if there is none."""
        with contextlib.closing(self.connection()) as connection:
            return int(connection.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()[0])

    def disk(self) -> int:
        """Bytes of the database with its companions."""
        names = (name for name in os.listdir(self.data) if name.startswith("threatlens.db"))
        return sum(os.path.getsize(os.path.join(self.data, name)) for name in names)


@contextlib.contextmanager
def bare_server(folder: str) -> Iterator[Web]:
    """The reference for pages: gunicorn and Flask as we run them, with one page that says hello."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--threads", "16", "--no-control-socket"]
    command += ["--bind", f"127.0.0.1:{port}", "--pythonpath", ROOT, "benchmarks.hello:app"]
    log = os.path.join(folder, "hello.log")
    web = Web(command, port, dict(os.environ), ready="/", log=log, cwd=folder)  # where no gunicorn.conf.py of ours is
    try:
        web.wait_ready()
        yield web
    finally:
        web.stop()
