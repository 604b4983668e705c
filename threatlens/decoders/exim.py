"""Exim's main and reject logs, in its own file or syslog.

"H=name (helo) [address]": the HELO name is the client's and may hold anything but its closing parenthesis, so the
last bracket before the text counts.
"""

from __future__ import annotations

from typing import Any

from threatlens.decoders.tables import Table, layout, row

_MAIL: dict[str, Any] = {"category": "email"}
_NET: dict[str, Any] = {"category": "network"}
_ID = r"(?:\[[0-9]{1,10}\] )?(?:[0-9A-Za-z]{6}-[0-9A-Za-z]{6,11}-[0-9A-Za-z]{2,4} )?"
_AT = r"\[(?P<src>[0-9A-Fa-f.:]+)\](?::(?P<sport>[0-9]{1,5}))?"
_FROM = rf"(?:H=)?(?:[\w.-]{{1,255}} )?(?:\(.{{0,400}}\) )?{_AT}(?: I=\[[^\s\]]++\](?::[0-9]{{1,5}})?)?"
_H = rf"{_FROM}(?: (?:X|CV|SNI|A|Ci|PRX|U|P|DN|TFO|DT)=\S+)*"

_TABLE = Table(
    {
        "": [
            row(
                rf"{_ID}(?P<method>[\w.-]+) authenticator failed for {_H}: (?P<reason>535 Incorrect authentication"
                rf" data)"
                r"(?: \(set_id=(?P<user>.*)\))?",
                "mail_login",
                "failure",
            ),
            row(
                rf"{_ID}(?P<method>[\w.-]+) authenticator failed for {_H}: (?P<reason>[^()]*)(?: \(set_id="
                rf"(?P<user>.*)\))?",
                "mail_login",
                "failure",
            ),
            row(
                rf"{_ID}{_H} F=(?:<>|\S+) (?:temporarily )?rejected (?P<method>RCPT|VRFY|EXPN|after DATA|DATA|MAIL) ?"
                r"(?:<(?P<recipient>[^>]*)>)?: (?P<reason>.*)",
                "mail_rejected",
                "failure",
                **_MAIL,
            ),
            row(
                rf"{_ID}{_H} (?:temporarily )?rejected (?P<method>[\w/ ]+?)(?: <(?P<recipient>[^>]*)>)?(?:: "
                rf"(?P<reason>.*)|\s.*|)",
                "mail_rejected",
                "failure",
                **_MAIL,
            ),
            row(
                rf"{_ID}(?:no host name found for IP address|rejected connection (?:from|in .{{0,100}}? ACL:?))"
                rf" {_AT}.*",
                "mail_rejected",
                "failure",
                **_MAIL,
            ),
            row(rf"{_ID}rejected (?P<method>[\w/ ]+) from {_H}: (?P<reason>.*)", "mail_rejected", "failure", **_MAIL),
            row(
                rf"{_ID}SMTP protocol (?:synchronization )?error(?: \([^()]{{0,200}}\))?:?(?: in| rejected)?"
                rf"(?: connection from| \"[^\"]{{0,400}}\")? {_H}.*",
                "mail_protocol_error",
                "failure",
                **_MAIL,
            ),
            row(rf"{_ID}SMTP call from {_H} dropped: (?P<reason>.*)", "mail_protocol_error", "failure", **_MAIL),
            row(
                rf"{_ID}SMTP (?:command|data) timeout(?: \([^()]{{0,200}}\))?"
                rf"(?: on (?:\w{{1,20}} )?connection from)? {_H}(?:\s.*)?",
                "mail_timeout",
                **_NET,
            ),
            row(rf"{_ID}(?P<reason>no MAIL) in SMTP connection from {_H}.*", "mail_probe", "failure", **_MAIL),
            row(
                rf"{_ID}(?:SMTP connection from|Connection from) {_H}.*",
                "mail_connect",
                **_NET,
            ),
            row(
                rf"{_ID}(?P<reason>(?:unqualified sender|unqualified recipient|syntactically invalid argument|too many"
                rf" connections|unexpected disconnection|dropped: |Warning: |TLS error|login attempt)"
                rf"(?:(?! (?:H=|from |on connection))[^\[(]){{0,300}}+)"
                rf"(?>(?:\([^()\[\]]{{0,100}}\))?[^\[(]{{0,400}}? (?=[\[(]|H=|[\w.-]{{1,255}} [\[(])){_H}(?:\s.*)?",
                "mail_rejected",
                "failure",
                **_MAIL,
            ),
            row(rf"{_ID}(?P<reason>auth_\w+ authenticator failed|.{{1,60}}) for {_H}: 535 .*", "mail_login", "failure"),
            row(
                rf"{_ID}<= (?P<sender>\S+) (?>{_FROM})(?:(?! A=).){{0,2000}}+ A=(?P<method>\w+):(?P<user>\S+).*",
                "mail_received",
                "success",
                **_MAIL,
            ),
            row(rf"{_ID}<= (?P<sender>\S+) {_H}.*", "mail_received", "success", **_MAIL),
            row(rf"{_ID}<= (?P<sender>\S+) .*", "mail_received", "success", **_MAIL),
            row(rf"{_ID}(?:=>|->) (?P<recipient>\S+).*", "mail_sent", "success", **_MAIL),
            row(rf"{_ID}\*\* (?P<recipient>\S++).*?: (?P<reason>.*)", "mail_sent", "failure", **_MAIL),
            row(rf"{_ID}== (?P<recipient>\S+).*", "mail_deferred", **_MAIL),
            row(rf"{_ID}{_H} (?P<reason>sender verify (?:fail|defer) for .*)", "mail_rejected", "failure", **_MAIL),
            row(rf"{_ID}Completed.*", "mail_removed", **_MAIL),
        ],
    }
)

DECODER = layout(
    "exim",
    r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}(?:\.[0-9]{3})?(?: [+-][0-9]{4})?) (?:\[(?P<pid>[0-9]{1,10})\]"
    r" )?(?P<message>.*)",
    about="Exim main and reject logs: deliveries, refusals, SMTP logins.",
    leads=("0000-00-00 ",),
    marks=("[", "<= ", "=> ", "Completed", "** ", "== "),
    messages=_TABLE,
    only_messages=True,
    programs=("exim", "exim4"),
)
