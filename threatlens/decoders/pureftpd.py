"""Pure-FTPd: "(bob@192.0.2.7) [WARNING] Authentication failed for user [bob]", in any of its languages for failures."""

from __future__ import annotations

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row

_WHO = r"\((?P<target>[^()]*)@(?P<src>[^()@\s]+)\) "
_FAILED = (
    r"Authentication failed for user|Authentification failure pour|Erreur d'authentification pour l'utilisateur|"
    r"Authentifizierung fehlgeschlagen für Benutzer|Autenticazione falita per l'utente|"
    r"Autentificación fallida para el usuario|Godkendelse mislykkedes for"
)

_TABLE = Table(
    {
        "": [
            row(rf"{_WHO}\[WARNING\] (?:{_FAILED}) \[(?P<user>.*)\]\s*", "ftp_login", "failure"),
            row(rf"{_WHO}\[WARNING\] [^\[\]]*\[(?P<user>[^\[\]]*)\]\s*", "ftp_login", "failure"),
            row(rf"{_WHO}\[INFO\] (?P<user>\S+) is now logged in", "ftp_login", "success"),
            row(rf"{_WHO}\[INFO\] New connection from (?P<source__domain>\S+)", "ftp_connect", category="network"),
            row(
                rf"{_WHO}\[NOTICE\] (?P<file>\S.*) "
                rf"(?P<reason>uploaded|downloaded) .*",
                "ftp_transfer",
                category="file",
            ),
            row(rf"{_WHO}\[[A-Z]+\] (?P<reason>.*)", category="network"),
        ]
    }
)

DECODER = MessageDecoder(
    name="pureftpd", about="Pure-FTPd: FTP logins and transfers.", read=_TABLE.read, programs=("pure-ftpd", "pureftpd")
)
