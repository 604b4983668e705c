"""Zeek's tab-separated logs with their default columns: connections, HTTP, SSH, DNS.

Which log it is, the columns behind the connection tell; the file's own header is on other lines and may be gone.
"""

from __future__ import annotations

from typing import Any

from threatlens.decoders.tables import Table, layout, row

_NET: dict[str, Any] = {"category": "network"}
_IP = r"[0-9a-fA-F:.]{2,64}"
_SSH = r"(?:[12]|-)\t"
_SSH_TRIES = r"\t(?:-|[0-9]{1,6})\t(?:-|INBOUND|OUTBOUND)\t(?:-|(?P<agent>[^\t]{0,400}))\t.*"

_LOGS = Table(
    {
        "": [
            row(
                r"(?P<transport>tcp|udp|icmp|unknown_transport)\t(?:-|(?P<protocol>[\w,-]{1,80}))\t(?:-|[0-9.]{1,20})"
                r"\t(?:-|(?P<source__bytes>[0-9]{1,15}))\t(?:-|(?P<destination__bytes>[0-9]{1,15}))"
                r"\t(?P<reason>[A-Z0-9]{2,6})\t.*",
                "connection",
                **_NET,
            ),
            row(
                r"(?P<transport>tcp|udp)\t[0-9]{1,10}\t(?:-|[0-9.]{1,20})\t(?:-|(?P<question>[^\t]{1,255}))"
                r"\t(?:-|[0-9]{1,6})\t(?:-|[\w*-]{1,20})\t(?:-|[0-9]{1,6})\t(?:-|(?P<record_type>[\w*-]{1,20}))\t.*",
                "dns_query",
                **_NET,
            ),
            row(_SSH + "T" + _SSH_TRIES, "ssh_login", "success"),
            row(_SSH + "F" + _SSH_TRIES, "ssh_login", "failure"),
            row(_SSH + "-" + _SSH_TRIES, "ssh_connect", **_NET),
            row(
                r"[0-9]{1,6}\t(?:-|(?P<http_method>[A-Z_]{2,20}))\t(?:-|(?P<domain>[^\t]{1,255}))\t(?:-|(?P<url>[^\t]*))"
                r"\t(?:-|(?P<referrer>[^\t]*))\t(?:-|(?P<http_version>[0-9.]{1,4}))\t(?:-|(?P<agent>[^\t]*))"
                r"\t(?:[^\t]{1,400}\t)?[0-9]{1,15}\t(?P<size>[0-9]{1,15})\t(?:-|(?P<status>[0-9]{3}))\t.*",
                "http_request",
                category="web",
            ),
        ]
    }
)

DECODER = layout(
    "zeek",
    rf"(?P<time>[0-9]{{9,10}}\.[0-9]{{6}})\t(?P<session>C\w{{8,24}})\t(?P<src>{_IP})\t(?P<sport>[0-9]{{1,5}})"
    rf"\t(?P<dst>{_IP})\t(?P<dport>[0-9]{{1,5}})\t(?P<message>.*)",
    about="Zeek's tab-separated logs with default columns: conn, http, ssh, dns.",
    leads=("0000000000.000000\tA",),
    marks=("\t",),
    messages=_LOGS,
    only_messages=True,
)
