"""Palo Alto firewalls: comma-separated, "1,2026/11/23 06:51:07,serial,THREAT,vulnerability,...", as PAN-OS orders them.

What clients send stands in quotes or behind the addresses and the action, whose places are fixed.
"""

from __future__ import annotations

import csv

from threatlens.decoders.base import LineDecoder, Opened, compiled, put_address, put_port
from threatlens.decoders.times import Clock
from threatlens.event import Fields

NAME = "paloalto"

_LINE = compiled(
    r"(?:<[0-9]{1,3}>)?(?:(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}(?:Z|[+-][0-9:]{5})"
    r"|[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}) (?P<host>\S{1,255}) )?"
    r"(?P<columns>[0-9]{0,3},[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9:]{8},[^,]{0,40},"
    r"(?P<kind>TRAFFIC|THREAT|GLOBALPROTECT|SYSTEM|CONFIG|USERID|AUTHENTICATION|DECRYPTION|CORRELATION|HIPMATCH),.*)"
).fullmatch
_ALLOWED = frozenset(("allow", "alert", "continue"))
_SCORES = {"informational": "info", "low": "notice", "medium": "warning", "high": "error", "critical": "critical"}


def open_line(line: str, clock: Clock) -> Opened | None:
    """A record, with the envelope that carries it if its program names none."""
    found = _LINE(line)
    if found is None:
        return None
    time, host, text, kind = found.groups()
    try:
        columns = next(csv.reader([text]))
    except (csv.Error, StopIteration):
        return None
    columns += [""] * (40 - len(columns))
    timestamp_us, flags = clock.any(time or columns[6] or columns[1])
    fields: Fields = {"event.code": kind}
    if host:
        fields["host.name"] = host
    if columns[4]:
        fields["event.type"] = columns[4]
    if kind in {"TRAFFIC", "THREAT", "DECRYPTION"}:
        _put_session(kind, columns, fields)
    elif kind == "GLOBALPROTECT":
        _put_portal(columns, fields)
    elif kind == "SYSTEM":
        _put_system(columns, fields)
    elif kind == "AUTHENTICATION":
        put_address(fields, "source", columns[8])
        fields |= {"event.category": "authentication", "event.action": "login"}
        if columns[9]:
            fields["user.name"] = columns[9]
    else:
        fields |= {"event.category": "configuration", "event.action": kind.lower()}
    return NAME, timestamp_us, flags, "", text, fields


def _put_session(kind: str, columns: list[str], fields: Fields) -> None:
    put_address(fields, "source", columns[7])
    put_address(fields, "destination", columns[8])
    put_port(fields, "source.port", columns[24])
    put_port(fields, "destination.port", columns[25])
    for name, at in (("rule.ruleset", 11), ("user.name", 12), ("network.protocol", 14), ("network.transport", 29)):
        if columns[at]:
            fields[name] = columns[at]
    allowed = columns[30] in _ALLOWED
    fields["event.outcome"] = "success" if allowed else "failure"
    if kind != "THREAT":
        fields["event.category"] = "network"
        fields["event.action"] = "firewall_allow" if allowed else "firewall_deny"
        return
    fields |= {"event.category": "intrusion_detection", "event.kind": "alert", "event.action": "ids_alert"}
    if columns[31]:
        fields["url.original"] = columns[31]
    name, _, number = columns[32].rpartition("(")
    if number.rstrip(")").isdecimal():
        fields["rule.id"] = number.rstrip(")")
        if name:
            fields["rule.name"] = name
    if columns[34]:
        fields["log.level"] = _SCORES.get(columns[34], columns[34])


def _put_portal(columns: list[str], fields: Fields) -> None:
    """GlobalProtect: stage, method, user and public address; the status says whether it went well."""
    failed = "failure" in columns
    fields |= {
        "event.category": "authentication",
        "event.action": "vpn_login",
        "event.outcome": "failure" if failed else "success",
    }
    if columns[12]:
        fields["user.name"] = columns[12]
    put_address(fields, "source", columns[15] or "-")


_AUTH = compiled(
    r"(?:failed|[Aa]uthentication failed|.{0,20}failed authentication) for user '?(?>(?P<user>.{0,400}?)'?\.(?= )).*"
    r"From: (?P<src>[0-9a-fA-F:.]{2,64})\.?"
).fullmatch


def _put_system(columns: list[str], fields: Fields) -> None:
    fields |= {"event.category": "host", "event.action": columns[8] or "system"}
    failed = _AUTH(columns[14])
    if failed is not None:
        fields |= {
            "event.category": "authentication",
            "event.action": "login",
            "event.outcome": "failure",
            "user.name": failed["user"],
        }
        put_address(fields, "source", failed["src"])


DECODER = LineDecoder(
    name=NAME,
    about="Palo Alto PAN-OS: traffic, threats, GlobalProtect, system.",
    open=open_line,
    leads=("0,0000/00/00", ",0000/00/00 ", "0000-00-00A", "Aaa 00 00:00", "Aaa  0 00:00", "<00>Aaa ", "<000>Aaa "),
    marks=(
        ",TRAFFIC,",
        ",THREAT,",
        ",GLOBALPROTECT,",
        ",SYSTEM,",
        ",CONFIG,",
        ",AUTHENTICATION,",
        ",USERID,",
        ",DECRYPTION,",
    ),
)
