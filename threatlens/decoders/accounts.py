"""Changes to accounts and groups, as the shadow tools log them (useradd, usermod, passwd, gpasswd, ...)."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row

_IAM: dict[str, Any] = {"category": "iam"}
_Q = r"'(?P<target>[^']*)'"
_G = r"'(?P<group>[^']*)'"

_TABLE = Table(
    {
        "new": [
            row(
                r"new user: name=(?P<target>[^,\s]+), UID=(?P<target_uid>[0-9]+), GID=(?P<gid>[0-9]+)(?:, .*)?",
                "user_added",
                "success",
                **_IAM,
            ),
            row(r"new group: name=(?P<group>[^,\s]+), GID=(?P<gid>[0-9]+).*", "group_added", "success", **_IAM),
        ],
        "group": [
            row(
                r"group added to \S+: name=(?P<group>[^,\s]+)(?:, GID=(?P<gid>[0-9]+))?.*",
                "group_added",
                "success",
                **_IAM,
            ),
            row(rf"group {_G} removed.*", "group_removed", "success", **_IAM),
            row(r"group changed in \S+ .*", "group_changed", "success", **_IAM),
        ],
        "add": [row(rf"add {_Q} to (?:shadow )?group {_G}", "group_member_added", "success", **_IAM)],
        "delete": [
            row(rf"delete user {_Q}", "user_removed", "success", **_IAM),
            row(rf"delete {_Q} from (?:shadow )?group {_G}", "group_member_removed", "success", **_IAM),
        ],
        "removed": [row(rf"removed (?:shadow )?group {_G} owned by {_Q}", "group_removed", "success", **_IAM)],
        "remove": [row(rf"remove group {_G}.*", "group_removed", "success", **_IAM)],
        "change": [
            row(rf"change user {_Q} password", "password_changed", "success", **_IAM),
            row(rf"change user {_Q} (?P<reason>.*)", "user_changed", "success", **_IAM),
            row(rf"change user name {_Q} (?P<reason>to '.*')", "user_changed", "success", **_IAM),
            row(rf"change (?P<reason>.*) of user {_Q}.*", "user_changed", "success", **_IAM),
        ],
        "changed": [
            row(r"changed (?:password expiry|user) (?:for |)(?P<target>[^\s']+)", "user_changed", "success", **_IAM),
            row(rf"changed user {_Q} (?P<reason>.*)", "user_changed", "success", **_IAM),
        ],
        "lock": [row(rf"lock user {_Q} password", "user_locked", "success", **_IAM)],
        "unlock": [row(rf"unlock user {_Q} password", "user_unlocked", "success", **_IAM)],
        "user": [
            row(
                r"user (?P<target>\S+) added by (?P<user>\S+) to group (?P<group>\S+)",
                "group_member_added",
                "success",
                **_IAM,
            ),
            row(
                r"user (?P<target>\S+) removed by (?P<user>\S+) from group (?P<group>\S+)",
                "group_member_removed",
                "success",
                **_IAM,
            ),
        ],
        "failed": [row(r"failed adding (?P<reason>user|group) '(?P<target>[^']*)'.*", "user_added", "failure", **_IAM)],
        "password": [
            row(
                r"password for '?(?P<target>[^\s']+)'? changed by '?(?P<user>[^\s']+)'?",
                "password_changed",
                "success",
                **_IAM,
            )
        ],
    }
)

DECODER = MessageDecoder(
    name="accounts",
    about="Account and group changes by useradd, usermod, userdel, groupadd, passwd and their kin.",
    read=_TABLE.read,
    programs=(
        "useradd",
        "usermod",
        "userdel",
        "groupadd",
        "groupmod",
        "groupdel",
        "passwd",
        "gpasswd",
        "chage",
        "chfn",
        "chsh",
        "adduser",
        "deluser",
        "newusers",
        "chpasswd",
        "vipw",
        "shadow",
    ),
)
