"""Small network services: LDAP, proxies, chat, games, super-servers. Each line's address is the server's own."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, layout, row

_NET: dict[str, Any] = {"category": "network"}
_WEB: dict[str, Any] = {"category": "web"}

_SLAPD = Table(
    {
        "": [
            row(
                r"conn=(?P<session>[0-9]+) op=[0-9]+ RESULT tag=97 err="
                r"(?P<code>49|50|53|48|7|8|14|34|32) (?:qtime=\S+ etime=\S+ )?text=(?P<reason>.*)",
                "ldap_login",
                "failure",
            ),
            row(r"conn=(?P<session>[0-9]+) op=[0-9]+ RESULT tag=97 err=(?P<code>0)(?: .*)?", "ldap_login", "success"),
            row(
                r"conn=(?P<session>[0-9]+) fd=[0-9]+ ACCEPT from"
                r" IP=\[?(?P<src>[^\]\s]+?)\]?:(?P<sport>[0-9]{1,5}) \(.*",
                "ldap_connect",
                **_NET,
            ),
            row(
                r"conn=(?P<session>[0-9]+) op=[0-9]+ BIND"
                r" dn=\"(?P<user>[^\"]*)\" method=(?P<method>\S+)",
                "ldap_bind",
                category="authentication",
            ),
            row(r"conn=(?P<session>[0-9]+) (?:fd|op)=[0-9]+ (?P<reason>.*)", **_NET),
        ]
    }
)
_THREEPROXY = Table(
    {
        "": [
            row(
                r"(?:PROXY|SOCKS[45]?|FTPPR|POP3P|TCPPM|ADMIN)\.[0-9]{1,5} 0{3}(?P<code>[1-9]) (?P<user>.*) "
                r"(?P<src>[0-9A-Fa-f.:]+):(?P<sport>[0-9]{1,5}) (?P<dst>[0-9A-Fa-f.:]+):(?P<dport>[0-9]{1,5})"
                r" [0-9]+ [0-9]+ [0-9]+ .*",
                "proxy_login",
                "failure",
            ),
            row(
                r"(?:[A-Z0-9]+)\.[0-9]{1,5} (?P<code>000(?:0[1-9]))  ?"
                r"(?P<user>\S+) (?P<src>[0-9A-Fa-f.:]+):(?P<sport>[0-9]{1,5}) .*",
                "proxy_login",
                "failure",
            ),
            row(
                r"(?:[A-Z0-9]+)\.[0-9]{1,5} (?P<code>[0-9]{5}) (?P<user>\S+) "
                r"(?P<src>[0-9A-Fa-f.:]+):(?P<sport>[0-9]{1,5}) (?P<dst>[0-9A-Fa-f.:]+):(?P<dport>[0-9]{1,5}) .*",
                "proxy_request",
                **_NET,
            ),
        ]
    }
)
_DANTE = Table(
    {
        "": [
            row(
                r"info: block\([0-9]+\): (?P<transport>\w+)/\w+ [\]\[]: (?P<src>[0-9A-Fa-f.:]+)\.(?P<sport>[0-9]{1,5}) "
                r"(?P<dst>[0-9A-Fa-f.:]+)\.(?P<dport>[0-9]{1,5}): (?P<reason>error after reading .*"
                r"(?:authentication|user|method).*)",
                "proxy_login",
                "failure",
            ),
            row(
                r"info: block\([0-9]+\): (?P<transport>\w+)/\w+ [\]\[]: (?P<src>[0-9A-Fa-f.:]+)\."
                r"(?P<sport>[0-9]{1,5}) (?P<dst>[0-9A-Fa-f.:]+)\.(?P<dport>[0-9]{1,5})(?P<reason>.*)",
                "proxy_denied",
                "failure",
                **_NET,
            ),
            row(
                r"info: pass\([0-9]+\): (?P<transport>\w+)/\w+ [\]\[]: "
                r"(?:\S+[%@])?(?P<src>[0-9A-Fa-f.:]+)\.(?P<sport>[0-9]{1,5}) (?P<reason>.*)",
                "proxy_request",
                "success",
                **_NET,
            ),
        ]
    }
)
_MURMUR = Table(
    {
        "": [
            row(
                r"[0-9]+ => <(?P<session>[0-9]+):(?P<user>.*)\(-?[0-9]+\)> "
                r"(?P<reason>Rejected connection) from (?P<src>\S+):(?P<sport>[0-9]{1,5}): (?P<error>.*)",
                "login",
                "failure",
            ),
            row(
                r"[0-9]+ => <(?P<session>[0-9]+):"
                r"(?P<user>.*)\(-?[0-9]+\)> New connection: (?P<src>\S+):(?P<sport>[0-9]{1,5})",
                "voice_connect",
                **_NET,
            ),
            row(r"[0-9]+ => <(?P<session>[0-9]+):(?P<user>.*)\([0-9]+\)> Authenticated", "login", "success"),
            row(r"[0-9]+ => (?P<reason>.*)", **_NET),
        ]
    }
)
_XINETD = Table(
    {
        "FAIL:": [
            row(
                r"FAIL: (?P<unit>\S+) (?P<reason>address|libwrap|per_source_lim"
                r"it|connections per second|load|time|service_limit|\w+) from=(?P<src>\S+)",
                "connection_refused",
                "failure",
                **_NET,
            )
        ],
        "START:": [row(r"START: (?P<unit>\S+) (?:pid=[0-9]+ )?from=(?P<src>\S+)", "connection_accepted", **_NET)],
        "EXIT:": [row(r"EXIT: (?P<unit>\S+) .*", "connection_closed", **_NET)],
        "refused": [row(r"refused connect from (?P<src>\S+)", "connection_refused", "failure", **_NET)],
    }
)
_STUNNEL = Table(
    {
        "": [
            row(
                r"(?:LOG[0-7]\[[^\]]*\]: )?(?P<reason>(?:SSL_accept|SSL_read):"
                r" .*|VERIFY ERROR.*) (?:from|peer) (?P<src>\S+):(?P<sport>[0-9]{1,5})",
                "tls_handshake",
                "failure",
                **_NET,
            ),
            row(
                r"(?:LOG[0-7]\[[^\]]*\]: )?(?P<reason>SSL_accept"
                r" from) (?P<src>\S+):(?P<sport>[0-9]{1,5}) : .*",
                "tls_handshake",
                "failure",
                **_NET,
            ),
            row(
                r"(?:LOG[0-7]\[[^\]]*\]: )?Service \[(?P<unit>[^\]]*)\]"
                r" accepted connection from (?P<src>\S+):(?P<sport>[0-9]{1,5})",
                "connection_accepted",
                **_NET,
            ),
            row(
                r"(?:LOG[0-7]\[[^\]]*\]: )?"
                r"(?P<reason>SSL_accept|SSL_read)(?: from (?P<src>\S+):(?P<sport>[0-9]{1,5}))?:? .*",
                "tls_handshake",
                "failure",
                **_NET,
            ),
            row(r"(?:LOG[0-7]\[[^\]]*\]: )?(?P<reason>.*)", **_NET),
        ]
    }
)
_COUNTER_STRIKE = Table(
    {
        "": [
            row(r"Bad Rcon: \"rcon .*\" from \"(?P<src>[^\":\s]+):(?P<sport>[0-9]{1,5})\"", "login", "failure"),
            row(r"Rcon: \"rcon .*\" from \"(?P<src>[^\":\s]+):(?P<sport>[0-9]{1,5})\"", "game_command", **_NET),
            row(r"rcon from \"(?P<src>[^\":\s]+):(?P<sport>[0-9]{1,5})\": Bad Password", "login", "failure"),
            row(r"(?P<reason>.*)", **_NET),
        ]
    }
)
_ZNC = Table(
    {
        "": [
            row(r"\[(?P<user>.*)\] failed to login from (?P<src>\S+)", "login", "failure"),
            row(r"\[(?P<user>.*)\] connected to ZNC from (?P<src>\S+)", "login", "success"),
            row(r"\[(?P<user>.*)\] disconnected from ZNC from (?P<src>\S+)", "logout", category="session"),
        ]
    }
)
_NSD = Table(
    {
        "": [
            row(
                r"(?:\w+: )?ratelimit block .*"
                r" query (?P<src>[0-9A-Fa-f.:]+) .*",
                "dns_rate_limited",
                "failure",
                **_NET,
            ),
            row(
                r"(?:\w+: )?(?P<reason>[ai]xfr|notify) for (?P<question>\S+)"
                r" from (?:client )?(?P<src>[0-9A-Fa-f.:]+)(?:@(?P<sport>[0-9]{1,5}))? refused.*",
                "dns_transfer",
                "failure",
                **_NET,
            ),
            row(r"(?:\w+: )?(?P<reason>.*)", **_NET),
        ]
    }
)
_SCREENSHARING = Table(
    {
        "Authentication:": [
            row(
                r"Authentication: FAILED :: User Name: (?P<user>.*) ::"
                r" Viewer Address: (?P<src>\S+) :: Type: (?P<method>.*)",
                "login",
                "failure",
            ),
            row(
                r"Authentication: SUCCEEDED :: User Name: (?P<user>.*)"
                r" :: Viewer Address: (?P<src>\S+) :: Type: (?P<method>.*)",
                "login",
                "success",
            ),
        ]
    }
)
DECODERS = (
    MessageDecoder(
        name="slapd", about="OpenLDAP's slapd: connections and binds.", read=_SLAPD.read, programs=("slapd",)
    ),
    layout(
        "3proxy",
        r"(?P<time>[0-9]{2}-[0-9]{2}-[0-9]{4} [0-9:]{8} [+-][0-9]{4}) (?P<message>[A-Z0-9]+\.[0-9]{1,5} .*)",
        about="3proxy: requests and refusals.",
        leads=("00-00-0000 00:00:00 +0000 ", "00-00-0000 00:00:00 -0000 "),
        messages=_THREEPROXY,
    ),
    MessageDecoder(name="dante", about="Dante, the SOCKS server.", read=_DANTE.read, programs=("sockd", "danted")),
    layout(
        "murmur",
        r"<(?P<level>[WCFDX])>(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}\.[0-9]{3}) (?P<message>.*)",
        about="Murmur, the Mumble voice server.",
        leads=("<A>0000-00-00 ",),
        messages=_MURMUR,
        programs=("murmurd", "murmur", "mumble-server"),
    ),
    MessageDecoder(
        name="xinetd", about="xinetd: connections accepted and refused.", read=_XINETD.read, programs=("xinetd",)
    ),
    layout(
        "stunnel",
        r"(?P<time>[0-9]{4}\.[0-9]{2}\.[0-9]{2} [0-9:]{8}) (?P<message>LOG[0-7]\[[^\]]*\]: .*)",
        about="stunnel: connections and failed handshakes.",
        leads=("0000.00.00 00:00:00 AAA0[",),
        messages=_STUNNEL,
        programs=("stunnel", "stunnel4", "stunnel5"),
    ),
    layout(
        "counterstrike",
        r"L (?P<date>[0-9]{2}/[0-9]{2}/[0-9]{4}) - (?P<time>[0-9:]{8}): (?P<message>.*)",
        about="Counter-Strike and other Half-Life servers: remote console logins.",
        leads=("A 00/00/0000 - 00:00:00",),
        messages=_COUNTER_STRIKE,
    ),
    layout(
        "znc",
        r"\[(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8})\] (?P<message>\[.*)",
        about="ZNC's admin log: logins of the IRC bouncer.",
        leads=("[0000-00-00 00:00:00] [",),
        marks=("failed to login from ", "connected to ZNC from "),
        messages=_ZNC,
        only_messages=True,
    ),
    layout(
        "nsd",
        r"\[(?P<time>[0-9]{10}|[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}\.[0-9]{3})\] nsd\[(?P<pid>[0-9]{1,10})\]: "
        r"(?P<level>\w+): (?P<message>.*)",
        about="NSD, the name server: transfers refused, rate limits.",
        leads=("[0000000000] aaa[", "[0000-00-00 00:00:00.000] aaa["),
        messages=_NSD,
        programs=("nsd",),
    ),
    MessageDecoder(
        name="screensharingd",
        about="macOS screen sharing: logins.",
        read=_SCREENSHARING.read,
        programs=("screensharingd",),
    ),
)
