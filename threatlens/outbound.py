"""The one way out: every request to another machine (webhooks, chat, language models, threat lists) is made here.

The address is checked where the socket is opened (outbound_sockets.py), for mail too, while TLS and the Host header
keep the name. Nothing is read from the environment (no proxies), and one deadline covers everything between the first
byte and the last. Only the system's resolver keeps its own time (resolv.conf), as it cannot be interrupted.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urljoin

import certifi
import httpcore

from threatlens.durable import put_in_place
from threatlens.errors import ConfigError, OutboundError
from threatlens.handing_over import Note as Noted
from threatlens.handing_over import hand_over
from threatlens.outbound_apprise import Note, Told, tell
from threatlens.outbound_sockets import Resolver, left, open_socket, system_addresses
from threatlens.outbound_urls import ANYWHERE, Permissions, Target, refusal, take_apart
from threatlens.receiving import receive_answer
from threatlens.sealed import Sealed

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEPS_METHOD = frozenset({307, 308})
_FRAMING = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade"})
_CREDENTIALS = frozenset({"authorization", "cookie", "x-api-key", "api-key"})
_SLICE = 16_384  # bytes handed to the socket at once


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may take."""

    connect_s: float = 3
    total_s: float = 10  # from the first connection to the last byte, redirects included
    body_bytes: int = 65_536  # of the answer
    redirects: int = 0  # how many are followed; each is checked like a first address


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. It is untrusted text of whoever answers there."""

    status: int
    headers: Mapping[str, str]  # names in lower case; of several of one name the last
    body: bytes = b""  # not unpacked
    truncated: bool = False  # whether there was more than body_bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    target: Target
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None


class OutboundClient:
    """Makes requests that cannot be turned against the networks this machine is in. Safe to use from any thread.

    Every method raises OutboundError: `permanent` where the address may not be called, else when there was no whole
    answer in time. A status of 400 or more is an answer, not an error.
    """

    def __init__(
        self,
        permissions: Callable[[], Permissions],
        *,
        user_agent: str = "ThreatLens",
        resolve: Resolver | None = None,
        clock: Callable[[], float] = time.monotonic,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._permissions = permissions
        self._user_agent = user_agent
        self._resolve = resolve or system_addresses
        self._clock = clock
        self._given_tls = tls

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made at the first call out: reading the authorities takes longer than all else of a start."""
        return self._given_tls or _tls_context()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        limits: Limits | None = None,
        note: Noted | None = None,
    ) -> Answer:
        """Send one request and read the answer, at most limits.body_bytes of it.

        `note` says, also when this process is killed, whether all of it was handed over, and how the answer begins.
        """
        limits = limits or Limits()
        with self._answer(method, url, headers, content, limits, note) as (status, fields, body):
            found = bytearray()
            for chunk in body:
                found += chunk
                if len(found) > limits.body_bytes:
                    return Answer(status, fields, bytes(found[: limits.body_bytes]), truncated=True)
            return Answer(status, fields, bytes(found))

    def download(
        self, url: str, path: str, *, headers: Mapping[str, str] | None = None, limits: Limits | None = None
    ) -> Answer:
        """GET into a new file at `path` (0600), of which there is nothing unless the status is 200 and all of it came.

        More than limits.body_bytes is an error. What `path` held before is replaced in one step; the body of the
        answer is empty. Raises OSError where the file cannot be written.
        """
        limits = limits or Limits(total_s=120, body_bytes=64 << 20, redirects=3)
        temporary = f"{path}.{os.getpid()}.part"
        with self._answer("GET", url, headers, None, limits) as (status, fields, body):
            if status != 200:
                return Answer(status, fields)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    for chunk in _bounded(body, limits.body_bytes):
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                put_in_place(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
            return Answer(status, fields)

    def tell(
        self,
        url: str,
        *,
        title: str,
        body: str,
        kind: str,
        attachment: tuple[str, str, bytes] | None = None,
        note: Noted | None = None,
    ) -> Told:
        """Tell a service that Apprise knows, under the same rules; see outbound_apprise.py. Raises nothing."""
        return tell(url, Note(title, body, kind, attachment), self._permissions(), noted=note)

    def connect(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """A connection to a server of one's own that speaks no HTTP (mail): in any network, on any port.

        Link-local and metadata addresses are refused there too. Raises OutboundError, and OSError where it is not
        reached.
        """
        if reason := refusal(host, port, ANYWHERE):
            raise OutboundError(reason, permanent=True)
        connection = open_socket(host, port, ANYWHERE, self._resolve, self._clock() + timeout_s, self._clock)
        connection.settimeout(timeout_s)
        return connection

    @contextlib.contextmanager
    def _answer(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        content: bytes | None,
        limits: Limits,
        note: Noted | None = None,
    ) -> Iterator[tuple[int, dict[str, str], Iterator[bytes]]]:
        """Status, headers and body of the last answer; redirects are followed as far as the limits go."""
        deadline = self._clock() + limits.total_s
        request = _Request(method, _target(url), _checked(headers or {}), content)
        for more in range(limits.redirects, -1, -1):
            network = _CheckedNetwork(self._permissions(), self._resolve, self._clock, deadline, limits.connect_s)
            if note is not None:
                network.note, network.content_bytes = note, len(request.content or b"")
            with self._sent(request, network) as (status, fields, body):
                if not (more and status in _REDIRECTS and fields.get("location")):
                    yield status, fields, body
                    return
            request = _redirected(request, status, fields["location"])

    @contextlib.contextmanager
    def _sent(
        self, request: _Request, network: _CheckedNetwork
    ) -> Iterator[tuple[int, dict[str, str], Iterator[bytes]]]:
        target = request.target
        if reason := refusal(target.host, target.port, network.permissions):
            raise OutboundError(reason, permanent=True)
        fields = {"user-agent": self._user_agent, "accept-encoding": "identity", "accept": "*/*", **request.headers}
        url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        lines = [("host", _host_header(target)), *fields.items(), ("connection", "close")]
        with (
            _said_plainly(target.host),
            httpcore.ConnectionPool(ssl_context=self._tls, network_backend=network) as pool,
            pool.stream(
                request.method,
                url,
                headers=[(name.encode("ascii"), value.encode("utf-8")) for name, value in lines],
                content=request.content,
                extensions={"timeout": {}},  # the network itself knows the deadline
            ) as answer,
        ):
            found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
            yield answer.status, found, answer.iter_stream()


class _CheckedNetwork(httpcore.NetworkBackend):
    """Opens sockets, each only to an address that was checked."""

    def __init__(
        self,
        permissions: Permissions,
        resolve: Resolver,
        clock: Callable[[], float],
        deadline: float,
        connect_s: float,
    ) -> None:
        self.permissions = permissions
        self._resolve = resolve
        self._clock = clock
        self._deadline = deadline
        self._connect_s = connect_s
        self.note: Noted | None = None
        self.content_bytes = 0  # of the request

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of the host that answers, if all its addresses may be called."""
        del timeout, local_address, socket_options  # ours are the deadline and no options
        until = min(self._deadline, self._clock() + self._connect_s)
        with _said_by_the_library(httpcore.ConnectTimeout, httpcore.ConnectError):
            connection = open_socket(host, port, self.permissions, self._resolve, until, self._clock)
        timed = _TimedStream(connection, self._deadline, self._clock)
        timed.note, timed.content_bytes = self.note, self.content_bytes
        return timed


class _TimedStream(httpcore.NetworkStream):
    """A connection on which everything together ends at the deadline, however small the pieces come.

    Of a message that is noted the last byte of the content is handed over by itself, and what comes first is received
    into the note's room, until that is full.
    """

    def __init__(self, connection: socket.socket, deadline: float, clock: Callable[[], float]) -> None:
        self._socket = connection
        self._connection: socket.socket | Sealed = connection
        self._deadline = deadline
        self._clock = clock
        self._read = 0  # bytes
        self._written = -1  # bytes of the content; -1: nothing, the first piece is the head
        self.note: Noted | None = None
        self.content_bytes = 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        left_s = left(self._deadline, self._clock)
        with _said_by_the_library(httpcore.ReadTimeout, httpcore.ReadError):
            if self.note is None or self._read >= len(self.note.room):
                self._connection.settimeout(left_s)
                return self._connection.recv(max_bytes)
            room = self.note.room[self._read :][:max_bytes]
            n = receive_answer(self._connection, room, self.note, left_s)
        self._read += n
        return bytes(room[:n])

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        is_head = self._written < 0
        self._written = 0 if is_head else self._written + len(buffer)
        for start in range(0, len(buffer), _SLICE):
            piece = buffer[start : start + _SLICE]
            is_end = self._written == self.content_bytes and start + _SLICE >= len(buffer)
            self._connection.settimeout(left(self._deadline, self._clock))
            with _said_by_the_library(httpcore.WriteTimeout, httpcore.WriteError):
                hand_over(self._connection, piece, self.note if is_end else None)

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        del timeout
        self._socket.settimeout(left(self._deadline, self._clock))
        with _said_by_the_library(httpcore.ConnectTimeout, httpcore.ConnectError):
            self._connection = Sealed(self._socket, ssl_context, server_hostname)
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object":
            return self._connection.tls if isinstance(self._connection, Sealed) else None
        return self._socket if info == "socket" else None


@contextlib.contextmanager
def _said_by_the_library(late: type[Exception], broken: type[Exception]) -> Iterator[None]:
    """What sockets raise, as httpcore expects it."""
    try:
        yield
    except TimeoutError as error:
        raise late from error
    except OSError as error:
        raise broken from error


@contextlib.contextmanager
def _said_plainly(host: str) -> Iterator[None]:
    """What the library and the system raise, as OutboundError."""
    try:
        yield
    except httpcore.TimeoutException as error:
        msg = f"{host} did not answer in time"
        raise OutboundError(msg) from error
    except httpcore.LocalProtocolError as error:
        msg = "the request cannot be written as HTTP"
        raise OutboundError(msg, permanent=True) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
        msg = f"{host} cannot be reached: {_reason(error)}"
        raise OutboundError(msg) from error


def _reason(error: BaseException) -> str:
    """Why, in the system's words; never the other side's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({cause.reason or 'no reason given'})"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return "its answer is not HTTP" if isinstance(error, httpcore.ProtocolError) else "the connection broke"


def _bounded(body: Iterable[bytes], most: int) -> Iterator[bytes]:
    """The body, unless it is longer than `most` bytes: then OutboundError."""
    for chunk in body:
        most -= len(chunk)
        if most < 0:
            msg = "the answer is longer than it may be"
            raise OutboundError(msg)
        yield chunk


def _target(url: str) -> Target:
    try:
        return take_apart(url)
    except ConfigError as error:
        msg = f"the URL {error.message}"
        raise OutboundError(msg, permanent=True) from error


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers in lower case; those that say where a request ends or goes are ours alone."""
    fields = {name.lower(): value for name, value in headers.items()}
    if taken := _FRAMING & fields.keys():
        msg = f"the header {min(taken)} cannot be chosen"
        raise OutboundError(msg, permanent=True)
    if not all(name.isascii() and name.isprintable() for name in fields):
        msg = "the request cannot be written as HTTP"
        raise OutboundError(msg, permanent=True)
    return fields


def _redirected(request: _Request, status: int, location: str) -> _Request:
    """The request that a redirect asks for. What identifies us stays with the origin it was meant for."""
    old = request.target
    base = f"{old.scheme}://{_host_header(old)}{old.path}"
    try:
        target = take_apart(urljoin(base, location))
    except (ConfigError, ValueError) as error:
        msg = f"{old.host} redirects to an address that is refused"
        raise OutboundError(msg, permanent=True) from error
    if old.scheme == "https" and target.scheme != "https":
        msg = f"{old.host} redirects from https to http"
        raise OutboundError(msg, permanent=True)
    headers = dict(request.headers)
    content = request.content
    if target.origin != old.origin:
        headers = {name: value for name, value in headers.items() if name not in _CREDENTIALS}
    if status in _KEEPS_METHOD or request.method in {"GET", "HEAD"}:
        if content is not None and target.origin != old.origin:
            msg = f"{old.host} redirects what is sent to another host"
            raise OutboundError(msg, permanent=True)
        return _Request(request.method, target, headers, content)
    return _Request("GET", target, {name: v for name, v in headers.items() if name != "content-type"})


def _host_header(target: Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    return host if target.port == (443 if target.scheme == "https" else 80) else f"{host}:{target.port}"


def _tls_context() -> ssl.SSLContext:
    """The system's certificate authorities, so that an operator's own are known; certifi's where it has none."""
    paths = ssl.get_default_verify_paths()
    context = ssl.create_default_context(cafile=None if paths.cafile or paths.capath else certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
