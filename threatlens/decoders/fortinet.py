"""FortiGate and its kin: "date=2026-11-23 time=06:51:07 ... logid="0101039426" type="event" subtype="vpn" ...".

Values are quoted by the device, which takes quotes out of what clients send; a name given twice keeps its first value.
"""

from __future__ import annotations

from threatlens.decoders.base import MAX_FIELDS, LineDecoder, Opened, put_address, put_port
from threatlens.decoders.levels import LEVELS
from threatlens.decoders.logfmt import pairs_of
from threatlens.decoders.times import Clock
from threatlens.event import FIELDS_CUT, Fields

NAME = "fortinet"

_NOTHING = frozenset(("", "N/A", "n/a", "unknown", "(null)"))
_TEXTS = {
    "user": "user.name", "unauthuser": "user.name", "devname": "host.name", "logid": "event.code",
    "policyid": "rule.id", "attack": "rule.name", "virus": "rule.name", "hostname": "url.domain",
    "url": "url.original", "agent": "user_agent.original", "service": "network.protocol", "msg": "event.reason",
    "group": "group.name", "srcintf": "observer.ingress.interface.name", "dstintf": "observer.egress.interface.name",
    "devid": "observer.serial_number", "app": "service.name", "qname": "dns.question.name",
}  # fmt: skip
_ADDRESSES = {"srcip": "source", "src": "source", "remip": "source", "dstip": "destination", "dst": "destination"}
_PORTS = {"srcport": "source.port", "dstport": "destination.port"}
_NUMBERS = {"sentbyte": "source.bytes", "rcvdbyte": "destination.bytes"}
_TRANSPORTS = {"1": "icmp", "6": "tcp", "17": "udp", "58": "ipv6-icmp"}
_DENIED = frozenset(("deny", "blocked", "block", "dropped", "drop", "reset", "timeout"))
_DETECTED = frozenset(("ips", "virus", "anomaly", "waf"))


def open_line(line: str, clock: Clock) -> Opened | None:
    """A line of pairs that has a log number and a type."""
    pairs = pairs_of(line.replace('""', '" "') if '""""' in line else line)
    if pairs is None:
        return None
    named = dict(reversed(pairs))
    if "type" not in named or not ("logid" in named or "log_id" in named):
        return None
    timestamp_us, flags = None, 0
    if named.get("eventtime", "").isdecimal() and len(named["eventtime"]) <= 19:
        timestamp_us, flags = clock.epoch(int(named["eventtime"]))
    if timestamp_us is None or "date" in named:
        moment = clock.any(f"{named.get('date', '')} {named.get('time', '')}{named.get('tz', '')}")
        if moment[0] is not None or timestamp_us is None:
            timestamp_us, flags = moment
    fields: Fields = {}
    for name, value in named.items():
        if name in {"date", "time", "eventtime", "tz"} or value in _NOTHING:
            continue
        if name in _ADDRESSES:
            put_address(fields, _ADDRESSES[name], value)
        elif name in _PORTS:
            put_port(fields, _PORTS[name], value)
        elif name in _NUMBERS:
            if value.isdecimal() and len(value) <= 18:
                fields[_NUMBERS[name]] = int(value)
        elif name == "level":
            fields["log.level"] = LEVELS.get(value, value)
        elif name in _TEXTS:
            fields[_TEXTS[name]] = value
        elif len(fields) < MAX_FIELDS - 8:
            fields["fortinet." + name] = value
        else:
            flags |= FIELDS_CUT
    _put_meaning(named, fields)
    return NAME, timestamp_us, flags, "", named.get("msg") or named.get("logdesc") or line, fields


def _put_meaning(named: dict[str, str], fields: Fields) -> None:
    """What happened, by the type, the action and the description."""
    kind, action = named.get("type", ""), named.get("action", "").lower()
    status, described = named.get("status", "").lower(), named.get("logdesc", "").lower()
    if transport := _TRANSPORTS.get(named.get("proto", "")):
        fields["network.transport"] = transport
    denied = action in _DENIED
    if kind == "traffic":
        fields["event.category"] = "network"
        fields["event.action"] = "firewall_deny" if denied else "firewall_allow"
        fields["event.outcome"] = "failure" if denied else "success"
    elif kind == "utm" and named.get("subtype") in _DETECTED:
        fields["event.category"] = "malware" if named.get("subtype") == "virus" else "intrusion_detection"
        fields["event.kind"] = "alert"
        fields["event.action"] = "ids_alert"
    elif kind == "utm":
        fields["event.category"] = "web"
        fields["event.action"] = "http_denied" if denied else "http_request"
        fields["event.outcome"] = "failure" if denied else "success"
    elif "login" in action or "login" in described or action in {"authentication", "auth-logon", "tunnel-up"}:
        bad = "fail" in action or "fail" in status or "fail" in described or action in _DENIED
        fields["event.category"] = "authentication"
        fields["event.action"] = "vpn_login" if named.get("subtype") == "vpn" else "login"
        fields["event.outcome"] = "failure" if bad else "success"
    else:
        fields["event.category"] = "host"
        fields["event.action"] = action.replace("-", "_").replace(" ", "_") or "fortinet_event"


DECODER = LineDecoder(
    name=NAME,
    about="Fortinet FortiGate: traffic, detections, sign-ins, VPN.",
    open=open_line,
    leads=("aaaa=0000-00-", "aaaaaa=", "aaaaaaa=", "aaaaaaaaa=0", 'aaaaaaaaa="', "aaaaa="),
    marks=("logid=", "log_id="),
)
