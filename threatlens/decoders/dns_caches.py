"""Resolvers of small networks: dnsmasq and Pi-hole, unbound. The client stands last or first."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row

_DNS: dict[str, Any] = {"category": "network"}

_DNSMASQ = Table(
    {
        "": [
            row(
                r"(?:[0-9]+ \S+ )?query\["
                r"(?P<record_type>[\w=]+)\] (?P<question>\S+) from (?P<src>\S+)",
                "dns_query",
                **_DNS,
            ),
            row(
                r"(?:[0-9]+ \S+ )?(?:gravity blocked|exactly blacklisted|regex"
                r" blacklisted|blacklisted|exactly denied|regex denied|config) (?P<question>\S+) is "
                r"(?P<dns__answers__data>\S+)",
                "dns_blocked",
                **_DNS,
            ),
            row(
                r"(?:[0-9]+ \S+ )?(?:reply|cached|forwarded|/etc/\S+) "
                r"(?P<question>\S+) (?:is|to) (?P<dns__answers__data>.*)",
                "dns_answer",
                **_DNS,
            ),
            row(
                r"(?:possible DNS-rebind attack"
                r" detected: )(?P<question>\S+)",
                "dns_rebind_attack",
                "failure",
                category="intrusion_detection",
            ),
            row(
                r"DHCP(?P<reason>\w+)\((?P<interface>\S+)\) "
                r"(?P<client__ip>[0-9A-Fa-f.:]+) (?P<client__mac>[0-9a-f:]{17})(?: (?P<client__domain>\S+))?.*",
                "dhcp_lease",
                **_DNS,
            ),
        ]
    }
)
_UNBOUND = Table(
    {
        "": [
            row(
                r"\[[0-9]+:[0-9a-f]+\] info: (?P<src>[0-9A-Fa-f.:]+) "
                r"(?P<question>\S+) (?P<record_type>[A-Z0-9]+) IN(?: .*)?",
                "dns_query",
                **_DNS,
            ),
            row(r"\[[0-9]+:[0-9a-f]+\] (?P<reason>info|warning|error|notice|debug|fatal error): (?P<error>.*)", **_DNS),
        ]
    }
)

DECODERS = (
    MessageDecoder(
        name="dnsmasq",
        about="dnsmasq and Pi-hole: queries, blocked names, leases.",
        read=_DNSMASQ.read,
        programs=("dnsmasq", "dnsmasq-dhcp", "pihole-FTL"),
    ),
    MessageDecoder(name="unbound", about="unbound: queries.", read=_UNBOUND.read, programs=("unbound",)),
)
