"""JSON that log shippers put around a line or a record: GELF, Loki, OpenTelemetry, journald.

What they carry is read on where it is a line of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from threatlens.decoders.base import ANY_PROGRAM, ObjectDecoder
from threatlens.decoders.priority import LEVELS
from threatlens.event import Fields

_SEVERITIES = ("trace", "debug", "info", "warning", "error", "fatal")  # of OpenTelemetry, four numbers each

_RESOURCE = frozenset(("host.name", "service.name", "container.name"))
_LABELS = (
    ("host", "host.name"), ("hostname", "host.name"), ("container", "container.name"), ("pod", "kubernetes.pod.name"),
    ("namespace", "kubernetes.namespace"), ("job", "service.name"), ("app", "service.name"),
    ("filename", "log.file.path"),
)  # fmt: skip


def _read_gelf(document: Mapping[str, Any], fields: Fields) -> str | None:
    """GELF: own fields begin with "_"."""
    text, level = document["short_message"], document.get("level")
    if not isinstance(text, str):
        return None
    fields.pop("json.version", None)
    if isinstance(level, int) and 0 <= level <= 7:
        fields["log.level"] = LEVELS[level]
        fields.pop("json.level", None)
    return text


def _read_loki_line(document: Mapping[str, Any], fields: Fields) -> str | None:
    """logcli -o jsonl: {"labels": {...}, "line": "...", "timestamp": "..."}."""
    labels, line = document["labels"], document["line"]
    if not isinstance(labels, Mapping) or not isinstance(line, str):
        return None
    _put_labels(labels, fields)
    return line


def _read_loki_push(document: Mapping[str, Any], fields: Fields) -> str | None:
    """What clients push: {"stream": {...}, "values": [["<ns>", "line"], ...]}; the first line is the message."""
    stream, values = document["stream"], document["values"]
    first = values[0] if isinstance(values, list) and values else None
    if (
        not isinstance(stream, Mapping)
        or not isinstance(first, list)
        or len(first) < 2
        or not isinstance(first[1], str)
    ):
        return None
    _put_labels(stream, fields)
    return first[1]


def _read_loki_request(document: Mapping[str, Any], fields: Fields) -> str | None:
    """A whole push request: {"streams": [{"stream": ..., "values": ...}, ...]}; its first line stands for it."""
    streams = document["streams"]
    first = streams[0] if isinstance(streams, list) and streams else None
    if not isinstance(first, Mapping) or not {"stream", "values"} <= first.keys():
        return None
    return _read_loki_push(first, fields)


#: Formats of which one line may carry many records.
SEVERAL = frozenset(("loki.push", "loki.request", "otlp.request"))
MAX_RECORDS = 10_000  # of one line


def records_in(line: str) -> list[str]:
    """The records that a line of one of SEVERAL carries, each as a line of its own; empty if there is only one."""
    try:
        document = orjson.loads(line)
        found = [*_loki_records(document), *_otlp_records(document)][:MAX_RECORDS]
    except (AttributeError, LookupError, TypeError, ValueError):
        return []
    return [orjson.dumps(each).decode() for each in found] if len(found) > 1 else []


def _loki_records(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for stream in document.get("streams") or ([document] if "stream" in document else []):
        for value in stream["values"]:
            yield {"labels": stream["stream"], "line": value[1], "timestamp": value[0]}


def _otlp_records(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in document.get("resourceLogs", ()):
        shared = resource.get("resource", {}).get("attributes", [])
        for scope in resource.get("scopeLogs") or resource.get("instrumentationLibraryLogs", ()):
            for record in scope["logRecords"]:
                yield {**record, "attributes": [*shared, *record.get("attributes", [])]}


def _put_labels(labels: Mapping[str, Any], fields: Fields) -> None:
    for name, field in _LABELS:
        value = labels.get(name)
        if isinstance(value, str) and value:
            fields.setdefault(field, value)


def _read_otlp(document: Mapping[str, Any], fields: Fields) -> str | None:
    """One log record of OpenTelemetry in JSON."""
    body = document["body"]
    text = body.get("stringValue") if isinstance(body, Mapping) else body
    if not isinstance(text, str):
        return None
    severity = document.get("severityNumber")
    if isinstance(severity, int) and 1 <= severity <= 24:
        fields["log.level"] = _SEVERITIES[(severity - 1) // 4]
    _put_attributes(document.get("attributes"), fields)
    return text


def _read_otlp_batch(document: Mapping[str, Any], fields: Fields) -> str | None:
    """An export request; its first record stands for it."""
    try:
        resource = document["resourceLogs"][0]
        record = (resource.get("scopeLogs") or resource["instrumentationLibraryLogs"])[0]["logRecords"][0]
        attributes = resource.get("resource", {}).get("attributes")
    except (AttributeError, IndexError, KeyError, TypeError):
        return None
    if not isinstance(record, Mapping) or "body" not in record:
        return None
    _put_attributes(attributes, fields)
    return _read_otlp(record, fields)


def _put_attributes(attributes: Any, fields: Fields) -> None:
    """[{"key": "http.method", "value": {"stringValue": "GET"}}, ...]."""
    if not isinstance(attributes, list):
        return
    for each in attributes[:64]:
        name, value = (each.get("key"), each.get("value")) if isinstance(each, Mapping) else (None, None)
        value = next(iter(value.values()), None) if isinstance(value, Mapping) else None
        if isinstance(name, str) and len(name) <= 200 and isinstance(value, str | int) and not isinstance(value, bool):
            fields[name if name in _RESOURCE else "json.attributes." + name] = str(value)


OBJECTS = (
    ObjectDecoder(
        name="gelf", about="Graylog's GELF.", keys=("short_message", "host", "version"), read=_read_gelf,
        program=ANY_PROGRAM,
    ),
    ObjectDecoder(
        name="loki", about="Lines of Grafana Loki with their labels, as logcli prints them.",
        keys=("labels", "line", "timestamp"), read=_read_loki_line, program=ANY_PROGRAM,
    ),
    ObjectDecoder(
        name="loki.push",
        about="A stream of Grafana Loki's push format; each of its lines becomes an event.",
        keys=("stream", "values"), read=_read_loki_push,
        times=("values.0.0",), program=ANY_PROGRAM,
    ),
    ObjectDecoder(
        name="loki.request", about="Grafana Loki's push request; each of its lines becomes an event.",
        keys=("streams",), read=_read_loki_request, times=("streams.0.values.0.0",), program=ANY_PROGRAM,
    ),
    ObjectDecoder(
        name="otlp", about="A log record of OpenTelemetry.", keys=("body", "timeUnixNano"), read=_read_otlp,
        times=("timeUnixNano", "observedTimeUnixNano"), program=ANY_PROGRAM,
    ),
    ObjectDecoder(
        name="otlp.request",
        about="An export request of OpenTelemetry's collector; each of its records becomes an event.",
        keys=("resourceLogs",),
        read=_read_otlp_batch,
        times=("resourceLogs.0.scopeLogs.0.logRecords.0.timeUnixNano",), program=ANY_PROGRAM,
    ),
)  # fmt: skip
DECODERS = OBJECTS
