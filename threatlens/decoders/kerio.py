"""Kerio Connect: "[23/Nov/2026 06:51:07] text". Mail addresses are the client's, the IP address is the server's."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.tables import Table, layout, row

_MAIL: dict[str, Any] = {"category": "email"}
_IP = r"IP address (?P<src>[^\s,]+?)"
_TAIL = r"(?:,? mail from <(?P<sender>[^>]*)> to <(?P<recipient>[^>]*)>)?(?: (?P<reason>rejected))?\.?"

_TABLE = Table(
    {
        "Attempt": [
            row(
                rf"Attempt to deliver to unknown recipient <(?P<recipient>[^>]*)>, from <(?P<sender>[^>]*)>, {_IP}",
                "mail_rejected",
                "failure",
                **_MAIL,
            )
        ],
        "SMTP": [
            row(r"SMTP Spam attack detected from (?P<src>[^\s,]+), (?P<reason>.*)", "spam_detected", "failure", **_MAIL)
        ],
        "SMTP:": [
            row(rf"SMTP: User (?P<user>.*) doesn't exist\. Attempt from {_IP}\.?", "mail_login", "failure"),
            row(rf"SMTP: Invalid password for user (?P<user>.*)\. Attempt from {_IP}\.?", "mail_login", "failure"),
        ],
        "IP": [row(rf"{_IP} found in DNS blacklist (?P<rule>[^\s,]+),{_TAIL}", "mail_rejected", "failure", **_MAIL)],
        "Relay": [row(rf"Relay attempt from {_IP},{_TAIL}", "mail_relay_denied", "failure", **_MAIL)],
        "Client": [
            row(rf"Client with {_IP} (?P<reason>has no reverse DNS entry).*", "mail_rejected", "failure", **_MAIL)
        ],
        "Administration": [
            row(r"Administration login into .{1,60} from (?P<src>\S+) failed: (?P<reason>.*)", "login", "failure"),
        ],
        "Message": [
            row(
                rf"Message from {_IP}, sender <(?P<sender>[^>]*)> rejected: (?P<reason>.*)",
                "mail_rejected",
                "failure",
                **_MAIL,
            )
        ],
        "Failed": [
            row(
                r"Failed (?P<protocol>\S+) login from (?P<src>\S+?)(?: with SASL method (?P<method>[\w-]+?))?\.?",
                "mail_login",
                "failure",
            ),
            row(r"Failed (?P<protocol>\S+) login for user (?P<user>.*) from (?P<src>\S+?)\.?", "mail_login", "failure"),
        ],
        "HTTP/WebMail:": [
            row(
                rf"HTTP/WebMail: (?:Invalid password for user (?P<user>.*)|User (?P<target>.*) doesn't exist)\."
                rf" Attempt from {_IP}\.?",
                "mail_login",
                "failure",
            )
        ],
        "": [
            row(
                rf"(?P<protocol>\w{{2,8}}): (?P<reason>Invalid password) for user (?P<user>.*)\. Attempt from {_IP}\.?",
                "mail_login",
                "failure",
            ),
            row(
                rf"(?P<protocol>\w{{2,8}}): User (?P<user>.*) (?P<reason>doesn't exist)\. Attempt from {_IP}\.?",
                "mail_login",
                "failure",
            ),
            row(
                rf"(?P<protocol>\w{{2,8}}): (?P<reason>Authentication failed) for user (?P<user>.*)\. Attempt from"
                rf" {_IP}\.?",
                "mail_login",
                "failure",
            ),
        ],
    }
)

DECODER = layout(
    "kerio",
    r"\[(?P<time>[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2})\] (?P<message>.*)",
    about="Kerio mail server: refused mail, failed logins.",
    leads=("[00/Aaa/000",),
    messages=_TABLE,
)
