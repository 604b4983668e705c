"""Who may come in: RADIUS, Kerberos, Samba, polkit, the console's login."""

from __future__ import annotations

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, layout, row

_LOGIN = "login"
#: A name that holds brackets leaves who and where open.
_RADIUS_WHO = (
    r"(?: \([^\[\]]{0,200}\))?: \[(?P<user>[^/\[\]]{0,253})(?:/[^\[\]]{0,300})?\]"
    r" \(from client (?P<observer__name>\S+) port [0-9]{1,10}(?: cli (?P<src>[0-9A-Fa-f.:-]{1,64}))?[^\[\]]*"
)
_RADIUS = Table(
    {
        "": [
            row(
                rf"(?:Auth: )?(?:\([0-9]+\) )?(?P<reason>Login incorrect|Invalid user){_RADIUS_WHO}", _LOGIN, "failure"
            ),
            row(rf"(?:Auth: )?(?:\([0-9]+\) )?Login OK{_RADIUS_WHO}", _LOGIN, "success"),
            row(r"(?:Auth: )?(?:\([0-9]+\) )?(?P<reason>Login incorrect|Invalid user).*", _LOGIN, "failure"),
            row(r"(?P<reason>.*)", category="authentication"),
        ]
    }
)
_KERBEROS_HEAD = r"(?:\([^()]*\): )?(?P<method>AS_REQ|TGS_REQ) \([^()]*\) (?P<src>[0-9A-Fa-f.:]+): "
_KERBEROS = Table(
    {
        "": [
            row(rf"{_KERBEROS_HEAD}(?P<reason>NEEDED_PREAUTH): (?P<user>\S+) for .*", "kerberos_preauth"),
            row(
                rf"{_KERBEROS_HEAD}ISSUE: authtime .*,"
                rf" (?P<user>[^\s,]+) for (?P<unit>\S+)",
                "kerberos_login",
                "success",
            ),
            row(
                rf"{_KERBEROS_HEAD}(?P<reason>[A-Z_]+): "
                rf"(?:authtime [0-9]+,\s+)?(?P<user>\S+) for .*",
                "kerberos_login",
                "failure",
            ),
            row(r"(?:\([^()]*\): )?(?P<reason>.*)", category="authentication"),
        ]
    }
)
_SAMBA = Table(
    {
        "": [
            row(
                r"\s*(?:\{.*\} )?(?:Auth: )?\[(?P<method>[^\[\]]{1,60})\] user \[[^\[\]]*\]\\\["
                r"(?P<user>[^\[\]]*)\] at \[[^\[\]]*\] with \[[^\[\]]*\]"
                r" status \[(?P<reason>NT_STATUS_OK)\] workstation \[[^\[\]]*\] remote host \[ipv[46]:"
                r"(?P<src>[^\]\s]+):(?P<sport>[0-9]{1,5})\].*",
                "smb_login",
                "success",
            ),
            row(
                r"\s*(?:\{.*\} )?(?:Auth: )?\[(?P<method>[^\[\]]{1,60})\] user \[[^\[\]]*\]\\\["
                r"(?P<user>[^\[\]]*)\] at \[[^\[\]]*\] with \[[^\[\]]*\]"
                r" status \[(?P<reason>NT_STATUS_\w+)\] workstation \[[^\[\]]*\] remote host \[ipv[46]:"
                r"(?P<src>[^\]\s]+):(?P<sport>[0-9]{1,5})\].*",
                "smb_login",
                "failure",
            ),
            row(
                r"\s*check_ntlm_password:  Authentication for user \["
                r"(?>(?P<user>.*)\] -> \[).*\] FAILED with error (?P<reason>NT_STATUS_\w+).*",
                "smb_login",
                "failure",
            ),
            row(
                r"\s*(?P<user>[^\s|]+)\|(?P<src>[0-9A-Fa-f.:]+)\|"
                r"(?:[^|]*\|)?(?P<reason>\w+)\|(?:ok|fail)(?: \([^()]*\))?\|(?P<file>.*)",
                "file_accessed",
                category="file",
            ),
            row(r"\s*connect to service (?P<unit>\S+) .*", "smb_connect", category="network"),
            row(
                r"\s*(?P<source__domain>\S+) \((?:ipv[46]:)?(?P<src>[0-9A-Fa-f.:]+?)(?::"
                r"(?P<sport>[0-9]{1,5}))?\) (?:signed )?connect to service (?P<unit>\S+) .*",
                "smb_connect",
                category="network",
            ),
        ]
    }
)

_POLKIT_TABLE = Table(
    {
        "Operator": [
            row(
                r"Operator of (?P<session>\S+) FAILED to authenticate to gain"
                r" authorization for action (?P<rule>\S+) for .*\(owned by unix-user:(?P<user>[^()]+)\)",
                "polkit_login",
                "failure",
            ),
            row(
                r"Operator of (?P<session>\S+) successfully authenticated as unix-user:(?P<effective>\S+) to"
                r" gain \S+ authorization for action (?P<rule>\S+) for .*\(owned by unix-user:(?P<user>[^()]+)\)",
                "polkit_login",
                "success",
            ),
        ],
        "Registered": [
            row(r"Registered Authentication Agent for (?P<session>\S+) .*", "polkit_agent", category="session")
        ],
        "Unregistered": [
            row(r"Unregistered Authentication Agent for (?P<session>\S+) .*", "polkit_agent", category="session")
        ],
        "": [
            row(
                r"(?P<user>\S+): Executing command \[USER=(?P<effective>[^\]]*)\] \[TTY="
                r"(?P<tty>[^\]]*)\] \[CWD=(?P<folder>[^\]]*)\] \[COMMAND=(?P<command>.*)\]",
                "sudo_command",
                "success",
                category="process",
            )
        ],
    }
)
_CONSOLE = Table(
    {
        "FAILED": [
            row(
                r"FAILED LOGIN(?: SESSION)? \(?(?P<count>[0-9]{1,4})?\)?(?: on '"
                r"(?P<tty>[^']*)')?(?: from '(?P<src>[^'\s]*)')? FOR '(?P<user>.*)', (?P<reason>[\w ()]*)",
                _LOGIN,
                "failure",
            ),
            row(
                r"FAILED LOGIN(?: SESSION)?(?: [0-9]+)? FROM "
                r"(?P<src>\S+) FOR (?P<user>.*?), (?P<reason>[\w ]*)",
                _LOGIN,
                "failure",
            ),
        ],
        "invalid": [
            row(
                r"invalid password for (?:'UNKNOWN'|'(?P<user>[^'\s]{1,64})')"
                r"(?: +on '(?P<tty>[^'\s]*)')?(?: from '(?P<src>[^'\s]*)')?.*",
                _LOGIN,
                "failure",
            )
        ],
        "ROOT": [
            row(
                r"ROOT LOGIN +on '?(?P<tty>[^'\s]*)'?(?: from '?(?P<src>[^'\s]*)'?)?",
                _LOGIN,
                "success",
                also={"user.name": "root"},
            )
        ],
        "LOGIN": [row(r"LOGIN ON (?P<tty>\S+) BY (?P<user>\S+)(?: FROM (?P<src>\S+))?", _LOGIN, "success")],
        "TOO": [
            row(
                r"TOO MANY LOGIN TRIES \([0-9]+\)(?: on '(?P<tty>[^']*)')?(?: from '(?P<src>[^'\s]*)')? FOR '"
                r"(?P<user>.*)'",
                _LOGIN,
                "failure",
            )
        ],
    }
)

DECODERS = (
    layout(
        "freeradius",
        r"(?P<time>[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} [0-9]{4}) : (?P<message>"
        r"(?:Auth|Error|Info|Warning|Debug|Proxy|Acct): .*)",
        about="FreeRADIUS: logins.",
        leads=("Aaa Aaa 00 00:00:00 0000 : A", "Aaa Aaa  0 00:00:00 0000 : A"),
        messages=_RADIUS,
        programs=("radiusd", "freeradius"),
    ),
    MessageDecoder(
        name="kerberos",
        about="MIT Kerberos' KDC: tickets asked for and refused.",
        read=_KERBEROS.read,
        programs=("krb5kdc", "kadmind", "krb5kdc(info)", "kadmind(Notice)", "krb5kdc(Error)"),
    ),
    MessageDecoder(
        name="samba",
        about="Samba: logins, shares, audited files.",
        read=_SAMBA.read,
        programs=("smbd", "samba", "smbd_audit", "nmbd", "winbindd"),
    ),
    MessageDecoder(
        name="polkit",
        about="polkit and pkexec: authorisations.",
        read=_POLKIT_TABLE.read,
        programs=("polkitd", "pkexec", "polkit-agent-helper-1"),
    ),
    MessageDecoder(name="login", about="The console's login.", read=_CONSOLE.read, programs=("login",)),
)
