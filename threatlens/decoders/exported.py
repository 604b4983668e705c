"""Events that ThreatLens has exported as NDJSON: the line in them is read again as what it was.

Only the line, the name of its format and its time are taken over. Everything else in the document is for other
programs: source, severity and fields come from reading the line, so a forged document says no more than a forged line.
Inside an envelope such a document is JSON like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from threatlens.decoders.base import ObjectDecoder, Opened
from threatlens.event import Fields

NAME = "threatlens.export"
#: Members of the document.
MARK, FORMAT, LINE = "threatlens.export", "log.format", "event.original"
VERSION = 1


def _read(document: Mapping[str, Any], fields: Fields) -> str | None:  # noqa: ARG001  (a ReadObject)
    line, log_format = document[LINE], document[FORMAT]
    if document[MARK] is True or document[MARK] != VERSION or not isinstance(log_format, str):
        return None
    if not isinstance(line, str) or not line.strip() or line.lstrip("\ufeff").startswith('{"' + MARK):
        return None
    return line


def inside(opened: Opened) -> tuple[str, str] | None:
    """The line and the name of its format in what DECODER has opened; None: it is no whole export."""
    _, timestamp_us, _, program, line, fields = opened
    log_format = fields.get("json." + FORMAT)
    if program != NAME or timestamp_us is None or fields.get("json." + LINE) != line or not isinstance(log_format, str):
        return None
    return line, log_format


DECODER = ObjectDecoder(
    name=NAME,
    about="Events in the NDJSON that ThreatLens exports; each becomes the event that it was.",
    keys=(MARK, "@timestamp", FORMAT, LINE),
    read=_read,
    times=("@timestamp",),
    program=NAME,
)
