"""Refused sign-ins of programs that nobody has described yet, by the words that all of them use.

A habit, so it is asked late and believes little. A whole line must say that something failed, that it was a sign-in,
and hold one address only, named as such and outside of quotes; a name that holds an address makes two. Inside an
envelope, where this is asked about every program, a sentence must begin the message and the address must end it, so
that what stands between, which the client chose, moves neither.
"""

from __future__ import annotations

from threatlens.decoders.application import head_of, opened
from threatlens.decoders.base import ADDRESSES, LineDecoder, Opened, compiled
from threatlens.decoders.tables import Table, row
from threatlens.decoders.times import Clock
from threatlens.event import Fields

NAME = "signin"

_AT = (
    r"(?:from|rhost=|by|client|host|ip:?|IP:?|address|at)[ =:]{0,2}\[?(?P<src>[0-9]{1,3}"
    r"(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:[0-9.]{7,15})?)\]?(?:(?::| port )"
    r"(?P<sport>[0-9]{1,5}))?\W{0,3}"
)
_WHO = (
    r"(?: of| for| by| as)?(?: (?:invalid |unknown )?"
    r"(?:user|account|username|login))?[:=]? ?(?:user(?:name)?=)?['\"<\[(]?(?P<user>.*?)['\">\])]?,? "
)

_REFUSED = [
    row(
        r"(?:[Aa]uthentication|[Ll]ogin|[Ll]ogon|[Ss]ign-?in|AUTH|[Aa]uth)(?: (?:attempt|error|request))? ?(?:has"
        r" )?(?:failed|failure|rejected|denied|refused|error)"
        rf"{_WHO}{_AT}",
        "login",
        "failure",
    ),
    row(
        r"(?:[Ff]ailed|FAILED|[Ii]nvalid|[Bb]ad|[Ii]ncorrect|[Ww]rong|[Rr]ejected|[Uu]nauthorized|[Uu]nsuccessful)"
        r" (?:login|LOGIN|logon|password|authentication|credentials|auth|sign-?in|user)(?: attempt| try)?"
        rf"{_WHO}{_AT}",
        "login",
        "failure",
    ),
]

_BEGINNINGS = (
    "Authentication authentication Login login LOGIN Logon AUTH Auth auth Failed failed FAILED Invalid"
    " invalid Bad bad Incorrect incorrect Wrong wrong Rejected"
    " rejected Unauthorized unauthorized Unsuccessful unsuccessful"
)
_SENTENCES = Table(dict.fromkeys(_BEGINNINGS.split(), _REFUSED))

_MAX_READ = 2000
_SHORT = 150  # characters in front of the address
_FAILED = compiled(
    r"(?i:\b(?:fail(?:ed|ure)|invalid|incorrect|wrong|unsuccessful|unauthori[sz]ed|denied|rejected)\b)"
).search
_SIGN_IN = compiled(
    r"(?i:\b(?:log[ -]?in|logon|sign[ -]?in|authenticat(?:e|ion)|password|credentials?|passcode|two-factor|2fa|totp)\b)"
).search
_ADDRESS = compiled(
    r"(?<![\w.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w-]|\.[0-9])|[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,8}"
    r"[0-9.]{0,15}(?![\w:]))"
).finditer
_NAMED = compiled(r"(?i:(?:\b(?:from|ip|address|addr|client|remote|host|rhost|by)\b[ =:]{0,3}|\()\[?$)").search
_USER = compiled(
    r"(?i:\b(?:user(?:name)?|account|login|email)\b)[ =:]{1,3}[\"'`\[(<]?(\w[\w@.+\\-]{0,127})[\"'`\])>]?[ ,;.)]"
).finditer
#: "... failed for bob from ": one word between the two, or it is none.
_FOR = compiled(r"\bfor (\w[\w@.+\\-]{0,127}) from [\[(]?$").search
_LEVEL = compiled(r"^\[?(?:INFO|NOTICE|WARN|WARNING|ERROR|info|notice|warn|warning|error)\]?:? {1,4}").sub
_QUOTES = "\"'`"


def is_refusal(text: str) -> bool:
    """Whether the text says that something failed, and that it was a sign-in."""
    return _FAILED(text) is not None and _SIGN_IN(text) is not None


def open_line(line: str, clock: Clock) -> Opened | None:
    """Time, level, the address, and the account if it is named by one word."""
    if len(line) > _MAX_READ or not is_refusal(line):
        return None
    before, time, text = head_of(line)
    if not time:
        return None
    fields: Fields = {}
    return opened(NAME, line, before, time, text, fields, clock) if found_in(text, fields) else None


def read(message: str, fields: Fields) -> bool:
    """A sentence inside an envelope, its quotes closed, a level before it or not."""
    message = _LEVEL("", message, 1)
    return not any(message.count(quote) % 2 for quote in _QUOTES) and _SENTENCES.read(message, fields)


def found_in(text: str, fields: Fields) -> bool:
    """Add the one address, and the account if it is named by one word; False: nothing to believe."""
    found = {address: place for place in _ADDRESS(text) if (address := _address_of(place[0]))}
    if len(found) != 1:
        return False
    ((address, place),) = found.items()
    ahead = text[: place.start()]
    if not _NAMED(ahead[-24:]) or any(ahead.count(quote) % 2 for quote in _QUOTES):
        return False
    fields |= {
        "event.category": "authentication",
        "event.action": "login",
        "event.outcome": "failure",
        "source.ip": address,
    }
    named = (user[1] for user in _USER(text) if user[1].lower() not in _WORDS)
    short = _FOR(ahead[-_SHORT:])
    user = next(named, "") or (short[1] if short is not None else "")
    if user and not ADDRESSES[user]:
        fields["user.name"] = user
    return True


def _address_of(text: str) -> str:
    """The address, without the full stop or colon that ends what it stands in."""
    text = text.rstrip(".")
    return ADDRESSES[text] or ADDRESSES[text.removesuffix(":")]


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
    read=read,
)
