"""An HTTP receiver on the loopback address that does what a test tells it."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from threatlens.handing_over import CALL_BYTES, Note


@dataclass
class Received:
    """One request as it came in."""

    headers: dict[str, str]
    body: bytes


@dataclass
class Hook:
    """An HTTP receiver. `answers` are the statuses it gives, the last one again and again."""

    url: str = ""
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=lambda: [(200, {})])
    received: list[Received] = field(default_factory=list)
    hold: threading.Event | None = None  # wait for it before answering

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        self.received.append(Received({name.lower(): value for name, value in request.headers.items()}, body))
        if self.hold is not None:
            self.hold.wait(60)
        status, headers = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("content-length", "0")
        request.end_headers()


@pytest.fixture
def make_hook() -> Iterator[Callable[[], Hook]]:
    servers = []

    def make() -> Hook:
        hook = Hook()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.handle(self)

            def log_message(self, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        hook.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        return hook

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def hook(make_hook: Callable[[], Hook]) -> Hook:
    return make_hook()


def noted(room_bytes: int = 160) -> Note:
    """A note that lasts as long as the process."""
    return Note(memoryview(bytearray(room_bytes)), memoryview(bytearray(CALL_BYTES)))


def certificate_for(folder: Path, host: str) -> Path:
    """A certificate for a host, signed by itself, with its key: one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "both.pem"
    encoding = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(encoding)
    )
    return path
