"""What a rule advises, with the real values of an event in its placeholders, safe to be pasted into a shell.

A value comes from a log line, so somebody may have chosen it to be pasted. Inside a command it is quoted; where quotes
stand around the placeholder already, or the value could be read as an option, only a plain word is filled in.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import NamedTuple

_PLACEHOLDER = re.compile(r"\{([a-z_]+(?:\.[a-z_]+)+)\}")
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@%+=,][A-Za-z0-9_.:/@%+=,-]*")
MAX_VALUE = 200


class Part(NamedTuple):
    """A stretch of a sentence."""

    text: str
    is_code: bool


def filled(text: str, fields: Mapping[str, object]) -> list[Part]:
    """The sentence, cut into words and commands (between backquotes), with the values of these fields."""
    parts = []
    for place, piece in enumerate(text.split("`")):
        if piece:
            is_code = place % 2 == 1
            parts.append(Part(_command(piece, fields) if is_code else _words(piece, fields), is_code))
    return parts


def _words(text: str, fields: Mapping[str, object]) -> str:
    return _PLACEHOLDER.sub(lambda match: _value(match[1], fields) or f"the {match[1].replace('.', ' ')}", text)


def _command(text: str, fields: Mapping[str, object]) -> str:
    out, end = [], 0
    for match in _PLACEHOLDER.finditer(text):
        before = text[: match.start()]
        value = _value(match[1], fields)
        quoted = before.count('"') % 2 or before.count("'") % 2
        if value and _PLAIN.fullmatch(value):
            shown = value
        elif value and not quoted and not value.startswith("-") and value.isprintable():
            shown = shlex.quote(value)
        else:
            shown = f"<{match[1]}>"
        out += [text[end : match.start()], shown]
        end = match.end()
    return "".join([*out, text[end:]])


def _value(name: str, fields: Mapping[str, object]) -> str:
    value = fields.get(name)
    if isinstance(value, list):
        value = value[0] if value else ""
    return "" if value is None else str(value)[:MAX_VALUE]
