"""Courier's mail servers: logins of authlib, imapd and pop3d, refusals of courieresmtpd."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row

_AT = r"ip=\[(?P<src>[^\]\s]*)\](?:, port=\[(?P<sport>[0-9]{1,5})\])?(?:, [^\[\]]*)?"
_WHO = r"(?:user=(?P<user>.*), |method=(?P<method>[\w-]+), )"
_MAIL: dict[str, Any] = {"category": "email"}

_TABLE = Table(
    {
        "LOGIN": [
            row(rf"LOGIN FAILED, {_WHO}{_AT}", "mail_login", "failure"),
            row(rf"LOGIN, {_WHO}{_AT}", "mail_login", "success"),
        ],
        "LOGIN,": [row(rf"LOGIN, {_WHO}{_AT}", "mail_login", "success")],
        "LOGOUT,": [row(rf"LOGOUT, {_WHO}?{_AT}", "mail_logout", category="session")],
        "DISCONNECTED,": [row(rf"DISCONNECTED, {_WHO}?{_AT}", "mail_disconnect", category="network")],
        "TIMEOUT,": [row(rf"TIMEOUT, {_WHO}?{_AT}", "mail_timeout", category="network")],
        "Connection,": [row(rf"Connection, {_AT}", "mail_connect", category="network")],
        "Disconnected,": [row(rf"Disconnected, {_AT}.*", "mail_disconnect", category="network")],
        "Maximum": [row(r"Maximum connection limit reached for (?P<src>\S+)", "mail_refused", "failure", **_MAIL)],
        "authpam:": [row(r"authpam: (?P<reason>.*)", "login_checked")],
        "": [
            row(
                r"error,relay=(?P<src>[^\s,]+),(?:port=(?P<sport>[0-9]{1,5}),)?(?:from=<[^>]*>,)?(?:to=<[^>]*>,)?"
                r"msg=\"535 Authentication failed\.?\",cmd: (?P<command>.*)",
                "mail_login",
                "failure",
            ),
            row(
                r"error,relay=(?P<src>[^\s,]+),(?:port=(?P<sport>[0-9]{1,5}),)?(?:from=<(?P<sender>[^>]*)>,?)?"
                r"(?:to=<(?P<recipient>[^>]*)>)?(?:,[^:]*)?: (?P<reason>[45][0-9]{2}.*)",
                "mail_rejected",
                "failure",
                **_MAIL,
            ),
            row(r"started,ip=\[(?P<src>[^\]\s]+)\](?:,port=\[(?P<sport>[0-9]{1,5})\])?", "mail_connect", **_MAIL),
        ],
    }
)

DECODER = MessageDecoder(
    name="courier",
    about="Courier mail servers: IMAP, POP3 and SMTP logins and refusals.",
    read=_TABLE.read,
    programs=(
        "imapd", "imapd-ssl", "pop3d", "pop3d-ssl", "courier-imapd", "courier-pop3d", "courierpop3login",
        "courierimaplogin", "courierpop3d", "courierimapd", "courieresmtpd", "courierd", "authdaemond",
    ),
)  # fmt: skip
