"""University of Washington's imapd and ipop3d. The server writes the host behind whatever the client called itself."""

from __future__ import annotations

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row

_HOST = r"host=[^\s=]* \[(?P<src>[^\]\s]+)\]\s*"

_TABLE = Table(
    {
        "Login": [
            row(
                rf"Login (?P<reason>failed|disabled|excessive login failures|aborted)(?: user=(?P<user>\S*+))?.*"
                rf" {_HOST}",
                "mail_login",
                "failure",
            ),
            row(rf"Login user=(?P<user>\S*) {_HOST}", "mail_login", "success"),
        ],
        "Authenticated": [row(rf"Authenticated user=(?P<user>\S*) {_HOST}", "mail_login", "success")],
        "AUTHENTICATE": [
            row(rf"AUTHENTICATE (?P<method>\S+) failure {_HOST}", "mail_login", "failure"),
        ],
        "Failed": [row(rf"Failed (?P<reason>\S+ override) of user=(?P<user>\S*)\s.*{_HOST}", "mail_login", "failure")],
        "Logout": [row(rf"Logout user=(?P<user>\S*) {_HOST}", "mail_logout", category="session")],
        "Auth": [row(rf"Auth user=(?P<user>\S*) {_HOST}", "mail_login", "success")],
        "Killed": [row(rf"Killed \(.*\) user=(?P<user>\S*) {_HOST}", "mail_disconnect", category="network")],
        "Autologout": [row(rf"Autologout (?:user=(?P<user>\S*) )?{_HOST}", "mail_timeout", category="network")],
    }
)

DECODER = MessageDecoder(
    name="uwimap",
    about="UW imapd and ipop3d: logins.",
    read=_TABLE.read,
    programs=("ipop3d", "imapd", "ipop2d", "imap4d"),
)
