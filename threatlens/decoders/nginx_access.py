"""nginx's access log in its "combined" format, also with more columns behind it.

Apache writes the same line. What only Apache writes (an ident, "-" for no bytes, an escaped quote) is refused here, so
that a source is told apart by the first line that differs.
"""

from __future__ import annotations

from threatlens.decoders import clf
from threatlens.decoders.base import LineDecoder, Opened
from threatlens.decoders.times import Clock

NAME = "nginx.access"


def open_line(line: str, clock: Clock) -> Opened | None:
    """An access log line that nginx can have written."""
    found = clf.PLAIN(line) if "\\" not in line else None
    if found is not None and (plain := clf.read_plain(found, clock)) is not None:
        timestamp_us, flags, message, fields = plain
        return NAME, timestamp_us, flags, "", message, fields
    found = clf.match(line)
    if found is None or found[2] != "-" or found[10] == "-" or found[12] is None or '\\"' in line:
        return None
    timestamp_us, flags, message, fields = clf.read(found, clock)
    return NAME, timestamp_us, flags, "", message, fields


DECODER = LineDecoder(
    name=NAME,
    about="nginx access log, combined format (extra columns allowed).",
    open=open_line,
    leads=("0", "a", "A", ":"),
    quick=clf.quick(NAME),
)
