"""Outgoing requests: only to addresses that were checked, at the moment the socket is opened (R33)."""

from __future__ import annotations

import ipaddress
import itertools
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from receivers import certificate_for, noted

from threatlens.errors import OutboundError
from threatlens.handing_over import Note
from threatlens.outbound import Limits, OutboundClient
from threatlens.outbound_urls import Permissions

NOTHING = Permissions()
LOOPBACK = Permissions((ipaddress.ip_network("127.0.0.0/8"),))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def _length(request: bytes) -> int:
    found = re.search(rb"(?i)content-length: *(\d+)", request)
    return int(found[1]) if found else 0


class Receiver:
    """A server on the loopback address: answers what it is told to, and keeps what it got."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: list[bytes | Iterator[bytes]] = []  # the last is for all that follow
        self.requests: list[bytes] = []
        self.server_names: list[str | None] = []
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(60)
                try:
                    self._answer(connection)
                except OSError:  # the client had enough
                    continue

    def _answer(self, connection: socket.socket) -> None:
        if self._tls:
            connection = self._tls.wrap_socket(connection, server_side=True)
        request = b""
        while b"\r\n\r\n" not in request or len(request.split(b"\r\n\r\n", 1)[1]) < _length(request):
            piece = connection.recv(65536)
            if not piece:
                return
            request += piece
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        for piece in (answer,) if isinstance(answer, bytes) else answer:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.answers = [OK]
    yield receiver
    receiver.close()


def resolver(**names: Sequence[str]) -> Callable[[str, int], Sequence[str]]:
    """A resolver that knows these names (underscores for dots) and literal addresses."""
    known = {name.replace("_", "."): found for name, found in names.items()}

    def resolve(host: str, _port: int) -> Sequence[str]:
        if host in known:
            return known[host]
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    return resolve


def client(permissions: Permissions = LOOPBACK, **changes: Any) -> OutboundClient:
    changes.setdefault("resolve", resolver(hooks_example=["127.0.0.1"], other_example=["127.0.0.1"]))
    return OutboundClient(lambda: permissions, **changes)


EVIL = [
    "http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/",
    "http://0x7f.0.0.1/", "http://127.0.0.1./", "http://localhost/", "http://LOCALHOST/", "http://a.localhost/",
    "http://0/", "http://0.0.0.0/", "http://[::]/", "http://[::1]/", "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::7f00:1]/", "http://[2002:7f00:1::]/",
    "http://[64:ff9b::7f00:1]/", "http://[64:ff9b:1::7f00:1]/", "http://[::ffff:0:7f00:1]/", "http://[fec0::1]/", "http://[2001:0:7f00:1::]/",
    "http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.0.1/", "http://100.64.0.1/", "http://198.18.0.1/",
    "http://169.254.169.254/latest/meta-data/", "http://2852039166/", "http://0xa9fea9fe/", "http://169.254.43518/",
    "http://[fe80::1]/", "http://[fe80::1%25lo]/", "http://[fd00:ec2::254]/", "http://[fc00::1]/",
    "http://224.0.0.1/", "http://255.255.255.255/", "http://240.0.0.1/", "http://[ff02::1]/",
    "http://metadata.google.internal/", "http://169\u3002254\u3002169\u3002254/", "http://\u2460\u2461\u2466.0.0.1/",
    "http://user@93.184.216.34/", "http://93.184.216.34@127.0.0.1/", "http://93.184.216.34\\@127.0.0.1/",
    "http://93.184.216.34#@127.0.0.1:0/", "http://93.184.216.34 .example/", "http://93.184.216.34:22/",
    "http://93.184.216.34:6379/", "https://93.184.216.34:25/", "file:///etc/passwd", "gopher://127.0.0.1:6379/_x",
    "ftp://93.184.216.34/", "dict://127.0.0.1:11211/", "//93.184.216.34/", "http:93.184.216.34", "http:///x", "",
    "http://[::1", "http://93.184.216.34\r\nHost: x/", "http://93.184.216.34:0/", "http://ex%61mple.org/",
]  # fmt: skip


@pytest.mark.parametrize("url", EVIL)
def test_no_spelling_of_a_refused_address_opens_a_socket(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(socket, "create_connection", lambda *args, **kwargs: opened.append(args))
    sender = OutboundClient(lambda: NOTHING)  # the system's own resolver
    if url == "http://93.184.216.34#@127.0.0.1:0/":  # the fragment is none of the host: this one is public
        with pytest.raises(AttributeError):
            sender.request("GET", url)
        assert opened[0][0] == ("93.184.216.34", 80)
        return

    with pytest.raises(OutboundError) as caught:
        sender.request("GET", url)

    assert caught.value.permanent
    assert not opened


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["::1"], ["fe80::1%eth0"],
        ["169.254.169.254"], ["::ffff:10.0.0.1"], ["2002:a00:1::"], ["64:ff9b::a00:1"], ["100.64.0.1"], ["0.0.0.0"],
        ["2606:4700::1111", "fd12::1"], ["224.0.0.1"], ["192.0.0.192"],
    ],
)  # fmt: skip
def test_a_name_is_refused_when_any_of_its_addresses_is(addresses: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(socket, "create_connection", lambda *args, **kwargs: opened.append(args))

    with pytest.raises(OutboundError, match="leads to a refused address") as caught:
        client(NOTHING, resolve=resolver(hooks_example=addresses)).request("GET", "https://hooks.example/")

    assert caught.value.permanent
    assert not opened


def test_metadata_addresses_are_refused_even_where_every_network_is_allowed() -> None:
    everything = Permissions((ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))

    with pytest.raises(OutboundError, match="never called"):
        client(everything, resolve=resolver(a_example=["169.254.169.254"])).request("GET", "http://a.example/")


def test_a_name_is_resolved_once_so_that_rebinding_gains_nothing(receiver: Receiver) -> None:
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])
    asked = []

    def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        return next(answers)

    answer = client(resolve=rebinding).request("GET", f"http://hooks.example:{receiver.port}/")

    assert answer.status == 200
    assert asked == [("hooks.example", receiver.port)]


def test_the_next_request_is_checked_anew(receiver: Receiver) -> None:
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])
    sender = client(resolve=lambda _host, _port: next(answers))
    url = f"http://hooks.example:{receiver.port}/"

    assert sender.request("GET", url).ok
    with pytest.raises(OutboundError):
        sender.request("GET", url)
    assert len(receiver.requests) == 1


def test_a_changed_configuration_counts_from_the_next_request_on(receiver: Receiver) -> None:
    allowed = [LOOPBACK]
    sender = OutboundClient(lambda: allowed[0], resolve=resolver(hooks_example=["127.0.0.1"]))
    url = f"http://hooks.example:{receiver.port}/"

    assert sender.request("GET", url).ok
    allowed[0] = NOTHING
    with pytest.raises(OutboundError, match="allowed_private_networks"):
        sender.request("GET", url)


def test_the_request_says_what_it_should(receiver: Receiver) -> None:
    answer = client(user_agent="ThreatLens/1").request(
        "POST",
        f"http://hooks.example:{receiver.port}/a%2Fb?c=\u00e9#d",
        headers={"Content-Type": "application/json"},
        content=b"{}",
    )

    head, body = receiver.requests[0].split(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"post /a%2fb?c=%c3%a9 http/1.1"
    assert f"host: hooks.example:{receiver.port}".encode() in lines
    assert b"user-agent: threatlens/1" in lines
    assert b"content-type: application/json" in lines
    assert b"content-length: 2" in lines
    assert body == b"{}"
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"hi", "2")


def test_a_proxy_in_the_environment_is_ignored(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")

    assert client().request("GET", f"http://hooks.example:{receiver.port}/").ok


def test_the_next_address_is_tried_when_the_first_does_not_answer(receiver: Receiver) -> None:
    sender = client(resolve=resolver(hooks_example=["127.0.0.2", "127.0.0.1"]))

    assert sender.request("GET", f"http://hooks.example:{receiver.port}/").ok


def test_an_address_that_says_nothing_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    tried = []

    def nobody(address: tuple[str, int], timeout: float) -> socket.socket:
        tried.append((address[0], round(timeout, 2)))
        now[0] += timeout
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", nobody)
    addresses = ["2001:4860::1", "2001:4860::2", "93.184.216.34"]
    sender = OutboundClient(lambda: NOTHING, resolve=resolver(hooks_example=addresses), clock=lambda: now[0])

    with pytest.raises(OutboundError, match="did not answer in time"):
        sender.request("GET", "http://hooks.example/", limits=Limits(connect_s=3))
    assert tried == [(address, 1.0) for address in addresses]


def redirect(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


def test_a_redirect_is_an_answer_and_is_not_followed(receiver: Receiver) -> None:
    receiver.answers = [redirect("http://169.254.169.254/")]

    answer = client().request("POST", f"http://hooks.example:{receiver.port}/", content=b"x")

    assert answer.status == 302
    assert not answer.ok
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/", "http://[::1]/", "http://10.0.0.1/", "file:///etc/passwd", "gopher://a/_",
        "http://user:pw@hooks.example/", "//metadata.google.internal/", "http://0x7f.1\\@hooks.example/",
    ],
)  # fmt: skip
def test_every_step_of_a_chain_of_redirects_is_checked(receiver: Receiver, location: str) -> None:
    receiver.answers = [redirect("/second"), redirect(location)]

    with pytest.raises(OutboundError) as caught:
        client().request("GET", f"http://hooks.example:{receiver.port}/", limits=Limits(redirects=3))

    assert caught.value.permanent
    assert len(receiver.requests) == 2


def test_a_chain_of_redirects_ends(receiver: Receiver) -> None:
    receiver.answers = [redirect("/again")]

    answer = client().request("GET", f"http://hooks.example:{receiver.port}/", limits=Limits(redirects=3))

    assert answer.status == 302
    assert len(receiver.requests) == 4


def test_credentials_stay_with_the_origin_they_were_meant_for(receiver: Receiver) -> None:
    receiver.answers = [redirect(f"http://other.example:{receiver.port}/"), OK]

    client().request(
        "GET",
        f"http://hooks.example:{receiver.port}/",
        headers={"Authorization": "Bearer CANARY", "X-Kind": "feed"},
        limits=Limits(redirects=1),
    )

    assert b"CANARY" in receiver.requests[0]
    assert b"CANARY" not in receiver.requests[1]
    assert b"x-kind: feed" in receiver.requests[1]


def test_a_body_is_not_carried_to_another_host(receiver: Receiver) -> None:
    receiver.answers = [redirect(f"http://other.example:{receiver.port}/", 307), OK]

    with pytest.raises(OutboundError, match="another host"):
        client().request(
            "POST", f"http://hooks.example:{receiver.port}/", content=b"events", limits=Limits(redirects=1)
        )
    assert len(receiver.requests) == 1


def test_an_answer_is_read_up_to_its_limit(receiver: Receiver) -> None:
    receiver.answers = [itertools.chain([b"HTTP/1.1 200 OK\r\n\r\n"], itertools.repeat(b"x" * 65536))]

    answer = client().request("GET", f"http://hooks.example:{receiver.port}/", limits=Limits(body_bytes=100_000))

    assert answer.ok
    assert answer.truncated
    assert len(answer.body) == 100_000


def test_packed_answers_are_not_unpacked(receiver: Receiver) -> None:
    receiver.answers = [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"]

    assert client().request("GET", f"http://hooks.example:{receiver.port}/").body == b"\x1f\x8b"
    assert b"accept-encoding: identity" in receiver.requests[0].lower()


def ticking(step_s: float = 0.5) -> Callable[[], float]:
    """A clock that moves on whenever somebody looks at it."""
    ticks = itertools.count()
    return lambda: next(ticks) * step_s


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda: itertools.chain([b"HTTP/1.1 200 OK\r\n\r\n"], itertools.repeat(b"x")), id="body"),
        pytest.param(lambda: itertools.chain([b"HTTP/1.1 200 OK\r\nX: "], itertools.repeat(b"x")), id="header"),
        pytest.param(lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"), id="interim answers"),
        pytest.param(
            lambda: itertools.chain(
                [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"], itertools.repeat(b"1\r\nx\r\n")
            ),
            id="chunks",
        ),
    ],
)
@pytest.mark.parametrize("note", [None, noted()])
def test_an_answer_that_trickles_ends_at_the_deadline(
    receiver: Receiver, answer: Callable[[], Any], note: Note | None
) -> None:
    receiver.answers = [answer()]

    with pytest.raises(OutboundError) as caught:
        client(clock=ticking()).request(
            "GET", f"http://hooks.example:{receiver.port}/", limits=Limits(total_s=10, body_bytes=1 << 40), note=note
        )

    assert not caught.value.permanent


@pytest.mark.parametrize("note", [None, noted()])
def test_a_server_that_says_nothing_is_given_up(receiver: Receiver, note: Note | None) -> None:
    gate = threading.Event()

    def silent() -> Iterator[bytes]:
        gate.wait(60)
        yield b""

    receiver.answers = [silent()]
    with pytest.raises(OutboundError, match="in time"):
        client().request("GET", f"http://hooks.example:{receiver.port}/", limits=Limits(total_s=0.2), note=note)
    gate.set()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 60_000,
    ],
)  # fmt: skip
def test_an_answer_that_is_not_http_is_an_error_that_repeats_nothing_of_it(receiver: Receiver, answer: bytes) -> None:
    receiver.answers = [answer]

    with pytest.raises(OutboundError) as caught:
        client().request("GET", f"http://hooks.example:{receiver.port}/")

    assert not caught.value.permanent
    assert "SSH" not in str(caught.value)


def test_a_closed_port_and_an_unknown_name_are_said_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]

    with pytest.raises(OutboundError, match=r"^hooks\.example cannot be reached: Connection refused$"):
        client().request("GET", f"http://hooks.example:{port}/CANARY")
    with pytest.raises(OutboundError, match=r"^none\.example has no address: Name or service not known$"):
        client().request("GET", "http://none.example/CANARY")


@pytest.mark.parametrize(
    "headers",
    [{"Host": "x"}, {"Content-Length": "1"}, {"Transfer-Encoding": "chunked"}, {"A": "b\r\nC: d"}, {"A b": "c"}],
)
def test_headers_cannot_change_where_a_request_ends_or_goes(receiver: Receiver, headers: dict[str, str]) -> None:
    with pytest.raises(OutboundError) as caught:
        client().request("GET", f"http://hooks.example:{receiver.port}/", headers=headers)

    assert caught.value.permanent
    assert not receiver.requests


# --- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate_for(tmp_path_factory.mktemp("tls"), "hooks.example")


@pytest.fixture
def secure(certificate: Path) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    receiver = Receiver(context)
    context.sni_callback = lambda _socket, name, _context: receiver.server_names.append(name)
    receiver.answers = [OK]
    yield receiver
    receiver.close()


def test_tls_is_for_the_name_and_the_socket_for_the_checked_address(secure: Receiver, certificate: Path) -> None:
    sender = client(tls=ssl.create_default_context(cafile=str(certificate)))

    note = noted(20)

    answer = sender.request("GET", f"https://hooks.example:{secure.port}/", note=note)

    assert answer.body == b"hi"
    assert bytes(note.room).startswith(b"HTTP/1.1 200"), "the beginning is where it was asked for"
    assert secure.server_names == ["hooks.example"]
    assert f"host: hooks.example:{secure.port}".encode() in secure.requests[0].lower()


def test_a_certificate_for_another_name_is_refused(secure: Receiver, certificate: Path) -> None:
    sender = client(tls=ssl.create_default_context(cafile=str(certificate)))

    with pytest.raises(OutboundError, match=r"^other\.example cannot be reached: its certificate is not trusted"):
        sender.request("GET", f"https://other.example:{secure.port}/")
    assert not secure.requests


def test_a_certificate_of_nobody_we_know_is_refused(secure: Receiver) -> None:
    with pytest.raises(OutboundError, match="certificate is not trusted"):
        client().request("GET", f"https://hooks.example:{secure.port}/")


def test_a_redirect_never_leaves_tls(secure: Receiver, certificate: Path) -> None:
    secure.answers = [redirect(f"http://hooks.example:{secure.port}/")]
    sender = client(tls=ssl.create_default_context(cafile=str(certificate)))

    with pytest.raises(OutboundError, match="from https to http"):
        sender.request("GET", f"https://hooks.example:{secure.port}/", limits=Limits(redirects=3))


# --- into a file


def test_a_download_is_there_whole(receiver: Receiver, tmp_path: Path) -> None:
    body = os.urandom(300_000)
    receiver.answers = [b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 300000\r\n\r\n' + body]
    path = tmp_path / "feed"
    path.write_bytes(b"before")

    answer = client().download(f"http://hooks.example:{receiver.port}/", str(path))

    assert answer.headers["etag"] == '"1"'
    assert path.read_bytes() == body
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["feed"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000,
    ],
)
def test_a_download_that_breaks_or_is_too_long_leaves_what_was_there(
    receiver: Receiver, tmp_path: Path, answer: bytes
) -> None:
    receiver.answers = [answer]
    path = tmp_path / "feed"
    path.write_bytes(b"before")

    with pytest.raises(OutboundError):
        client().download(f"http://hooks.example:{receiver.port}/", str(path), limits=Limits(body_bytes=1000))

    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["feed"]


def test_a_download_that_has_not_changed_writes_nothing(receiver: Receiver, tmp_path: Path) -> None:
    receiver.answers = [b"HTTP/1.1 304 Not Modified\r\n\r\n"]

    answer = client().download(f"http://hooks.example:{receiver.port}/", str(tmp_path / "feed"))

    assert answer.status == 304
    assert not list(tmp_path.iterdir())
