"""Oracle Messaging Server's connection log: <co ts="..." tr="TCP|server|25|client|4299" mi="Bad password" .../>."""

from __future__ import annotations

from threatlens.decoders.tables import Table, layout, row

_TR = r"tr=\"TCP\|(?P<dst>[^|\"]*)\|(?P<dport>[0-9]{1,5})\|(?P<src>[^|\"]*)\|(?P<sport>[0-9]{1,5})\""
_ANY = r"(?: [a-z]{2}=\"[^\"]*\")*?"

_TABLE = Table(
    {
        "": [
            row(
                rf"{_ANY} {_TR} ap=\"(?P<protocol>[^\"]*)\" mi=\"(?P<reason>Bad password|Authentication failed[^\"]*)\""
                r"(?: us=\"(?P<user>[^\"]*)\")?.*",
                "mail_login",
                "failure",
            ),
            row(rf"{_ANY} {_TR}.*", "mail_connect", category="email"),
        ]
    }
)

DECODER = layout(
    "oracle.ims",
    r"<co ts=\"(?P<time>[^\"]*)\"(?P<message> .*)/>",
    about="Oracle Messaging Server's connection log: SMTP, IMAP and POP logins.",
    leads=("<aa aa=",),
    messages=_TABLE,
    only_messages=True,
)
