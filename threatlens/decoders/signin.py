"""Refused sign-ins of programs that nobody has described yet, by the words that all of them use.

A habit, so it is asked late and believes little: the line must say that something failed, that it was a sign-in, and
hold one address only, named as such and outside of quotes; a name that holds an address makes two.
"""

from __future__ import annotations

from threatlens.decoders.application import head_of, opened
from threatlens.decoders.base import ADDRESSES, LineDecoder, Opened, compiled
from threatlens.decoders.times import Clock
from threatlens.event import Fields

NAME = "signin"

_MAX_READ = 2000
_FAILED = compiled(
    r"(?i:\b(?:fail(?:ed|ure)|invalid|incorrect|wrong|unsuccessful|unauthori[sz]ed|denied|rejected)\b)"
).search
_SIGN_IN = compiled(
    r"(?i:\b(?:log[ -]?in|logon|sign[ -]?in|authenticat(?:e|ion)|password|credentials?|passcode|two-factor|2fa|totp)\b)"
).search
_ADDRESS = compiled(
    r"(?<![\w.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,8}[0-9.]{0,15})(?![\w:])"
).finditer
_NAMED = compiled(r"(?i:(?:\b(?:from|ip|address|addr|client|remote|host|rhost|by)\b[ =:]{0,3}|\()\[?$)").search
_USER = compiled(
    r"(?i:\b(?:user(?:name)?|account|login|email)\b)[ =:]{1,3}[\"'`\[(<]?([\w@.+\\-]{1,128})[\"'`\])>]?[ ,;.)]"
).search
_QUOTES = "\"'`"


def open_line(line: str, clock: Clock) -> Opened | None:
    """Time, level, the address, and the account if it is named by one word."""
    if len(line) > _MAX_READ or not _FAILED(line) or not _SIGN_IN(line):
        return None
    before, time, text = head_of(line)
    if not time:
        return None
    found = [place for place in _ADDRESS(text) if ADDRESSES[place[0].rstrip(".")]]
    if len({place[0] for place in found}) != 1:
        return None
    place = found[-1]
    ahead = text[: place.start()]
    if not _NAMED(ahead[-24:]) or any(ahead.count(quote) % 2 for quote in _QUOTES):
        return None
    fields: Fields = {
        "event.category": "authentication",
        "event.action": "login",
        "event.outcome": "failure",
        "source.ip": ADDRESSES[place[0].rstrip(".")],
    }
    user = _USER(text)
    if user is not None and not ADDRESSES[user[1]] and user[1].lower() not in _WORDS:
        fields["user.name"] = user[1]
    return opened(NAME, line, before, time, text, fields, clock)


_WORDS = frozenset(
    ("from", "failed", "failure", "attempt", "attempts", "for", "with", "by", "and", "or", "is", "not", "name", "was",
     "denied", "rejected", "error", "invalid", "unknown", "ip", "at", "on", "password", "request", "has", "via", "to")
)  # fmt: skip

DECODER = LineDecoder(
    name=NAME,
    about="A refused sign-in of any program: time, address, and the account where it is plain.",
    open=open_line,
    leads=("0", "[", "A", "(", "<"),
    strict=False,
    inside=False,
)
