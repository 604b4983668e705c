"""Message brokers, file and boot services, dial-in and VPN servers: who connected, who was refused.

What a client chooses (a client id, an application's name, a file, a user) stands in front of, or behind, what the
server writes by itself; rows take the place that only the server can have written.
"""

from __future__ import annotations

from typing import Any

from threatlens.decoders.access import requests
from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, layout, row

_NET: dict[str, Any] = {"category": "network"}
_FILE: dict[str, Any] = {"category": "file"}
_PROCESS: dict[str, Any] = {"category": "process"}
_IP = r"(?P<src>[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-fA-F:]{2,39}(?:[0-9.]{7,15})?)"
_PORT = r"(?P<sport>[0-9]{1,5})"
_ERLANG_PID = r"<[0-9.]{3,30}>"
#: "192.0.2.7:40000 -> 198.51.100.2:5672", in parentheses before version 3.13.
_BETWEEN = (
    rf"(?:{_ERLANG_PID} )?\(?\[?{_IP}\]?:{_PORT} -> "
    r"\[?(?P<dst>[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-fA-F:]{2,39})\]?:(?P<dport>[0-9]{1,5})"
)
_RABBITMQ = Table(
    {
        "accepting": [row(rf"accepting \w{{2,12}} connection {_BETWEEN}\)?", "connection_accepted", **_NET)],
        "closing": [row(rf"closing \w{{2,12}} connection {_BETWEEN}(?:[,) :].*)?", "connection_closed", **_NET)],
        "connection": [
            row(
                rf"connection {_BETWEEN}(?: - [^']{{0,200}})?\)?: user '(?P<user>[^']{{1,256}})' authenticated and "
                r"granted access to vhost '.*'",
                "login",
                "success",
            )
        ],
        "HTTP": [
            row(r"HTTP access denied: user '(?P<user>.*)' - (?P<reason>[^']{1,200})", "login", "failure"),
            row(r"HTTP access denied: (?P<reason>[^']{1,200})", "login", "failure"),
        ],
        "Error": [row(rf"Error on \w{{2,12}} connection {_BETWEEN}(?P<reason>.*)", "connection_error", **_NET)],
        "": [
            row(
                r"(?P<method>[\w-]{2,24}) login refused: user '(?P<user>.*)' (?:- )?(?P<reason>[^']{1,200})",
                "login",
                "failure",
            ),
            row(r"MQTT login failed for (?:user )?\"?(?P<user>[^\" ]{1,256})\"?.*", "login", "failure"),
        ],
    }
)
_MOSQUITTO = Table(
    {
        "New": [
            row(
                rf"New connection from {_IP}(?::{_PORT})? on port (?P<dport>[0-9]{{1,5}})\.",
                "connection_accepted",
                **_NET,
            ),
            row(
                rf"New client connected from {_IP}(?::{_PORT})? as .* \((?:p[0-9], )?c[01], k[0-9]{{1,6}}"
                r"(?:, u'(?P<user>[^']{1,256})')?\)\.",
                "login",
                "success",
            ),
        ],
        "Client": [
            row(
                rf"Client .* \[{_IP}:{_PORT}\] disconnected: (?P<reason>not authori[sz]ed)\.",
                "login",
                "failure",
            ),
            row(r"Client .* disconnected, (?P<reason>not authori[sz]ed)\.", "login", "failure"),
            row(r"Client .* (?P<reason>closed its connection|disconnected|has exceeded timeout, disconnecting)\.",
                "connection_closed", **_NET),
        ],
        "Denied": [row(r"Denied .*", "access_denied", "failure", **_NET)],
    }
)  # fmt: skip
_DOAS = Table(
    {
        "failed": [row(r"failed auth for (?P<user>\S{1,256})", "sudo_login", "failure")],
        "command": [
            row(
                r"command not permitted for (?P<user>\S{1,256}): (?P<command>.*)",
                "sudo_denied",
                "failure",
                **_PROCESS,
            )
        ],
        "": [
            row(
                r"(?P<user>\S{1,256}) ran command (?P<command>.*) as (?P<effective>\S{1,256}) from (?P<folder>\S.*)",
                "sudo_command",
                "success",
                **_PROCESS,
            )
        ],
    }
)
_WRAPPED = Table(
    {
        "refused": [
            row(rf"refused connect from (?:\S{{1,255}} \()?\[?{_IP}\]?\)?", "connection_refused", "failure", **_NET),
            row(r"refused connect from (?P<source__address>\S{1,255})", "connection_refused", "failure", **_NET),
        ],
        "connect": [
            row(rf"connect from (?:\S{{1,255}} \()?\[?{_IP}\]?\)?", "connection_accepted", **_NET),
            row(r"connect from (?P<source__address>\S{1,255})", "connection_accepted", **_NET),
        ],
        "RRQ": [row(rf"RRQ from {_IP} filename (?P<file>.*)", "file_read", **_FILE)],
        "WRQ": [row(rf"WRQ from {_IP} filename (?P<file>.*)", "file_written", **_FILE)],
        "sending": [row(rf"sending NAK \([0-9]{{1,2}}, (?P<reason>.*)\) to {_IP}", "file_refused", "failure", **_FILE)],
    }
)
_MOUNTD = Table(
    {
        "authenticated": [
            row(
                rf"authenticated (?:un)?mount request from (?:\S{{1,255}} \()?{_IP}\)?:{_PORT} for (?P<file>.*)",
                "share_mounted",
                "success",
                **_FILE,
            )
        ],
        "refused": [
            row(
                rf"refused mount request from (?:\S{{1,255}} \()?{_IP}\)? for .*: "
                r"(?P<reason>not exported|no export entry|unmatched host|illegal port [0-9]{1,5})",
                "share_refused",
                "failure",
                **_FILE,
            ),
            row(rf"refused mount request from (?:\S{{1,255}} \()?{_IP}\)? for .*", "share_refused", "failure", **_FILE),
        ],
    }
)
_MAC = r"(?P<client__mac>[0-9a-fA-F:]{17})"
_LEASE = r"(?P<client__ip>[0-9]{1,3}(?:\.[0-9]{1,3}){3})"
_DHCPD = Table(
    {
        "": [
            row(
                rf"DHCP(?P<reason>ACK|OFFER|NAK) (?:on|to) {_LEASE}(?: (?:to|\()?)? ?{_MAC}\)?.*",
                "dhcp_lease",
                **_NET,
            ),
            row(rf"DHCP(?P<reason>DISCOVER) from {_MAC}.*", "dhcp_request", **_NET),
            row(
                rf"DHCP(?P<reason>REQUEST|DECLINE) (?:for|of) {_LEASE} (?:\([0-9.]{{7,15}}\) )?from {_MAC}.*",
                "dhcp_request",
                **_NET,
            ),
            row(rf"DHCP(?P<reason>RELEASE) of {_LEASE} from {_MAC}.*", "dhcp_request", **_NET),
        ]
    }
)
_PPP = Table(
    {
        "CTRL:": [
            row(rf"CTRL: Client {_IP} control connection (?P<reason>started|finished)", "vpn_connect", **_NET),
        ],
        "Peer": [row(r"Peer (?P<user>.*) failed (?P<method>\w{2,12}) authentication", "vpn_login", "failure")],
        "PAP": [
            row(r"PAP authentication failure for (?P<user>.*)", "vpn_login", "failure"),
            row(r"PAP peer authentication failed for (?P<user>.*)", "vpn_login", "failure"),
            row(r"PAP peer authentication succeeded for (?P<user>.*)", "vpn_login", "success"),
        ],
        "CHAP": [
            row(r"CHAP peer authentication failed for (?:remote host )?(?P<user>.*)", "vpn_login", "failure"),
            row(r"CHAP peer authentication succeeded for (?P<user>.*)", "vpn_login", "success"),
        ],
        "Connection": [row(rf"Connection established to {_IP}, {_PORT}\. .*", "vpn_connect", **_NET)],
    }
)
_OCSERV = Table(
    {
        "": [
            row(
                rf"worker(?:\[[^\]]{{0,256}}\])?: \[?{_IP}\]? failed authentication attempt for user '(?P<user>.*)'",
                "vpn_login",
                "failure",
            ),
            row(r"sec-mod: failed authentication attempt for user '(?P<user>.*)'", "vpn_login", "failure"),
            row(
                rf"main(?:\[(?P<user>[^\]]{{0,256}})\])?: ?\[?{_IP}\]?:{_PORT} (?:new user session|user logged in)",
                "vpn_login",
                "success",
            ),
            row(
                rf"main(?:\[(?P<user>[^\]]{{0,256}})\])?: ?\[?{_IP}\]?:{_PORT} "
                r"(?P<reason>user disconnected|worker terminated|ban|added).*",
                "vpn_disconnect",
                **_NET,
            ),
            row(rf"worker(?:\[[^\]]{{0,256}}\])?: \[?{_IP}\]? (?P<reason>[\w -]{{3,80}}).*", "vpn_message", **_NET),
        ]
    }
)
_SNMPD = Table(
    {
        "Connection": [
            row(
                rf"Connection from (?P<transport>\w{{3,5}}): \[{_IP}\]:{_PORT}"
                r"(?:->\[[0-9a-fA-F:.]{2,45}\]:[0-9]{1,5})? REFUSED",
                "connection_refused",
                "failure",
                **_NET,
            ),
            row(
                rf"Connection from (?P<transport>\w{{3,5}}): \[{_IP}\]:{_PORT}"
                r"(?:->\[(?P<dst>[0-9a-fA-F:.]{2,45})\](?::(?P<dport>[0-9]{1,5}))?)?",
                "connection_accepted",
                **_NET,
            ),
        ],
        "Authentication": [row(r"Authentication failed for (?P<user>.*)", "login", "failure")],
    }
)
_RSYNC_AT = rf"on module (?P<service__name>\S{{1,100}}) from \S{{0,255}} \({_IP}\)"
_RSYNCD = Table(
    {
        "connect": [row(rf"connect from \S{{0,255}} \({_IP}\)", "connection_accepted", **_NET)],
        "auth": [
            row(
                rf"auth failed {_RSYNC_AT} for (?P<user>.*): (?P<reason>[\w -]{{3,80}})",
                "login",
                "failure",
            ),
            row(rf"auth failed {_RSYNC_AT}(?:: (?P<reason>.*))?", "login", "failure"),
        ],
        "rsync": [
            row(rf"rsync denied {_RSYNC_AT}", "connection_refused", "failure", **_NET),
            row(
                r"rsync (?:on|to|allowed access on module) (?P<file>.*) from (?:(?P<user>[^\s@]{1,256})@)?\S{0,255} "
                rf"\({_IP}\)",
                "file_transfer",
                "success",
                **_FILE,
            ),
        ],
    }
)
_IP_TO = r"(?P<dst>[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-fA-F:]{2,39})"
_PACKET = (
    rf"(?P<transport>[A-Za-z0-9-]{{1,10}}) {_IP} {_IP_TO} (?:(?P<sport>[0-9]{{1,5}})|-) (?:(?P<dport>[0-9]{{1,5}})|-)"
    r" (?:[\w-]{1,12} ){0,12}[\w-]{1,12}"
)
_WINDOWS_FIREWALL = Table(
    {
        "DROP": [row(rf"DROP {_PACKET}", "firewall_deny", "failure", also={"event.type": "denied"}, **_NET)],
        "ALLOW": [row(rf"ALLOW {_PACKET}", "firewall_allow", "success", also={"event.type": "allowed"}, **_NET)],
    }
)

DECODERS = (
    layout(
        "windows.firewall",
        r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}) (?P<message>(?:DROP|ALLOW) .*)",
        about="The firewall of Windows (pfirewall.log).",
        leads=("0000-00-00 00:00:00 AAAA ", "0000-00-00 00:00:00 AAAAA "),
        marks=(" DROP ", " ALLOW "),
        messages=_WINDOWS_FIREWALL,
        only_messages=True,
    ),
    layout(
        "rsyncd",
        r"(?P<time>[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9:]{8}) \[(?P<pid>[0-9]{1,10})\] (?P<message>.*)",
        about="rsync as a server: connections, refused logins.",
        leads=("0000/00/00 00:00:00 [0",),
        marks=("connect from ", "on module ", "rsync "),
        messages=_RSYNCD,
        only_messages=True,
        programs=("rsyncd", "rsync"),
    ),
    layout(
        "rabbitmq",
        r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}\.[0-9]{3,6}(?:[+-][0-9]{2}:[0-9]{2})?) "
        rf"\[(?P<level>[a-z]{{4,9}})\] {_ERLANG_PID} (?P<message>.*)",
        about="RabbitMQ, and what else logs as Erlang does: connections, logins.",
        leads=("0000-00-00 00:00:00.000 [", "0000-00-00 00:00:00.000000 [", "0000-00-00 00:00:00.000000+00:00 [",
               "0000-00-00 00:00:00.000000-00:00 [", "0000-00-00 00:00:00.000+00:00 ["),
        marks=("] <0.", "] <1."),
        messages=_RABBITMQ,
        programs=("rabbitmq", "rabbitmq-server"),
    ),
    layout(
        "mosquitto",
        r"(?P<time>[0-9]{10}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:[+-][0-9]{4})?): "
        r"(?P<message>(?:New|Client|Denied) .*)",
        about="Mosquitto, the MQTT broker: connections, logins.",
        leads=("0000000000: A", "0000-00-00A00:00:00: A", "0000-00-00A00:00:00+0000: A", "0000-00-00A00:00:00-0000: A"),
        messages=_MOSQUITTO,
        only_messages=True,
        programs=("mosquitto",),
    ),
    requests(
        layout(
            "uwsgi",
            r"\[pid: (?P<pid>[0-9]{1,10})\|app: [0-9-]{1,6}\|req: [0-9-]{1,12}/[0-9-]{1,12}\] "
            rf"{_IP} \((?P<user>[^()]{{0,256}})\) \{{[0-9]{{1,6}} vars in [0-9]{{1,9}} bytes\}} "
            r"\[(?P<time>[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} [0-9]{4})\] "
            r"(?P<http_method>[A-Z]{2,20}) (?P<url>.*) => generated (?P<size>[0-9]{1,15}) bytes in [0-9]{1,12} "
            r"(?:msecs|micros)(?: via \w{2,20}\(\))? \(HTTP/(?P<http_version>[0-9.]{1,3}) (?P<status>[0-9]{3})\) .*",
            about="uWSGI's request log.",
            leads=("[aaa: 0",),
            marks=(" => generated ",),
            category="web",
            action="http_request",
        )
    ),
    layout(
        "cups",
        r"(?P<level>[XACEWNIDd]) \[(?P<time>[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9:]{8} [+-][0-9]{4})\] (?P<message>.*)",
        about="CUPS' error log: sign-ins refused, jobs.",
        leads=("A [00/Aaa/0000:", "a [00/Aaa/0000:"),
        messages=Table(
            {
                "": [
                    row(
                        r"(?:\[Client [0-9]{1,9}\] |cupsdAuthorize: )?pam_authenticate\(\) returned [0-9]{1,3} "
                        r"\((?P<reason>[^()]{1,200})\)!?",
                        "login",
                        "failure",
                    ),
                    row(r"(?:\[Client [0-9]{1,9}\] )?Unknown username \"(?P<user>.*)\"\.?", "login", "failure"),
                ]
            }
        ),
    ),
    MessageDecoder(
        name="doas", about="doas: commands run as another user, refusals.", read=_DOAS.read, programs=("doas",)
    ),
    MessageDecoder(
        name="tcp_wrappers",
        about="Services of inetd behind TCP wrappers, telnet and TFTP among them: connections, files.",
        read=_WRAPPED.read,
        programs=("in.telnetd", "telnetd", "in.tftpd", "tftpd", "in.fingerd", "fingerd", "in.rshd", "in.rlogind",
                  "in.rexecd", "rshd", "rlogind", "in.identd", "in.talkd"),
    ),
    MessageDecoder(
        name="mountd",
        about="NFS' mountd: shares mounted and refused.",
        read=_MOUNTD.read,
        programs=("rpc.mountd", "mountd"),
    ),
    MessageDecoder(name="dhcpd", about="ISC DHCP server: leases.", read=_DHCPD.read, programs=("dhcpd",)),
    MessageDecoder(
        name="ppp",
        about="pppd, pptpd and xl2tpd: dial-in logins.",
        read=_PPP.read,
        programs=("pppd", "pptpd", "xl2tpd"),
    ),
    MessageDecoder(name="ocserv", about="ocserv (OpenConnect): VPN logins.", read=_OCSERV.read, programs=("ocserv",)),
    MessageDecoder(name="snmpd", about="Net-SNMP's agent: requests, logins.", read=_SNMPD.read, programs=("snmpd",)),
)  # fmt: skip
