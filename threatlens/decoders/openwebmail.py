"""Open WebMail: "Mon Nov 23 06:51:07 2026 - [31] (192.0.2.7) bob - login error - no such user - loginname=bob"."""

from __future__ import annotations

from threatlens.decoders.tables import Table, layout, row

_WHO = r"(?P<user>\S+) - "

_TABLE = Table(
    {
        "": [
            row(rf"{_WHO}(?:login|userinfo) error - (?P<reason>.*)", "mail_login", "failure"),
            row(rf"{_WHO}login - (?P<session>.*)", "mail_login", "success"),
            row(rf"{_WHO}logout - .*", "mail_logout", category="session"),
            row(rf"{_WHO}(?P<reason>.*)", category="email"),
        ]
    }
)

DECODER = layout(
    "openwebmail",
    r"(?P<time>[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} [0-9]{4}) - \[(?P<pid>[0-9]{1,10})\] \("
    r"(?P<src>[^()\s]+)\) (?P<message>.*)",
    about="Open WebMail: logins.",
    leads=("Aaa Aaa 00 00:00:00 0000 - [0", "Aaa Aaa  0 00:00:00 0000 - [0"),
    messages=_TABLE,
)
