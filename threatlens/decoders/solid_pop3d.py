"""solid-pop3d: logins and refusals. The address is the last word, behind the user name."""

from __future__ import annotations

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row

_AT = r" - (?P<src>\S+)"

_TABLE = Table(
    {
        "authentication": [
            row(
                rf"authentication failed: (?P<reason>no such user|can't map user name): (?P<user>.*){_AT}",
                "mail_login",
                "failure",
            ),
            row(rf"authentication failed for (?:mapped )?user (?P<user>.*){_AT}", "mail_login", "failure"),
        ],
        "APOP": [row(rf"APOP authentication failed for (?:mapped )?user (?P<user>.*){_AT}", "mail_login", "failure")],
        "root": [row(rf"(?P<user>root) login not allowed{_AT}", "mail_login", "failure")],
        "can't": [row(rf"can't find APOP secret for (?:mapped )?user (?P<user>.*){_AT}", "mail_login", "failure")],
        "user": [row(rf"user (?P<user>.*) authenticated{_AT}", "mail_login", "success")],
        "connect": [row(r"connect from (?P<src>\S+)", "mail_connect", category="network")],
    }
)

DECODER = MessageDecoder(
    name="solid.pop3d", about="solid-pop3d: POP3 logins.", read=_TABLE.read, programs=("solid-pop3d", "spop3d")
)
