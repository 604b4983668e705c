"""Packets that iptables, nftables or ufw logged: "[UFW BLOCK] IN=eth0 OUT= SRC=192.0.2.7 DST=... PROTO=TCP ...".

What happened to the packet is said by the rule's prefix only, which the administrator chose; words such as BLOCK or
ACCEPT in it are understood, others leave the outcome open. Everything behind the prefix is the kernel's.
"""

from __future__ import annotations

from threatlens.decoders.base import MessageDecoder, compiled, put_address, put_port
from threatlens.event import Fields

_LINE = compiled(
    r"(?:\[ {0,8}[0-9]{1,12}\.[0-9]{1,9}\] ?)?(.{0,120}?)\bIN=([\w.:@+-]{0,40}) OUT=([\w.:@+-]{0,40}) (.*)"
).fullmatch
#: By a word, or by the letter that UniFi and EdgeOS put behind the rule's number or in front of it.
_DENIED = compiled(r"(?i:block|drop|deny|denied|reject)|[\w-]-[DR](?:-[0-9]{1,12})?\]").search
_ALLOWED = compiled(r"(?i:allow|accept|pass)|[\w-]-A(?:-[0-9]{1,12})?\]").search


def read(message: str, fields: Fields) -> bool:
    """Read one packet."""
    if " SRC=" not in message:
        return False
    found = _LINE(message)
    if found is None:
        return False
    prefix, interface_in, interface_out, rest = found.groups()
    pairs: dict[str, str] = {}
    for word in rest.split():
        name, sign, value = word.partition("=")
        if sign and name not in pairs:  # an ICMP error quotes the packet it is about, behind its own
            pairs[name] = value
    if "DST" not in pairs or "SRC" not in pairs:
        return False
    _put_action(prefix.strip(), fields)
    put_address(fields, "source", pairs["SRC"])
    put_address(fields, "destination", pairs["DST"])
    put_port(fields, "source.port", pairs.get("SPT", ""))
    put_port(fields, "destination.port", pairs.get("DPT", ""))
    protocol = pairs.get("PROTO", "")
    if protocol:
        fields["network.transport"] = protocol.lower()
    if pairs.get("LEN", "").isdecimal() and len(pairs["LEN"]) <= 9:
        fields["network.bytes"] = int(pairs["LEN"])
    if interface_in:
        fields["observer.ingress.interface.name"] = interface_in
    if interface_out:
        fields["observer.egress.interface.name"] = interface_out
    mac = pairs.get("MAC", "").split(":")
    if len(mac) == 14:  # destination, source, type
        fields["source.mac"] = "-".join(mac[6:12]).upper()
    return True


def _put_action(prefix: str, fields: Fields) -> None:
    fields["event.category"] = "network"
    if prefix:
        fields["rule.name"] = prefix.partition("] DESCR=")[0].strip("[]: ")
    if _DENIED(prefix):
        fields["event.action"] = "firewall_deny"
        fields["event.type"] = "denied"
        fields["event.outcome"] = "failure"
    elif _ALLOWED(prefix):
        fields["event.action"] = "firewall_allow"
        fields["event.type"] = "allowed"
        fields["event.outcome"] = "success"
    else:
        fields["event.action"] = "firewall_log"


DECODER = MessageDecoder(
    name="netfilter",
    about="Packets logged by iptables, nftables or ufw.",
    read=read,
    programs=("kernel", "ulogd", "ufw"),
)
