"""CEF and LEEF: the heads that security products put in front of their pairs, alone on a line or inside syslog.

A value ends where the next name begins, so a "=" inside a value is escaped by those who write it; a name that stands
twice keeps its first value, as what comes later may be a client's text. Names that are not known go under "cef." or
"leef.".
"""

from __future__ import annotations

import re

from threatlens.decoders.base import MAX_FIELDS, LineDecoder, Opened, compiled, put_address, put_port
from threatlens.decoders.times import Clock, Moment
from threatlens.event import FIELDS_CUT, TIME_ERROR, Fields

_CEF = compiled(r"CEF: ?([0-9]{1,3})\|(.*)").fullmatch
_LEEF = compiled(r"LEEF: ?(1\.0|2\.0)\|(.*)").fullmatch
_HEAD = compiled(r"([^|\\]*(?:\\.[^|\\]*)*)\|").match
_NAME = compiled(r"(?:^|[ \t])([\w.\[\]-]{1,100})=")
_ESCAPED = re.compile(r"\\([\\=|nr])")
_BREAKS = {"n": "\n", "r": "\r"}

_TEXTS = {
    "suser": "user.name", "usrName": "user.name", "duser": "user.target.name", "suid": "user.id",
    "duid": "user.target.id",
    "sntdom": "user.domain", "domain": "user.domain",
    "shost": "source.domain", "dhost": "destination.domain", "dvchost": "observer.hostname",
    "sproc": "process.name", "dproc": "process.name", "app": "network.protocol", "proto": "network.transport",
    "request": "url.original", "url": "url.original", "requestMethod": "http.request.method",
    "requestClientApplication": "user_agent.original", "requestContext": "http.request.referrer",
    "fname": "file.name", "filePath": "file.path", "fileHash": "file.hash.sha256", "reason": "event.reason",
    "externalId": "event.id", "smac": "source.mac", "srcMAC": "source.mac", "dmac": "destination.mac",
    "dstMAC": "destination.mac", "deviceDirection": "network.direction", "identHostName": "source.domain",
    "policy": "rule.name", "deviceInboundInterface": "observer.ingress.interface.name",
    "deviceOutboundInterface": "observer.egress.interface.name",
}  # fmt: skip
_ADDRESSES = {
    "src": "source", "dst": "destination", "dvc": "observer", "c6a2": "source", "c6a3": "destination",
    "sourceTranslatedAddress": "source.nat", "destinationTranslatedAddress": "destination.nat",
    "identSrc": "source", "srcPostNAT": "source.nat", "dstPostNAT": "destination.nat",
}  # fmt: skip
_PORTS = {
    "spt": "source.port", "dpt": "destination.port", "srcPort": "source.port", "dstPort": "destination.port",
    "sourceTranslatedPort": "source.nat.port", "destinationTranslatedPort": "destination.nat.port",
}  # fmt: skip
_NUMBERS = {
    "in": "source.bytes", "out": "destination.bytes", "spid": "process.pid", "dpid": "process.pid",
    "cnt": "event.count",
    "fsize": "file.size", "srcBytes": "source.bytes", "dstBytes": "destination.bytes",
}  # fmt: skip
_OUTCOMES = {
    "success": "success", "successful": "success", "failure": "failure", "failed": "failure", "fail": "failure",
    "deny": "failure", "denied": "failure", "drop": "failure", "dropped": "failure", "block": "failure",
    "blocked": "failure", "reset": "failure", "allow": "success", "allowed": "success", "accept": "success",
    "accepted": "success", "permitted": "success", "pass": "success",
}  # fmt: skip
_WORDS = {"low": 2, "medium": 5, "high": 8, "very-high": 10, "unknown": 0}
_TIMES = ("rt", "end", "start", "devTime", "deviceReceiptTime", "eventTime")


def _open_cef(line: str, clock: Clock) -> Opened | None:
    """Vendor, product, version, class, name and severity, then the extension."""
    found = _CEF(line)
    if found is None:
        return None
    head, rest = _heads(found[2], 6)
    if len(head) < 6:
        return None
    fields: Fields = {
        "observer.vendor": head[0],
        "observer.product": head[1],
        "observer.version": head[2],
        "event.code": head[3],
    }
    _put_severity(fields, head[5])
    names = _pairs(rest)
    flags = _put(names, "cef.", fields)
    return "cef", *_timed(names, clock, flags), "", names.get("msg") or head[4] or line, fields


def _open_leef(line: str, clock: Clock) -> Opened | None:
    """Vendor, product, version and event, then pairs divided by tabs or by the sign that version 2 names."""
    found = _LEEF(line)
    if found is None:
        return None
    version, text = found.groups()
    head, rest = _heads(text, 4)
    if len(head) < 4:
        return None
    divider = "\t"
    if version == "2.0" and "|" in rest[:8]:
        sign, _, rest = rest.partition("|")
        divider = _sign(sign) or divider
    fields: Fields = {
        "observer.vendor": head[0],
        "observer.product": head[1],
        "observer.version": head[2],
        "event.code": head[3],
    }
    names: dict[str, str] = {}
    if divider in rest:
        for pair in rest.split(divider):
            name, sign, value = pair.strip().partition("=")
            if sign:
                names.setdefault(name, value)
    else:
        names = _pairs(rest)
    _put_severity(fields, names.pop("sev", ""))
    flags = _put(names, "leef.", fields)
    return "leef", *_timed(names, clock, flags), "", names.get("msg") or line, fields


def _sign(text: str) -> str:
    """The dividing sign: itself, or its code as "x09" or "0x09"."""
    if len(text) > 1 and text.lower().lstrip("0\\").startswith("x"):
        code = text.lower().partition("x")[2]
        return chr(int(code, 16)) if len(code) <= 4 and all(digit in "0123456789abcdef" for digit in code) else ""
    return text if len(text) == 1 else ""


def _heads(text: str, count: int) -> tuple[list[str], str]:
    """That many parts that end in a bar, unescaped, and what follows."""
    at = 0
    parts: list[str] = []
    while len(parts) < count and (part := _HEAD(text, at)) is not None:
        parts.append(_plain(part[1]))
        at = part.end()
    return parts, text[at:]


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda escape: _BREAKS.get(escape[1], escape[1]), text) if "\\" in text else text


def _pairs(text: str) -> dict[str, str]:
    """Name -> value; a value ends at the blank before the next name."""
    starts = list(_NAME.finditer(text))
    found: dict[str, str] = {}
    for place, start in enumerate(starts):
        end = starts[place + 1].start() if place + 1 < len(starts) else len(text)
        found.setdefault(start[1], _plain(text[start.end() : end].strip()))
    return found


def _put_severity(fields: Fields, text: str) -> None:
    number = int(text) if len(text) <= 2 and text.isdecimal() else _WORDS.get(text.lower())
    if number is not None:
        fields["event.severity"] = number


def _put(names: dict[str, str], prefix: str, fields: Fields) -> int:
    """Names that are known become ECS fields; gives flags."""
    flags = 0
    labels = {name[:-5]: value for name, value in names.items() if name.endswith("Label")}
    for name, value in names.items():
        if not value or name in ("msg", *_TIMES) or (name.endswith("Label") and name[:-5] in names):
            continue
        if name in _TEXTS:
            fields.setdefault(_TEXTS[name], value.lower() if name == "proto" else value)
        elif name in _ADDRESSES:
            put_address(fields, _ADDRESSES[name], value)
        elif name in _PORTS:
            put_port(fields, _PORTS[name], value)
        elif name in _NUMBERS and len(value) <= 18 and value.isdecimal():
            fields[_NUMBERS[name]] = int(value)
        elif len(fields) < MAX_FIELDS:
            fields[prefix + labels.get(name, name)] = value
        else:
            flags = FIELDS_CUT
    outcome = _OUTCOMES.get((names.get("outcome") or names.get("act") or names.get("action") or "").lower())
    if outcome:
        fields["event.outcome"] = outcome
    return flags


def _timed(names: dict[str, str], clock: Clock, flags: int) -> tuple[int | None, int]:
    moment: Moment = (None, TIME_ERROR)
    for name in _TIMES:
        if name in names and moment[0] is None:
            moment = clock.any(names[name])
    return moment[0], flags | moment[1]


DECODERS = (
    LineDecoder(
        name="cef",
        about="ArcSight's Common Event Format, alone or inside syslog.",
        open=_open_cef,
        leads=("CEF:",),
        marks=("CEF:",),
    ),
    LineDecoder(
        name="leef",
        about="QRadar's Log Event Extended Format 1.0 and 2.0, alone or inside syslog.",
        open=_open_leef,
        leads=("LEEF:",),
        marks=("LEEF:",),
    ),
)
