"""What Python's logging module writes, in its documented formats, and OpenStack's services with their request ids."""

from __future__ import annotations

from threatlens.decoders.base import ANY_LINE
from threatlens.decoders.tables import layout

_LEVEL = r"(?P<level>DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|TRACE|AUDIT)"
_TIME = r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,6})?)"
_NAME = r"(?P<logger>[\w.\-]{1,200})"
_BETWEEN = r"(?: ?[:|-] ?| {1,8})"

PRODUCTS = (
    layout(
        "openstack",
        rf"(?:\S{{1,200}} )?{_TIME} (?P<pid>[0-9]{{1,10}}) {_LEVEL} {_NAME} "
        r"\[(?P<trace__id>req-[\w-]{1,60})?[^\]]{0,300}\] (?P<message>.*)",
        about="OpenStack services (oslo.log), with or without the file's name in front.",
        leads=("0000-00-00 00:00:00", "a"),
        goes_on=ANY_LINE,
        marks=(" [req-", " [-] "),
    ),
)
LAYOUTS = (
    layout(
        "python.logging",
        rf"{_TIME}{_BETWEEN}(?:{_NAME}{_BETWEEN})?(?:\[(?P<pid>[0-9]{{1,10}})\] )?\[?{_LEVEL}\]?"
        rf"(?: {{0,8}}[:|-] ?| {{1,8}})(?P<message>.*)",
        about='Python\'s logging with a time in front: "time - name - LEVEL - message" and its neighbours.',
        leads=("0000-00-00 00:00:00,000", "0000-00-00 00:00:00 - "),
        goes_on=ANY_LINE,
        marks=("DEBUG", "INFO", "WARN", "ERROR", "CRITICAL"),
        strict=False,
    ),
    layout(
        "python.basic",
        rf"{_LEVEL}:{_NAME}:(?P<message>.*)",
        about='Python\'s logging without configuration: "LEVEL:name:message".',
        leads=("AAAA:a", "AAAAA:a", "AAAAAAA:a", "AAAAAAAA:a"),
        goes_on=ANY_LINE,
        marks=("DEBUG:", "INFO:", "WARNING:", "ERROR:", "CRITICAL:"),
        strict=False,
    ),
)
DECODERS = PRODUCTS + LAYOUTS
