"""Who may come in: RADIUS, Kerberos, SSSD, Samba, VMware, polkit, the console's login."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from threatlens.decoders.base import MessageDecoder, ObjectDecoder
from threatlens.decoders.product import put_endpoint
from threatlens.decoders.tables import Table, layout, row
from threatlens.event import Fields

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
                r"(?P<src>[^\]\s]+):(?P<sport>[0-9]{1,5})\](?:(?!\] remote host \[).)*",
                "smb_login",
                "success",
            ),
            row(
                r"\s*(?:\{.*\} )?(?:Auth: )?\[(?P<method>[^\[\]]{1,60})\] user \[[^\[\]]*\]\\\["
                r"(?P<user>[^\[\]]*)\] at \[[^\[\]]*\] with \[[^\[\]]*\]"
                r" status \[(?P<reason>NT_STATUS_\w+)\] workstation \[[^\[\]]*\] remote host \[ipv[46]:"
                r"(?P<src>[^\]\s]+):(?P<sport>[0-9]{1,5})\](?:(?!\] remote host \[).)*",
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
                r"(?:[^|]*\|){0,2}?(?P<reason>\w+)\|ok\|(?P<file>.*)",
                "file_accessed",
                "success",
                category="file",
            ),
            row(
                r"\s*(?P<user>[^\s|]+)\|(?P<src>[0-9A-Fa-f.:]+)\|"
                r"(?:[^|]*\|){0,2}?(?P<reason>\w+)\|fail(?: \((?P<error>[^()|]*)\))?\|(?P<file>.*)",
                "file_accessed",
                "failure",
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
_SSSD = Table(
    {
        "Preauthentication": [
            row(r"(?P<reason>Preauthentication failed)(?: for user (?P<user>\S+))?", _LOGIN, "failure")
        ],
        "Failed": [row(r"Failed to authenticate user (?P<user>.*)", _LOGIN, "failure")],
        "Authentication": [row(r"(?P<reason>Authentication failed|Authentication failure).*", _LOGIN, "failure")],
        "": [
            row(r"\[krb5_child\] (?P<reason>Preauthentication failed)(?: for user (?P<user>\S+))?", _LOGIN, "failure"),
            row(r"(?P<reason>.*)", category="authentication"),
        ],
    }
)
_VMWARE_HEAD = r"(?:\w{4,8} \w{2,20}\[[0-9A-F]{1,12}\] )?(?:\[Originator@[^\]]{1,300}\] )?(?:Event [0-9]{1,12} : )?"
_VMWARE = Table(
    {
        "": [
            row(
                rf"{_VMWARE_HEAD}Rejected password for user (?P<user>.*) from (?P<src>[0-9a-fA-F.:]+)",
                _LOGIN,
                "failure",
            ),
            row(
                rf"{_VMWARE_HEAD}Accepted password for user (?P<user>.*) from (?P<src>[0-9a-fA-F.:]+)",
                _LOGIN,
                "success",
            ),
            row(
                rf"{_VMWARE_HEAD}Cannot login (?:user )?(?P<user>.*)@(?P<src>[0-9a-fA-F.:]+)(?:: .*)?",
                _LOGIN,
                "failure",
            ),
            row(rf"{_VMWARE_HEAD}User (?P<user>\S+)@(?P<src>[0-9a-fA-F.:]+) logged in as .*", _LOGIN, "success"),
            row(r"(?P<reason>.*)"),
        ]
    }
)


def _samba_object(document: Mapping[str, Any], fields: Fields) -> str | None:
    """Samba's record of a sign-in: {"type": "Authentication", "Authentication": {"status": "NT_STATUS_OK", ...}}."""
    said = document["Authentication"]
    if document["type"] != "Authentication" or not isinstance(said, dict) or type(said.get("status")) is not str:
        return None
    refused = said["status"] != "NT_STATUS_OK"
    fields |= {
        "event.category": "authentication",
        "event.action": "smb_login",
        "event.outcome": "failure" if refused else "success",
        "event.reason": said["status"],
    }
    if type(user := said.get("clientAccount")) is str and user:
        fields["user.name"] = user
    if type(remote := said.get("remoteAddress")) is str:
        put_endpoint(fields, "source", remote.removeprefix("ipv4:").removeprefix("ipv6:"))
    return ""


OBJECT = ObjectDecoder(
    name="samba.json",
    about="Samba's audit of sign-ins in JSON.",
    keys=("timestamp", "type", "Authentication"),
    read=_samba_object,
)

LINES = (
    MessageDecoder(
        name="sssd",
        about="SSSD: sign-ins refused by its back ends.",
        read=_SSSD.read,
        programs=("sssd", "sssd_be", "sssd_pam", "krb5_child", "ldap_child"),
    ),
    MessageDecoder(
        name="vmware",
        about="VMware ESXi and vCenter: sign-ins.",
        read=_VMWARE.read,
        programs=("Hostd", "hostd", "vpxd", "Vpxa", "vpxa"),
    ),
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
    layout(
        "samba.auth",
        r"\s*(?:\{.*\} )?Auth: (?P<message>\[[^\[\]]{1,60}\] user \[[^\[\]]*\]\\\[[^\[\]]*\] at "
        r"\[(?P<time>[^\[\]]{10,60})\] .*)",
        about="Samba's audit of sign-ins in its own files.",
        leads=("  Aaaa: [", "Aaaa: ["),
        marks=("] remote host [",),
        messages=_SAMBA,
        only_messages=True,
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
DECODERS = (*LINES, OBJECT)
