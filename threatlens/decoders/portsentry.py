"""PortSentry: attacks on ports nobody serves, in syslog and in portsentry.history/.blocked."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.tables import Table, layout, row

_SCAN: dict[str, Any] = {"category": "intrusion_detection"}


_TABLE = Table(
    {
        "Host:": [
            row(
                r"Host: \S*/(?P<src>[^\s/]+) Port: (?P<dport>[0-9]{1,5}) (?P<transport>TCP|UDP) Blocked",
                "port_scan",
                **_SCAN,
            )
        ],
        "attackalert:": [
            row(
                r"attackalert: Host:? (?P<src>[^\s/]+)(?:/\S+)? (?:is already blocked|has been blocked).*",
                "port_scan",
                **_SCAN,
            ),
            row(
                r"attackalert: (?P<reason>.*) (?:scan|attack)?\s?from host: \S*/(?P<src>[^\s/]+) to "
                r"(?P<transport>TCP|UDP) port: (?P<dport>[0-9]{1,5}).*",
                "port_scan",
                **_SCAN,
            ),
        ],
        "adminalert:": [row(r"adminalert: (?P<reason>.*)", "portsentry_info", category="process")],
    }
)

DECODER = layout(
    "portsentry",
    r"(?P<time>[0-9]{10}) - [0-9]{2}/[0-9]{2}/[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} (?P<message>Host: .*)",
    about="PortSentry: port scans, in its own files or syslog.",
    leads=("0000000000 - 00/00/0000 ",),
    messages=_TABLE,
    programs=("portsentry",),
)
