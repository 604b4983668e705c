"""What mail passes through: rspamd, amavis, MailScanner, ClamAV, Exchange; and lfd, which guards panels."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, layout, row

_MAIL: dict[str, Any] = {"category": "email"}
_MALWARE: dict[str, Any] = {"category": "malware"}
_IDS: dict[str, Any] = {"category": "intrusion_detection"}

_RSPAMD = Table(
    {
        "": [
            row(
                r"<\w*>; (?:proxy|task|milter|normal); rspamd_task_write_log: (?:id: <(?P<message_id>[^>]*)>, )?"
                r"(?:qid: <(?P<queue_id>[^>]*)>, )?ip: (?P<src>[^\s,]+), "
                r"(?:user: (?P<user>[^,]*), )?(?:from: <(?P<sender>[^>]*)>, )?\(default: \w \("
                r"(?P<reason>reject|soft reject|greylist|rewrite subject|add header)\): .*",
                "mail_rejected",
                "failure",
                **_MAIL,
            ),
            row(
                r"<\w*>; (?:proxy|task|milter|normal); rspamd_task_write_log: (?:id: <(?P<message_id>[^>]*)>, )?"
                r"(?:qid: <(?P<queue_id>[^>]*)>, )?ip: (?P<src>[^\s,]+), "
                r"(?:user: (?P<user>[^,]*), )?(?:from: <(?P<sender>[^>]*)>, )?.*",
                "mail_received",
                "success",
                **_MAIL,
            ),
            row(r"<\w*>; (?P<logger>[\w.]+); (?P<reason>.*)", **_MAIL),
        ]
    }
)
_AMAVIS = Table(
    {
        "": [
            row(
                r"\([\w-]+\) Blocked INFECTED \((?>(?P<rule>.*?)\))(?>.*? \["
                r"(?P<src>[^\]\s]+)\])(?::[0-9]+)? (?>.*?<(?P<sender>[^<>]*)> -> <)(?P<recipient>[^>]*)>.*",
                "malware_found",
                "failure",
                **_MALWARE,
            ),
            row(
                r"\([\w-]+\) Blocked (?P<reason>[\w-]+) (?>.{0,200}?\["
                r"(?P<src>[0-9A-Fa-f.:]+)\])(?::[0-9]+)? (?>.{0,200}?<(?P<sender>[^<>]*)> -> <)(?P<recipient>[^>]*)>.*",
                "mail_rejected",
                "failure",
                **_MAIL,
            ),
            row(
                r"\([\w-]+\) Passed (?P<reason>[\w-]+) (?>.{0,200}?\["
                r"(?P<src>[0-9A-Fa-f.:]+)\])(?::[0-9]+)? (?>.{0,200}?<(?P<sender>[^<>]*)> -> <)(?P<recipient>[^>]*)>.*",
                "mail_received",
                "success",
                **_MAIL,
            ),
            row(r"\([\w-]+\) (?P<reason>.*)", **_MAIL),
        ]
    }
)
_MAILSCANNER = Table(
    {
        "Message": [
            row(
                r"Message (?P<queue_id>\S+) from (?P<src>[0-9A-Fa-f.:]+) \((?P<sender>[^()]*)\) to "
                r"(?P<recipient>\S+) is (?P<reason>(?:spam|too big|blacklisted|high scoring spam).*)",
                "spam_detected",
                "failure",
                **_MAIL,
            ),
            row(
                r"Message (?P<queue_id>\S+) from (?P<src>[0-9A-Fa-f.:]+) \("
                r"(?P<sender>[^()]*)\) to (?P<recipient>\S+) is (?P<reason>.*)",
                "mail_received",
                "success",
                **_MAIL,
            ),
        ],
        "Infected": [
            row(r"Infected message (?P<queue_id>\S+) came from (?P<src>\S+)", "malware_found", "failure", **_MALWARE)
        ],
        "": [row(r"(?P<reason>.*)", **_MAIL)],
    }
)
_CLAMAV = Table(
    {
        "": [
            row(
                r"(?:.{1,60} -> )?(?P<file>.*): "
                r"(?P<rule>\S+)(?:\([0-9a-f]+:[0-9]+\))? FOUND",
                "malware_found",
                "failure",
                **_MALWARE,
            ),
            row(r"(?P<reason>.*)", category="process"),
        ]
    }
)
_LFD = Table(
    {
        "": [
            row(r"\*(?P<reason>[^*]*)\* (?:detected from )?(?P<src>[0-9A-Fa-f.:]+) .*", "host_blocked", **_IDS),
            row(
                r"\((?P<rule>\w+)\) (?P<reason>Failed .{1,60}"
                r" login|.{1,80}) from (?P<src>[0-9A-Fa-f.:]+) \(.*\*Blocked in csf\*.*",
                "login",
                "failure",
            ),
            row(r"\((?P<rule>\w+)\) (?P<reason>.{1,80}) from (?P<src>[0-9A-Fa-f.:]+) \(.*", "login", "failure"),
            row(r"(?P<reason>.*)", category="process"),
        ]
    }
)
_EXCHANGE = Table(
    {
        "": [
            row(
                r"(?:authenticate|login|auth|pass|user),(?P<method>[^,]*),\"?R=.*"
                r"(?:AuthFailed|LogonDenied|NO AUTHENTICATE failed|NO LOGIN failed|-ERR).*",
                "mail_login",
                "failure",
            ),
            row(
                r"(?:authenticate|login|auth|pass),"
                r"(?P<method>[^,]*),\"?R=(?:OK|\"*\w* ?OK).*",
                "mail_login",
                "success",
            ),
            row(r"(?P<reason>\w*),.*", **_MAIL),
        ],
    }
)
#: "*" a note of the server's, ">" what it sent, "<" what the client did; only the server's say what came of it.
_EXCHANGE_SMTP = Table(
    {
        "": [
            row(
                r"\*,[^,]*,\"?(?P<reason>Inbound authentication failed with error (?P<error__code>\w{1,60}).*)",
                "mail_login",
                "failure",
            ),
            row(r">,\"?(?P<reason>535 5\.7\.3 .*)", "mail_rejected", "failure", **_MAIL),
            row(r">,\"?235 2\.7\.0 .*", "mail_login", "success"),
            row(r"\*,[^,]*,User Name: (?P<user>.*)", "mail_login_user", **_MAIL),
            row(r">,\"?(?P<reason>[45][0-9]{2} .*)", "mail_rejected", "failure", **_MAIL),
            row(r"\+,.*", "mail_connect", category="network"),
            row(r"-,.*", "mail_disconnect", category="network"),
            row(r"(?P<reason>.*)", **_MAIL),
        ]
    }
)

DECODERS = (
    MessageDecoder(name="rspamd", about="rspamd: judged mail.", read=_RSPAMD.read, programs=("rspamd",)),
    MessageDecoder(
        name="amavis", about="amavis: blocked and passed mail.", read=_AMAVIS.read, programs=("amavis", "amavisd")
    ),
    MessageDecoder(
        name="mailscanner",
        about="MailScanner: spam and infected mail.",
        read=_MAILSCANNER.read,
        programs=("MailScanner", "mailscanner"),
    ),
    MessageDecoder(
        name="clamav",
        about="ClamAV: malware found.",
        read=_CLAMAV.read,
        programs=("clamd", "clamav-milter", "freshclam", "clamav", "clamonacc"),
    ),
    MessageDecoder(
        name="lfd", about="ConfigServer's lfd: failed logins and blocked hosts.", read=_LFD.read, programs=("lfd",)
    ),
    layout(
        "exchange.smtp",
        r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z),(?P<rule>[^,\"]{1,200}),(?P<session>[0-9A-F]{8,32}),(?P<event__sequence>[0-9]{1,9}),"
        r"\[?(?P<dst>[0-9A-Fa-f.:]+?)\]?:(?P<dport>[0-9]{1,5}),"
        r"\[?(?P<src>[0-9A-Fa-f.:]+?)\]?:(?P<sport>[0-9]{1,5}),(?P<message>[-+*<>],.*)",
        about="Microsoft Exchange's SMTP receive connectors (protocol log).",
        leads=("0000-00-00T00:00:00.000A,",),
        messages=_EXCHANGE_SMTP,
    ),
    layout(
        "exchange",
        r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z),(?P<session>[0-9A-F]{8,32}),[0-9]+,\[?"
        r"(?P<dst>[0-9A-Fa-f.:]+?)\]?:(?P<dport>[0-9]{1,5}),"
        r"\[?(?P<src>[0-9A-Fa-f.:]+?)\]?:(?P<sport>[0-9]{1,5}),(?P<user>[^,]*),[0-9]*,[0-9]*,[0-9]*,(?P<message>.*)",
        about="Microsoft Exchange's IMAP and POP3 protocol logs.",
        leads=("0000-00-00T00:00:00.000A,",),
        messages=_EXCHANGE,
    ),
)
