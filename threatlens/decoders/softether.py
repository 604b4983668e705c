"""SoftEther VPN server: connections and logins. The user name is quoted before the address, which ends the sentence."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.tables import Table, layout, row

_CONNECTION = r"Connection \"(?P<session>CID-[0-9]+)\":? "
_NET: dict[str, Any] = {"category": "network"}

_TABLE = Table(
    {
        "Connection": [
            row(
                _CONNECTION + r"User authentication failed\. The user name that has"
                r" been provided was \"(?P<user>.*)\",? from (?P<src>\S+?)\.?",
                "vpn_login",
                "failure",
            ),
            row(_CONNECTION + r"User authentication failed\..*", "vpn_login", "failure"),
            row(_CONNECTION + r"Successfully authenticated as user \"(?P<user>[^\"]*)\"\.", "vpn_login", "success"),
            row(_CONNECTION + r"(?P<reason>.*)", **_NET),
        ],
        "On": [
            row(
                r"On the TCP Listener \(Port (?P<dport>[0-9]{1,5})\), a Client \(IP address (?P<src>[^\s,]+), .*",
                "vpn_connect",
                **_NET,
            )
        ],
        "Session": [row(r"Session \"(?P<session>[^\"]*)\": (?P<reason>.*)", category="session")],
        "SSL": [row(r"SSL communication for connection .*", **_NET)],
    }
)

DECODER = layout(
    "softether",
    r"(?P<time>[0-9T: .,+Z-]{19,35}) (?:(?P<host>[\w.-]+) +\[[^\]]*\] \([^)]*\) <\w+>: )?(?P<message>.*)",
    about="SoftEther VPN: connections and logins.",
    leads=("0000-00-00 ", "0000-00-00T"),
    marks=('Connection "CID-', "On the TCP Listener", 'Session "SID-', "SSL communication"),
    messages=_TABLE,
    only_messages=True,
)
