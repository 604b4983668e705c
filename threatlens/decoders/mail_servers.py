"""Mail servers with a small vocabulary: Cyrus, Sendmail, Sieve, Perdition, qmail, ASSP, Domino, Exchange-like POP3."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, layout, row

_MAIL: dict[str, Any] = {"category": "email"}
_NET: dict[str, Any] = {"category": "network"}
_LOGIN = "mail_login"
_CYRUS_HOST = r"\[?(?:[\w.-]+ )?\[(?P<src>[^\]\s]+)\]\]?"

_CYRUS = Table(
    {
        "badlogin:": [
            row(
                r"badlogin: \[?[^\[\]]*\[(?P<src>[^\]\s]+)\]\]? "
                r"(?P<method>\S+) (?P<user>\S+@[^\s@]+) (?P<reason>.*)",
                _LOGIN,
                "failure",
            ),
            row(
                r"badlogin: \[?[^\[\]]*\[(?P<src>[^\]\s]+)\]\]? "
                r"(?P<method>plaintext) (?P<user>[^\s\[(]+) (?P<reason>SASL\(.*|invalid .*|wrong password.*)",
                _LOGIN,
                "failure",
            ),
            row(
                r"badlogin: \[?[^\[\]]*\[(?P<src>[^\]\s]+)\]\]? "
                r"(?P<method>\S+) \[?(?P<reason>SASL\([^)]*\).*|.*)",
                _LOGIN,
                "failure",
            ),
        ],
        "login:": [row(r"login: [^\[\]]*\[(?P<src>[^\]\s]+)\] (?P<user>\S+) (?P<method>\S+) ?.*", _LOGIN, "success")],
        "badlogin": [row(r"badlogin from [^\[\]]*\[(?P<src>[^\]\s]+)\].*", _LOGIN, "failure")],
        "accepted": [row(r"accepted connection", "mail_connect", **_NET)],
        "starttls:": [row(r"starttls: .*", "tls_handshake", **_NET)],
    }
)
_SENDMAIL_AT = r"(?:[^\s\[\],=]+ )?\[(?P<src>[^\]\s]+)\](?: \(may be forged\))?"
_QID = r"(?:(?P<queue_id>\w{10,20}|NOQUEUE): )?"
_SENDMAIL = Table(
    {
        "": [
            row(
                rf"{_QID}AUTH failure \((?P<method>[^()]*)\): "
                rf"(?P<reason>(?:(?!,? (?:user|relay)=).){{0,300}}+),? "
                rf"(?:user=(?P<user>.*), )?relay={_SENDMAIL_AT}(?:,.*)?",
                _LOGIN,
                "failure",
            ),
            row(
                rf"{_QID}{_SENDMAIL_AT}: possible SMTP attack:"
                rf" command=(?P<method>AUTH), count=(?P<count>[0-9]{{1,9}})",
                _LOGIN,
                "failure",
            ),
            row(
                rf"{_QID}{_SENDMAIL_AT}: possible SMTP attack:"
                rf" command=(?P<method>\S+), count=(?P<count>[0-9]{{1,9}})",
                "mail_probe",
                "failure",
                **_MAIL,
            ),
            row(
                rf"{_QID}ruleset=(?P<rule>\w+), (?:arg1=<?(?P<recipient>(?:(?!, relay=).)*)>?, "
                rf"(?:arg2=[^,]*, )?)?relay={_SENDMAIL_AT}, (?:mech=\S+, )?reject=(?P<reason>(?:(?!, relay=).)*)",
                "mail_rejected",
                "failure",
                **_MAIL,
            ),
            row(
                rf"{_QID}rejecting commands from"
                rf" {_SENDMAIL_AT} due to (?P<reason>.*)",
                "mail_rejected",
                "failure",
                **_MAIL,
            ),
            row(
                rf"{_QID}(?P<reason>lost input"
                rf" channel|timeout waiting for input) from {_SENDMAIL_AT}.*",
                "mail_lost_connection",
                **_NET,
            ),
            row(rf"{_QID}{_SENDMAIL_AT}:? did not issue (?P<reason>.*)", "mail_probe", "failure", **_NET),
            row(
                rf"{_QID}{_SENDMAIL_AT}: (?P<reason>(?:Pre-greeting"
                rf" traffic|pre-greeting traffic|bad command|MAIL/EXPN/VRFY/ETRN|expn|vrfy|EXPN|VRFY).*)",
                "mail_probe",
                "failure",
                **_NET,
            ),
            row(rf"{_QID}<(?P<recipient>[^>]*)>\.\.\. (?P<reason>.*)", "mail_rejected", "failure", **_MAIL),
            row(rf"{_QID}from=<?(?P<sender>[^>,]*)>?, .*relay={_SENDMAIL_AT}.*", "mail_received", **_MAIL),
            row(rf"{_QID}to=<?(?P<recipient>[^>,]*)>?, .*stat=(?P<reason>.*)", "mail_sent", **_MAIL),
            row(rf"{_QID}STARTTLS=(?:server|client), .*", "tls_handshake", **_NET),
            row(rf"{_QID}Milter: (?P<reason>.*)", "mail_filtered", **_MAIL),
        ]
    }
)
_PERDITION = Table(
    {
        "Auth:": [
            row(
                r"Auth: (?P<src>[^\s>-]+?)(?::(?P<sport>[0-9]{1,5}))?->(?P<dst>[^\s:]+)(?::(?P<dport>[0-9]{1,5}))?"
                r" client-secure=\S+"
                r" authorisation_id=\S+ authentication_id=\"(?P<user>.*)\" server=\S+ protocol=\S+"
                r" server-secure=\S+ status=\"failed: (?P<reason>.*)\"",
                _LOGIN,
                "failure",
            ),
            row(
                r"Auth: (?P<src>[^\s>-]+?)(?::(?P<sport>[0-9]{1,5}))?->(?P<dst>[^\s:]+)(?::(?P<dport>[0-9]{1,5}))?"
                r" client-secure=\S+"
                r" authorisation_id=\S+ authentication_id=\"(?P<user>[^\"]*)\" server=\S+ protocol=\S+"
                r" server-secure=\S+ status=\"ok\"",
                _LOGIN,
                "success",
            ),
            row(
                r"Auth: (?P<src>[^\s>-]+?)(?::(?P<sport>[0-9]{1,5}))?->"
                r"(?P<dst>\S+?)(?::(?P<dport>[0-9]{1,5}))? .*status=\"ok\".*",
                _LOGIN,
                "success",
            ),
            row(
                r"Auth: (?P<src>[^\s>-]+?)(?::(?P<sport>[0-9]{1,5}))?->"
                r"(?P<dst>\S+?)(?::(?P<dport>[0-9]{1,5}))? .*status=\"failed.*\".*",
                _LOGIN,
                "failure",
            ),
        ],
        "Fatal": [
            row(
                r"Fatal Error reading authentication information from client (?P<src>[^\s>-]+?)(?::"
                r"(?P<sport>[0-9]{1,5}))?->(?P<dst>[^\s:]+)(?::(?P<dport>[0-9]{1,5}))?: (?P<reason>.*)",
                _LOGIN,
                "failure",
            ),
        ],
        "Connect:": [
            row(
                r"Connect: (?P<src>[^\s>-]+?)(?::"
                r"(?P<sport>[0-9]{1,5}))?->(?P<dst>\S+?)(?::(?P<dport>[0-9]{1,5}))?(?: .*)?",
                "mail_connect",
                **_NET,
            )
        ],
    }
)
_QMAIL = Table(
    {
        "": [
            row(
                r"(?:rblsmtpd: )?(?:pid [0-9]+ )?(?P<reason>vchkpw-\w+: (?:vpopmail user not found|password"
                r" fail|null password|user not found)(?: \(pass: .*\))?) (?P<user>[^\s:]*):(?P<src>[0-9A-Fa-f.:]+)",
                _LOGIN,
                "failure",
            ),
            row(
                r"(?P<method>vchkpw-\w+): \(\w+\) login"
                r" success (?P<user>[^\s:]*):(?P<src>[0-9A-Fa-f.:]+)",
                _LOGIN,
                "success",
            ),
            row(
                r"(?:[0-9.]{10,25} )?(?:rblsmtpd: )?"
                r"(?P<src>[0-9A-Fa-f.:]+?):? (?:pid [0-9]+:? )?(?:[\w.-]{1,255}: )?"
                r"(?P<reason>[45][0-9]{2} .*|pid.*[45]51.*)",
                "mail_rejected",
                "failure",
                **_MAIL,
            ),
            row(
                r"(?:[0-9.]{10,25} )?(?:qmail-smtpd|smtpd|badiprbl|greylist)[\w:.-]*:? (?:pid [0-9]+ )?(?:ip )?\(?"
                r"(?P<src>[0-9A-Fa-f.:]+)\)?:? (?P<reason>rbl|badiprbl|greylist.*|.*[Rr]"
                r"eject.*|.*denied.*|.*rbl.*)(?:: .*)?",
                "mail_rejected",
                "failure",
                **_MAIL,
            ),
            row(
                r"(?:[0-9.]{10,25} )?tcpserver: (?P<reason>ok|deny) [0-9]+ [^:\s]*:"
                r"(?P<dst>[0-9A-Fa-f.:]+?):(?P<dport>[0-9]{1,5}) [^:\s]*:(?P<src>[0-9A-Fa-f.:]+?)::"
                r"(?P<sport>[0-9]{1,5})",
                "mail_connect",
                **_NET,
            ),
            row(
                r"(?:[0-9.]{10,25} )?(?:new msg|end msg|info"
                r" msg|starting delivery|delivery|status) (?P<reason>.*)",
                "mail_delivery",
                **_MAIL,
            ),
        ]
    }
)
_ASSP = Table(
    {
        "Blocking": [
            row(r"Blocking (?P<src>[0-9A-Fa-f.:]{2,45}) - (?P<reason>too much AUTH errors.*)", _LOGIN, "failure")
        ],
        "": [
            row(
                r"(?:[\w-]+ )?(?:\[\w+\] )*+(?P<src>[0-9A-Fa-f.:]++) (?:<(?P<sender>[^>]*)> )?(?:to: "
                r"(?P<recipient>\S+) )?(?:\[[\w -]+\] )*+(?P<reason>(?:SMTP"
                r" )?(?:authentication|AUTH) failed.*|.*[Mm]ax(?:imum)? ?(?:AUTH|auth).*|.*SMTP Auth"
                r"(?:entication)? (?:error|failed).*|.*authentication error.*)",
                _LOGIN,
                "failure",
            ),
            row(
                r"(?:[\w-]+ )?(?:\[[\w-]+\] )*+(?P<src>[0-9A-Fa-f.:]+) (?:<(?P<sender>[^>]*)> )?(?:to: "
                r"(?P<recipient>\S+) )?(?P<reason>.*"
                r"(?:[Bb]locked|[Rr]elay|[Dd]isconnected|[Ii]nvalid address|[Ss]pam|[Pp]enalt|[Rr]ejected|SS"
                r"L|[Dd]enied|[Ff]ail|Bayesian|PB).*)",
                "mail_rejected",
                "failure",
                **_MAIL,
            ),
            row(r"(?:[\w-]+ )?(?:\[[\w-]+\] )*+(?P<src>[0-9A-Fa-f.:]+) (?P<reason>.*)", **_MAIL),
        ],
    }
)
_DOMINO = Table(
    {
        "SMTP": [
            row(
                r"SMTP Server: Authentication failed for user "
                r"(?P<user>.*) ; connecting host \[?(?P<src>[^\]\s]+)\]?",
                _LOGIN,
                "failure",
            ),
            row(
                r"SMTP Server \[[\w:-]+\] Connection from \["
                r"(?P<src>[^\]\s]+)\] rejected for policy reasons\. ?(?P<reason>.*)",
                "mail_rejected",
                "failure",
                **_MAIL,
            ),
            row(r"SMTP Server(?: \[[\w:-]+\])?: (?P<src>[0-9A-Fa-f.:]+) (?P<reason>.*)", "mail_connect", **_NET),
        ],
        "smtp:": [
            row(
                r"smtp: (?P<user>.*) \[(?P<src>[^\]\s]+)\]"
                r" authentication failure using internet password.*",
                _LOGIN,
                "failure",
            ),
        ],
        "": [
            row(
                r"(?P<protocol>[\w-]+): (?P<user>.*) \["
                r"(?P<src>[^\]\s]+)\] authentication failure using internet password.*",
                _LOGIN,
                "failure",
            ),
        ],
    }
)

DECODERS = (
    MessageDecoder(
        name="cyrus",
        about="Cyrus IMAP, POP3, LMTP and Sieve servers: logins.",
        read=_CYRUS.read,
        programs=(
            "imap", "imaps", "pop3", "pop3s", "lmtpunix", "cyrus", "sieve", "timsieved", "cyrus/imap", "cyrus/imaps",
            "cyrus/pop3", "cyrus/pop3s", "cyrus/sieve", "cyrus/lmtpunix", "cyrus/tls_prune",
        ),
    ),
    MessageDecoder(
        name="sendmail",
        about="Sendmail: refusals, SMTP logins, deliveries.",
        read=_SENDMAIL.read,
        programs=("sendmail", "sm-mta", "sm-acceptingconnections", "mta", "sm-msp-queue"),
    ),
    MessageDecoder(
        name="perdition",
        about="Perdition, the IMAP and POP3 proxy: logins.",
        read=_PERDITION.read,
        programs=(
            "perdition", "perdition.imap4", "perdition.imap4s", "perdition.imaps", "perdition.pop3", "perdition.pop3s",
        ),
    ),
    MessageDecoder(
        name="qmail",
        about="qmail with rblsmtpd, vpopmail and tcpserver.",
        read=_QMAIL.read,
        programs=("qmail", "vpopmail", "vchkpw-smtp", "vchkpw-pop3", "rblsmtpd", "tcpserver", "qmail-smtpd", "smtpd"),
    ),
    layout(
        "assp",
        r"(?P<time>[A-Z][a-z]{2}-[0-9]{2}-[0-9]{2} [0-9:]{8}) (?P<message>.*)",
        about="ASSP, the anti-spam SMTP proxy.",
        leads=("Aaa-00-00 00:00:00 ",),
        messages=_ASSP,
    ),
    layout(
        "domino",
        r"(?:\[[0-9A-F:-]{5,40}\] )?(?P<time>[0-9]{2,4}[-./][0-9]{2}[-./][0-9]{2,4},? [0-9]{1,2}:[0-9]{2}:[0-9]{2}"
        r"(?: ?[AP]M)?)\s{1,4}(?P<message>.*)",
        about="HCL (IBM, Lotus) Domino's console log: SMTP and internet password failures.",
        leads=("[", "00-00-0000 00:00:00 ", "00/00/0000 0", "0000-00-00 00:00:00 ", "00.00.0000 0"),
        marks=("SMTP Server", "authentication failure using internet password"),
        messages=_DOMINO,
        only_messages=True,
    ),
)  # fmt: skip
