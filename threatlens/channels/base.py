"""What every channel is made of: the message that is told, and what came of telling it.

A channel is given plain values and, where it speaks HTTP, the one guarded client; it knows no database and no
configuration file. It sends once and says what happened: trying again is the outbox's business.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from threatlens.errors import ChannelError
from threatlens.handing_over import Note


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a message where the channel can carry one."""

    name: str
    media_type: str  # "application/pdf"
    content: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """One notification. All texts are of one line and may hold what an attacker wrote, made visible already."""

    key: str  # the same for every try: receivers know a repeated delivery by it
    kind: str  # event, incident, digest, system, report, test
    title: str
    severity: int  # 1-10
    timestamp: str  # RFC 3339
    thread: str = ""  # messages about one thing carry one thread
    subject: str = ""  # of the thread's first message, which this one goes on with; "": it has one of its own
    lead: str = ""  # how it went, in a sentence
    text: str = ""  # what this message adds to those before
    says: tuple[tuple[str, str], ...] = ()  # (what it answers, sentences); commands stand between backquotes
    todo: tuple[str, ...] = ()  # what to do, the most urgent first
    facts: tuple[tuple[str, str], ...] = ()  # (name, value)
    samples: tuple[str, ...] = ()  # raw lines
    url: str = ""  # where it stands in ThreatLens; "": unknown
    links: tuple[tuple[str, str], ...] = ()  # (what it does, URL)
    data: Mapping[str, Any] = field(default_factory=dict)  # for programs
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that arrived: what was said, secrets masked."""

    transcript: tuple[str, ...]


class HttpAnswer(Protocol):
    """What the HTTP client returns."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def ok(self) -> bool: ...


class HttpClient(Protocol):
    """The guarded client (threatlens.outbound.OutboundClient), as far as channels need it."""

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        note: Note | None = None,
    ) -> HttpAnswer: ...


class ServiceAnswer(Protocol):
    """What came of telling a service by a library of its own."""

    @property
    def delivered(self) -> bool: ...
    @property
    def problem(self) -> str: ...
    @property
    def final(self) -> bool: ...
    @property
    def status(self) -> int: ...
    @property
    def transcript(self) -> tuple[str, ...]: ...


class ServiceClient(Protocol):
    """The guarded client, as far as services need it that speak no plain HTTP of ours."""

    def tell(
        self,
        url: str,
        *,
        title: str,
        body: str,
        kind: str,
        attachment: tuple[str, str, bytes] | None = None,
        note: Note | None = None,
    ) -> ServiceAnswer: ...


class MailClient(Protocol):
    """The guarded client, as far as mail needs it."""

    def connect(self, host: str, port: int, timeout_s: float) -> socket.socket: ...


class OutboundClient(HttpClient, ServiceClient, MailClient, Protocol):
    """All of it."""


class NotificationChannel(Protocol):
    """A way to tell somebody."""

    name: str

    def send(self, message: Message, note: Note | None = None) -> Delivery:
        """Deliver one message; raises ChannelError.

        `note` outlives a kill: whether all of it was handed over belongs there, and how the answer to it begins.
        """
        ...


def how_bad(severity: int) -> str:
    """A severity for people."""
    words = ("low", "medium", "high", "critical")[(severity >= 4) + (severity >= 7) + (severity >= 9)]
    return f"Severity {severity} of 10, {words}"


def ways(message: Message) -> list[tuple[str, str]]:
    """Where one can click: (what it does, URL)."""
    return ([("Open in ThreatLens", message.url)] if message.url else []) + list(message.links)


#: Statuses after which the same request to the same address cannot succeed.
PERMANENT = frozenset({400, 401, 403, 404, 405, 410, 411, 413, 414, 415, 422, 451, 501})
_MAX_RETRY_AFTER_S = 3_600


def delivered(answer: HttpAnswer, transcript: tuple[str, ...], permanent: frozenset[int] = PERMANENT) -> Delivery:
    """The delivery that this answer of an HTTP receiver means; raises ChannelError for any status but 2xx."""
    transcript = (*transcript, f"< {answer.status}")
    if answer.ok:
        return Delivery(transcript)
    after = answer.headers.get("retry-after", "")
    wait_s = min(int(after), _MAX_RETRY_AFTER_S) if after.isascii() and after.isdigit() and len(after) < 9 else 0
    msg = f"the receiver answered {answer.status}"
    raise ChannelError(msg, permanent=answer.status in permanent, retry_after_s=wait_s, transcript=transcript)
