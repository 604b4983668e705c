"""Services of a host that write to syslog: Cockpit, firewalld, WireGuard's tools, hostapd; Mastodon and other Rails
applications; Cisco IOS lines with nothing but a sequence number in front; auditd records that laurel wrote as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from threatlens.decoders.base import (
    ANY_PROGRAM,
    LineDecoder,
    MessageDecoder,
    ObjectDecoder,
    Opened,
    compiled,
    put_address,
)
from threatlens.decoders.levels import LEVELS
from threatlens.decoders.tables import Table, row
from threatlens.decoders.times import Clock
from threatlens.event import Fields

_IP = r"(?P<src>\[?[0-9a-fA-F:.]{2,45}\]?)"
_HOST: dict[str, Any] = {"category": "host"}
_COCKPIT = Table(
    {
        "": [
            row(r"logged in user(?: session)?(?:: .*)?", "login", "success"),
            row(
                r"(?:cockpit-session: )?user (?P<user>\S{1,100}): (?P<reason>authentication failed.*)",
                "login",
                "failure",
            ),
            row(r"(?P<user>\S{1,100}): (?P<reason>Authentication failure|Permission denied)", "login", "failure"),
            row(
                r"(?P<reason>Received invalid handshake request from the client)",
                "http_error",
                "failure",
                category="web",
            ),
            row(
                r"(?:cockpit-\w+: )?(?P<reason>gnutls_handshake failed: .*)", "tls_error", "failure", category="network"
            ),
            row(r"New connection to session from (?P<src>[0-9a-fA-F:.]{2,45})", "session_opened", category="session"),
            row(r"session timed out", "session_closed", category="session"),
            row(r"Logging out session (?P<session>.*)", "logout", category="session"),
        ]
    }
)
_FIREWALLD = Table(
    {
        "": [
            row(
                r"(?P<reason>(?:COMMAND_FAILED|INVALID_\w{1,40}|ALREADY_ENABLED|NOT_ENABLED): .*)",
                "firewall_error",
                "failure",
                **_HOST,
            ),
            row(r"ERROR: (?P<reason>.*)", "firewall_error", "failure", level="error", **_HOST),
            row(r"WARNING: (?P<reason>.*)", "firewall_warning", level="warning", **_HOST),
        ]
    }
)
_STATION = r"(?P<interface>[\w.-]{1,32}): STA (?P<source__mac>[0-9a-fA-F:]{17}) [\w. ]{1,20}: "
_HOSTAPD = Table(
    {
        "": [
            row(
                _STATION + r"(?P<reason>authentication failed.*"
                r"|.*deauthenticated due to (?:authentication|4-Way Handshake).*|.*4WHS failed.*|.*EAPOL-Key timeout.*)",
                "wifi_login",
                "failure",
            ),
            row(
                _STATION + r"(?:associated|pairwise key handshake completed).*",
                "wifi_connect",
                "success",
                category="network",
            ),
            row(
                _STATION + r"(?P<reason>(?:disassociated|deauthenticated).*)",
                "wifi_disconnect",
                category="network",
            ),
            row(
                r"(?P<interface>[\w.-]{1,32}): AP-STA-POSSIBLE-PSK-MISMATCH (?P<source__mac>[0-9a-fA-F:]{17})",
                "wifi_login",
                "failure",
                also={"event.reason": "the pre-shared key does not match"},
            ),
            row(
                r"(?P<interface>[\w.-]{1,32}): AP-STA-(?P<reason>CONNECTED) (?P<source__mac>[0-9a-fA-F:]{17}).*",
                "wifi_connect",
                "success",
                category="network",
            ),
            row(
                r"(?P<interface>[\w.-]{1,32}): AP-STA-(?P<reason>DISCONNECTED) (?P<source__mac>[0-9a-fA-F:]{17}).*",
                "wifi_disconnect",
                category="network",
            ),
        ]
    }
)

_RAILS = compiled(
    r"(?:\[([0-9a-f-]{8,36})\] )?method=([A-Z]{3,10}) path=(\S{1,8000}) format=\S{1,60} controller=([\w:]{1,200}) action=(\w{1,100})"
    r" status=([0-9]{3})(?: .*)?"
).fullmatch
_RAILS_ADDRESS = compiled(r".* (?:ip|remote_ip)=([0-9a-fA-F:.]{2,45})(?: .*)?").fullmatch
_SIGN_INS = frozenset(("SessionsController", "Auth::SessionsController", "Devise::SessionsController"))


def _read_rails(message: str, fields: Fields) -> bool:
    """lograge's line of one request; the path ends at its first blank, as a client's blanks are written as %20."""
    found = _RAILS(message)
    if found is None:
        return False
    request, method, path, controller, action, status_text = found.groups()
    status = int(status_text)
    sign_in = controller in _SIGN_INS and action == "create"
    refused = status >= 400 or (sign_in and status == 200)  # a sign-in that succeeds is redirected
    fields |= {
        "event.category": "authentication" if sign_in else "web",
        "event.action": "login" if sign_in else "http_request",
        "event.outcome": "failure" if refused else "success",
        "http.request.method": method,
        "url.original": path,
        "http.response.status_code": status,
        "rails.controller": controller,
        "rails.action": action,
    }
    if request:
        fields["http.request.id"] = request
    if address := _RAILS_ADDRESS(message[found.end(6) :]):
        put_address(fields, "source", address[1])
    return True


_WIREGUARD = Table(
    {
        "": [
            row(
                rf"(?P<interface>[\w.-]{{1,32}}): (?P<reason>Invalid (?:handshake initiation|handshake response|MAC of handshake)[^\d]{{0,60}})"
                rf" from {_IP}:(?P<sport>[0-9]{{1,5}})(?:,.*)?",
                "vpn_login",
                "failure",
            ),
            row(
                rf"(?P<interface>[\w.-]{{1,32}}): Packet has unallowed src IP \(\S{{1,60}}\) from peer [0-9]{{1,10}} \({_IP}:(?P<sport>[0-9]{{1,5}})\)",
                "packet_refused",
                "failure",
                category="network",
            ),
            row(
                rf"(?P<interface>[\w.-]{{1,32}}): (?P<reason>Handshake for peer [0-9]{{1,10}}) \({_IP}:(?P<sport>[0-9]{{1,5}})\) did not complete.*",
                "vpn_connect",
                "failure",
                category="network",
            ),
            row(
                rf"(?P<interface>[\w.-]{{1,32}}): Receiving handshake (?:initiation|response) from peer [0-9]{{1,10}} \({_IP}:(?P<sport>[0-9]{{1,5}})\)",
                "vpn_connect",
                category="network",
            ),
            row(
                rf"(?P<interface>[\w.-]{{1,32}}): (?P<reason>.*) peer [0-9]{{1,10}}(?: \({_IP}:(?P<sport>[0-9]{{1,5}})\))?.*",
                category="network",
            ),
        ]
    }
)


def read_wireguard(message: str, fields: Fields) -> bool:
    """A message of the kernel's module, with the kernel's uptime in front or not."""
    if message[:1] == "[":
        message = message.partition("] ")[2]
    return message.startswith("wireguard: ") and _WIREGUARD.read(message[11:], fields)


_IOS = compiled(
    r"(?:[0-9]{1,10}: ){1,3}(?:([\w.-]{1,255}): )?[*.]?((?:[A-Z][a-z]{2} {1,2}[0-9]{1,2}(?: [0-9]{4})? [0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,6})?)"
    r"(?: ([A-Z]{2,5}))?: (%[A-Z][A-Z0-9_]{1,40}(?:-[A-Z0-9_]{1,40})?-([0-7])-[A-Z0-9_]{1,60}: .*)"
).fullmatch
_IOS_MESSAGES = Table(
    {
        "": [
            row(
                rf"%SEC-6-IPACCESSLOG\w{{1,3}}: list (?P<rule>\S{{1,64}}) denied (?P<transport>\w{{1,10}}) {_IP}"
                r"(?:\((?P<sport>[0-9]{1,5})\))?(?: \S{1,60})? -> (?P<dst>[0-9a-fA-F:.]{2,45})(?:\((?P<dport>[0-9]{1,5})\))?.*",
                "firewall_deny",
                "failure",
                category="network",
            ),
            row(
                rf"%SEC-6-IPACCESSLOG\w{{1,3}}: list (?P<rule>\S{{1,64}}) permitted (?P<transport>\w{{1,10}}) {_IP}"
                r"(?:\((?P<sport>[0-9]{1,5})\))?(?: \S{1,60})? -> (?P<dst>[0-9a-fA-F:.]{2,45})(?:\((?P<dport>[0-9]{1,5})\))?.*",
                "firewall_allow",
                "success",
                category="network",
            ),
            row(
                rf"%SYS-5-CONFIG_I: Configured from \w{{1,20}} by (?P<user>\S{{1,64}}) on \S{{1,20}} \({_IP}\)",
                "configuration_changed",
                "success",
                category="configuration",
            ),
            row(r"%SYS-5-CONFIG_I: Configured from .*", "configuration_changed", "success", category="configuration"),
            row(
                rf"%SSH-5-SSH2_USERAUTH: User '(?P<user>.*)' authentication for SSH2 Session from {_IP} \(tty = [0-9]{{1,4}}\)"
                r" using crypto cipher '.{0,60}', hmac '.{0,60}' Failed",
                "ssh_login",
                "failure",
            ),
            row(
                rf"%SSH-5-SSH2_USERAUTH: User '(?P<user>.*)' authentication for SSH2 Session from {_IP} \(tty = [0-9]{{1,4}}\)"
                r" using crypto cipher '.{0,60}', hmac '.{0,60}' Succeeded",
                "ssh_login",
                "success",
            ),
            row(
                r"%(?:LINK-3|LINEPROTO-5)-UPDOWN: (?:Line protocol on )?Interface (?P<interface>\S{1,60}), changed state to"
                r" (?P<reason>.*)",
                "link_changed",
                category="network",
            ),
        ]
    }
)
_SEVERITIES = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")


def _open_ios(line: str, clock: Clock) -> Opened | None:
    """The time in a zone that has a name is taken as UTC or as the source's: names like CST say several."""
    found = _IOS(line)
    if found is None:
        return None
    host, time, zone, message, severity = found.groups()
    fields: Fields = {"log.level": _SEVERITIES[int(severity)], "event.code": message[1 : message.index(": ")]}
    if host:
        fields["host.name"] = host
    moment = clock.any(f"{time} {zone}" if zone in {"UTC", "GMT"} else time)
    if _IOS_MESSAGES.read(message, fields):
        return "cisco.ios", *moment, "", message, fields
    return "cisco.ios", *moment, ANY_PROGRAM, message, fields


_RECORD_ID = compiled(r"([0-9]{9,11})\.([0-9]{3}):([0-9]{1,12})").fullmatch
_LOGINS = frozenset(("USER_LOGIN", "USER_AUTH"))
_ACCOUNTS = {
    "ADD_USER": ("user_added", "iam"), "DEL_USER": ("user_removed", "iam"), "ADD_GROUP": ("group_added", "iam"),
    "DEL_GROUP": ("group_removed", "iam"), "USER_CHAUTHTOK": ("password_changed", "iam"),
}  # fmt: skip
_ACCOUNT_NAMES = {"UID": "user.effective.name", "AUID": "user.name"}


def _read_laurel(document: Mapping[str, Any], fields: Fields) -> str | None:
    """An event of the audit subsystem with all its records."""
    event_id = document.get("ID")
    if not isinstance(event_id, str) or _RECORD_ID(event_id) is None:
        return None
    fields["event.id"] = event_id
    if isinstance(document.get("NODE"), str):
        fields["host.name"] = document["NODE"]
    call, said = document.get("SYSCALL"), ""
    if isinstance(call, dict):
        said = _put_call(call, fields)
    parent = document.get("PARENT_INFO")
    if isinstance(parent, dict) and isinstance(parent.get("exe"), str):
        fields["process.parent.executable"] = parent["exe"]
    for name in ("EXECVE", "PROCTITLE"):
        part = document.get(name)
        words = part.get("ARGV") if isinstance(part, dict) else None
        if isinstance(words, list) and words:
            fields["process.command_line"] = " ".join(str(word) for word in words)
            fields["event.category"] = "process"
            break
    folder = document.get("CWD")
    if isinstance(folder, dict) and isinstance(folder.get("cwd"), str):
        fields["process.working_directory"] = folder["cwd"]
    for kind, record in document.items():
        first = record[0] if isinstance(record, list) and record else record
        if isinstance(first, dict) and "res" in first:
            _put_result(kind, first, fields)
    return said


def _put_call(call: Mapping[str, Any], fields: Fields) -> str:
    """Who made the system call, and how it ended; gives its name."""
    name = call.get("SYSCALL")
    if isinstance(name, str):
        fields["event.action"] = name
    if call.get("success") in ("yes", "no"):
        fields["event.outcome"] = "success" if call["success"] == "yes" else "failure"
    fields["event.category"] = "process"
    for member, field in (("exe", "process.executable"), ("comm", "process.name"), ("tty", "process.tty"),
                          ("key", "rule.name")):  # fmt: skip
        if isinstance(call.get(member), str):
            fields[field] = call[member]
    for member, field in (("pid", "process.pid"), ("ppid", "process.parent.pid")):
        if isinstance(call.get(member), int):
            fields[field] = call[member]
    for member, field in _ACCOUNT_NAMES.items():
        if isinstance(call.get(member), str) and call[member] != "unset":
            fields[field] = call[member]
    return f"{name} {call.get('exe', '')}".strip() if isinstance(name, str) else ""


def _put_result(kind: str, record: Mapping[str, Any], fields: Fields) -> None:
    """A record of a program that tells the audit subsystem how something ended: a sign-in, an account."""
    result = str(record["res"]).lower()
    outcome = "success" if result in {"success", "1", "yes"} else "failure"
    if kind in _LOGINS:
        fields |= {"event.category": "authentication", "event.action": "login", "event.outcome": outcome}
    elif kind in _ACCOUNTS:
        action, category = _ACCOUNTS[kind]
        fields |= {"event.category": category, "event.action": action, "event.outcome": outcome}
    else:
        fields["event.outcome"] = outcome
    if isinstance(record.get("acct"), str) and record["acct"]:
        fields["user.name"] = record["acct"]
    if isinstance(record.get("addr"), str) and record["addr"] not in {"?", ""}:
        put_address(fields, "source", record["addr"])
    if isinstance(record.get("exe"), str):
        fields["process.executable"] = record["exe"]


def _levelled(table: Table) -> Any:
    """Reads "LEVEL: message" too, as firewalld writes it."""

    def read(message: str, fields: Fields) -> bool:
        level, _, rest = message.partition(": ")
        if level in {"ERROR", "WARNING", "INFO", "DEBUG", "FATAL"} and table.read(rest, fields):
            fields["log.level"] = LEVELS[level]
            return True
        return table.read(message, fields)

    return read


LINES = (
    LineDecoder(
        name="cisco.ios",
        about="Cisco IOS lines with sequence numbers and its own time; what they say is read on.",
        open=_open_ios,
        leads=tuple(
            f"{'0' * digits}: {then}" for digits in range(1, 8) for then in ("Aaa", "*Aaa", ".Aaa", "0", "a", "A")
        ),
        marks=(": %",),
    ),
)
MESSAGES = (
    MessageDecoder(
        name="cockpit",
        about="Cockpit: sessions, refused sign-ins, connections that are none.",
        read=_COCKPIT.read,
        programs=("cockpit-ws", "cockpit-tls", "cockpit-session", "cockpit-bridge"),
    ),
    MessageDecoder(
        name="firewalld",
        about="firewalld: errors and warnings. What it drops is written by the kernel.",
        read=_levelled(_FIREWALLD),
        programs=("firewalld",),
    ),
    MessageDecoder(
        name="hostapd",
        about="hostapd, as access points (UniFi, OpenWrt) write it: who joined, who was refused.",
        read=_HOSTAPD.read,
        programs=("hostapd",),
    ),
    MessageDecoder(
        name="rails",
        about="Rails applications with lograge (Mastodon): requests and sign-ins.",
        read=_read_rails,
        programs=("bundle", "puma", "mastodon-web", "mastodon"),
    ),
    MessageDecoder(
        name="wireguard",
        about="WireGuard's messages in the kernel's log.",
        read=read_wireguard,
        programs=("kernel",),
    ),
)
OBJECTS = (
    ObjectDecoder(
        name="laurel",
        about="laurel: whole events of Linux' audit subsystem as JSON.",
        keys=("ID", "NODE"),
        read=_read_laurel,
        times=("ID",),
    ),
)
DECODERS = (*LINES, *MESSAGES, *OBJECTS)
