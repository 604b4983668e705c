"""su, as util-linux, shadow and the BSDs log it."""

from __future__ import annotations

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row

_NAME = r"[^\s:()]+"

_TABLE = Table(
    {
        "Successful": [row(rf"Successful su for (?P<effective>{_NAME}) by (?P<user>{_NAME})", "su_login", "success")],
        "FAILED": [
            row(rf"FAILED su for (?P<effective>{_NAME}) by (?P<user>{_NAME})", "su_login", "failure"),
            row(rf"FAILED SU \(to (?P<effective>{_NAME})\) (?P<user>{_NAME}) on (?P<tty>\S+)", "su_login", "failure"),
        ],
        "(to": [row(rf"\(to (?P<effective>{_NAME})\) (?P<user>{_NAME}) on (?P<tty>\S+)", "su_login", "success")],
        "+": [row(rf"\+ (?P<tty>\S+) (?P<user>{_NAME}):(?P<effective>{_NAME})", "su_login", "success")],
        "-": [row(rf"- (?P<tty>\S+) (?P<user>{_NAME}):(?P<effective>{_NAME})", "su_login", "failure")],
        "BAD": [
            row(rf"BAD SU (?P<user>{_NAME}) to (?P<effective>{_NAME}) on (?P<tty>\S+)", "su_login", "failure"),
        ],
        "pam_authenticate:": [row(r"pam_authenticate: (?P<reason>.*)", "su_login", "failure")],
        "": [row(rf"(?P<user>{_NAME}) to (?P<effective>{_NAME}) on (?P<tty>\S+)", "su_login", "success")],
    }
)

DECODER = MessageDecoder(
    name="su", about="su: becoming another user, granted and refused.", read=_TABLE.read, programs=("su",)
)
