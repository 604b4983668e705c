"""Apache's error log, 2.2 and 2.4: "[Mon Nov 23 06:51:07.123456 2026] [core:error] [pid 31] [client 192.0.2.7:5] text".

The server writes the client's address before anything that the client has sent.
"""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import ADDRESSES, LineDecoder, Opened, compiled, put_address, put_port
from threatlens.decoders.tables import Table, row
from threatlens.decoders.times import Clock
from threatlens.event import TIME_ERROR, Fields

NAME = "apache.error"

_LINE = compiled(
    r"(?:\[[A-Z][a-z]{2} ([A-Z][a-z]{2} {1,2}[0-9]{1,2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})? [0-9]{4})\] )?"
    r"\[(?:([\w-]{0,40}):)?(emerg|alert|crit|error|warn|notice|info|debug|trace[1-8])\](.*)"
).fullmatch
_PID = compiled(r" \[pid ([0-9]{1,10})(?::tid [0-9]{1,20})?\]").match
_CLIENT = compiled(
    r"(?: \([^()]{1,20}\)[^\[\]]{0,200}:)?(?: [\w.]{1,60}\([0-9]{1,6}\):)?"
    r" \[(?:client|remote) (\[[^\]\s]+\](?::[0-9]{1,5})?|[^\]\s]+)\]"
).match
_PORT = compiled(r"(.*[^:]):([0-9]{1,5})").fullmatch
_CODE = compiled(r"(AH[0-9]{5}): (.*)").fullmatch
_LEVELS = {"emerg": "emergency", "crit": "critical", "warn": "warning", **{f"trace{n}": "debug" for n in range(1, 9)}}

_WEB: dict[str, Any] = {"category": "web"}
_DENIED = "http_denied"
_MESSAGES = Table(
    {
        "user": [
            row(r"user `(?P<user>.*)' in realm `[^'`]{0,256}' not found: .*", "http_login", "failure"),
            row(r"user (?P<user>.*) not found: .*", "http_login", "failure"),
            row(r"user (?P<user>.*): authentication failure for .*", "http_login", "failure"),
            row(r"user (?P<user>.*): [Pp]assword [Mm]ismatch.*", "http_login", "failure"),
            row(
                r"user (?>(?P<user>.{0,512}?) in realm ).{0,4096}? (?:not found|denied by provider): .*",
                "http_login",
                "failure",
            ),
            row(r"user (?P<user>.*) not found", "http_login", "failure"),
            row(r"user (?P<user>.*): .*", "http_login", "failure"),
        ],
        "Authorization": [
            row(
                r"Authorization of user (?>(?P<user>.{0,512}?) to access ).{0,4096}? failed, reason: .*",
                _DENIED,
                "failure",
            )
        ],
        "AuthType": [row(r"AuthType .*", "http_login", "failure")],
        "Hostname": [row(r"Hostname .* provided via SNI.*", "tls_handshake", "failure", **_WEB)],
        "No": [row(r"No hostname was provided via SNI .*", "tls_handshake", "failure", **_WEB)],
        "access": [
            row(
                r"access to .* failed(?: for [^\s,]+)?, reason: user '(?P<user>[^']*)' does not meet .*",
                _DENIED,
                "failure",
            ),
            row(r"access to .* failed, reason: .*", _DENIED, "failure"),
        ],
        "client": [
            row(r"client denied by server configuration: (?P<file>.*)", _DENIED, "failure", **_WEB),
            row(r"client (?:used|sent) .*", "http_client_error", "failure", **_WEB),
        ],
        "Digest:": [
            row(r"Digest: user `(?P<user>.*)' in realm `[^'`]{0,256}' not found: .*", "http_login", "failure"),
            row(r"Digest: user (?P<user>.*): [Pp]assword [Mm]ismatch: .*", "http_login", "failure"),
            row(r"Digest: .*", "http_login", "failure"),
        ],
        "invalid": [row(r"invalid (?:nonce|qop|uri) .*", "http_login", "failure")],
        "WAR": [row(r"WAR \[Login denied for user \"(?P<user>.*)\"\](?:, referer: .*)?", "http_login", "failure")],
        "ERR": [
            row(r"ERR \[Login denied for user \"(?P<user>.*)\"\](?:, referer: .*)?", "http_login", "failure"),
            row(r"ERR \[Could not retrieve user (?P<user>.*) details\](?:, referer: .*)?", "http_login", "failure"),
            row(r"ERR \[.*Invalid username .*", "http_login", "failure"),
        ],
        "realm": [row(r"realm mismatch .*", "http_login", "failure")],
        "unknown": [row(r"unknown algorithm .*", "http_login", "failure")],
        "File": [row(r"File does not exist: (?P<file>.*)", "http_file_error", "failure", **_WEB)],
        "script": [row(r"script '(?P<file>.*)' not found or unable to stat.*", "http_file_error", "failure", **_WEB)],
        "Directory": [row(r"Directory index forbidden by .*", _DENIED, "failure", **_WEB)],
        "Invalid": [row(r"Invalid (?P<reason>URI|method) in request .*", "http_client_error", "failure", **_WEB)],
        "request": [row(r"request failed: .*", "http_client_error", "failure", **_WEB)],
        "ModSecurity:": [row(r"ModSecurity: .*", "http_denied", "failure", **_WEB)],
    }
)


def open_line(line: str, clock: Clock) -> Opened | None:
    """The head, the client, and the kind of message."""
    found = _LINE(line)
    if found is None:
        return None
    time, module, level, rest = found.groups()
    timestamp_us, flags = clock.bsd(time) if time is not None else (None, TIME_ERROR)
    fields: Fields = {"event.category": "web", "log.level": _LEVELS.get(level, level)}
    if module:
        fields["event.module"] = module
    pid = _PID(rest)
    if pid is not None:
        fields["process.pid"] = int(pid[1])
        rest = rest[pid.end() :]
    client = _CLIENT(rest)
    if time is None and pid is None and client is None:
        return None
    if client is not None:
        rest = rest[client.end() :]
        _put_client(fields, client[1])
    message = rest[1:]
    code = _CODE(message)
    if code is not None:
        fields["event.code"] = code[1]
    _MESSAGES.read(code[2] if code is not None else message, fields)
    return NAME, timestamp_us, flags, "", message, fields


def _put_client(fields: Fields, client: str) -> None:
    with_port = _PORT(client)
    if with_port is not None and ADDRESSES[with_port[1]]:
        put_address(fields, "source", with_port[1])
        put_port(fields, "source.port", with_port[2])
    else:
        put_address(fields, "source", client)


DECODER = LineDecoder(
    name=NAME, about="Apache error log, versions 2.2 and 2.4.", open=open_line, leads=("[Aaa Aaa ", "[a", "[:")
)
