"""wu-ftpd and the BSD ftpd family (also the Kerberos ftpd): logins and their failures."""

from __future__ import annotations

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row

_HOST = r"\S* \[(?P<src>[^\]\s]+)\]"

_TABLE = Table(
    {
        "failed": [row(rf"failed login from {_HOST}.*", "ftp_login", "failure")],
        "repeated": [
            row(rf"repeated login failures from {_HOST}", "ftp_login", "failure"),
            row(r"repeated login failures from (?P<src>\S+)(?: \(\S*\))?", "ftp_login", "failure"),
        ],
        "FTP": [
            row(r"FTP LOGIN FAILED FROM (?P<src>[^\s,]+), (?P<user>.*)", "ftp_login", "failure"),
            row(rf"FTP LOGIN FROM {_HOST}, (?P<user>.*)", "ftp_login", "success"),
            row(r"FTP LOGIN FROM (?P<src>\S+) as (?P<user>.*)", "ftp_login", "success"),
            row(rf"FTP LOGIN REFUSED \(.*\) FROM {_HOST}, (?P<user>.*)", "ftp_login", "failure"),
        ],
        "ANONYMOUS": [row(rf"ANONYMOUS FTP LOGIN FROM {_HOST}, .*", "ftp_login", "success")],
        "connection": [
            row(r"connection from (?P<src>\S+)(?: \((?P<source__domain>\S*)\))?", "ftp_connect", category="network")
        ],
        "refused": [row(r"refused connect from (?P<src>\S+)", "ftp_refused", "failure", category="network")],
        "ACCESS": [row(rf"ACCESS DENIED \(.*\) TO {_HOST}", "ftp_refused", "failure", category="network")],
        "User": [row(r"User (?P<user>\S+) timed out after .*", "ftp_timeout", category="network")],
    }
)

DECODER = MessageDecoder(
    name="wuftpd",
    about="wu-ftpd, BSD and Kerberos ftpd: FTP logins.",
    read=_TABLE.read,
    programs=("wu-ftpd", "wuftpd", "ftpd", "gssftpd", "in.ftpd", "tnftpd"),
)
