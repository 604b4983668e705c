"""How programs without a decoder of their own say that somebody got in or not: "Failed login for bob from 192.0.2.7".

The sentence must begin the message and the address must end it, so that what stands between, which the client chose,
moves neither.
"""

from __future__ import annotations

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row

_AT = (
    r"(?:from|rhost=|by|client|host|ip:?|IP:?|address|at)[ =:]{0,2}\[?(?P<src>[0-9]{1,3}"
    r"(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:[0-9.]{7,15})?)\]?(?:(?::| port )"
    r"(?P<sport>[0-9]{1,5}))?\W{0,3}"
)
_WHO = (
    r"(?: of| for| by| as)?(?: (?:invalid |unknown )?"
    r"(?:user|account|username|login))?[:=]? ?(?:user(?:name)?=)?['\"<\[(]?(?P<user>.*?)['\">\])]?,? "
)

_FAILED = [
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

_WORDS = [
    "Authentication",
    "authentication",
    "Login",
    "login",
    "LOGIN",
    "Logon",
    "AUTH",
    "Auth",
    "auth",
    "Failed",
    "failed",
    "FAILED",
    "Invalid",
    "invalid",
    "Bad",
    "bad",
    "Incorrect",
    "incorrect",
    "Wrong",
    "wrong",
    "Rejected",
    "rejected",
    "Unauthorized",
    "unauthorized",
    "Unsuccessful",
    "unsuccessful",
]
_TABLE = Table(dict.fromkeys(_WORDS, _FAILED))

DECODER = MessageDecoder(
    name="login.phrases",
    about="Sentences about failed logins, of programs that have no decoder of their own.",
    read=_TABLE.read,
    programs=(),
)
