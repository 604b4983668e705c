"""ProFTPD, in syslog or its own file: "web1 (client.example.net[192.0.2.7]) - USER bob: no such user found ..."."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.tables import Table, layout, row

_NET: dict[str, Any] = {"category": "network"}
_H = r"(?:\S+ \([^\s\[]*\[(?P<src>[^\]\s]+)\]\)(?:\[[^\]]*\])?\s?-?:? *)"

_TABLE = Table(
    {
        "": [
            row(rf"{_H}USER (?P<user>.*): no such user(?: found)? .*", "ftp_login", "failure"),
            row(rf"{_H}USER (?P<user>.*) \(Login failed\): ?(?P<reason>.*)", "ftp_login", "failure"),
            row(rf"{_H}SECURITY VIOLATION: (?P<user>.*) login attempted\.?", "ftp_login", "failure"),
            row(rf"{_H}(?P<reason>Maximum login attempts \([0-9]+\) exceeded).*", "ftp_login", "failure"),
            row(rf"{_H}USER (?P<user>.*): Login successful\.?", "ftp_login", "success"),
            row(rf"{_H}ANON (?P<user>\S+): Login successful\.?", "ftp_login", "success"),
            row(rf"{_H}FTP session opened\.?", "ftp_connect", **_NET),
            row(rf"{_H}FTP session closed\.?", "ftp_disconnect", **_NET),
            row(rf"{_H}Login successful.*", "ftp_login", "success"),
            row(rf"{_H}mod_sftp/[0-9.]+: (?P<reason>.*)", "ftp_session", **_NET),
            row(rf"{_H}(?P<reason>.*)", **_NET),
        ]
    }
)

DECODER = layout(
    "proftpd",
    r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}(?:,[0-9]{3})?) \S+ "
    r"proftpd\[(?P<pid>[0-9]{1,10})\]:? (?P<message>.*)",
    about="ProFTPD: FTP logins and sessions, in syslog or its own file.",
    leads=("0000-00-00 00:00:00",),
    marks=(" proftpd[",),
    messages=_TABLE,
    programs=("proftpd",),
)
