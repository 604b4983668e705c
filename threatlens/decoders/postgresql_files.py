"""PostgreSQL's logs for programs: csvlog, whose quoted columns may hold any lines, and jsonlog (15 and later)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any

from threatlens.decoders import databases
from threatlens.decoders.base import LineDecoder, ObjectDecoder, Opened, compiled, put_address, put_port
from threatlens.decoders.levels import LEVELS
from threatlens.decoders.times import Clock
from threatlens.event import Fields

CSV = "postgresql.csv"
#: The columns of PostgreSQL's csvlog, of which newer versions write more, in their order.
_CSV_COLUMNS = (
    "time", "user", "database", "pid", "client", "session", "line", "tag", "started", "vxid", "txid", "level", "state",
    "message", "detail", "hint", "query", "query_position", "context", "statement", "statement_position", "location",
    "application", "backend", "leader", "query_id",
)  # fmt: skip
_COLUMN = r"(?:\"(?:[^\"]|\"\")*+\"|[^\",]*)"
_CSV_HEAD = compiled(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3} [A-Z+-][A-Z0-9]{1,5},"
    rf"{_COLUMN},{_COLUMN},[0-9]{{1,10}},{_COLUMN},[0-9a-f]{{1,16}}\.[0-9a-f]{{1,16}},[0-9]{{1,10}},"
).match
_MAX_CSV = 32  # columns


def _open_csv(line: str, clock: Clock) -> Opened | None:
    """A record of csvlog. A quote stands twice inside quotes, so what a client writes ends no column; a record that
    goes on in the next line leaves one open."""
    if _CSV_HEAD(line) is None:
        return None
    try:
        columns = next(csv.reader([line]), [])[:_MAX_CSV]
    except csv.Error:
        return None
    values = dict(zip(_CSV_COLUMNS, columns, strict=False))
    timestamp_us, flags = clock.any(values["time"])
    fields: Fields = {}
    message = values.get("message") or line
    host, _, port = values["client"].rpartition(":")
    _put_postgres(message, values.get("level", ""), values.get("state", ""), host or values["client"], port, fields)
    for name, field in _POSTGRES_TEXTS.items():
        if values.get(name):
            fields[field] = values[name]
    if values["pid"].isdecimal():
        fields["process.pid"] = int(values["pid"])
    return CSV, timestamp_us, flags, "", message, fields


_POSTGRES_TEXTS = {
    "user": "user.name", "database": "database.name", "session": "session.id", "application": "client.application",
    "detail": "error.detail", "statement": "database.statement",
}  # fmt: skip


def _put_postgres(message: str, level: str, state: str, host: str, port: str, fields: Fields) -> None:
    databases.POSTGRESQL.read(message, fields)
    if level:
        fields["log.level"] = LEVELS.get(level) or level.lower()
    if state and state != "00000":
        fields["event.code"] = state
    if host and host != "[local]":
        put_address(fields, "source", host)
        put_port(fields, "source.port", port)


def _read_postgres_json(document: Mapping[str, Any], fields: Fields) -> str | None:
    """A record of jsonlog (PostgreSQL 15 and later)."""
    message = document["message"]
    if not isinstance(message, str):
        return None
    level, state, host, port = (
        document.get(name, "") for name in ("error_severity", "state_code", "remote_host", "remote_port")
    )
    _put_postgres(message, str(level), str(state), str(host), str(port), fields)
    for name, field in (("user", "user.name"), ("dbname", "database.name"), ("statement", "database.statement")):
        value = document.get(name)
        if isinstance(value, str) and value:
            fields[field] = value
    return message


LINE = LineDecoder(
    name=CSV,
    about="PostgreSQL's csvlog; a record may take several lines.",
    open=_open_csv,
    leads=tuple(f"0000-00-00 00:00:00.000 {zone}," for zone in ("AAA", "AAAA", "AAAAA", "+00", "-00")),
    inside=False,
)
OBJECT = ObjectDecoder(
    name="postgresql.json",
    about="PostgreSQL's jsonlog.",
    keys=("timestamp", "pid", "error_severity", "message"),
    read=_read_postgres_json,
)
DECODERS = (LINE, OBJECT)
