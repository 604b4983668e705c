"""Dropbear, the small SSH server. The address ends the line."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row

_NET: dict[str, Any] = {"category": "network"}
_AT = r"from (?:::ffff:)?(?P<src>[^\s>]+?)(?::(?P<sport>[0-9]{1,5}))?"

_TABLE = Table(
    {
        "Bad": [
            row(rf"Bad password attempt for '(?P<user>.*)' {_AT}", "ssh_login", "failure"),
            row(rf"[Bb]ad PAM password attempt for '(?P<user>.*)' {_AT}", "ssh_login", "failure"),
        ],
        "bad": [row(rf"bad (?:PAM )?password attempt for '(?P<user>.*)' {_AT}", "ssh_login", "failure")],
        "Login": [
            row(
                rf"Login attempt (?:for|with wrong user) (?:nonexistent user|(?P<user>.*))(?: '.*')? {_AT}",
                "ssh_invalid_user",
                "failure",
            )
        ],
        "login": [row(rf"login attempt for nonexistent user(?: '(?P<user>.*)')? {_AT}", "ssh_invalid_user", "failure")],
        "Password": [row(rf"Password auth succeeded for '(?P<user>.*)' {_AT}", "ssh_login", "success")],
        "password": [row(rf"password auth succeeded for '(?P<user>.*)' {_AT}", "ssh_login", "success")],
        "Pubkey": [
            row(
                rf"Pubkey auth succeeded for '(?P<user>.*)'"
                rf" with (?:(?P<method>\S+) )?key (?P<key>\S+(?: [0-9a-f:]{{2,100}})?) {_AT}",
                "ssh_login",
                "success",
            ),
            row(rf"Pubkey auth attempt with unknown algo for '(?P<user>.*)' {_AT}", "ssh_login", "failure"),
        ],
        "pubkey": [
            row(rf"pubkey auth succeeded for '(?P<user>.*)' with key \S+ (?P<key>\S+) {_AT}", "ssh_login", "success")
        ],
        "PAM": [row(rf"PAM password auth succeeded for '(?P<user>.*)' {_AT}", "ssh_login", "success")],
        "Child": [row(rf"Child connection {_AT}", "ssh_connect", **_NET)],
        "Exit": [
            row(
                r"Exit before auth from <(?P<src>[^\s>]+?):(?P<sport>[0-9]{1,5})>: \(user '"
                r"(?P<user>.*)', (?P<count>[0-9]{1,6}) fails\): (?P<reason>Max auth tries reached.*)",
                "ssh_max_attempts",
                "failure",
            ),
            row(
                r"Exit before auth(?: from <(?P<src>[^\s>]+?):"
                r"(?P<sport>[0-9]{1,5})>)?(?: \(user '.*', [0-9]+ fails\))?: (?P<reason>.*)",
                "ssh_disconnect",
                **_NET,
            ),
            row(
                r"Exit \((?P<user>\S+)\)(?: from <"
                r"(?P<src>[^\s>]+?):(?P<sport>[0-9]{1,5})>)?: (?P<reason>.*)",
                "ssh_disconnect",
                **_NET,
            ),
        ],
        "exit": [
            row(
                r"exit before auth \(user '(?P<user>.*)', (?P<count>[0-9]{1,6}) fails\): "
                r"(?P<reason>Max auth tries reached).* from (?P<src>[^\s:]+):(?P<sport>[0-9]{1,5})",
                "ssh_max_attempts",
                "failure",
            ),
            row(r"exit before auth(?: \(user '.*', [0-9]+ fails\))?: (?P<reason>.*)", "ssh_disconnect", **_NET),
        ],
    }
)

DECODER = MessageDecoder(
    name="dropbear", about="Dropbear SSH server: logins.", read=_TABLE.read, programs=("dropbear",)
)
