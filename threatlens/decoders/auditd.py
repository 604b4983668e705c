"""Linux audit records, in audit.log, in syslog or from the kernel; SELinux and AppArmor denials among them.

Records of one event share audit.id and are joined to one: a system call with what was run, where, and on which files.
The kernel writes what a user can choose as hexadecimal digits as soon as it holds
a quote or a blank, so a value ends where its quote does.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from threatlens.decoders.base import LineDecoder, Opened, compiled, put_address, put_port
from threatlens.decoders.times import Clock
from threatlens.event import TIME_ERROR, Decoded, Fields

NAME = "auditd"

_RECORD = compiled(
    r"(?:audit: )?(?:\[ {0,8}[0-9]{1,12}\.[0-9]{1,9}\] ?)?(?:audit: )?(?:node=(\S{1,255}) )?type="
    r"([A-Z_0-9]{1,40}|UNKNOWN\[[0-9]{1,5}\])"
    r" (?:msg=)?audit\(([0-9]{1,12}\.[0-9]{3}):([0-9]{1,20})\): ?(.*)"
).fullmatch
_PAIRS = compiled(r"([\w-]{1,40})=(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'\x1d]+))").findall
_AVC = compiled(r"avc:  ?(denied|granted)  ?\{ ([^{}]{0,200}) \} for .*").match
_HEX = compiled(r"(?:[0-9A-F]{2}){1,4096}").fullmatch
_NUMBERED = {
    "1400": "AVC", "1300": "SYSCALL", "1302": "PATH", "1307": "CWD", "1309": "EXECVE", "1327": "PROCTITLE",
    "1326": "SECCOMP", "1100": "USER_AUTH", "1112": "USER_LOGIN",
}  # fmt: skip
#: Type -> category and action.
_TYPES = {
    "USER_LOGIN": ("authentication", "login"),
    "USER_AUTH": ("authentication", "login"),
    "USER_ERR": ("authentication", "login"),
    "USER_ACCT": ("authentication", "login_checked"),
    "USER_CHAUTHTOK": ("iam", "password_changed"),
    "CRED_ACQ": ("authentication", "credentials_acquired"),
    "CRED_DISP": ("authentication", "credentials_disposed"),
    "CRED_REFR": ("authentication", "credentials_refreshed"),
    "USER_START": ("session", "session_opened"),
    "USER_END": ("session", "session_closed"),
    "USER_LOGOUT": ("session", "session_closed"),
    "LOGIN": ("session", "session_started"),
    "USER_CMD": ("process", "sudo_command"),
    "USER_ROLE_CHANGE": ("iam", "role_changed"),
    "ADD_USER": ("iam", "user_added"),
    "DEL_USER": ("iam", "user_removed"),
    "ADD_GROUP": ("iam", "group_added"),
    "DEL_GROUP": ("iam", "group_removed"),
    "USER_MGMT": ("iam", "user_changed"),
    "GRP_MGMT": ("iam", "group_changed"),
    "ACCT_LOCK": ("iam", "user_locked"),
    "ACCT_UNLOCK": ("iam", "user_unlocked"),
    "RESP_ACCT_LOCK": ("authentication", "account_locked"),
    "SYSCALL": ("process", "system_call"),
    "EXECVE": ("process", "command_executed"),
    "PROCTITLE": ("process", "command_executed"),
    "PATH": ("file", "file_accessed"),
    "CWD": ("process", "system_call"),
    "SOCKADDR": ("network", "system_call"),
    "SECCOMP": ("process", "seccomp_violation"),
    "CONFIG_CHANGE": ("configuration", "audit_configuration_changed"),
    "DAEMON_START": ("process", "audit_started"),
    "DAEMON_END": ("process", "audit_stopped"),
    "SERVICE_START": ("process", "service_started"),
    "SERVICE_STOP": ("process", "service_stopped"),
    "NETFILTER_CFG": ("configuration", "firewall_changed"),
    "MAC_STATUS": ("configuration", "selinux_mode_changed"),
    "MAC_POLICY_LOAD": ("configuration", "selinux_policy_loaded"),
    "ANOM_ABEND": ("process", "process_crashed"),
    "ANOM_PROMISCUOUS": ("network", "promiscuous_mode_entered"),
    "ANOM_LOGIN_FAILURES": ("authentication", "account_locked"),
}
_OUTCOMES = {
    "success": "success",
    "yes": "success",
    "1": "success",
    "failed": "failure",
    "no": "failure",
    "0": "failure",
}
_TEXTS = {
    "exe": "process.executable", "comm": "process.name", "terminal": "process.tty", "tty": "process.tty",
    "cwd": "process.working_directory", "uid": "user.id", "auid": "user.audit.id", "euid": "user.effective.id",
    "key": "rule.name", "op": "event.reason", "ses": "session.id", "unit": "service.name", "profile": "rule.name",
    "subj": "user.selinux", "syscall": "auditd.syscall", "denied_mask": "auditd.denied_mask",
    "operation": "auditd.operation",
}  # fmt: skip
#: Records that are an event by themselves are those of user space and of single events; these end one of several.
_LAST = frozenset(("PROCTITLE", "EOE"))
_OF_SEVERAL = frozenset(
    (
        "SYSCALL", "PATH", "CWD", "EXECVE", "SOCKADDR", "SOCKETCALL", "IPC", "IPC_SET_PERM", "MQ_OPEN", "MQ_SENDRECV",
        "MQ_NOTIFY", "MQ_GETSETATTR", "KERNEL_OTHER", "FD_PAIR", "OBJ_PID", "BPRM_FCAPS", "CAPSET", "MMAP",
        "NETFILTER_PKT", "NETFILTER_CFG", "SECCOMP", "FEATURE_CHANGE", "KERN_MODULE", "FANOTIFY", "BPF", "OPENAT2",
        "AVC", "SELINUX_ERR", "AVC_PATH", "CONFIG_CHANGE", "INTEGRITY_RULE", "TIME_ADJNTPVAL", "URINGOP", *_LAST,
    )
)  # fmt: skip
_TRUSTED_HEX = frozenset(("acct", "cmd", "name", "proctitle", "comm", "exe", "cwd", "key", "profile"))


def _pairs(text: str) -> dict[str, str]:
    """Each name's first value; those of a quoted msg='...' are names of their own."""
    pairs: dict[str, str] = {}
    for name, double, single, bare in _PAIRS(text):
        if name == "msg" and single:
            pairs |= _pairs(single)
        elif name not in pairs:
            pairs[name] = double or single or (_decoded(bare) if name in _TRUSTED_HEX or name[:1] == "a" else bare)
    return pairs


def _decoded(text: str) -> str:
    """Text of hexadecimal digits, NULs as blanks; other text as it is."""
    if len(text) < 2 or _HEX(text) is None:
        return text
    return bytes.fromhex(text).replace(b"\0", b" ").decode("utf-8", "replace").strip()


def _put(kind: str, text: str, fields: Fields) -> None:
    pairs = _pairs(text)
    category, action = _TYPES.get(kind, ("host", kind.lower().partition("[")[0]))
    avc = _AVC(text)
    if avc is not None:
        category, action = "host", "selinux_" + avc[1]
        fields["event.outcome"] = "failure" if avc[1] == "denied" else "success"
        fields["event.reason"] = avc[2]
    elif "apparmor" in pairs:
        category, action = "host", "apparmor_" + pairs["apparmor"].lower()
        if pairs["apparmor"] == "DENIED":
            fields["event.outcome"] = "failure"
    elif kind.startswith("ANOM_") and kind not in _TYPES:
        category = "intrusion_detection"
    fields["event.category"], fields["event.action"] = category, action
    outcome = _OUTCOMES.get(pairs.get("res", pairs.get("success", "")))
    if outcome and avc is None:
        fields["event.outcome"] = outcome
    for name, field in _TEXTS.items():
        value = pairs.get(name)
        if value and value not in ("?", "(null)", "4294967295"):
            fields[field] = value
    _put_rest(kind, pairs, fields)


def _put_rest(kind: str, pairs: Mapping[str, str], fields: Fields) -> None:
    account = pairs.get("acct", "")
    if account and account != "?":
        fields["user.name"] = account
    if pairs.get("addr", "?") != "?":
        put_address(fields, "source", pairs["addr"])
    if "pid" in pairs and pairs["pid"].isdecimal() and len(pairs["pid"]) <= 10:
        fields["process.pid"] = int(pairs["pid"])
    if "ppid" in pairs and pairs["ppid"].isdecimal() and len(pairs["ppid"]) <= 10:
        fields["process.parent.pid"] = int(pairs["ppid"])
    if pairs.get("name", "(null)") != "(null)":
        fields["file.path"] = pairs["name"]
    put_port(fields, "destination.port", pairs.get("dest", ""))
    if "saddr" in pairs:
        _put_socket(pairs["saddr"], fields)
    command = pairs.get("proctitle") or pairs.get("cmd")
    if kind == "EXECVE":
        command = " ".join(pairs[f"a{place}"] for place in range(64) if f"a{place}" in pairs)
    if command:
        fields["process.command_line"] = command


def _put_socket(text: str, fields: Fields) -> None:
    """The other side of a system call: a sockaddr in hexadecimal digits."""
    if _HEX(text) is None:
        return
    raw = bytes.fromhex(text)
    family = int.from_bytes(raw[:2], "little")
    if family == 2 and len(raw) >= 8:
        address: str = str(ipaddress.IPv4Address(raw[4:8]))
    elif family == 10 and len(raw) >= 24:
        address = str(ipaddress.IPv6Address(raw[8:24]))
    else:
        if family == 1:
            fields["file.path"] = raw[2:].partition(b"\0")[0].decode("utf-8", "replace") or "abstract socket"
        return
    put_address(fields, "destination", address)
    fields["destination.port"] = int.from_bytes(raw[2:4], "big")


def may_follow(fields: Fields) -> bool:
    """Whether more records of the same event may follow this one."""
    return fields.get("event.code") in _OF_SEVERAL and fields.get("auditd.last") not in _LAST


def merged(head: Decoded, record: Decoded, line: str) -> Decoded | None:
    """An event with one more of its records; None for a record of another. The first record says what happened, the
    others what it does not: the command that was run, the files, the folder, the other side."""
    mine, more = head.fields, record.fields
    if mine.get("audit.id") != more.get("audit.id") or mine.get("host.name") != more.get("host.name"):
        return None
    kind = str(more["event.code"])
    if mine["event.code"] not in _OF_SEVERAL or kind not in _OF_SEVERAL:
        return None
    fields = {**more, **mine}
    if kind == "EXECVE" or (kind == "PATH" and mine["event.action"] == "system_call"):
        fields["event.category"], fields["event.action"] = more["event.category"], more["event.action"]
    if kind == "EXECVE" and "process.command_line" in more:
        fields["process.command_line"] = more["process.command_line"]
    if kind == "PATH" and "nametype=PARENT" in line and "file.path" not in mine:
        fields.pop("file.path", None)
    fields["auditd.records"] = [*_records(mine), kind]
    fields["auditd.last"] = kind
    return head._replace(fields=fields, message=f"{head.message}\n{record.message}")


def _records(fields: Fields) -> list[str]:
    records = fields.get("auditd.records")
    return records if isinstance(records, list) else [str(fields["event.code"])]


def read(message: str, fields: Fields) -> bool:
    """A record inside syslog or the kernel's log."""
    found = _RECORD(message) if "audit(" in message[:400] else None
    if found is None:
        return False
    node, kind, _, number, text = found.groups()
    kind = _NUMBERED.get(kind, kind)
    if node:
        fields["host.name"] = node
    fields["audit.id"], fields["event.code"] = number, kind
    program = fields.get("process.name")
    _put(kind, text, fields)
    if program == "kernel" and fields["event.action"] == kind.lower() and "apparmor" not in text:
        fields["process.name"] = program
    return True


def open_line(line: str, clock: Clock) -> Opened | None:
    """A record of audit.log."""
    found = _RECORD(line)
    if found is None:
        return None
    timestamp_us, flags = clock.epoch(float(found[3]))
    fields: Fields = {}
    read(line, fields)
    return NAME, timestamp_us, flags if timestamp_us is not None else TIME_ERROR, "", found[5] or line, fields


DECODER = LineDecoder(
    name=NAME,
    about="Linux audit records: logins, commands, files, SELinux and AppArmor denials.",
    open=open_line,
    leads=("aaaa=", "node="),
    marks=(" msg=audit(", " audit("),
    programs=("kernel", "audit", "auditd", "audispd", "audisp-syslog"),
    read=read,
)
