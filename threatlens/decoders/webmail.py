"""Groupware and web mail: Roundcube, SquirrelMail, Horde, SOGo, Group-Office; names stand before addresses."""

from __future__ import annotations

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, layout, row

_LOGIN = "mail_login"

_FAILED = r"(?:<\w+> )?(?:IMAP Error: )?(?:Login failed|FAILED login|Failed login|LOGIN FAILED) for "
_FROM = r" from (?P<src>[0-9A-Fa-f.:]*[0-9A-Fa-f])"
#: What a proxy has added may be the client's: a second "from" leaves the address open.
_REST = r"(?:[^\w:](?:(?! from ).)*)?"
_ROUNDCUBE = Table(
    {
        "": [
            row(rf"{_FAILED}(?P<user>\S{{0,255}})(?: against [\w.:-]+)?{_FROM}{_REST}", _LOGIN, "failure"),
            row(rf"{_FAILED}(?P<user>(?:(?!\(X-).)*){_FROM}{_REST}", _LOGIN, "failure"),
            row(rf"{_FAILED}.*", _LOGIN, "failure"),
            row(
                r"(?:<\w+> )?Successful login for (?P<user>\S+) \(ID: \w+\) from (?P<src>[^\s(]+).*", _LOGIN, "success"
            ),
        ]
    }
)
_SQUIRRELMAIL = Table(
    {
        "": [
            row(
                r"(?>(?:.*? )?\[LOGIN_ERROR\] )(?>(?P<user>.*) \("
                r"(?P<recipient>[^()]*)\) from )(?P<src>\S+?): (?P<reason>.*)",
                _LOGIN,
                "failure",
            ),
            row(
                r"(?>(?:.*? )?\[LOGIN\] )(?>(?P<user>.*) \((?P<recipient>[^()]*)\) from )(?P<src>\S+?): .*",
                _LOGIN,
                "success",
            ),
            row(
                r"(?>(?:.*? )?\[LOGOUT\] )(?>(?P<user>.*) \("
                r"(?P<recipient>[^()]*)\) from )(?P<src>\S+?): .*",
                "mail_logout",
                category="session",
            ),
        ]
    }
)
_HORDE = Table(
    {
        "": [
            row(
                r"(?:\[\w+\] )?\[(?:horde|imp)\] FAILED LOGIN for (?P<user>.*)"
                r" \[(?P<src>[^\]\s]+)\](?:\(forwarded for \[[^\]]*\]\))? to .*",
                _LOGIN,
                "failure",
            ),
            row(
                r"(?:\[\w+\] )?\[(?:horde|imp)\] FAILED LOGIN "
                r"(?P<src>[0-9A-Fa-f.:]+) to (?>.*? as )(?P<user>.*) \[.*",
                _LOGIN,
                "failure",
            ),
            row(
                r"(?:\[\w+\] )?\[(?:horde|imp)\] Login"
                r" success for (?P<user>.*) \[(?P<src>[^\]\s]+)\].*",
                _LOGIN,
                "success",
            ),
        ]
    }
)
_SOGO = Table(
    {
        "": [
            row(
                r"(?:SOGoRootPage )?Login from '"
                r"(?P<src>[^'\s,]++)[^']*+' for user '(?P<user>.*)' might not have worked.*",
                _LOGIN,
                "failure",
            ),
            row(
                r"(?:SOGoRootPage )?(?:successful|Successful) login from"
                r" '(?P<src>[^'\s,]++)[^']*+' for user '(?P<user>[^']*)'.*",
                _LOGIN,
                "success",
            ),
        ]
    }
)
_GROUP_OFFICE = Table(
    {
        "": [
            row(r"LOGIN FAILED for user: \"(?P<user>.*)\" from IP: (?P<src>\S+)", _LOGIN, "failure"),
            row(r"LOGIN SUCCESS for user: \"(?P<user>.*)\" from IP: (?P<src>\S+)", _LOGIN, "success"),
            row(r"BAD LOGIN for user: \"(?P<user>.*)\" from IP: (?P<src>\S+)", _LOGIN, "failure"),
        ]
    }
)
DECODERS = (
    layout(
        "roundcube",
        r"\[(?P<time>(?:[0-9]{2}-[A-Z][a-z]{2}-[0-9]{4}|[0-9]{4}-[0-9]{2}-[0-9]{2}) [0-9:]{8}(?:\.[0-9]+)?"
        r" ?[+-][0-9]{4})\]:? (?:"
        r"(?P<level>[A-Z]+): )?(?P<message>.*)",
        about="Roundcube web mail: logins, in its own file or syslog.",
        leads=("[00-Aaa-0000 00:00:00", "[0000-00-00 00:00:00 +0000]: <", "[0000-00-00 00:00:00 -0000]: <"),
        goes_on=("Error:", "ERROR:", "Exception", "Stack trace"),
        messages=_ROUNDCUBE,
        programs=("roundcube", "roundcubemail"),
    ),
    layout(
        "squirrelmail",
        r"(?P<time>[0-9]{2}/[0-9]{2}/[0-9]{4} [0-9:]{8}) (?P<message>\[LOG(?:IN_ERROR|IN|OUT)\] .*)",
        about="SquirrelMail's logger: logins.",
        leads=("00/00/0000 00:00:00 [",),
        messages=_SQUIRRELMAIL,
        programs=("squirrelmail",),
    ),
    MessageDecoder(
        name="horde", about="Horde and IMP: logins.", read=_HORDE.read, programs=("HORDE", "horde", "Horde")
    ),
    MessageDecoder(name="sogo", about="SOGo groupware: logins.", read=_SOGO.read, programs=("sogod",)),
    layout(
        "groupoffice",
        r"\[(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8})\](?:\[[^\]]*\])? ?(?P<message>.*)",
        about="Group-Office: logins.",
        leads=("[0000-00-00 00:00:00]",),
        marks=('LOGIN FAILED for user: "', 'LOGIN SUCCESS for user: "', 'BAD LOGIN for user: "'),
        messages=_GROUP_OFFICE,
        only_messages=True,
    ),
)
