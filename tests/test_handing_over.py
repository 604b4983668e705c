"""What was handed over whole is known although whoever sent it was killed, and what was not is not."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from receivers import certificate_for, noted

from threatlens.channels import EmailNotifier, MailServer, Message
from threatlens.errors import OutboundError
from threatlens.handing_over import Note, hand_over, handed_over
from threatlens.notifications_arrived import Arrivals, Left
from threatlens.outbound import Limits, OutboundClient
from threatlens.outbound_urls import Permissions

KEY = "0123456789abcdef" * 2
LOOPBACK = Permissions((ip_network("127.0.0.0/8"),))
MAIL = Message(key=KEY, kind="incident", title="Password guessing", severity=8, timestamp="2026-11-24T00:00:00+00:00")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(certificate_for(tmp_path_factory.mktemp("tls"), "localhost"))


@contextmanager
def sending(path: str, send: Callable[[int, Note], object]) -> Iterator[tuple[socket.socket, int]]:
    """(the receiver's side, process) of a process that sends to a port and is killed in the end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        process = os.fork()
        if process == 0:
            try:
                arrivals = Arrivals(path)
                arrivals.settle()
                send(port, arrivals.begin(KEY))
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        try:
            server.settimeout(60)
            connection, _ = server.accept()
            with connection:
                connection.settimeout(60)
                yield connection, process
        finally:
            end(process)


def end(process: int) -> None:
    """Kill it, if it is still there."""
    try:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def post(content: bytes, certificate: str = "") -> Callable[[int, Note], object]:
    def send(port: int, note: Note) -> object:
        trusted = ssl.create_default_context(cafile=certificate) if certificate else None
        client = OutboundClient(lambda: LOOPBACK, resolve=lambda *_: ["127.0.0.1"], tls=trusted)
        url = f"http{'s' * bool(certificate)}://localhost:{port}/"
        return client.request("POST", url, content=content, note=note, limits=Limits(total_s=60))

    return send


def whole_request(connection: socket.socket) -> bytes:
    got = b""
    while not (head := re.search(rb"(?is)content-length: *(\d+).*?\r\n\r\n", got)):
        got += connection.recv(65_536)
    while len(got) < head.end() + int(head[1]):
        got += connection.recv(65_536)
    return got


def sealed(connection: socket.socket, certificate: str) -> socket.socket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context.wrap_socket(connection, server_side=True)


@pytest.mark.parametrize("size", [1, 300, 100_000])
@pytest.mark.parametrize("tls", [False, True])
def test_a_request_that_was_received_whole_is_known_to_be_handed_over(
    tmp_path: Path, certificate: str, tls: bool, size: int
) -> None:
    path, content = str(tmp_path / "arrived"), b"x" * size
    with sending(path, post(content, certificate if tls else "")) as (connection, process):
        receiving = sealed(connection, certificate) if tls else connection
        assert whole_request(receiving).endswith(content)
        end(process)
        assert Arrivals(path).before() == [Left(KEY, "")]
        receiving.close()


@pytest.mark.parametrize("tls", [False, True])
def test_a_request_of_which_the_system_has_only_a_part_is_not_handed_over(
    tmp_path: Path, certificate: str, tls: bool
) -> None:
    path = str(tmp_path / "arrived")
    with sending(path, post(b"x" * 40_000_000, certificate if tls else "")) as (connection, process):
        receiving = sealed(connection, certificate) if tls else connection
        assert receiving.recv(1_000)
        end(process)
        assert Arrivals(path).before() == []
        receiving.close()


def test_the_system_delivers_what_was_handed_over_after_the_process_is_gone(tmp_path: Path) -> None:
    path, content = str(tmp_path / "arrived"), os.urandom(100_000)
    with sending(path, post(content)) as (connection, process):
        while not Arrivals(path).before():
            os.sched_yield()
        end(process)
        assert whole_request(connection).endswith(content)


@pytest.mark.parametrize(
    ("answer", "left"),
    [(b"HTTP/1.1 204 No Content\r\n\r\n", [Left(KEY, "HTTP/1.1 204")]),
     (b"HTTP/1.1 500 Out of order\r\nContent-Length: 0\r\n\r\n", [])],
)  # fmt: skip
def test_an_answer_says_more_than_that_it_was_handed_over(tmp_path: Path, answer: bytes, left: list[Left]) -> None:
    path = str(tmp_path / "arrived")
    with sending(path, post(b"x" * 300)) as (connection, process):
        whole_request(connection)
        connection.sendall(answer)
        os.waitpid(process, 0)  # it kills itself when it has read the answer
        assert Arrivals(path).before() == left


@pytest.mark.parametrize("tls", ["none", "starttls", "tls"])
def test_a_mail_is_handed_over_once_the_server_has_its_last_dot(tmp_path: Path, certificate: str, tls: str) -> None:
    path = str(tmp_path / "arrived")

    def send(port: int, note: Note) -> object:
        trusted = ssl.create_default_context(cafile=certificate)
        server = MailServer("localhost", port, tls=tls)
        return EmailNotifier(
            "ops", ("a@example.org",), "t@example.org", server, OutboundClient(Permissions), tls=trusted
        ).send(MAIL, note)

    with sending(path, send) as (connection, process):
        server: Any = sealed(connection, certificate) if tls == "tls" else connection
        server.sendall(b"220 here\r\n")
        words = server.makefile("rb")
        while not (said := words.readline()).upper().startswith(b"DATA"):
            known = {b"EHLO": b"250-here\r\n250 STARTTLS\r\n", b"STAR": b"220 begin\r\n"}
            server.sendall(known.get(said[:4].upper(), b"250 OK\r\n"))
            if said.upper().startswith(b"STARTTLS"):
                words.close()
                server = sealed(connection, certificate)
                words = server.makefile("rb")
        assert Arrivals(path).before() == []
        server.sendall(b"354 go on\r\n")
        while words.readline() != b".\r\n":
            pass
        end(process)
        assert Arrivals(path).before() == [Left(KEY, "")]
        words.close()
        server.close()


def test_a_connection_that_is_broken_takes_nothing() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(BrokenPipeError):
        hand_over(ours, b"a message", note := noted())
    assert not handed_over(note.call)


def test_what_cannot_be_sent_in_time_is_not_handed_over() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.05)
        with pytest.raises(TimeoutError):
            ours.sendall(b"x" * 10_000_000)
        with pytest.raises(TimeoutError):
            hand_over(ours, b"x", note := noted())
    assert not handed_over(note.call)


def test_where_a_disk_is_full_a_message_is_sent_without_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("threatlens.handing_over.os.pwrite", full)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        hand_over(ours, b"a message", note := Note(noted().room, noted().call, 99))
        assert theirs.recv(100) == b"a message"
    assert not handed_over(note.call)


def test_where_the_call_is_forbidden_a_message_is_sent_without_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> int:
        ctypes.set_errno(errno.EPERM)
        return -1

    monkeypatch.setattr("threatlens.handing_over._sendmmsg", forbidden)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        hand_over(ours, b"a message", note := noted())
        assert theirs.recv(100) == b"a message"
    assert not handed_over(note.call)


def test_who_does_not_answer_for_long_may_not_have_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threatlens.receiving.PATIENCE_S", 0.05)
    client = OutboundClient(lambda: LOOPBACK)
    note, limits = noted(), Limits(total_s=0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(OutboundError, match="in time"):
            client.request("POST", url, content=b"x", note=note, limits=limits)
    assert not handed_over(note.call)
