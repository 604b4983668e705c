"""Firewalls that write pairs: Sophos Firewall (XG) and UTM, SonicWall, Check Point.

Names of users stand in these lines beside the address, in quotes that not every version escapes. So an address whose
name stands twice with different values is not believed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from threatlens.decoders.base import MAX_FIELDS, LineDecoder, MessageDecoder, Opened, compiled, put_address, put_port
from threatlens.decoders.levels import LEVELS
from threatlens.decoders.logfmt import pairs_of
from threatlens.decoders.times import Clock
from threatlens.event import Fields

#: Says what a line's values, by name in lower case, mean.
Meaning = Callable[[Mapping[str, str], Fields], None]

_NOTHING = frozenset(("", "N/A", "0.0.0.0", "-", "::"))  # noqa: S104  (what a line says, nothing is bound)
_TRANSPORTS = {"6": "tcp", "17": "udp", "1": "icmp", "tcp": "tcp", "udp": "udp", "icmp": "icmp", "58": "ipv6-icmp"}
_ADDRESSES = {
    "src_ip": "source", "srcip": "source", "src": "source", "client_ip": "source", "dst_ip": "destination",
    "dstip": "destination", "dst": "destination", "origin": "observer", "fw": "observer",
}  # fmt: skip
_PORTS = {
    "src_port": "source.port", "srcport": "source.port", "s_port": "source.port", "dst_port": "destination.port",
    "dstport": "destination.port", "service": "destination.port",
}  # fmt: skip
_TEXTS = {
    "user_name": "user.name", "usr": "user.name", "user": "user.name", "administrator": "user.name",
    "src_user_name": "user.name", "device_name": "host.name", "hostname": "host.name", "reason": "event.reason",
    "url": "url.original", "fw_rule_id": "rule.id", "fwrule": "rule.id", "rule": "rule.name", "rule_name": "rule.name",
    "signature_msg": "rule.name", "virus": "threat.indicator.name", "malware": "threat.indicator.name",
    "initf": "observer.ingress.interface.name", "in_interface": "observer.ingress.interface.name",
    "ifname": "observer.ingress.interface.name", "log_id": "event.code", "loguid": "event.id",
}  # fmt: skip
_TIMES = frozenset(("date", "time", "timezone", "timestamp"))


def put_values(pairs: list[tuple[str, str]], prefix: str, fields: Fields) -> dict[str, str]:
    """Put the values of a line where they belong and give them by name, the first of each name."""
    named: dict[str, str] = {}
    doubted = set()
    for name, value in pairs:
        name = name.lower()  # noqa: PLW2901
        if named.setdefault(name, value) != value:
            doubted.add(name)
    for name, value in named.items():
        if name in _TIMES or value in _NOTHING:
            continue
        if name in _ADDRESSES:
            if name not in doubted:
                address, _, rest = value.partition(":") if value.count(":") in (1, 2, 3) else (value, "", "")
                put_address(fields, _ADDRESSES[name], address)
                put_port(fields, f"{_ADDRESSES[name]}.port", rest.partition(":")[0])
        elif name in _PORTS and value.isdecimal():
            put_port(fields, _PORTS[name], value)
        elif name in {"priority", "severity"} and value.lower() in LEVELS:
            fields["log.level"] = LEVELS[value.lower()]
        elif name in {"protocol", "proto"}:
            transport = value.lower().partition("/")[0]
            fields["network.transport"] = _TRANSPORTS.get(transport, transport)
        elif name in _TEXTS:
            fields[_TEXTS[name]] = value
        elif len(fields) < MAX_FIELDS - 8:
            fields[prefix + name] = value
    return named


def _packet(fields: Fields, *, refused: bool) -> None:
    fields["event.category"] = "network"
    fields["event.action"] = "firewall_deny" if refused else "firewall_allow"
    fields["event.outcome"] = "failure" if refused else "success"


def _login(fields: Fields, *, failed: bool, action: str = "login") -> None:
    fields["event.category"] = "authentication"
    fields["event.action"] = action
    fields["event.outcome"] = "failure" if failed else "success"


def _attack(fields: Fields, category: str = "intrusion_detection") -> None:
    fields["event.category"] = category
    fields["event.kind"] = "alert"
    fields["event.action"] = "ids_alert"


def _sophos(named: Mapping[str, str], fields: Fields) -> None:
    kind, subtype = named.get("log_type", "").lower(), named.get("log_subtype", "").lower()
    status = named.get("status", "").lower()
    refused = subtype in {"denied", "drop", "blocked"} or status in {"deny", "denied", "drop", "blocked"}
    if kind in {"idp", "ips", "atp"}:
        _attack(fields)
    elif kind in {"anti-virus", "sandbox"}:
        _attack(fields, "malware")
    elif kind in {"content filtering", "waf"}:
        fields["event.category"] = "web"
        fields["event.action"] = "http_denied" if refused else "http_request"
        fields["event.outcome"] = "failure" if refused else "success"
    elif subtype == "authentication" or "authentication" in named.get("log_component", "").lower():
        part = named.get("log_component", "").lower()
        _login(fields, failed="success" not in status, action="vpn_login" if "vpn" in part else "login")
    elif kind == "firewall":
        _packet(fields, refused=refused)
    elif subtype == "admin" and "login" in named.get("message", "").lower():
        _login(fields, failed="success" not in status)
    else:
        fields["event.category"] = "host"


def _sophos_utm(named: Mapping[str, str], fields: Fields) -> None:
    action, part, called = named.get("action", "").lower(), named.get("sub", ""), named.get("name", "").lower()
    if part == "packetfilter":
        _packet(fields, refused=action in {"drop", "reject", ""} or "drop" in called)
    elif part == "auth" and called.startswith("authentication"):
        _login(fields, failed="success" not in called)
    elif part == "ips":
        _attack(fields)
    elif part == "http":
        fields["event.category"] = "web"
        fields["event.action"] = "http_denied" if action == "block" else "http_request"
        fields["event.outcome"] = "failure" if action == "block" else "success"
    else:
        fields["event.category"] = "host"


def _sonicwall(named: Mapping[str, str], fields: Fields) -> None:
    said = named.get("msg", "").lower()
    bad = any(word in said for word in ("denied", "fail", "incorrect", "invalid", "locked", "not allowed"))
    if "login" in said or "authentication" in said or "logged in" in said:
        _login(fields, failed=bad, action="vpn_login" if "vpn" in said else "login")
    elif any(word in said for word in ("attack", "scan", "flood", "spoof", "intrusion", "ips ", "probe")):
        _attack(fields)
    elif any(word in said for word in ("virus", "malware", "spyware", "botnet")):
        _attack(fields, "malware")
    elif "src" in named and "dst" in named:
        refused = bad or "drop" in said or "block" in said
        _packet(fields, refused=refused or named.get("fw_action", "").strip('"').lower() in {"drop", "deny"})
    else:
        fields["event.category"] = "host"


def _checkpoint(named: Mapping[str, str], fields: Fields) -> None:
    action, part = named.get("action", "").lower(), named.get("product", "").lower()
    status = f"{named.get('audit_status', '')} {named.get('status', '')} {named.get('auth_status', '')}".lower()
    if action in {"log in", "login", "failed log in", "authcrypt"} or named.get("operation", "").lower() == "log in":
        _login(fields, failed="fail" in status or "fail" in action, action="vpn_login" if "vpn" in part else "login")
    elif part in {"smartdefense", "ips", "anti-bot", "threat emulation"} or "attack" in named:
        _attack(fields)
    elif action:
        _packet(fields, refused=action in {"drop", "reject", "block", "prevent"})
    else:
        fields["event.category"] = "host"


def _open_sophos(line: str, clock: Clock) -> Opened | None:
    pairs = pairs_of(line)
    if pairs is None:
        return None
    fields: Fields = {}
    named = put_values(pairs, "sophos.", fields)
    if "log_type" not in named or "log_component" not in named:
        return None
    moment = clock.any(named.get("timestamp") or f"{named.get('date', '')} {named.get('time', '')}")
    _sophos(named, fields)
    return "sophos", *moment, "", named.get("message") or line, fields


_UTM = compiled(
    r"([0-9]{4}:[0-9]{2}:[0-9]{2}-[0-9:]{8}) ([\w.-]{1,255}) ([\w./-]{1,100})(?:\[([0-9]{1,10})\])?: (.*)"
).fullmatch


def _open_utm(line: str, clock: Clock) -> Opened | None:
    found = _UTM(line)
    if found is None:
        return None
    time, host, program, pid, message = found.groups()
    fields: Fields = {"host.name": host, "process.name": program}
    if pid:
        fields["process.pid"] = int(pid)
    pairs = pairs_of(message) if message.startswith('id="') else None
    if pairs is None:
        return "sophos.utm", *clock.any(time), program, message, fields
    named = put_values(pairs, "sophos.", fields)
    fields["host.name"] = host
    _sophos_utm(named, fields)
    return "sophos.utm", *clock.any(time), "", named.get("name") or message, fields


def _open_sonicwall(line: str, clock: Clock) -> Opened | None:
    pairs = pairs_of(line)
    if pairs is None:
        return None
    fields: Fields = {}
    named = put_values(pairs, "sonicwall.", fields)
    if "sn" not in named or "fw" not in named:
        return None
    if "m" in named:
        fields["event.code"] = named["m"]
    moment = clock.any(named.get("time", ""))
    _sonicwall(named, fields)
    return "sonicwall", *moment, "", named.get("msg") or line, fields


_CHECKPOINT = compiled(r'\s{0,4}(\w{1,60}):"([^"]{0,2000})"(?:;|$)').match


def _read_checkpoint(message: str, fields: Fields) -> bool:
    """'[action:"Drop"; src:"192.0.2.1"; ...]' of the log exporter, or 'action=Drop|src=192.0.2.1|...'."""
    pairs: list[tuple[str, str]] = []
    if message.startswith("[") and message.endswith("]"):
        text, at = message[1:-1], 0
        while (pair := _CHECKPOINT(text, at)) is not None and len(pairs) < MAX_FIELDS:
            pairs.append((pair[1], pair[2]))
            at = pair.end()
    elif "=" in message and "|" in message:
        pairs = [(name, value) for name, has, value in (part.partition("=") for part in message.split("|")) if has]
    if not {"product", "action"} <= {name for name, _ in pairs}:
        return False
    found: Fields = {}
    named = put_values(pairs[:MAX_FIELDS], "checkpoint.", found)
    _checkpoint(named, found)
    fields |= found
    return True


LINES = (
    LineDecoder(
        name="sophos",
        about="Sophos Firewall (XG, SFOS): packets, sign-ins, VPN, attacks, web.",
        open=_open_sophos,
        leads=("aaaaaa=", "aaaaaa_aaaa=", "aaaa=0000-00-"),
        marks=("log_component=",),
    ),
    LineDecoder(
        name="sophos.utm",
        about="Sophos UTM: packets, sign-ins, web; what other programs write on it is read as theirs.",
        open=_open_utm,
        leads=("0000:00:00-",),
    ),
    LineDecoder(
        name="sonicwall",
        about="SonicWall: connections, sign-ins, attacks.",
        open=_open_sonicwall,
        leads=("aa=", "aaaaa=", "aaa="),
        marks=(" sn=",),
    ),
)
MESSAGES = (
    MessageDecoder(
        name="checkpoint",
        about="Check Point's log exporter: packets, sign-ins, attacks.",
        read=_read_checkpoint,
        programs=("CheckPoint", "checkpoint"),
    ),
)
DECODERS = (*LINES, *MESSAGES)
