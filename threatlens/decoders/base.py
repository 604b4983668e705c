"""What every decoder is made of: three kinds of members, patterns, checked values.

A line decoder opens a whole line (a syslog envelope, an access log line, a JSON object). A message decoder reads the
text that a program wrote inside an envelope. An object decoder knows the members of one product's JSON. All are chosen
by a dictionary look-up, on the shape of the line's beginning, on the program and the first word, or on the names of
the members, so that a line meets one to three patterns however many formats there are. Patterns run over untrusted
text: they are anchored, hold no nested repeats, and take the *last* place where an address can stand behind a name
that the other side has chosen.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, NamedTuple

from threatlens.decoders.times import Clock
from threatlens.event import Decoded, Fields

MATCHED_CHARS = 65_536  # no pattern sees more of a line
VALUE_CHARS = 8_192  # longest value of a field
MAX_FIELDS = 128  # per line
LEAD_CHARS = 11  # how much of a line's beginning is looked at to choose its decoders ...
LONG_LEAD_CHARS = 48  # ... and how much once more where that leaves several
UNKNOWN = "unknown"
#: For LineDecoder.goes_on: any line of the format may have more behind it.
ANY_LINE = ("",)
#: Opened.program of a line whose message may be of any format (a container's output).
ANY_PROGRAM = "*"

_ACCENTED = (*range(0xC0, 0x180), *range(0x400, 0x460))  # Latin and Cyrillic
_FOLD = {
    **{code: "A" if chr(code).isupper() else "a" for code in _ACCENTED if chr(code).isalpha()},
    **dict.fromkeys(range(48, 58), "0"),
    **dict.fromkeys(range(65, 91), "A"),
    **dict.fromkeys(range(97, 123), "a"),
}

#: What a line decoder found: (format, timestamp_us, flags, program, message, fields). The program is empty when
#: nothing is inside. A plain tuple, as one is made per line.
Opened = tuple[str, int | None, int, str, str, Fields]
Open = Callable[[str, Clock], Opened | None]
Read = Callable[[str, Fields], bool]
#: Adds to the fields what a JSON object says, and gives its message; "" leaves the usual one, None: not of this format.
ReadObject = Callable[[Mapping[str, Any], Fields], "str | None"]


#: Reads lines of its format that leave nothing to be asked, as nearly all do; None leaves the line to `open`.
Quick = Callable[[str, Clock], Decoded | None]


class Head(NamedTuple):
    """How most lines of a syslog envelope begin, for expressions that read on in the message at once."""

    pattern: str  # of all before "[4211]: ", with PROGRAMS for those that are meant
    groups: tuple[str, ...]  # names of its groups
    moment: str  # Python for (timestamp_us, flags, host, program) of them by `clock`; None leaves the line to `open`
    scope: Mapping[str, object] = {}  # what that needs


@dataclass(frozen=True, slots=True, eq=False)
class LineDecoder:
    """Reads whole lines. `open` gives None for a line that is not of this format."""

    name: str
    about: str  # one sentence for docs/formats.md
    open: Open
    leads: tuple[str, ...]  # how lines may begin: "0" a digit, "A" and "a" letters, else the character; "" anyhow
    strict: bool = True  # False: recognises a habit rather than a format, so it is asked last
    inside: bool = True  # may stand inside an envelope too
    head: Head | None = None
    quick: Quick | None = None  # asked before `open` while the source speaks this
    marks: tuple[str, ...] = ()  # one of these stands in every line of this format; empty: nothing is that certain
    programs: tuple[str, ...] = ()  # that write the same texts in envelopes, for `read`
    read: Read | None = None
    goes_on: tuple[str, ...] = ()  # more lines may belong to one that holds one of these; empty: each is whole


@dataclass(frozen=True, slots=True, eq=False)
class MessageDecoder:
    """Reads the messages of some programs. `read` adds to the fields, or gives False and leaves them alone."""

    name: str
    about: str
    read: Read
    programs: tuple[str, ...]  # empty: of any program, by its own leading word
    #: Makes what reads this decoder's most frequent messages together with the head of their line.
    join: Callable[[Head], Quick] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ObjectDecoder:
    """Reads JSON objects of one product, wherever they stand: alone on a line, in an envelope, in a file of records.

    All members are fields under "json." (or ECS fields) already when `read` is called; it adds what they mean.
    """

    name: str
    about: str
    keys: tuple[str, ...]  # members that every object of it has, at its top
    read: ReadObject
    times: tuple[str, ...] = ()  # members that hold the time, dotted, before the usual ones
    program: str = ""  # whose readers go on with the message; ANY_PROGRAM: it may be a line of any format
    only: str = ""  # the member whose text decides, if one alone does ...
    refused: AbstractSet[str] = frozenset()  # ... and texts with which an object is not of this product
    #: Names of members -> `read` for objects that have just these, which need not find out anew what they mean.
    read_like: Callable[[tuple[str, ...]], ReadObject] | None = None


Decoder = LineDecoder | MessageDecoder | ObjectDecoder


def lead_shape(line: str, chars: int = LEAD_CHARS) -> str:
    """The beginning of a line with its digits and letters folded, as written in LineDecoder.leads."""
    return line[:chars].translate(_FOLD)


class _Addresses(dict[str, str]):
    """Text -> canonical address, or "" for what is none. Looked up once per text, forgotten when there are many."""

    def __missing__(self, text: str) -> str:
        address = _canonical(text)
        if len(self) > 100_000:
            self.clear()
        self[text] = address
        return address


def _canonical(text: str) -> str:
    if not 2 <= len(text) <= 64:
        return ""
    if text[0] == "[" and text[-1] == "]":
        text = text[1:-1]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


ADDRESSES: Mapping[str, str] = _Addresses()


def put_address(fields: Fields, side: str, text: str) -> None:
    """Set source.ip (or destination.ip, ...) if the text is an address, else source.address."""
    address = ADDRESSES[text]
    if address:
        fields[side + ".ip"] = address
    elif text not in {"-", "UNKNOWN", "unknown"}:
        fields[side + ".address"] = text


def put_port(fields: Fields, name: str, text: str) -> None:
    """Set a port if it is one (0..65535)."""
    if len(text) <= 5 and text.isdecimal() and (port := int(text)) <= 65535:
        fields[name] = port


#: All sources of patterns that go through `noted`, for the test that none of them can be made to run long.
PATTERNS: list[str] = []


#: For patterns over untrusted text: ASCII classes, "." takes line breaks too.
FLAGS = re.ASCII | re.DOTALL


def noted(pattern: str) -> str:
    """The pattern, which is to be compiled with FLAGS when it is needed."""
    PATTERNS.append(pattern)
    return pattern


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern over untrusted text, ready for use."""
    return re.compile(noted(pattern), FLAGS)
