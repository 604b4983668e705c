"""Text of strangers made safe to read: what hides, moves or controls becomes a symbol.

Every way out uses it (pages, mail, chat, PDF, the terminal); what kind of escaping the way itself needs comes after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Blanks that are none of the usual one.
_BLANKS = (0x09, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)


def _table() -> dict[int, str]:
    table = {code: chr(0x2400 + code) for code in range(0x20) if code != 0x09}
    table[0x7F] = "\u2421"
    hidden = [*range(0x80, 0xA0), 0xAD, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180E, *range(0x200B, 0x2010)]
    hidden += [*range(0x2028, 0x202F), *range(0x2060, 0x2070), 0x3164, 0xFEFF, 0xFFA0, *range(0xFFF9, 0xFFFC)]
    hidden += range(0xE0000, 0xE0080)
    table.update({code: f"[U+{code:04X}]" for code in hidden})
    table.update(dict.fromkeys(range(0xD800, 0xE000), "\ufffd"))
    return table


_VISIBLE = _table()


def _class(codes: Iterable[int]) -> str:
    """These characters as the inside of a class of a regular expression, in every dialect that knows Unicode."""
    runs: list[list[int]] = []
    for code in sorted(codes):
        if runs and code == runs[-1][1] + 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    ends = [tuple(f"\\u{code:04x}" if code < 0x10000 else chr(code) for code in run) for run in runs]
    return "".join(f"{first}-{last}" for first, last in ends)


#: What a name cannot hold, for a regular expression: what hides, moves or controls, and blanks of other kinds.
UNPLAIN = _class({code for code in _VISIBLE if not 0xD800 <= code < 0xE000} | set(_BLANKS))
_PLAIN = re.compile(f"[^{UNPLAIN}\ud800-\udfff]+")


def is_plain(text: str) -> bool:
    """Whether all of the text is there to be seen, one line of it; a name is like that. False for no text."""
    return _PLAIN.fullmatch(text) is not None


def visible(text: object, longest: int = 0) -> str:
    """The text with ESC as ␛, U+202E as [U+202E] and so on; cut, with "…", where it has more than `longest` characters.

    0: never cut."""
    shown = str(text)
    if longest and len(shown) > longest:
        shown = shown[: longest - 1] + "…"
    return shown.translate(_VISIBLE)
