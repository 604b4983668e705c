"""PAM's own lines in the log of any program: "pam_unix(login:auth): authentication failure; ... rhost=192.0.2.7".

Inside a program that has a decoder the line keeps that program's format. The remote user stands before the host and
is the client's claim, so the last "rhost=" counts.
"""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import MessageDecoder, compiled
from threatlens.decoders.tables import Table, row
from threatlens.event import Fields

_TAG = compiled(r"(pam_\w{1,30})(?:\(([\w.-]{1,60}):([\w-]{1,20})\))?(?:\[[0-9]{1,10}\])?").fullmatch


class _Tags(dict[str, Fields | None]):
    """What a tag says, worked out once; None for what is no tag of PAM's."""

    def __missing__(self, tag: str) -> Fields | None:
        if len(self) > 1000:
            self.clear()
        fields: Fields | None = None
        found = _TAG(tag) if len(tag) < 200 else None
        if found is not None:
            module, service, kind = found.groups()
            fields = {"event.module": module}
            if service is not None:
                fields |= {"service.name": service, "pam.type": kind}
        self[tag] = fields
        return fields


_TAGS = _Tags()
_OLD_TAG = compiled(r"\((pam_\w{1,30})\) (.*)").fullmatch
_SESSION: dict[str, Any] = {"category": "session"}
FAILURE = (
    r"authentication failure; logname=\S* uid=[0-9]* euid=[0-9]* tty=(?P<tty>\S*) ruser=.*"
    r" rhost=(?P<src>\S*)(?:\s+user=(?P<user>\S*))?\s*"
)

_TABLE = Table(
    {
        "authentication": [
            row(FAILURE, "login", "failure"),
            row(FAILURE.replace(" failure", " success"), "login", "success"),
            row(r"authentication failure[;:].*", "login", "failure"),
        ],
        "received": [
            row(
                r"received for user (?P<user>.*): (?P<code>[0-9]{1,3}) \((?P<reason>[\w ,']{1,80})\)",
                "login_checked",
                "failure",
            )
        ],
        "check": [row(r"check pass; user unknown", "login", "failure")],
        "bad": [row(r"bad username \[(?P<user>.*)\]", "login", "failure")],
        "auth": [row(r"auth could not identify password for \[(?P<user>.*)\]", "login", "failure")],
        "conversation": [row(r"conversation failed", "login", "failure")],
        "account": [
            row(r"account (?P<user>\S+) has (?:password changed in future|expired).*", "login_refused", "failure")
        ],
        "session": [
            row(
                r"session opened for user (?P<target>[^\s(]+)(?:\(uid=(?P<target_uid>[0-9]+)\))?"
                r" by (?:LOGIN|(?P<user>[^\s(]*))(?:\(uid=[0-9]+\))?\s*",
                "session_opened",
                "success",
                **_SESSION,
            ),
            row(r"session closed for user (?P<target>\S+)\s*", "session_closed", "success", **_SESSION),
        ],
        "password": [row(r"password changed for (?P<target>\S+)", "password_changed", "success", category="iam")],
        "user": [row(r"user \[(?P<user>.*)\] has blank password; authenticated without it", "login", "success")],
        "requirement": [row(r"requirement \"(?>.*?\" (?:not )?met by user \")(?P<user>.*)\"", "login_checked")],
        "Consecutive": [
            row(
                r"Consecutive login failures for user (?P<user>.*) account temporarily locked",
                "account_locked",
                "failure",
            )
        ],
    }
)


def read(message: str, fields: Fields) -> bool:
    """Read "pam_module(service:type): text", and what modules of older systems wrote without such a tag."""
    if not message.startswith("pam_"):
        old = _OLD_TAG(message) if message.startswith("(pam_") else None
        if old is None:
            return message.startswith("authentication failure; logname=") and _TABLE.read(message, fields)
        message = f"{old[1]}: {old[2]}"
    tag, _, text = message.partition(": ")
    known = _TAGS[tag]
    if known is None:
        return False
    if _TABLE.read(text, fields):
        target = fields.get("user.target.name")
        if target is not None and "user.name" not in fields:
            fields["user.name"] = target
    else:
        fields["event.category"] = "authentication"
    fields.update(known)
    return True


DECODER = MessageDecoder(
    name="pam",
    about="Lines of PAM modules (pam_unix and others) in any program.",
    read=read,
    programs=(),
)
