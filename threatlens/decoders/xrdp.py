"""xrdp and its session manager: "[20261123-06:51:07] [INFO ] AUTHFAIL: user=bob ip=192.0.2.7 time=1795416667".

The user name stands before the address and may hold blanks and line breaks: the last "ip=" counts.
"""

from __future__ import annotations

from threatlens.decoders.tables import Table, layout, row

_LEVEL = r"(?:\[(?:[A-Z]+) *\] )?"
_AT = r"(?P<src>\S+)"

_TABLE = Table(
    {
        "": [
            row(
                rf"{_LEVEL}AUTHFAIL: user=(?P<user>.*) ip={_AT}(?: port=(?P<sport>[0-9]{{1,5}}))? time=[0-9]+",
                "login",
                "failure",
            ),
            row(
                rf"{_LEVEL}(?:\+\+ )?(?P<reason>created|terminated|reconnected) session(?: \(access granted\))?:"
                rf" .*username (?P<user>[^\s,]+).*",
                "session_opened",
                "success",
                category="session",
            ),
            row(rf"{_LEVEL}Access permitted for user: (?P<user>.*)", "login", "success"),
            row(rf"{_LEVEL}(?:Username or password error|login failed) for (?:user|display).*", "login", "failure"),
            row(rf"{_LEVEL}(?:login failed for user|pam_authenticate failed:) (?P<user>.*)", "login", "failure"),
            row(
                rf"{_LEVEL}Socket \S+: AF_INET6? connection received from (?P<src>\S+) port (?P<sport>[0-9]{{1,5}})",
                "rdp_connect",
                category="network",
            ),
            row(rf"{_LEVEL}(?P<reason>.*)", category="session"),
        ]
    }
)

DECODER = layout(
    "xrdp",
    r"\[(?P<time>[0-9]{8}-[0-9]{2}:[0-9]{2}:[0-9]{2})\] \[(?P<level>[A-Z]+) *\] (?P<message>.*)",
    about="xrdp and xrdp-sesman: remote desktop logins, in their own files or syslog.",
    leads=("[00000000-0",),
    messages=_TABLE,
    programs=("xrdp", "xrdp-sesman"),
)
