"""vsftpd: its own file ("Mon Nov 23 06:51:07 2026 [pid 31] [bob] FAIL LOGIN: Client ...") and syslog."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.tables import Table, layout, row

_CLIENT = r"Client \"(?P<src>[^\"\s]*)\"(?:, \"(?P<reason>.*)\")?"
_WHO = r"(?:\[(?P<user>.*)\] )?"
_FILE: dict[str, Any] = {"category": "file"}

_TABLE = Table(
    {
        "CONNECT:": [row(rf"CONNECT: {_CLIENT}", "ftp_connect", category="network")],
        "": [
            row(rf"{_WHO}FAIL LOGIN: {_CLIENT}", "ftp_login", "failure"),
            row(rf"{_WHO}OK LOGIN: {_CLIENT}.*", "ftp_login", "success"),
            row(
                rf"{_WHO}OK (?:DOWNLOAD|MKDIR|UPLOAD|DELETE|RENAME|CHMOD|RMDIR): {_CLIENT}.*",
                "ftp_transfer",
                "success",
                **_FILE,
            ),
            row(
                rf"{_WHO}FAIL (?:DOWNLOAD|MKDIR|UPLOAD|DELETE|RENAME|CHMOD|RMDIR): {_CLIENT}.*",
                "ftp_transfer",
                "failure",
                **_FILE,
            ),
            row(rf"{_WHO}(?:FTP (?:command|response)): {_CLIENT}", "ftp_command", **_FILE),
        ],
    }
)

DECODER = layout(
    "vsftpd",
    r"(?P<time>[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} [0-9]{4}) \[pid (?P<pid>[0-9]{1,10})\] "
    r"(?P<message>.*)",
    about="vsftpd: FTP connections, logins and transfers, in its own file or syslog.",
    leads=("Aaa Aaa 00 00:00:00 0000 [aaa 0", "Aaa Aaa  0 00:00:00 0000 [aaa 0"),
    messages=_TABLE,
    programs=("vsftpd",),
)
