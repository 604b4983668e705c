"""Sign-ins and refusals as network devices write them, and what honeypots see."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.application import IP, Application, accepted, failed
from threatlens.decoders.tables import row

#: An address in brackets of the line's own.
_BARE = IP.removeprefix(r"\[?").removesuffix(r"\]?")
_CISCO = r"(?P<src>[0-9a-fA-F:.]{2,64})"

_NET: dict[str, Any] = {"category": "network"}
#: A packet in RouterOS' firewall log; the prefix is the rule's own.
_PACKET = (
    r"(?:(?P<host>[\w.-]{{1,255}}) )?(?:[a-z]{{2,20}}(?:,[a-z]{{2,20}}){{1,4}} )?{rule}"
    r"(?:input|forward|output|srcnat|dstnat|prerouting|postrouting): in:(?P<interface>[^,]{{1,60}}) "
    r"out:(?P<observer__egress__interface__name>[^,]{{1,60}}), (?:connection-state:[\w,]{{1,60}} )?"
    r"(?:src-mac [0-9a-fA-F:]{{17}}, )?proto (?P<transport>[A-Z0-9]{{2,12}})(?: \([^)]{{0,60}}\))?, "
    r"\[?(?P<src>[0-9a-fA-F:.]{{2,64}}?)\]?:(?P<sport>[0-9]{{1,5}})->"
    r"\[?(?P<dst>[0-9a-fA-F:.]{{2,64}}?)\]?:(?P<dport>[0-9]{{1,5}})(?:, .*)?"
)

DEVICES = (
    Application(
        "mikrotik",
        "MikroTik RouterOS: sign-ins, packets.",
        {
            "proto": [
                row(_PACKET.format(rule=r"(?P<rule>(?i:drop|reject)[^:]{0,100}) "), "firewall_deny", "failure", **_NET),
                row(_PACKET.format(rule=r"(?:(?P<rule>[^:]{1,100}) )?"), "firewall_log", **_NET),
            ],
            "login": [
                failed(
                    r"(?:[\w,]{1,60} )?login failure for user (?P<user>.*) from "
                    + IP
                    + r" via (?P<protocol>[\w-]{2,12})"
                )
            ],
            "logged": [
                accepted(
                    r"(?:[\w,]{1,60} )?user (?P<user>.*) logged in from " + IP + r" via (?P<protocol>[\w-]{2,12})"
                ),
                row(
                    r"(?:[\w,]{1,60} )?user (?P<user>.*) logged out from " + IP + r" via (?P<protocol>[\w-]{2,12})",
                    "logout",
                    category="session",
                ),
            ],
        },
    ),
    Application(
        "synology",
        "Synology DSM: sign-ins.",
        {
            "failed": [
                failed(
                    r"(?:SYSTEM:\s{1,3}|\w{1,20} )?User \[(?P<user>.*)\] from "
                    + IP
                    + r" failed to (?:log ?in|sign in) (?:via|to) \[(?P<protocol>[^\]]{1,40})\].*"
                )
            ],
            "blocked": [
                row(
                    r"(?:SYSTEM:\s{1,3})?Host "
                    + IP
                    + r" (?:has been|was) blocked (?:via|at) \[?(?P<reason>[^\]]{1,60})\]?.*",
                    "address_banned",
                    "success",
                    category="intrusion_detection",
                )
            ],
            "logged signed": [
                accepted(
                    r"(?:SYSTEM:\s{1,3})?User \[(?P<user>.*)\] from "
                    + IP
                    + r" (?:logged|signed) in (?:to \[[^\]]{1,40}\] )?successfully via \[(?P<protocol>[^\]]{1,40})\]\.?"
                )
            ],
        },
    ),
    Application(
        "cisco",
        "Cisco IOS and ASA: sign-ins and refused packets.",
        {
            "Login": [
                failed(
                    r"(?:%SEC_LOGIN-[0-9]-LOGIN_FAILED: )?Login failed \[user: (?P<user>.*)\] \[Source: "
                    + _CISCO
                    + r"\] \[localport: (?P<dport>[0-9]{1,5})\].*"
                ),
                accepted(
                    r"(?:%SEC_LOGIN-[0-9]-LOGIN_SUCCESS: )?Login Success \[user: (?P<user>.*)\] \[Source: "
                    + _CISCO
                    + r"\] \[localport: (?P<dport>[0-9]{1,5})\].*"
                ),
            ],
            "access-group": [
                row(
                    r"(?:%ASA-[0-9]-[0-9]{6}: )?Deny (?P<transport>\w{1,8}) src \S{1,60}:"
                    + _CISCO
                    + r"/(?P<sport>[0-9]{1,5}) dst \S{1,60}:(?P<dst>[0-9a-fA-F:.]{2,64})/(?P<dport>[0-9]{1,5})"
                    r" (?:.{0,80} )?by access-group \"(?P<rule>[^\"]{1,120})\".*",
                    "firewall_deny",
                    "failure",
                    category="network",
                )
            ],
            "rejected Rejected": [
                failed(
                    r"(?:%ASA-[0-9]-[0-9]{6}: )?AAA user authentication Rejected : reason = (?P<reason>[\w ]{1,80}) : server = \S{1,64} : user = (?P<user>.*) : user IP = "
                    + _CISCO
                    + r".*"
                ),
                failed(
                    r"(?:%ASA-[0-9]-[0-9]{6}: )?AAA user authentication Rejected : reason = (?P<reason>[\w ]{1,80}) : local database : user = (?P<user>.*) : user IP = "
                    + _CISCO
                    + r".*"
                ),
            ],
            "permitted": [
                accepted(
                    r"(?:%ASA-[0-9]-[0-9]{6}: )?Login permitted from "
                    + _CISCO
                    + r"/(?P<sport>[0-9]{1,5}) to \S{1,80} for user \"(?P<user>.*)\""
                )
            ],
            "denied": [
                failed(
                    r"(?:%ASA-[0-9]-[0-9]{6}: )?Login denied from "
                    + _CISCO
                    + r"/(?P<sport>[0-9]{1,5}) to \S{1,80} for user \"(?P<user>.*)\""
                )
            ],
        },
    ),
    Application(
        "teamspeak",
        "TeamSpeak 3 server: connections and refusals.",
        {
            "client": [
                row(
                    r"(?:\w{4,8} {0,8}\|){0,1}\w{3,30} {0,30}\|[0-9 ]{1,6}\|client connected '(?P<user>.*)'\(id:[0-9]{1,10}\) (?:using .{1,80} )?from "
                    + IP
                    + r":[0-9]{1,5}.*",
                    "login",
                    "success",
                ),
                row(
                    r"(?:\w{4,8} {0,8}\|){0,1}\w{3,30} {0,30}\|[0-9 ]{1,6}\|client disconnected '(?P<user>.*)'\(id:[0-9]{1,10}\) reason .*",
                    "logout",
                    category="session",
                ),
            ],
            "query": [
                failed(
                    r"(?:\w{4,8} {0,8}\|){0,1}\w{3,30} {0,30}\|[0-9 ]{1,6}\|query from [0-9]{1,6} "
                    + IP
                    + r":(?P<sport>[0-9]{1,5}) (?P<reason>attempted to .*|failed .*)"
                ),
            ],
        },
    ),
    Application(
        "sshesame",
        "sshesame, an SSH honeypot.",
        {
            "authentication": [
                row(
                    r"\["
                    + _BARE
                    + r":(?P<sport>[0-9]{1,5})\] authentication for user \"(?P<user>[^\"\\]*(?:\\.[^\"\\]*)*)\" (?:with(?:out)? .*? )?(?:rejected|accepted)",
                    "honeypot_login",
                    "failure",
                )
            ],
            "connection command": [
                row(
                    r"\[" + _BARE + r":(?P<sport>[0-9]{1,5})\] (?P<reason>.*)",
                    "honeypot_activity",
                    category="intrusion_detection",
                )
            ],
        },
    ),
    Application(
        "endlessh",
        "endlessh, an SSH tarpit.",
        {
            "ACCEPT CLOSE": [
                row(
                    r"ACCEPT host=" + IP + r" port=(?P<sport>[0-9]{1,5}) (?:fd|n)=.*",
                    "honeypot_connect",
                    category="intrusion_detection",
                ),
                row(
                    r"CLOSE host=" + IP + r" port=(?P<sport>[0-9]{1,5}) .*",
                    "honeypot_activity",
                    category="intrusion_detection",
                ),
            ]
        },
    ),
)
