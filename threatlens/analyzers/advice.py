"""Sentences with placeholders, filled with the real values of an event, safe to be pasted into a shell.

A value comes from a log line, so somebody may have chosen it to be pasted. Inside a command it is quoted; where quotes
stand around the placeholder already, or the value could be read as an option, only a plain word is filled in. Inside a
sentence what is not a plain word stands in quotes, so that a value cannot go on as our own words.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from threatlens.visible import visible

_PLACEHOLDER = re.compile(r"\{([a-z_]+(?:\.[a-z_]+)+|message)\}")
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@%+=,][A-Za-z0-9_.:/@%+=,-]*")
#: What a sentence says where the event lacks the field.
_UNKNOWN = {"host.name": "the host", "user.name": "an account", "source.ip": "an unknown address"}
MAX_VALUE = 200


class Part(NamedTuple):
    """A stretch of a sentence."""

    text: str
    is_code: bool


def filled(text: str, fields: Mapping[str, object]) -> tuple[Part, ...]:
    """The sentence, cut into words and commands (between backquotes), with the values of these fields."""
    parts = []
    for place, piece in enumerate(text.split("`")):
        if piece:
            is_code = place % 2 == 1
            parts.append(Part(_command(piece, fields) if is_code else _words(piece, fields), is_code))
    return tuple(parts)


def as_text(parts: Iterable[Part]) -> str:
    """The sentence as one text, commands between backquotes."""
    return "".join(f"`{part.text}`" if part.is_code else part.text for part in parts)


def said(value: object) -> str:
    """A value inside a sentence: as it is if it is a plain word, else in quotes, with what hides made visible."""
    text = visible(value, MAX_VALUE).replace("\t", " ")
    return text if _PLAIN.fullmatch(text) else "“" + text.replace("“", "'").replace("”", "'").replace("`", "'") + "”"


def fields_of(text: str) -> list[str]:
    """The names of the fields that a sentence needs."""
    return _PLACEHOLDER.findall(text)


def _words(text: str, fields: Mapping[str, object]) -> str:
    def put(match: re.Match[str]) -> str:
        value = _value(match[1], fields)
        return said(value) if value else _UNKNOWN.get(match[1], f"the {match[1].replace('.', ' ')}")

    return _PLACEHOLDER.sub(put, text)


def _command(text: str, fields: Mapping[str, object]) -> str:
    out, end = [], 0
    for match in _PLACEHOLDER.finditer(text):
        before = text[: match.start()]
        value = _value(match[1], fields)
        quoted = before.count('"') % 2 or before.count("'") % 2
        if value and _PLAIN.fullmatch(value):
            shown = value
        elif value and not quoted and not value.startswith("-") and value.isprintable() and "`" not in value:
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
