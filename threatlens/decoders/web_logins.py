"""Logins of web applications and panels that log to syslog or a plain file; the address ends the sentence."""

from __future__ import annotations

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, layout, row
from threatlens.event import Fields

_GUACAMOLE = Table(
    {
        "": [
            row(
                r"(?:\S+ - )?Authentication attempt from \[?"
                r"(?P<src>[^\]\s,]+)(?:, [^\]\s]{1,64}){0,8}\]? for user \"(?P<user>.*)\" failed\.",
                "login",
                "failure",
            ),
            row(
                r"(?:\S+ - )?User \"(?P<user>.*)\" successfully"
                r" authenticated from \[?(?P<src>[^\]\s,]+)(?:, [^\]\s]{1,64}){0,8}\]?\.",
                "login",
                "success",
            ),
            row(r"(?:\S+ - )?Address (?P<src>\S+) (?P<reason>.*)", "login", "failure"),
        ]
    }
)
_DRUPAL = Table(
    {
        "": [
            row(
                r"https?://[^|]*\|[0-9]{9,11}\|(?P<logger>user)\|"
                r"(?P<src>[^|\s]+)\|[^|]*\|[^|]*\|[0-9]*\|[^|]*\|Login attempt failed (?:for|from) (?P<user>.*?)\.?",
                "login",
                "failure",
            ),
            row(
                r"https?://[^|]*\|[0-9]{9,11}\|(?P<logger>user)\|"
                r"(?P<src>[^|\s]+)\|[^|]*\|[^|]*\|[0-9]*\|[^|]*\|Session opened for (?P<user>.*?)\.?",
                "login",
                "success",
            ),
            row(
                r"https?://[^|]*\|[0-9]{9,11}\|(?P<logger>[^|]*)\|"
                r"(?P<src>[^|\s]*)\|(?P<url>[^|]*)\|[^|]*\|[0-9]*\|[^|]*\|(?P<reason>.*)",
                category="web",
            ),
        ]
    }
)
_WORDPRESS = Table(
    {
        "": [
            row(
                r"(?P<reason>Authentication failure|Authentication attempt|XML-RPC authentication failure|XML-RPC"
                r" authentication attempt|XML-RPC multicall authentication failure|REST"
                r" authentication failure|Blocked authentication attempt|Blocked user enumeration attempt|Empty"
                r" username or password)(?: for (?:unknown user )?(?P<user>.*))? from (?P<src>\S+)",
                "http_login",
                "failure",
            ),
            row(r"Accepted password for (?P<user>.*) from (?P<src>\S+)", "http_login", "success"),
            row(
                r"(?P<reason>Pingback error .*|Spammed comment|Spam"
                r" comment.*|Comment attempt on .*|Pingback requested) from (?P<src>\S+)",
                "request_blocked",
                "failure",
                category="web",
            ),
            row(
                r"(?P<reason>Pingback error"
                r" .*) generated from (?P<src>\S+)",
                "request_blocked",
                "failure",
                category="web",
            ),
        ]
    }
)
_GITLAB = Table(
    {
        "": [
            row(r"Failed Login: username=(?P<user>.*) ip=(?P<src>\S+)", "login", "failure"),
            row(r"User Login: username=(?P<user>.*) ip=(?P<src>\S+)", "login", "success"),
        ]
    }
)
_DIRECTADMIN = Table(
    {
        "": [
            row(
                r"'(?P<src>[^'\s]+)' (?P<count>[0-9]{1,6})"
                r" failed login attempts\. Account '(?P<user>.*)'",
                "login",
                "failure",
            ),
            row(r"'(?P<src>[^'\s]+)' (?P<count>[0-9]{1,6}) failed login attempts?\.\s*", "login", "failure"),
            row(r"'(?P<src>[^'\s]+)' successful login to '(?P<user>.*)' after .*", "login", "success"),
        ]
    }
)
_FROXLOR = Table(
    {
        "": [
            row(
                r"\[Login Action (?P<src>[^\]\s]+)\] "
                r"(?P<reason>Unknown user) '(?P<user>.*)' tried to login\.?",
                "login",
                "failure",
            ),
            row(
                r"\[Login Action (?P<src>[^\]\s]+)\] User '"
                r"(?P<user>.*)' tried to login with wrong password\.?",
                "login",
                "failure",
            ),
            row(r"\[Login Action (?P<src>[^\]\s]+)\] (?P<reason>.*)", "login", "success"),
        ]
    }
)
_PHPMYADMIN = Table(
    {
        "user": [
            row(
                r"user denied: (?P<user>.*) \("
                r"(?P<reason>mysql-denied|empty-denied|allow-denied|root-denied|recaptcha-denied)\) from (?P<src>\S+)",
                "http_login",
                "failure",
            ),
            row(r"user denied: (?P<user>.*) from (?P<src>\S+)", "http_login", "failure"),
        ]
    }
)
_EJABBERD_AT = r"from (?:IP )?(?:::FFFF:|::ffff:)?(?P<src>[0-9A-Fa-f.:]*[0-9A-Fa-f])(?:[: ].*)?"
_EJABBERD = Table(
    {
        "": [
            row(
                rf"[^ ]{{1,200}} (?:\([^ ]{{0,200}}\) )?Failed (?:\S+ ){{0,2}}authentication (?:for (?P<user>\S*)"
                rf" )?{_EJABBERD_AT}",
                "login",
                "failure",
            ),
            row(
                rf"[^ ]{{1,200}} (?:\([^ ]{{0,200}}\) )?Accepted (?:\S+ ){{0,2}}authentication for (?P<user>\S*) "
                rf"(?:by \S+ (?:backend )?)?{_EJABBERD_AT}",
                "login",
                "success",
            ),
        ]
    }
)


_EJABBERD_REPORT = Table(
    {
        "": [
            row(
                r"[A-Z]\(<[0-9.]{1,30}>:(?P<logger>\w{1,60}:[0-9]{1,6})\) ?: (?>.*?Failed (?:\S+ )?authentication for )"
                rf"(?P<user>\S*) {_EJABBERD_AT}",
                "login",
                "failure",
            ),
            row(
                r"[A-Z]\(<[0-9.]{1,30}>:(?P<logger>\w{1,60}:[0-9]{1,6})\) ?: (?P<reason>.*)",
                category="host",
            ),
        ]
    }
)


def _read_drupal(message: str, fields: Fields) -> bool:
    return "|user|" in message and _DRUPAL.read(message, fields)


DECODERS = (
    layout(
        "guacamole",
        r"(?:(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}) \[(?P<thread>[^\]]*)\] )?"
        r"(?P<level>WARN|WARNING|INFO|ERROR|DEBUG):?  ?(?P<message>.*)",
        about="Apache Guacamole: logins.",
        leads=("00:00:00.000 [", "AAAAAAA: ", "AAAA: ", "AAAAA: "),
        marks=("Authentication attempt from ", "successfully authenticated from "),
        messages=_GUACAMOLE,
        only_messages=True,
        programs=("guacamole", "tomcat9", "guacd"),
    ),
    MessageDecoder(
        name="wordpress",
        about="WordPress with a syslog plug-in: logins, pingbacks, spam.",
        read=_WORDPRESS.read,
        programs=("wordpress", "wp"),
    ),
    layout(
        "gitlab.application",
        r"(?P<time>[A-Z][a-z]+ [0-9]{1,2}, [0-9]{4} [0-9]{2}:[0-9]{2}): (?P<message>(?:Failed|User) Login: .*)",
        about="GitLab's application log: logins.",
        leads=("A",),
        marks=("Failed Login: username=", "User Login: username="),
        messages=_GITLAB,
    ),
    layout(
        "directadmin",
        r"(?P<time>[0-9]{4}:[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}:[0-9]{2}): (?P<message>'.*)",
        about="DirectAdmin's login log.",
        leads=("0000:00:00-00:00:00: '",),
        messages=_DIRECTADMIN,
    ),
    MessageDecoder(name="froxlor", about="Froxlor: logins.", read=_FROXLOR.read, programs=("froxlor", "Froxlor")),
    MessageDecoder(
        name="phpmyadmin",
        about="phpMyAdmin: refused logins.",
        read=_PHPMYADMIN.read,
        programs=("phpMyAdmin", "phpmyadmin"),
    ),
    layout(
        "ejabberd",
        r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}(?:\.[0-9]{3,6})?(?:[+-][0-9]{2}:[0-9]{2})?) \["
        r"(?P<level>[a-z]+)\] (?P<message>.*)",
        about="ejabberd: XMPP logins.",
        leads=("0000-00-00 00:00:00",),
        marks=("ejabberd", "authentication for "),
        messages=_EJABBERD,
        only_messages=True,
        programs=("ejabberd",),
    ),
    layout(
        "erlang.report",
        r"=(?P<level>INFO|ERROR|WARNING|PROGRESS|CRASH|SUPERVISOR) REPORT==== (?P<time>[0-9: .A-Za-z-]{8,40}) ==="
        r"(?: (?P<message>.*))?",
        about="Reports of Erlang programs; the text stands on the lines below, those of ejabberd are read.",
        leads=("=AAA",),
        marks=(" REPORT==== ",),
        messages=_EJABBERD_REPORT,
    ),
    MessageDecoder(
        name="drupal",
        about="Drupal's messages in syslog, which carry the name of the site: logins.",
        read=_read_drupal,
        programs=(),
    ),
)
