"""The table of formats in docs/formats.md: `python -m threatlens.decoders.formats > docs/formats.md`."""

from __future__ import annotations

import sys

from threatlens.decoders import DECODERS, MessageDecoder, ObjectDecoder

_HEAD = """# Formats

ThreatLens finds out by itself what a source speaks, line by line. To fix it, give one of these names as `format:`.
A message inside an envelope (syslog, journald, a container's JSON) is read by the program that wrote it; a program
without a decoder of its own keeps the envelope's format. Lines of no format
are `unknown`: kept, searchable, grouped by shape.

JSON keys that are not ECS names or usual aliases of them become fields under `json.`, those of pairs under `logfmt.`
and `keyvalue.`, structured data of RFC 5424 under `log.syslog.structured_data.`: what a program logs cannot replace a
field of ThreatLens.

Lines of no format can be taught: the page of unknown lines drafts a decoder from those that you choose, tries it on
stored lines and keeps it as `decoders/NAME.yml` in the data folder, where a file may also be put by hand. Its pattern
is RE2 and reads only what no format below has read; the names of its groups say which fields they fill.

Lines that continue an event (a stack trace, a long statement) are part of it, however the file was written and read.
Only the last event of a file can still go on, and only in the formats marked "several lines": it is shown when the next
event begins, after half a second without another line, or after two seconds. All other lines are shown at once.

Times without a year are of the latest year that puts them at most a day ahead of the reading; times without a zone are
of the source's `timezone`. Times before 1970, after 2100 or more than a day in the future are clamped and marked.

| format | reads | found by |
|---|---|---|
"""


def as_markdown() -> str:
    """The whole page."""
    rows = []
    for member in DECODERS:
        if isinstance(member, MessageDecoder):
            found = ", ".join(f"`{program}`" for program in member.programs) or "its own tag, in any program"
            found = f"program {found}" if member.programs else found
        elif isinstance(member, ObjectDecoder):
            found = "a JSON object with " + ", ".join(f"`{key}`" for key in member.keys)
        else:
            found = "how the line begins"
            if member.programs:
                found += ", or program " + ", ".join(f"`{program}`" for program in member.programs)
            if member.goes_on:
                found += "; several lines"
        rows.append(f"| `{member.name}` | {member.about} | {found} |\n")
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(as_markdown())
