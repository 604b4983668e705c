"""A real mail server on the loopback address, and the message that is sent to it and to others."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from threatlens.channels import Message
from threatlens.outbound import OutboundClient
from threatlens.outbound_urls import Permissions

EVIL = "<script>alert(1)</script> <!channel> @everyone = & é"


@pytest.fixture
def client() -> OutboundClient:
    return OutboundClient(lambda: Permissions((ip_network("127.0.0.0/8"),)))


@dataclass
class MailServerForTests:
    """A mail server with TLS and log-in."""

    port: int
    certificate: str
    mails: list[Envelope]
    refuse: dict[str, str]  # address -> what is said to it

    @property
    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate)


class _Taking:
    def __init__(self, mails: list[Envelope], refuse: dict[str, str]) -> None:
        self.mails = mails
        self.refuse = refuse

    async def handle_RCPT(  # noqa: N802  (the library's name)
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.mails.append(envelope)
        return "250 taken"


def _knows(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"lens", b"correct horse")
    return AuthResult(success=good, handled=good)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = str(folder / "key.pem"), str(folder / "cert.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, cert


@pytest.fixture
def mail_server(certificate: tuple[str, str]) -> Iterator[MailServerForTests]:
    key, cert = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    mails: list[Envelope] = []
    refuse: dict[str, str] = {}
    controller = Controller(
        _Taking(mails, refuse), hostname="0.0.0.0", port=free_port(), tls_context=context, authenticator=_knows,
        auth_require_tls=True, ready_timeout=300,
    )  # fmt: skip
    controller.start()
    yield MailServerForTests(controller.port, cert, mails, refuse)
    controller.stop()


@pytest.fixture
def message() -> Message:
    return Message(
        key="0123456789abcdef", kind="incident", title=f"Password guessing {EVIL}", severity=8,
        timestamp="2026-11-24T00:00:00+00:00", thread="incident-7", text="It goes on.",
        lead="It succeeded.", says=(("What happened", f"Somebody {EVIL} got in."),),
        todo=(f"Lock it: `lock -- '{EVIL}'`.",),
        facts=(("address", "203.0.113.9"), ("user", EVIL)), samples=(f"sshd[1]: {EVIL}",),
        url="http://127.0.0.1:8000/incidents/7", links=(("Acknowledge", "http://127.0.0.1:8000/a/x"),),
        data={"count": 214},
    )  # fmt: skip
