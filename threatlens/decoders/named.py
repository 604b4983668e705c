"""BIND's named: refused queries, updates and transfers, query logs, in syslog or its own files.

The name asked for stands behind the client's address, in quotes or parentheses.
"""

from __future__ import annotations

from typing import Any

from threatlens.decoders.tables import Table, layout, row

_DNS: dict[str, Any] = {"category": "network"}
_SEVERITY = r"(?:(?P<logger>[\w-]{1,30}): )?(?:(?:critical|error|warning|notice|info|debug \d): )?"
_CLIENT = (
    r"client (?:@0x[0-9a-f]+ )?(?P<src>[0-9A-Fa-f.:]+)(?:%\w+)?#"
    r"(?P<sport>[0-9]{1,5})(?:/key \S+)?(?: \([^()\s]*\))?: (?:view [\w.-]+: )?"
)

_TABLE = Table(
    {
        "": [
            row(
                rf"{_SEVERITY}{_CLIENT}(?:zone transfer|transfer"
                rf" of) '(?P<question>[^']*)'(?: AXFR)?.*denied.*",
                "dns_transfer",
                "failure",
                **_DNS,
            ),
            row(
                rf"{_SEVERITY}{_CLIENT}(?P<reason>zone"
                rf" transfer .*denied|bad zone transfer request: .*)",
                "dns_transfer",
                "failure",
                **_DNS,
            ),
            row(rf"{_SEVERITY}{_CLIENT}(?:transfer of|AXFR|IXFR) '(?P<question>[^']*)'.*", "dns_transfer", **_DNS),
            row(
                rf"{_SEVERITY}{_CLIENT}(?:update|updating"
                rf" zone) '(?P<question>[^']*)'.*(?:denied|failed).*",
                "dns_update",
                "failure",
                **_DNS,
            ),
            row(
                rf"{_SEVERITY}{_CLIENT}query \(cache\) '"
                rf"(?P<question>\S*?)/(?P<record_type>\w+)/IN' denied.*",
                "dns_denied",
                "failure",
                **_DNS,
            ),
            row(
                rf"{_SEVERITY}{_CLIENT}query(?: failed \(REFUSED\))? (?:for )?'?"
                rf"(?P<question>\S*?)/IN/(?P<record_type>\w+)'? .*(?:denied|REFUSED|failed).*",
                "dns_denied",
                "failure",
                **_DNS,
            ),
            row(
                rf"{_SEVERITY}{_CLIENT}query(?: failed)? "
                rf"(?P<reason>\([^()]*\)|.{{1,300}}) (?:denied|failed).*",
                "dns_denied",
                "failure",
                **_DNS,
            ),
            row(
                rf"{_SEVERITY}{_CLIENT}query failed \("
                rf"(?P<reason>\w+)\) for (?P<question>\S*?)/IN/(?P<record_type>\w+) .*",
                "dns_query",
                "failure",
                **_DNS,
            ),
            row(rf"{_SEVERITY}{_CLIENT}query: (?P<question>\S+) IN (?P<record_type>\w+) .*", "dns_query", **_DNS),
            row(
                rf"{_SEVERITY}{_CLIENT}(?P<reason>.*"
                rf"(?:denied|rate limit|failed|refused).*)",
                "dns_denied",
                "failure",
                **_DNS,
            ),
            row(rf"{_SEVERITY}{_CLIENT}(?P<reason>.*)", **_DNS),
            row(rf"{_SEVERITY}(?P<reason>.*)", **_DNS),
        ]
    }
)

DECODER = layout(
    "named",
    r"(?P<time>[0-9]{2}-[A-Z][a-z]{2}-[0-9]{4} [0-9:]{8}(?:\.[0-9]{1,6})?) (?P<message>.*)",
    about="BIND (named): queries, refusals, transfers, in syslog or its own files.",
    leads=("00-Aaa-0000 00:00:00",),
    marks=("client ", ": info: ", ": error: ", ": notice: ", ": warning: ", "named"),
    messages=_TABLE,
    programs=("named",),
)
