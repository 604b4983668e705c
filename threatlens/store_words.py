"""What of an event stands in the full-text index: the words of its line, and its address and its user as words.

An index that begins with an address or a name makes every insert touch a page that chance chooses; a word costs a
byte or two at the end of a list. What the index gives are candidates: whoever asks looks at the event's columns, so a
line that holds such a word itself deceives nobody.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

#: What one token of the full-text index is made of (unicode61 with tokenchars '.-_@').
TOKEN = re.compile(r"[\w.\-@]+")
#: Characters of a line, and of a user's name, that go into the index.
INDEXED_CHARACTERS = 8_192
_NAME_CHARACTERS = 256


def indexed_text(line: str, source_ip: str | None, user_name: str | None) -> str:
    """The text that the index is given for an event; to take the event out it must be given the same."""
    text = line if len(line) <= INDEXED_CHARACTERS else line[:INDEXED_CHARACTERS]
    if source_ip is not None:
        text = f"{text} ip@{source_ip.replace(':', '-')}"
    if user_name is not None:
        text = f"{text} {_user_word(user_name)}"
    return text


def line_of(raw: str | bytes, encoding: str | None) -> str:
    """A stored line as the index is given it."""
    return raw if isinstance(raw, str) else raw.decode(encoding or "utf-8", "replace").removeprefix("\ufeff")


def address_query(address: str) -> str:
    """The events whose source.ip is written like this."""
    return _all_of(f"ip@{address.replace(':', '-')}")


def user_query(name: str) -> str:
    """The events of this user; upper and lower case of ASCII are the same."""
    return _all_of(_user_word(name))


def fts_query(words: Sequence[str]) -> str:
    """The lines with these words; a word matches from its start. Empty: no word has a token."""
    terms = []
    for word in words:
        tokens = TOKEN.findall(word)
        for index, token in enumerate(tokens):
            ends = index == len(tokens) - 1 and word.endswith(token)
            terms.append('"' + token + '"' + ("*" if ends else ""))
    return " AND ".join(terms)


def _user_word(name: str) -> str:
    if name.isascii():
        return f"u@{name[:_NAME_CHARACTERS]}"
    # The index folds letters beyond ASCII in its own way, and parts words elsewhere.
    return "u@-" + hashlib.blake2b(name.encode().lower(), digest_size=8).hexdigest()


def _all_of(text: str) -> str:
    return " AND ".join(f'"{token}"' for token in TOKEN.findall(text))
