"""HAProxy: requests (option httplog), connections (tcplog) and refused TLS, in syslog.

The address comes first; what a client sends stands in braces or quotes at the end.
"""

from __future__ import annotations

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row
from threatlens.event import Fields

_FROM = r"(?P<src>[0-9a-fA-F:.]{2,64}):(?P<sport>[0-9]{1,5}) \[[^\]]{1,40}\] "
_THROUGH = r"(?P<observer__ingress__interface__name>\S{1,100}) (?P<service__name>\S{1,200}) "
_COUNTS = r"[0-9+/-]{5,60} [0-9+/-]{3,30}"

_TABLE = Table(
    {
        "": [
            row(
                _FROM
                + _THROUGH
                + r"[0-9+/-]{5,60} (?P<status>[0-9]{3}) \+?(?P<size>[0-9]{1,15}) \S{1,400} \S{1,400} \S{2,6} "
                + _COUNTS
                + r' (?:\{(?P<http__request__headers>.*)\} )?"(?:(?P<http_method>[A-Z]{2,20}) (?P<url>\S*)(?: HTTP/(?P<http_version>[0-9.]{1,4}))?|.*)"?',
                "http_request",
                category="web",
            ),
            row(
                _FROM
                + _THROUGH
                + r"[0-9+/-]{3,60} \+?(?P<source__bytes>[0-9]{1,15}) (?P<event__reason>\S{2,6}) "
                + _COUNTS,
                "network_connection",
                category="network",
            ),
            row(
                _FROM + r"(?P<observer__ingress__interface__name>\S{1,100}): (?P<reason>.*)",
                "tls_handshake",
                "failure",
                category="network",
            ),
            row(
                r"Connect from (?P<src>[0-9a-fA-F:.]{2,64}):(?P<sport>[0-9]{1,5}) to (?P<dst>[0-9a-fA-F:.]{2,64}):(?P<dport>[0-9]{1,5}) .*",
                "network_connection",
                category="network",
            ),
            row(r"(?P<reason>(?:Server|backend|Proxy|Health check) .*)", "proxy_state", category="host"),
        ]
    }
)


def read(message: str, fields: Fields) -> bool:
    """Read one line; the status says the outcome, and <NOSRV> with 4xx that HAProxy itself refused."""
    if not _TABLE.read(message, fields):
        return False
    status = fields.get("http.response.status_code")
    if isinstance(status, int):
        fields["event.outcome"] = "failure" if status >= 400 else "success"
    return True


DECODER = MessageDecoder(
    name="haproxy", about="HAProxy: requests, connections, refused TLS.", read=read, programs=("haproxy",)
)
