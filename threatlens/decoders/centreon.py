"""Centreon's login log: "2026-11-23 06:51:07|-1|0|0|[WEB] [192.0.2.7] Authentication failed for 'bob' : reason"."""

from __future__ import annotations

from threatlens.decoders.tables import Table, layout, row

_TABLE = Table(
    {
        "Authentication": [
            row(r"Authentication failed for '(?P<user>.*)' : (?P<reason>[\w ]*)", "login", "failure"),
            row(r"Authentication failed.*", "login", "failure"),
            row(r"Authentication succeeded for '(?P<user>.*)'.*", "login", "success"),
        ]
    }
)

DECODER = layout(
    "centreon",
    r"(?P<time>[0-9T: .,+Z-]{19,35})\|-?[0-9]+\|[0-9]+\|[0-9]+\|\[(?P<logger>\w+)\] \[(?P<src>[^\]\s]+)\] "
    r"(?P<message>.*)",
    about="Centreon's login log.",
    leads=("0000-00-00 00:00:00|",),
    messages=_TABLE,
)
