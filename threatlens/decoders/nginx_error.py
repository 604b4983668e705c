"""nginx's error log: "2026/11/23 06:51:07 [error] 31#31: *5 text, client: 192.0.2.7, server: _, request: ...".

The text (a user name, a file) and the referrer may hold anything the client sent, unescaped; request and host hold no
blanks. So the last "client:" counts, unless a referrer follows: then two different ones are ambiguous and give none.
"""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import LineDecoder, Opened, compiled, put_address
from threatlens.decoders.levels import LEVELS
from threatlens.decoders.tables import Table, row
from threatlens.decoders.times import Clock
from threatlens.event import Fields

NAME = "nginx.error"

_LINE = compiled(
    r"([0-9]{4}/[0-9]{2}/[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}) \[([a-z]{2,8})\] ([0-9]{1,10})#[0-9]{1,10}: "
    r"(?:\*[0-9]{1,20} )?(.*)"
).fullmatch
_CLIENT = compiled(r", client: ([^\s,]+)(?=,|$| using starttls,)").findall
_CONTEXT = compiled(r', client: [^\s,]+, server: [^\s,]*, request: "([A-Z]{2,20}) (\S+) HTTP/([0-9.]{1,4})"').search
_HOST = compiled(r', host: "([\w.:\[\]-]+)"').search

_WEB: dict[str, Any] = {"category": "web"}
_MESSAGES = Table(
    {
        "user": [
            row(r'user "(?P<user>.*)": password mismatch,.*', "http_login", "failure"),
            row(r'user "(?P<user>.*)" was not found in "[^"]*",.*', "http_login", "failure"),
        ],
        "no": [row(r"no user/password was provided for basic authentication,.*", "http_login", "failure")],
        "NAXSI_FMT:": [
            row(r"NAXSI_FMT: .*", "waf_alert", "failure", category="intrusion_detection", also={"event.kind": "alert"})
        ],
        "access": [row(r"access forbidden by rule,.*", "http_denied", "failure", **_WEB)],
        "limiting": [
            row(r"limiting (?:requests|connections)\b.*", "http_rate_limited", "failure", **_WEB),
        ],
        "delaying": [row(r"delaying requests\b.*", "http_rate_limited", **_WEB)],
        "open()": [
            row(
                r'open\(\) "(?P<file>[^"]*)" failed \([0-9]+: (?P<reason>[^)]*)\).*',
                "http_file_error",
                "failure",
                **_WEB,
            )
        ],
        "client": [
            row(
                r"client (?P<src>[0-9.]+|\[?[0-9a-fA-F:]+?\]?):(?P<sport>[0-9]{1,5}) connected to .*",
                "mail_connect",
                category="network",
            ),
            row(r'client login failed: "(?P<reason>[^"]*)".*, login: "(?P<user>[^"]*)".*', "mail_login", "failure"),
            row(r"client login failed.*", "mail_login", "failure"),
            row(r'client logged in, client: .*, login: "(?P<user>[^"]*)".*', "mail_login", "success"),
            row(r"client logged in, client: .*", "mail_login", "success"),
            row(
                r"client (?P<reason>sent|intended|closed|timed|prematurely)\b.*", "http_client_error", "failure", **_WEB
            ),
        ],
        "PAM:": [row(r"PAM: user '(?P<user>.*)' - not authenticated: .*", "http_login", "failure")],
        "SSL_read()": [row(r"SSL_read\(\) failed .*", "tls_handshake", "failure", **_WEB)],
        "SSL_do_handshake()": [row(r"SSL_do_handshake\(\) failed .*", "tls_handshake", "failure", **_WEB)],
        "upstream": [row(r"upstream .*", "http_upstream_error", "failure", **_WEB)],
        "connect()": [row(r"connect\(\) failed .*", "http_upstream_error", "failure", **_WEB)],
        "directory": [row(r'directory index of "(?P<file>[^"]*)" is forbidden.*', "http_denied", "failure", **_WEB)],
        "": [row(r'"(?P<file>[^"]*)" is not found \([^)]*\).*', "http_file_error", "failure", **_WEB)],
    }
)


def open_line(line: str, clock: Clock) -> Opened | None:
    """The head, the kind of message, and who asked for what."""
    found = _LINE(line)
    if found is None:
        return None
    time, level, pid, message = found.groups()
    timestamp_us, flags = clock.known.get(time) or clock.iso(time)
    fields: Fields = {"event.category": "web", "log.level": LEVELS.get(level, level), "process.pid": int(pid)}
    _MESSAGES.read(message, fields)
    clients = _CLIENT(message)
    if clients and (len(set(clients)) == 1 or ', referrer: "' not in message):
        put_address(fields, "source", clients[-1])
        context = _CONTEXT(message, message.rindex(", client: "))
        if context is not None:
            fields["http.request.method"], fields["url.original"], fields["http.version"] = context.groups()
            host = _HOST(message, context.end())
            if host is not None:
                fields["url.domain"] = host[1]
    return NAME, timestamp_us, flags, "", message, fields


DECODER = LineDecoder(name=NAME, about="nginx error log.", open=open_line, leads=("0000/00/00 ",), goes_on=("PHP ",))
