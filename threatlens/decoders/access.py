"""Requests as proxies, balancers and caches log them in formats of their own, a layout each.

What a client sends (the path, the agent, the referrer) stands in quotes or without blanks behind its address and what
the server made of it, or between fixed words; its claims never reach the address or the status.
"""

from __future__ import annotations

from dataclasses import replace

from threatlens.decoders.base import LineDecoder, Opened
from threatlens.decoders.tables import layout
from threatlens.decoders.times import Clock

_IP = r"(?P<src>[0-9a-fA-F:.]{2,64})"
_CLF_TIME = r"\[(?P<time>[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4})\]"
_QUOTED = r'[^"\\]*(?:\\.[^"\\]*)*'
_REQUEST = (
    r'"(?:(?P<http_method>[A-Z]{2,20}) (?P<url>[^\s"\\]*(?:\\.[^\s"\\]*)*)(?: HTTP/(?P<http_version>[0-9.]{1,4}))?'
    r'|(?P<http__request__line>[^"\\]*(?:\\.[^"\\]*)*))"'
)
_AGENTS = rf'"(?:-|(?P<referrer>{_QUOTED}))" "(?:-|(?P<agent>{_QUOTED}))"'
_ISO_Z = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:\.[0-9]{1,9})?Z?"


def requests(decoder: LineDecoder) -> LineDecoder:
    """The decoder with what is true of all requests: the outcome is what the status says."""
    inner = decoder.open

    def open_line(line: str, clock: Clock) -> Opened | None:
        opened = inner(line, clock)
        if opened is not None:
            fields = opened[5]
            status = fields.get("http.response.status_code")
            if isinstance(status, int) and status:
                fields["event.outcome"] = "failure" if status >= 400 else "success"
            if (sent := fields.pop("http.request.line", "")) and sent != "-":
                fields["url.original"] = sent
        return opened

    return replace(decoder, open=open_line)


def _requests(name: str, pattern: str, about: str, leads: str, marks: tuple[str, ...] = ()) -> LineDecoder:
    return requests(
        layout(
            name,
            pattern,
            about=about,
            leads=tuple(leads.split("|")),
            marks=marks,
            category="web",
            action="http_request",
        )
    )


DECODERS = (
    _requests(
        "traefik.access",
        rf"{_IP} - (?:-|(?P<user>\S{{1,256}})) {_CLF_TIME} {_REQUEST} (?:-|(?P<status>[0-9]{{3}})) (?:-|(?P<size>[0-9]{{1,15}}))"
        rf' {_AGENTS} [0-9]{{1,15}} "(?:-|(?P<service__name>{_QUOTED}))" "(?:-|{_QUOTED})" [0-9]{{1,12}}ms',
        "Traefik access log in the common format with routers.",
        "0|a|A|:",
        ("ms",),
    ),
    _requests(
        "bunkerweb",
        rf"(?P<domain>[\w.:-]{{1,255}}) {_IP} - (?P<http__request__id>\w{{1,64}}|-) (?:-|(?P<user>\S{{1,256}})) {_CLF_TIME} {_REQUEST}"
        rf" (?P<status>[0-9]{{3}}) (?P<size>[0-9]{{1,15}}) {_AGENTS}.*",
        "BunkerWeb access log: nginx's with host and request number in front.",
        "a|A",
        (" - ",),
    ),
    _requests(
        "cpanel.access",
        rf"{_IP} - (?:-|(?P<user>\S{{1,256}})) \[(?P<time>[0-9]{{2}}/[0-9]{{2}}/[0-9]{{4}}:[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}} [+-][0-9]{{4}})\] {_REQUEST}"
        rf" (?P<status>[0-9]{{3}}) (?P<size>[0-9]{{1,15}}|-) {_AGENTS}.*",
        "cPanel access log: month and day as numbers.",
        "0|a|:",
        ("/20",),
    ),
    _requests(
        "nginx_proxy_manager",
        rf"{_CLF_TIME} (?:(?:-|[0-9]{{3}}) ){{0,2}}(?P<status>[0-9]{{3}}) - (?P<http_method>[A-Z]{{2,20}}) (?P<url__scheme>\w{{1,10}}) (?P<domain>\S{{1,255}})"
        rf' "(?P<url>{_QUOTED})" \[Client {_IP}\] \[Length (?:-|[0-9]{{1,15}})\] \[Gzip [0-9.-]{{1,8}}\](?: \[Sent-to (?P<destination__address>\S{{1,255}})\])?'
        rf' "(?:-|(?P<agent>{_QUOTED}))" "(?:-|(?P<referrer>{_QUOTED}))"',
        "Nginx Proxy Manager's access log.",
        "[00/Aaa/000",
        ("[Client ",),
    ),
    _requests(
        "npmplus",
        rf"{_CLF_TIME} (?P<domain>\S{{1,255}}) {_IP} (?:-|[0-9.]{{1,12}}) {_REQUEST} (?P<status>[0-9]{{3}}) [0-9]{{1,15}} [0-9]{{1,15}}"
        r" (?:-|(?P<referrer>\S{1,4000})) (?:-|(?P<agent>.*))",
        "NPMplus access log: time, host, client, seconds, request.",
        "[00/Aaa/000",
        ('"',),
    ),
    _requests(
        "aws.alb",
        rf"(?:https?|h2|grpcs|wss?) (?P<time>{_ISO_Z}) \S{{1,200}} {_IP}:(?P<sport>[0-9]{{1,5}}) (?:-|\S{{1,80}}) [0-9.-]{{1,12}} [0-9.-]{{1,12}} [0-9.-]{{1,12}}"
        rf' (?:-|(?P<status>[0-9]{{3}})) (?:-|[0-9]{{3}}) [0-9-]{{1,15}} (?P<size>[0-9]{{1,15}}) {_REQUEST} "(?:-|(?P<agent>{_QUOTED}))" .*',
        "AWS application load balancer.",
        "aaaa 0000-00|aaaaa 0000-0|a0 0000-00-|aa 0000-00-|aaa 0000-00",
    ),
    _requests(
        "aws.elb",
        rf"(?P<time>{_ISO_Z}) \S{{1,200}} {_IP}:(?P<sport>[0-9]{{1,5}}) (?:-|\S{{1,80}}) [0-9.-]{{1,12}} [0-9.-]{{1,12}} [0-9.-]{{1,12}}"
        rf' (?:-|(?P<status>[0-9]{{3}})) (?:-|[0-9]{{3}}) [0-9-]{{1,15}} (?P<size>[0-9]{{1,15}}) {_REQUEST}(?: "(?:-|(?P<agent>{_QUOTED}))".*)?',
        "AWS classic load balancer.",
        "0000-00-00A00:00:00",
        (' "',),
    ),
    _requests(
        "aws.s3",
        rf"[0-9a-f]{{20,80}} (?P<service__name>\S{{1,255}}) {_CLF_TIME} {_IP} (?:-|(?P<user>\S{{1,300}})) \S{{1,80}} (?P<event__code>[A-Z]{{2,12}}\.\S{{1,60}}|[\w.]{{1,60}}) \S{{1,2000}} {_REQUEST}"
        rf' (?P<status>[0-9]{{3}}) (?:-|(?P<error__code>\w{{1,60}})) (?:-|(?P<size>[0-9]{{1,15}})) .*? "(?:-|(?P<referrer>{_QUOTED}))" "(?:-|(?P<agent>{_QUOTED}))".*',
        "AWS S3 server access log.",
        "0|a",
        ("REST.", "SOAP.", "BATCH.", "WEBSITE."),
    ),
    _requests(
        "cloudfront",
        rf"(?P<date>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})\t(?P<time>[0-9:]{{8}})\t\S{{1,20}}\t(?P<size>[0-9]{{1,15}})\t{_IP}\t(?P<http_method>[A-Z]{{2,20}})\t(?P<domain>\S{{1,255}})"
        r"\t(?P<url>\S{0,8000})\t(?P<status>[0-9]{3})\t(?:-|(?P<referrer>[^\t]{0,8000}))\t(?:-|(?P<agent>[^\t]{0,8000}))\t.*",
        "AWS CloudFront standard log.",
        "0000-00-00\t",
    ),
    _requests(
        "squid",
        rf"(?P<time>[0-9]{{9,11}}\.[0-9]{{3}}) {{1,12}}[0-9]{{1,12}} {_IP} (?P<event__reason>[A-Z_]{{2,60}})/(?P<status>[0-9]{{3}}) (?P<size>[0-9]{{1,15}})"
        r" (?P<http_method>[A-Z_]{2,20}) (?P<url>\S{1,8000}) (?:-|(?P<user>\S{1,256})) [A-Z_]{2,40}/\S{1,255} \S{1,255}.*",
        "Squid's native access log.",
        "0000000000.",
    ),
    _requests(
        "iis",
        rf"(?P<time>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}} [0-9:]{{8}}) (?:W3SVC\S{{1,20}} )?(?:[\w-]{{1,63}} )?(?P<dst>[0-9a-fA-F:.]{{2,64}}) (?P<http_method>[A-Z]{{2,20}}) (?P<url>\S{{1,8000}}) (?:-|(?P<url__query>\S{{1,8000}}))"
        rf" (?P<dport>[0-9]{{1,5}}) (?:-|(?P<user>\S{{1,256}})) {_IP} (?:HTTP/(?P<http_version>[0-9.]{{1,3}}) )?(?:-|(?P<agent>\S{{1,4000}}))(?: (?:-|(?P<referrer>\S{{1,4000}})))?(?: [\w.:-]{{1,255}})?? (?P<status>[0-9]{{3}}) [0-9]{{1,6}} [0-9]{{1,12}}.*",
        "IIS in the W3C format with its usual columns.",
        "0000-00-00 00:00:00 ",
        (" GET ", " POST ", " HEAD ", " PUT ", " OPTIONS ", " DELETE ", " PROPFIND ", " TRACE ", " DEBUG "),
    ),
    _requests(
        "envoy",
        rf'\[(?P<time>{_ISO_Z})\] {_REQUEST} (?P<status>[0-9]{{1,3}}) \S{{1,30}}(?: \S{{1,60}} \S{{1,60}} "{_QUOTED}")? [0-9]{{1,15}} (?P<size>[0-9]{{1,15}}) [0-9-]{{1,12}} [0-9-]{{1,12}}'
        rf' "(?:-|[^"]{{0,400}}?(?:[0-9a-fA-F:.]{{2,64}}, ?)??(?P<src>[0-9a-fA-F:.]{{2,64}}))" "(?:-|(?P<agent>{_QUOTED}))" "{_QUOTED}" "(?:-|(?P<domain>{_QUOTED}))" "{_QUOTED}".*',
        "Envoy and Istio access log, default text.",
        "[0000-00-00A",
        ('" "',),
    ),
    layout(
        "suricata.fast",
        r"(?P<time>[0-9]{2}/[0-9]{2}/[0-9]{4}-[0-9:]{8}\.[0-9]{6}) {1,2}(?:\[[\w ]{1,10}\] )?\[\*\*\] \[[0-9]{1,10}:(?P<rule__id>[0-9]{1,12}):[0-9]{1,6}\] (?P<rule>.*) \[\*\*\]"
        r" \[Classification: (?P<rule__category>[^\]]{0,200})\] \[Priority: (?P<event__severity>[0-9]{1,3})\] \{(?P<transport>[\w-]{1,20})\}"
        r" (?P<src>[0-9a-fA-F:.]{2,64}?)(?::(?P<sport>[0-9]{1,5}))? -> (?P<dst>[0-9a-fA-F:.]{2,64}?)(?::(?P<dport>[0-9]{1,5}))?",
        about="Suricata's and Snort 3's fast.log.",
        leads=("00/00/0000-",),
        category="intrusion_detection",
        action="ids_alert",
        also={"event.kind": "alert"},
    ),
    layout(
        "snort",
        r"(?P<time>[0-9]{2}/[0-9]{2}(?:/[0-9]{2})?-[0-9:]{8}\.[0-9]{6}) {1,2}\[\*\*\] \[[0-9]{1,10}:(?P<rule__id>[0-9]{1,12}):[0-9]{1,6}\] (?P<rule>.*) \[\*\*\]"
        r"(?: \[Classification: (?P<rule__category>[^\]]{0,200})\])? \[Priority: (?P<event__severity>[0-9]{1,3})\] \{(?P<transport>[\w-]{1,20})\}"
        r" (?P<src>[0-9a-fA-F:.]{2,64}?)(?::(?P<sport>[0-9]{1,5}))? -> (?P<dst>[0-9a-fA-F:.]{2,64}?)(?::(?P<dport>[0-9]{1,5}))?",
        about="Snort's alert_fast.",
        leads=("00/00-00:00", "00/00/00-00"),
        category="intrusion_detection",
        action="ids_alert",
        also={"event.kind": "alert"},
    ),
    layout(
        "aws.vpcflow",
        r"[2-8] [0-9]{12} (?P<interface>eni-[0-9a-f]{8,20}) (?P<src>[0-9a-fA-F:.]{2,64}) (?P<dst>[0-9a-fA-F:.]{2,64}) (?P<sport>[0-9]{1,5}) (?P<dport>[0-9]{1,5})"
        r" (?P<network__iana_number>[0-9]{1,3}) (?P<network__packets>[0-9]{1,15}) (?P<network__bytes>[0-9]{1,15}) (?P<time>[0-9]{9,11}) [0-9]{9,11} (?P<event__reason>ACCEPT|REJECT) OK.*",
        about="AWS VPC flow logs with their usual columns.",
        leads=("0 000000000000 aaa-",),
        marks=(" ACCEPT ", " REJECT "),
        category="network",
        action="network_flow",
    ),
    layout(
        "tcpdump",
        r"(?:(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}\.[0-9]{6})|[0-9:]{8}\.[0-9]{6}) IP6? (?P<src>[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-fA-F:]{2,45})(?:\.(?P<sport>[0-9]{1,5}))?"
        r" > (?P<dst>[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-fA-F:]{2,45})(?:\.(?P<dport>[0-9]{1,5}))?: (?P<event__reason>.*)",
        about="tcpdump's lines.",
        leads=("00:00:00.00", "0000-00-00 00:00:00.000000 AA"),
        marks=(" > ",),
        category="network",
        action="network_packet",
    ),
)
