"""Postfix: connections, refusals, SASL logins, postscreen, deliveries.

The client's name and address stand first and are the server's; senders, recipients and HELO names are the client's.
"""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row

_MAIL: dict[str, Any] = {"category": "email"}
_NET: dict[str, Any] = {"category": "network"}
_CLIENT = r"[^\s\[\]]*\[(?P<src>[^\]\s]+)\](?::(?P<sport>[0-9]{1,5}))?"
_QUEUE = r"(?:(?P<queue_id>[0-9A-F]{5,20}|[0-9A-Za-z]{10,20}|NOQUEUE): )?"
_ENVELOPE = (
    r"(?:.*?;)? ?(?:from=<(?P<sender>[^>]*)> )?(?:to=<(?P<recipient>[^>]*)> )?(?:proto=(?P<protocol>\w+))?(?:"
    r" helo=<.*>)?"
)

_REJECT = [
    row(rf"{_QUEUE}(?:milter-)?reject: AUTH from {_CLIENT}: (?P<reason>[45][0-9]{{2}} .*)", "mail_login", "failure"),
    row(
        rf"{_QUEUE}(?:milter-)?reject: (?P<method>[A-Z]+(?: [\w./]+)?) from {_CLIENT}: "
        rf"(?P<reason>[45][0-9]{{2}} .*Relay access denied).*",
        "mail_relay_denied",
        "failure",
        **_MAIL,
    ),
    row(
        rf"{_QUEUE}(?:milter-)?reject: (?P<method>[A-Z-]+(?: [\w./]+)?) from {_CLIENT}: "
        r"(?P<reason>[45](?:[0-9]{2}|\.[0-9.]{1,7}) [^;]*)"
        r"(?:;.{0,1000}? from=<(?P<sender>[^>]*)>)?(?: to=<(?P<recipient>[^>]*)>)?.*",
        "mail_rejected",
        "failure",
        **_MAIL,
    ),
    row(rf"{_QUEUE}reject_warning: (?P<method>[A-Z]+) from {_CLIENT}: (?P<reason>.*)", "mail_warned", **_MAIL),
    row(rf"{_QUEUE}reject: (?P<reason>.*) from {_CLIENT}.*", "mail_rejected", "failure", **_MAIL),
]
_LOGIN = [
    row(
        rf"warning: {_CLIENT}: SASL (?P<method>[\w-]+) authentication failed(?::(?P<reason>.*?))?"
        r"(?:, sasl_username=(?P<user>.*))?",
        "mail_login",
        "failure",
    ),
]

_TABLE = Table(
    {
        "NOQUEUE:": _REJECT,
        "warning:": [
            *_LOGIN,
            row(
                r"warning: hostname (?P<source__domain>\S+) does not resolve to address (?P<src>[^\s:]+).*",
                "mail_reverse_mapping_failed",
                **_MAIL,
            ),
            row(
                rf"warning: non-SMTP command"
                rf" from {_CLIENT}: (?P<reason>.*)",
                "mail_protocol_error",
                "failure",
                **_MAIL,
            ),
            row(
                rf"warning: (?P<reason>Connection "
                rf"(?:rate|concurrency) limit exceeded: .*) from {_CLIENT} for .*",
                "mail_rate_limited",
                "failure",
                **_MAIL,
            ),
            row(rf"warning: (?:.* )?{_CLIENT}: (?P<reason>.*)", "mail_warning", level="warning", **_MAIL),
            row(r"warning: (?P<reason>.*)", "mail_warning", level="warning", **_MAIL),
        ],
        "fatal:": [row(r"fatal: (?P<error>.*)", "mail_error", "failure", level="critical", **_MAIL)],
        "error:": [row(r"error: (?P<error>.*)", "mail_error", "failure", level="error", **_MAIL)],
        "connect": [row(rf"connect from {_CLIENT}", "mail_connect", **_NET)],
        "CONNECT": [
            row(
                r"CONNECT from \[(?P<src>[^\]\s]+)\]:(?P<sport>[0-9]{1,5}) to \[(?P<dst>[^\]\s]+)\]:"
                r"(?P<dport>[0-9]{1,5})",
                "mail_connect",
                **_NET,
            )
        ],
        "disconnect": [
            row(
                rf"disconnect from {_CLIENT} (?P<reason>[a-z0-9= /]{{0,200}}\bauth=0/[0-9]{{1,6}}\b.*)",
                "mail_disconnect",
                "failure",
                **_NET,
            ),
            row(rf"disconnect from {_CLIENT}.*", "mail_disconnect", **_NET),
        ],
        "DISCONNECT": [row(rf"DISCONNECT {_CLIENT}", "mail_disconnect", **_NET)],
        "lost": [row(rf"lost connection after (?P<reason>.*) from {_CLIENT}", "mail_lost_connection", **_NET)],
        "timeout": [row(rf"timeout after (?P<reason>.*) from {_CLIENT}", "mail_timeout", **_NET)],
        "too": [
            row(rf"too many errors after (?P<reason>.*) from {_CLIENT}", "mail_too_many_errors", "failure", **_MAIL)
        ],
        "improper": [
            row(
                rf"improper command pipelining after (?P<reason>\S+) from {_CLIENT}.*",
                "mail_protocol_error",
                "failure",
                **_MAIL,
            )
        ],
        "SSL_accept": [row(rf"SSL_accept error from {_CLIENT}.*", "tls_handshake", "failure", **_NET)],
        "setting": [row(rf"setting up TLS connection from {_CLIENT}", "tls_handshake", **_NET)],
        "Anonymous": [
            row(rf"Anonymous TLS connection established from {_CLIENT}: .*", "tls_handshake", "success", **_NET)
        ],
        "Untrusted": [
            row(rf"Untrusted TLS connection established from {_CLIENT}: .*", "tls_handshake", "success", **_NET)
        ],
        "Trusted": [row(rf"Trusted TLS connection established from {_CLIENT}: .*", "tls_handshake", "success", **_NET)],
        "PREGREET": [
            row(rf"PREGREET [0-9]+ after [0-9.]+ from {_CLIENT}: (?P<reason>.*)", "mail_probe", "failure", **_MAIL)
        ],
        "HANGUP": [row(rf"HANGUP after [0-9.]+ from {_CLIENT} in (?P<reason>.*)", "mail_probe", **_MAIL)],
        "DNSBL": [row(rf"DNSBL rank (?P<count>[0-9]{{1,9}}) for {_CLIENT}", "mail_blocklisted", "failure", **_MAIL)],
        "BLACKLISTED": [row(rf"BLACKLISTED {_CLIENT}", "mail_blocklisted", "failure", **_MAIL)],
        "BARE": [row(rf"BARE NEWLINE from {_CLIENT}.*", "mail_probe", "failure", **_MAIL)],
        "COMMAND": [row(rf"COMMAND (?P<reason>.*) from {_CLIENT}.*", "mail_probe", "failure", **_MAIL)],
        "NON-SMTP": [row(rf"NON-SMTP COMMAND from {_CLIENT} (?P<reason>.*)", "mail_probe", "failure", **_MAIL)],
        "PASS": [row(rf"PASS (?:NEW|OLD) {_CLIENT}", "mail_connect", "success", **_MAIL)],
        "WHITELISTED": [row(rf"WHITELISTED {_CLIENT}", "mail_connect", **_MAIL)],
        "statistics:": [row(r"statistics: (?P<reason>.*)", "mail_statistics", **_MAIL)],
        "": [
            *_REJECT,
            row(
                rf"{_QUEUE}client={_CLIENT}, sasl_method=(?P<method>[^,\s]+), sasl_username=(?P<user>.*)",
                "mail_login",
                "success",
            ),
            row(rf"{_QUEUE}client={_CLIENT}(?:, .*)?", "mail_received", **_MAIL),
            row(rf"{_QUEUE}message-id=<?(?P<message_id>[^>\s]*)>?", "mail_received", **_MAIL),
            row(
                rf"{_QUEUE}from=<(?P<sender>[^>]*)>,"
                rf" size=(?P<network__bytes>[0-9]{{1,15}}), .*",
                "mail_queued",
                **_MAIL,
            ),
            row(
                rf"{_QUEUE}to=<"
                rf"(?P<recipient>[^>]*)>, (?>.*?status=sent \()(?P<reason>.*)\)",
                "mail_sent",
                "success",
                **_MAIL,
            ),
            row(
                rf"{_QUEUE}to=<(?P<recipient>[^>]*)>, .*status="
                rf"(?:bounced|deferred|expired|undeliverable)\b(?P<reason>.*)",
                "mail_sent",
                "failure",
                **_MAIL,
            ),
            row(rf"{_QUEUE}removed", "mail_removed", **_MAIL),
        ],
    }
)

DECODER = MessageDecoder(
    name="postfix",
    about="Postfix: connections, refusals, SASL logins, postscreen, deliveries.",
    read=_TABLE.read,
    programs=("postfix", "postfix-submission", "postfix-smtps"),
)
