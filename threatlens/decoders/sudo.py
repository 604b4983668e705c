"""sudo: who ran what as whom, and who was refused.

The name and the reason stand first and are sudo's own. The folder and the command are the user's: where either holds
another "; USER=", the line says neither as whom nor what.
"""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row

_WHO = r"\s*(?P<user>[^\s:]+) : "
_WHERE = r"(?:HOST=[^;]* ; )?TTY=(?P<tty>[^;]*) ; (?:CHROOT=[^;]* ; )?(?:PWD|CWD)=(?P<folder>[^;]*) ; "
_AS = (
    r" ; (?:GROUP=[^;]* ; )?(?:TSID=[^;]* ; )?(?:ENV=[^;]* ; )?"
    r"COMMAND=(?P<command>(?:(?! ; USER=).)*)"
)
_WHAT = r"USER=(?P<effective>[^;]*)" + _AS
_ROOT = r"USER=(?P<effective>root)" + _AS
_ATTEMPTS = r"(?P<reason>[0-9]+ incorrect password attempts?) ; "
_DENIED = (
    r"(?P<reason>user NOT in sudoers|user NOT authorized on host|command not allowed|a password is required"
    r"|sorry, you are not allowed to [\w ]+|no tty present and no askpass program specified"
    r"|a terminal is required to [\w ]+|account validation failure[\w ,']*|unknown uid[\w :]*) ; "
)
_PROCESS: dict[str, Any] = {"category": "process"}

_TABLE = Table(
    {
        "": [
            row(_WHO + _WHERE + _ROOT, "sudo_root", "success", **_PROCESS),
            row(_WHO + _WHERE + _WHAT, "sudo_command", "success", **_PROCESS),
            row(_WHO + _ATTEMPTS + _WHERE + _WHAT, "sudo_login", "failure"),
            row(_WHO + _DENIED + _WHERE + _WHAT, "sudo_denied", "failure", **_PROCESS),
            row(_WHO + _ATTEMPTS + r"TTY=.*", "sudo_login", "failure"),
            row(_WHO + _DENIED + r".*", "sudo_denied", "failure", **_PROCESS),
            row(_WHO + r"TTY=(?P<tty>[^;]*) ; .*", "sudo_command", "success", **_PROCESS),
            row(_WHO + r"(?P<reason>problem with defaults entries|unable to [\w ]+).*", "sudo_error"),
        ],
        "unable": [row(r"unable to (?P<reason>.*)", "sudo_error", **_PROCESS)],
    }
)

DECODER = MessageDecoder(
    name="sudo",
    about="sudo: commands run as another user, wrong passwords, refusals.",
    read=_TABLE.read,
    programs=("sudo", "sudo-rs"),
)
