"""Suhosin, the hardening patch of PHP: alerts on requests, each with its attacker and file.

Names of variables come from the request and stand before the attacker: the last "(attacker '" counts.
"""

from __future__ import annotations

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row

_ALERT = (
    r"ALERT(?:-SIMULATION)? - (?P<reason>.*) \(attacker '(?P<src>[^'\s]+)', file '(?P<file>[^']*)'"
    r"(?:, line [0-9]+)?\)(?:.*[^)])?"
)

_TABLE = Table(
    {
        "": [
            row(
                rf"(?:\(mod_fastcgi\.c\.[0-9]+\) )?(?:FastCGI-stderr: )?{_ALERT}",
                "request_blocked",
                "failure",
                category="intrusion_detection",
            ),
        ]
    }
)

DECODER = MessageDecoder(
    name="suhosin",
    about="Suhosin (PHP): blocked requests with their attacker.",
    read=_TABLE.read,
    programs=("suhosin", "lighttpd", "php", "php-cgi", "php-fpm"),
)
