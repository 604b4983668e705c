"""Dovecot: logins, in syslog or its own file. Names in <> are the client's, "rip=" is the server's."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.tables import Table, layout, row

_SESSION: dict[str, Any] = {"category": "session"}
_SERVICE = r"(?:(?P<unit>imap|pop3|managesieve|submission|sieve|auth)-login: |(?:[\w-]+: )?)"
_RIP = r"rip=(?P<src>[^\s,]+)(?:, lip=(?P<dst>[^\s,]+))?(?:[,\s].*)?"
_METHOD = r"(?:(?:, )?method=(?P<method>[\w-]+))?"
_USER = r"(?:user=<(?P<user>.*)>)?"
_WORKER = (
    r"(?:auth(?:-worker)?(?:\([^()]{0,40}\))?: )?(?:Info: |Warning: |Error: |Debug: )?(?:conn unix:[^:]{1,80}: )?"
    r"(?:auth(?:-worker)?(?:[(<][^()<>]{0,40}[)>])?: )?"
)

_DATABASES = (
    "pam|passwd-file|passwd|sql|ldap|shadow|userdb|static|lua|bsdauth|vpopmail|checkpassword|imap|policy|oauth2"
)

_TABLE = Table(
    {
        "": [
            row(rf"{_SERVICE}(?:Info: )?Login: {_USER}(?:, )?{_METHOD}, {_RIP}", "mail_login", "success"),
            row(
                rf"{_SERVICE}(?:Info: )?(?:Aborted login|Disconnected|Login aborted|Maximum number of"
                rf" connections)[^<>]*?"
                rf"(?P<reason>\((?:auth failed|tried to use|proxy dest auth failed|no auth attempts in 0"
                rf" secs|disconnected (?:before|while) auth|client didn't|user disabled|authorization"
                rf" failed|internal failure|Auth process broken|auth service reported|password expired|cert"
                rf" required|inactivity during auth)[^()]*(?:\([^()]*\)[^()]{{0,80}})?\)(?: \([\w-]+\))?):? {_USER}(?:,"
                rf" )?{_METHOD}(?:, )?{_RIP}",
                "mail_login",
                "failure",
            ),
            row(
                rf"{_SERVICE}(?:Info: )?(?:Aborted login|Disconnected|Login aborted)(?P<reason>[^<>]*?)[:,]?"
                rf" ?{_USER}(?:, )?{_METHOD}(?:, )?{_RIP}",
                "mail_disconnect",
                **_SESSION,
            ),
            row(
                rf"{_WORKER}(?P<method>(?i:{_DATABASES}))\((?P<user>[^()<>]{{0,300}}),(?P<src>[0-9A-Fa-f.:]+)"
                rf"(?:,<[^<>]*>)?\): "
                r"(?P<reason>(?:pam_authenticate\(\) failed|[Uu]nknown user|[Pp]assword mismatch|[Ii]nvalid"
                r" credentials|"
                r"User |Authentication failure|user not found|[Ll]ogin failed|[Pp]assword expired|[Uu]ser disabled).*)",
                "mail_login",
                "failure",
            ),
            row(rf"{_SERVICE}(?:Info: )?Logged out(?P<reason>.*)", "mail_logout", **_SESSION),
            row(
                r"(?:imap|pop3)\((?P<user>[^()]*)\)(?:<[^<>]*>){0,3}(?:\[[^\]]*\])?: (?:Info: )?(?P<reason>Logged"
                r" out|Disconnected|Connection closed).*",
                "mail_logout",
                **_SESSION,
            ),
            row(
                r"(?:lda|lmtp)\((?P<recipient>[^(),]*+)[^()]*+\)(?:<[^<>]*>){0,3}: .*(?P<reason>saved mail to .*|stored"
                r" mail into .*)",
                "mail_sent",
                "success",
                category="email",
            ),
        ],
    }
)

DECODER = layout(
    "dovecot",
    r"(?P<time>(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8})(?:\.[0-9]{1,6})?) "
    r"(?:dovecot: )?"
    r"(?P<message>(?:auth|auth-worker|imap|pop3|imap-login|pop3-login|managesieve-login|submission-l"
    r"ogin|lda|lmtp|master|dict|config|ssl-params)(?:[(\[].*)?: .*)",
    about="Dovecot: IMAP, POP3 and ManageSieve logins, in syslog or its own file.",
    leads=("Aaa 00 00:00:00 a", "Aaa  0 00:00:00 a", "0000-00-00 00:00:00 a"),
    messages=_TABLE,
    programs=(
        "dovecot", "dovecot-auth", "auth", "auth-worker", "imap-login", "pop3-login", "managesieve-login",
        "submission-login", "dovecot-lda", "lmtp",
    ),
)  # fmt: skip
