"""Names and values that two formats share (logfmt, key=value): from text to checked fields.

ECS names and usual aliases become ECS fields; every other name goes under the format's own prefix.
"""

from __future__ import annotations

from collections.abc import Iterable

from threatlens.decoders.base import ADDRESSES, MAX_FIELDS, put_address, put_port
from threatlens.decoders.levels import LEVELS
from threatlens.event import FIELDS_CUT, Fields

TIMES = frozenset(("time", "ts", "timestamp", "@timestamp", "t", "datetime", "eventtime"))
MESSAGES = frozenset(("msg", "message"))
_TEXTS = {
    "user": "user.name", "username": "user.name", "suser": "user.name", "login": "user.name", "host": "host.name",
    "hostname": "host.name", "logger": "log.logger", "component": "log.logger", "caller": "log.origin.file.name",
    "method": "http.request.method", "path": "url.path", "url": "url.original", "uri": "url.original",
    "err": "error.message", "error": "error.message", "user_agent": "user_agent.original", "action": "event.action",
    "program": "process.name", "app": "service.name", "service": "service.name",
}  # fmt: skip
_ADDRESSES = {
    "src": "source", "srcip": "source", "src_ip": "source", "source_ip": "source", "ip": "source", "client": "source",
    "client_ip": "source", "remote": "source", "remote_addr": "source", "remote_ip": "source", "rhost": "source",
    "source.ip": "source", "dst": "destination", "dstip": "destination", "dst_ip": "destination",
    "destination_ip": "destination", "destination.ip": "destination",
}  # fmt: skip
_PORTS = {
    "spt": "source.port", "sport": "source.port", "srcport": "source.port", "src_port": "source.port",
    "dpt": "destination.port", "dport": "destination.port", "dstport": "destination.port",
    "dst_port": "destination.port",
}  # fmt: skip


def put_pairs(pairs: Iterable[tuple[str, str]], prefix: str, fields: Fields) -> int:
    """Put each pair where it belongs; times and messages are the caller's. Gives flags."""
    flags = 0
    for name, value in pairs:
        key = name.lower()
        if key in TIMES or key in MESSAGES or not value:
            continue
        if key in ("level", "lvl", "severity", "log.level", "loglevel"):
            word = value.lower()
            fields["log.level"] = LEVELS.get(word, word)
        elif key in _TEXTS:
            fields[_TEXTS[key]] = value
        elif key in _ADDRESSES and (key != "client" or ADDRESSES[value]):  # a client may be a program's part
            put_address(fields, _ADDRESSES[key], value)
        elif key in _PORTS:
            put_port(fields, _PORTS[key], value)
        elif key in ("status", "status_code") and len(value) == 3 and value.isdecimal():
            fields["http.response.status_code"] = int(value)
        elif key == "pid" and len(value) <= 10 and value.isdecimal():
            fields["process.pid"] = int(value)
        elif len(fields) < MAX_FIELDS and len(name) <= 256:
            fields[prefix + name] = value
        else:
            flags = FIELDS_CUT
    return flags
