"""pfSense's and OPNsense's packet filter: "4,,,1000000103,igb0,match,block,in,4,0x0,,64,23284,0,DF,6,tcp,60,...".

All columns are the kernel's.
"""

from __future__ import annotations

from threatlens.decoders.base import MessageDecoder, put_address, put_port
from threatlens.event import Fields


def read(message: str, fields: Fields) -> bool:
    """Read one packet; IPv4 and IPv6 have their columns in different places."""
    columns = message.split(",")
    if len(columns) < 17 or columns[8] not in {"4", "6"} or columns[7] not in {"in", "out"}:
        return False
    at = 15 if columns[8] == "4" else 12
    protocol = columns[16].lower() if columns[8] == "4" else columns[12].lower()
    ends = 18 if columns[8] == "4" else 15
    if len(columns) < ends + 2:
        return False
    blocked = columns[6] in {"block", "reject"}
    fields["event.category"] = "network"
    fields["event.action"] = "firewall_deny" if blocked else "firewall_allow"
    fields["event.outcome"] = "failure" if blocked else "success"
    fields["network.direction"] = "inbound" if columns[7] == "in" else "outbound"
    if columns[4]:
        fields["observer.ingress.interface.name"] = columns[4]
    if columns[0] or columns[3]:
        fields["rule.id"] = columns[3] or columns[0]
    if protocol and not protocol.isdecimal():
        fields["network.transport"] = protocol
    if len(columns[at + 2]) <= 9 and columns[at + 2].isdecimal():
        fields["network.bytes"] = int(columns[at + 2])
    put_address(fields, "source", columns[ends])
    put_address(fields, "destination", columns[ends + 1])
    if protocol in {"tcp", "udp"} and len(columns) > ends + 3:
        put_port(fields, "source.port", columns[ends + 2])
        put_port(fields, "destination.port", columns[ends + 3])
    return True


DECODER = MessageDecoder(
    name="filterlog", about="pfSense's and OPNsense's packet filter.", read=read, programs=("filterlog", "pf")
)
