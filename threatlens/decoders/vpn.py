"""VPN servers: OpenVPN, strongSwan and its relatives, WireGuard. Addresses stand first and are the server's."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, layout, row

_NET: dict[str, Any] = {"category": "network"}
_PEER = (
    r"(?:[\w.@-]+/)?(?:\[?AF_INET6?\]?)?\[?(?P<src>[0-9]{1,3}"
    r"(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})\]?:(?P<sport>[0-9]{1,5}) "
)

_OPENVPN = Table(
    {
        "": [
            row(
                rf"{_PEER}TLS Auth Error: Auth"
                rf" Username/Password verification failed for peer.*",
                "vpn_login",
                "failure",
            ),
            row(rf"{_PEER}TLS Auth Error: (?P<reason>.*)", "vpn_login", "failure"),
            row(
                rf"{_PEER}(?:SENT CONTROL \[(?P<user>[^\]]*)\]:"
                rf" 'AUTH_FAILED.*|PLUGIN_CALL: POST \S*auth\S* .*status=1|.*AUTH_FAILED.*)",
                "vpn_login",
                "failure",
            ),
            row(
                rf"{_PEER}VERIFY (?:ERROR|EKU ERROR|X509NAME"
                rf" ERROR|SCRIPT ERROR|nsCertType ERROR)(?P<reason>.*)",
                "vpn_login",
                "failure",
            ),
            row(rf"{_PEER}OpenSSL: error:(?P<reason>.*)", "tls_handshake", "failure", **_NET),
            row(rf"{_PEER}TLS Error: (?P<reason>.*)", "tls_handshake", "failure", **_NET),
            row(
                rf"{_PEER}(?P<reason>WARNING: Bad encapsulated packet"
                rf" length.*|WARNING: .*|Fatal TLS error.*|Connection reset.*)",
                "vpn_disconnect",
                **_NET,
            ),
            row(rf"{_PEER}\[(?P<user>[^\]]*)\] Peer Connection Initiated with .*", "vpn_login", "success"),
            row(rf"{_PEER}(?P<reason>.*)", **_NET),
            row(
                r"TLS Error: (?P<reason>.*) from \[AF_INET6?\]\[?"
                r"(?P<src>[^\]\s]+?)\]?:(?P<sport>[0-9]{1,5})(?: .*)?",
                "tls_handshake",
                "failure",
                **_NET,
            ),
            row(r"TLS Auth Error: (?P<reason>.*)", "vpn_login", "failure"),
            row(r"(?P<reason>.*)", **_NET),
        ]
    }
)
_IKE = r"[0-9]{2}\[(?P<logger>\w+)\] (?:<\S+> )?"
_IPSEC = Table(
    {
        "": [
            row(rf"{_IKE}(?P<reason>EAP method EAP_\w+ failed) for peer (?P<user>.*)", "vpn_login", "failure"),
            row(rf"{_IKE}(?P<reason>EAP-\S+ verification failed).*", "vpn_login", "failure"),
            row(rf"{_IKE}(?P<method>XAuth|RADIUS) authentication of '(?P<user>.*)' failed", "vpn_login", "failure"),
            row(rf"{_IKE}(?P<method>XAuth|RADIUS) authentication of '(?P<user>.*)' successful", "vpn_login", "success"),
            row(
                rf"{_IKE}(?P<reason>no (?:EAP|shared|private) key found)(?: for hosts| for)? '[^']*' - '(?P<user>.*)'",
                "vpn_login",
                "failure",
            ),
            row(
                rf"{_IKE}tried [0-9]{{1,4}} shared keys? for '[^']*' - '(?P<user>.*)', but (?P<reason>MAC mismatched)",
                "vpn_login",
                "failure",
            ),
            row(rf"{_IKE}(?P<reason>no matching peer config found)", "vpn_login", "failure"),
            row(
                rf"{_IKE}IKE_SA (?P<rule>\S+?)\[[0-9]{{1,9}}\] established between "
                r"(?P<dst>[0-9a-fA-F.:]+?)\[[^\]]{0,300}\]\.\.\.(?P<src>[0-9a-fA-F.:]+?)\[(?P<user>[^\]]{0,300})\]",
                "vpn_connect",
                "success",
                **_NET,
            ),
            row(
                r"[0-9]{2}\[(?P<logger>\w+)\] (?:<\S+> )?(?P<reason>received "
                r"(?:AUTHENTICATION_FAILED|NO_PROPOSAL_CHOSEN).*|.*EAP method EAP_\w+ failed.*|.*authentication of"
                r" '(?:.*)' with .* failed)",
                "vpn_login",
                "failure",
            ),
            row(
                r"[0-9]{2}\[(?P<logger>\w+)\] (?:<\S+> )?authentication"
                r" of '(?P<user>.*)' with (?P<method>.{1,60}) successful",
                "vpn_login",
                "success",
            ),
            row(
                r"[0-9]{2}\[(?P<logger>\w+)\] (?:<\S+> )?"
                r"(?P<src>[0-9A-Fa-f.:]+) is initiating an? .*",
                "vpn_connect",
                **_NET,
            ),
            row(
                r"[0-9]{2}\[(?P<logger>\w+)\] (?:<\S+> )?received packet: from "
                r"(?P<src>[^\s\[]+)\[(?P<sport>[0-9]{1,5})\] to (?P<dst>[^\s\[]+)\[(?P<dport>[0-9]{1,5})\].*",
                "vpn_packet",
                **_NET,
            ),
            row(
                r"[0-9]{2}\[(?P<logger>\w+)\] (?:<\S+> )?no IKE config found"
                r" for (?P<dst>[^\s.]+(?:\.[0-9]+){0,3})\.\.\.(?P<src>\S+?), .*",
                "vpn_login",
                "failure",
            ),
            row(r"[0-9]{2}\[(?P<logger>\w+)\] (?P<reason>.*)", **_NET),
            row(r"\"(?P<rule>[^\"]*)\"(?:\[[0-9]+\])? (?P<src>[0-9A-Fa-f.:]+)(?: #[0-9]+)?: (?P<reason>.*)", **_NET),
        ]
    }
)

DECODERS = (
    layout(
        "openvpn",
        r"(?P<time>[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} [0-9]{4}|[0-9]{4}-[0-9]{2}-[0-9]{2}"
        r" [0-9:]{8}) (?:us=[0-9]{1,6} )?(?P<message>.*)",
        about="OpenVPN: connections, failed logins and handshakes, in its own file or syslog.",
        leads=(
            "Aaa Aaa 00 00:00:00 0000 0",
            "Aaa Aaa  0 00:00:00 0000 0",
            "Aaa Aaa 00 00:00:00 0000 A",
            "Aaa Aaa  0 00:00:00 0000 A",
            "Aaa Aaa 00 00:00:00 0000 a",
            "0000-00-00 00:00:00 ",
        ),
        marks=("TLS", "AF_INET", "VERIFY ", "AUTH_FAILED", "MULTI", "OpenVPN", "Peer Connection", "PLUGIN_", "OpenSSL"),
        messages=_OPENVPN,
        programs=("openvpn", "ovpn-server", "ovpn-server1", "openvpn-server"),
    ),
    MessageDecoder(
        name="ipsec",
        about="strongSwan and Libreswan (IPsec): connections, failed logins.",
        read=_IPSEC.read,
        programs=("charon", "charon-systemd", "ipsec", "pluto", "strongswan"),
    ),
)
