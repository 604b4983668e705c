"""E-mail by SMTP (RFC 5321), in text and HTML, one thread for messages about one thing (RFC 5322, section 3.6.4).

The Message-ID is made from the message's key, so that a mail that is handed in twice is known to be one. What an
attacker wrote can add no header (line breaks are visible symbols by now, and the library refuses them), and is
escaped in the HTML part.
"""

from __future__ import annotations

import html
import ipaddress
import smtplib
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime, localtime, parseaddr
from typing import Any, cast

from threatlens.channels.base import Delivery, MailClient, Message, how_bad, ways
from threatlens.errors import ChannelError, OutboundError
from threatlens.handing_over import Note, hand_over
from threatlens.receiving import receive_answer
from threatlens.sealed import Sealed

TIMEOUT_S = 10.0
_TRANSCRIPT_LINES = 60
_REPLY_BYTES = 8_192
_GO_AHEAD = 354  # the answer to DATA: the message may be sent
_END = b".\r\n"  # of the message


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed in."""

    host: str
    port: int
    username: str = ""
    password: str = ""
    tls: str = "none"  # or "starttls", "tls"

    def __repr__(self) -> str:
        return f"MailServer({self.host}:{self.port})"


class EmailNotifier:
    """Mails to some addresses through one server. `tls` is for tests and private authorities."""

    def __init__(
        self,
        name: str,
        to: tuple[str, ...],
        sender: str,
        server: MailServer,
        client: MailClient,
        *,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self._to = to
        self._sender = sender
        self._server = server
        self._client = client
        self._tls = tls
        self._clock = clock

    def send(self, message: Message, note: Note | None = None) -> Delivery:
        """Deliver to every address; raises ChannelError. Who was refused while others were not is in the transcript."""
        mail = compose(message, self._sender, self._to)
        transcript: list[str] = []
        server = self._server
        try:
            with self._connect(transcript, note) as smtp:
                if server.tls == "starttls":
                    smtp.starttls(context=_sealing(self._context()))
                if server.username:
                    _refuse_to_show_it(smtp.sock, server)
                    smtp.login(server.username, server.password)
                refused = smtp.send_message(mail, from_addr=self._sender, to_addrs=list(self._to))
        except smtplib.SMTPResponseException as error:
            words = _words(error.smtp_error)
            permanent = error.smtp_code >= 500
            msg = f"the mail server answered {error.smtp_code} {words}"
            if isinstance(error, smtplib.SMTPAuthenticationError):
                msg = f"the mail server does not take the user name and password: {error.smtp_code} {words}"
            raise ChannelError(msg, permanent=permanent, transcript=tuple(transcript)) from error
        except smtplib.SMTPRecipientsRefused as error:
            permanent = all(code >= 500 for code, _ in error.recipients.values())
            code, said = next(iter(error.recipients.values()))
            msg = f"the mail server takes none of the addresses: {code} {_words(said)}"
            raise ChannelError(msg, permanent=permanent, transcript=tuple(transcript)) from error
        except smtplib.SMTPNotSupportedError as error:
            msg = f"the mail server cannot do what the channel asks for: {error}"
            raise ChannelError(msg, permanent=True, transcript=tuple(transcript)) from error
        except ssl.SSLCertVerificationError as error:
            msg = f"the mail server's certificate is not trusted: {error.verify_message}"
            raise ChannelError(msg, transcript=tuple(transcript)) from error
        except OutboundError as error:
            msg = f"mail: {error}"
            raise ChannelError(msg, permanent=error.permanent, transcript=tuple(transcript)) from error
        except (OSError, smtplib.SMTPException) as error:
            raise ChannelError(_went_wrong(error, server), transcript=tuple(transcript)) from error
        transcript += [f"! {address} was refused: {code} {_words(said)}" for address, (code, said) in refused.items()]
        return Delivery(tuple(transcript))

    def _context(self) -> ssl.SSLContext:
        return self._tls or ssl.create_default_context()

    def _connect(self, transcript: list[str], note: Note | None) -> smtplib.SMTP:
        server = self._server
        if server.tls == "tls":
            return _NotedTls(transcript, note, self._client, server, _sealing(self._context()))
        return _Noted(transcript, note, self._client, server)


class _Replies:
    """What smtplib reads replies from. The one to the message itself is received into the note."""

    def __init__(self, connection: socket.socket | Sealed, note: Note | None) -> None:
        self._connection = connection
        self._note = note
        self._room = note.room if note else memoryview(b"")
        self._unread = b""
        self.is_last = False

    def readline(self, most: int) -> bytes:
        """Like a file's."""
        while b"\n" not in self._unread and len(self._unread) < most and (more := self._more()):
            self._unread += more
        end = min(most, self._unread.find(b"\n") + 1 or len(self._unread))
        line, self._unread = self._unread[:end], self._unread[end:]
        return line

    def _more(self) -> bytes:
        if self._note is None or not self.is_last or not self._room:
            return self._connection.recv(_REPLY_BYTES)
        n = receive_answer(self._connection, self._room, self._note, TIMEOUT_S)
        found, self._room = bytes(self._room[:n]), self._room[n:]
        return found

    def close(self) -> None:
        """The connection is smtplib's."""


class _Noting(smtplib.SMTP):
    """Writes the dialogue down: without the message, and with every word of the log-in masked."""

    _transcript: list[str]
    _note: Note | None
    _client: MailClient
    _hiding = False

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:  # where smtplib opens it
        return self._client.connect(host, port, timeout)

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:  # at first, and after STARTTLS
            self.file = _Replies(self.sock, self._note)
        code, words = super().getreply()
        if code == _GO_AHEAD and isinstance(self.file, _Replies):
            self.file.is_last = True
        return code, words

    def send(self, s: Any) -> None:
        if self.sock is None or not (isinstance(self.file, _Replies) and self.file.is_last and s[-3:] == _END):
            super().send(s)
            return
        self._print_debug("send:", repr(s))
        try:
            hand_over(self.sock, s, self._note)
        except OSError as error:
            self.close()
            msg = "Server not connected"
            raise smtplib.SMTPServerDisconnected(msg) from error

    def _print_debug(self, *args: object) -> None:
        kind, text = str(args[0]), " ".join(str(each) for each in args[1:])
        if len(self._transcript) >= _TRANSCRIPT_LINES or kind in {"connect:", "data:"}:
            return
        if kind == "send:":
            words = text.strip("'\"").replace("\\r\\n", " ").strip()
            if words.upper().startswith("AUTH"):
                self._hiding = True
            if self._hiding:
                words = f"{words.split(' ')[0] if words.upper().startswith('AUTH') else ''} ***".strip()
            elif len(words) > 200:
                words = f"(the message, {len(words)} characters)"
            self._transcript.append(f"> {words}")
        elif kind == "reply:":
            words = text.strip("b'\"").replace("\\r\\n", "")
            if not words.startswith("334"):
                self._hiding = False
            self._transcript.append(f"< {words[:200]}")


class _Noted(_Noting):
    def __init__(self, transcript: list[str], note: Note | None, client: MailClient, server: MailServer) -> None:
        self._transcript = transcript
        self._note = note
        self._client = client
        super().__init__(timeout=TIMEOUT_S)
        self.set_debuglevel(1)
        self._host = server.host  # what starttls checks the certificate against
        self.connect(server.host, server.port)


class _NotedTls(_Noting, smtplib.SMTP_SSL):
    def __init__(
        self, transcript: list[str], note: Note | None, client: MailClient, server: MailServer, context: ssl.SSLContext
    ) -> None:
        self._transcript = transcript
        self._note = note
        self._client = client
        super().__init__(timeout=TIMEOUT_S, context=context)
        self.set_debuglevel(1)
        self._host = server.host
        self.connect(server.host, server.port)

    def _get_socket(self, host: str, port: int, timeout: float) -> Sealed:
        return cast("Sealed", self.context.wrap_socket(super()._get_socket(host, port, timeout), server_hostname=host))


class _Sealing:
    """What smtplib takes for a context: its connections are sealed by us."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def wrap_socket(self, sock: socket.socket, server_hostname: str) -> Sealed:
        """As smtplib calls it."""
        return Sealed(sock, self._context, server_hostname)


def _sealing(context: ssl.SSLContext) -> ssl.SSLContext:
    return cast("ssl.SSLContext", _Sealing(context))


def compose(message: Message, sender: str, to: tuple[str, ...]) -> EmailMessage:
    """The mail; its date is now."""
    mail = EmailMessage()
    domain = parseaddr(sender)[1].rpartition("@")[2] or "threatlens.invalid"
    mail["Subject"] = subject(message)
    mail["From"] = sender
    mail["To"] = ", ".join(to)
    mail["Date"] = format_datetime(localtime())
    mail["Message-ID"] = f"<{message.key}@{domain}>"
    if message.thread:
        root = f"<{message.thread}@{domain}>"
        mail["In-Reply-To"] = root
        mail["References"] = root
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    mail["X-ThreatLens-Severity"] = str(message.severity)
    mail.set_content(as_text(message))
    mail.add_alternative(as_html(message), subtype="html")
    for each in message.attachments:
        kind, _, subtype = each.media_type.partition("/")
        mail.add_attachment(each.content, maintype=kind, subtype=subtype, filename=each.name)
    return mail


def subject(message: Message) -> str:
    """Some mail programs keep a conversation together by its subject, so an update has that of the first mail."""
    if message.subject:
        return f"Re: [ThreatLens] {message.subject}"[:250]
    return f"[ThreatLens] {message.severity}/10 {message.title}"[:250]


def as_text(message: Message) -> str:
    """The message in plain text: what, how bad, what to do and where to click come before the evidence."""
    parts = [message.title, " ".join(each for each in (f"{how_bad(message.severity)}.", message.lead) if each)]
    if message.text:
        parts.append(message.text)
    said = [f"{topic}: {text}" for topic, text in message.says]
    parts += said[:1]
    if message.todo:
        numbered = (f"  {number}. {text}" for number, text in enumerate(message.todo, 1))
        parts.append("\n".join(["What to do:", *numbered]))
    if links := ways(message):
        width = max(len(words) for words, _ in links) + 1
        parts.append("\n".join(f"{words + ':':<{width}} {url}" for words, url in links))
    parts += said[1:]
    width = max((len(name) for name, _ in message.facts), default=0)
    parts.append("\n".join(f"{name:<{width}}  {value}" for name, value in message.facts) or message.timestamp)
    if message.samples:
        parts.append("\n".join(["From the log:", *(f"  {line}" for line in message.samples)]))
    return "\n\n".join(parts) + "\n"


_CELL = "padding:2px 12px 2px 0;vertical-align:top"
_MONO = "font-family:ui-monospace,Consolas,monospace;font-size:13px;white-space:pre-wrap;word-break:break-word"
_FAINT = "color:#6b6b6b"
_BUTTON = "display:inline-block;padding:8px 14px;margin:0 8px 8px 0;border-radius:6px;text-decoration:none"
#: By how bad it is, from severity 1, 4, 7 and 9 on: the background of the label, white text on it is legible.
_TONES = ("#4a6b8a", "#8a6100", "#b0450f", "#b3201f")


def as_html(message: Message) -> str:
    """The message as HTML that needs nothing from elsewhere; what strangers wrote is escaped text in it."""
    say = html.escape
    severity = message.severity
    tone = _TONES[(severity >= 4) + (severity >= 7) + (severity >= 9)]
    label = f"background:{tone};color:#fff;padding:3px 10px;border-radius:6px;font-weight:600"
    parts = [f"<h2 style='margin:0 0 10px;font-size:19px'>{say(message.title)}</h2>"]
    lead = f" <strong>{say(message.lead)}</strong>" if message.lead else ""
    parts.append(f"<p style='margin:0 0 12px'><span style='{label}'>{say(how_bad(severity))}</span>{lead}</p>")
    if message.text:
        parts.append(f"<p>{say(message.text)}</p>")
    said = [f"<p><span style='{_FAINT}'>{say(topic)}</span><br>{_coded(text)}</p>" for topic, text in message.says]
    parts += said[:1]
    if message.todo:
        items = "".join(f"<li style='margin:0 0 6px'>{_coded(text)}</li>" for text in message.todo)
        parts.append(f"<p style='margin:0 0 4px'><strong>What to do</strong></p><ol style='margin-top:0'>{items}</ol>")
    if links := ways(message):
        first, rest = f"{_BUTTON};background:#1f5fae;color:#fff", f"{_BUTTON};border:1px solid #888;color:#1f5fae"
        parts.append(
            "<p>"
            + "".join(
                f"<a style='{first if place == 0 else rest}' href='{say(url)}'>{say(words)}</a>"
                for place, (words, url) in enumerate(links)
            )
            + "</p>"
        )
    parts += said[1:]
    if message.facts:
        rows = "".join(
            f"<tr><td style='{_CELL};{_FAINT}'>{say(name)}</td><td style='{_CELL}'><bdi>{say(value)}</bdi></td></tr>"
            for name, value in message.facts
        )
        parts.append(f"<table style='border-collapse:collapse'>{rows}</table>")
    if message.samples:
        lines = "\n".join(f"<bdi>{say(line)}</bdi>" for line in message.samples)
        parts.append(f"<pre style='{_MONO};background:#f4f4f2;color:#111;padding:8px;border-radius:6px'>{lines}</pre>")
    body = "".join(parts)
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'></head>"
        f"<body style='font-family:system-ui,sans-serif;max-width:720px;line-height:1.45'>{body}</body></html>"
    )


def _coded(text: str) -> str:
    """Escaped, with what stands between backquotes as code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # one is not closed
        return html.escape(text)
    code = f"<code style='{_MONO};background:#f4f4f2;color:#111;padding:1px 4px'>"
    return "".join(
        f"{code}{html.escape(piece)}</code>" if place % 2 else html.escape(piece) for place, piece in enumerate(pieces)
    )


def _went_wrong(error: Exception, server: MailServer) -> str:
    """Why there was no conversation, and what to change."""
    where = f"{server.host}:{server.port}"
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        other = " A port for TLS (often 465) says nothing until TLS begins." if server.tls != "tls" else ""
        return f"{where} did not answer within {TIMEOUT_S:.0f} s.{other}"
    if isinstance(error, ssl.SSLError):
        return f"{where} does not speak TLS from the start; choose STARTTLS, or another port (often 465)"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return f"{where} ended the conversation"
    return f"{where} cannot be reached: {getattr(error, 'strerror', None) or 'the conversation broke off'}"


def _refuse_to_show_it(connection: Any, server: MailServer) -> None:
    """A password leaves this machine sealed, or not at all. Raises OutboundError."""
    if server.tls == "none" and not ipaddress.ip_address(connection.getpeername()[0]).is_loopback:
        msg = "the user name and password would be sent unsealed to another machine; choose STARTTLS or TLS"
        raise OutboundError(msg, permanent=True)


def _words(said: bytes | str) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return " ".join(text.split())[:200]
