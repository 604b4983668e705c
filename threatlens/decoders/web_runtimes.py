"""What web applications run on, and applications with layouts of their own: Tomcat, Jetty, PHP, Monolog, Synapse, Plex,
Pi-hole, Kubernetes' own programs, macOS.

A session id in brackets, a request's path or an agent may hold anything, so an address is taken only from its place in
the layout or from the end of a sentence that the program completes.
"""

from __future__ import annotations

from threatlens.decoders.base import ANY_LINE, LineDecoder, Opened, compiled
from threatlens.decoders.levels import LEVELS
from threatlens.decoders.tables import Table, layout, row
from threatlens.decoders.times import Clock
from threatlens.event import Fields

_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}"
_IP = r"(?P<src>[0-9a-fA-F:.]{2,45})"
_JUL = r"(?P<level>SEVERE|WARNING|INFO|CONFIG|FINE|FINER|FINEST)"
_PYTHON = r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)"

_TOMCAT = Table(
    {
        "": [
            row(
                r"An attempt was made to authenticate the locked user \[(?P<user>.*)\]",
                "login_refused",
                "failure",
                also={"event.reason": "the account is locked"},
            ),
            row(r"(?P<reason>Failed to authenticate user) \[(?P<user>.*)\].*", "login", "failure"),
            row(r"Server startup in .*", "service_started", "success", category="host"),
            row(r"(?P<reason>Deploy(?:ing|ment of) web application .*)", "deployed", category="configuration"),
        ]
    }
)
_SYNAPSE = Table(
    {
        "": [
            row(
                rf"{_IP} - (?:\S{{1,60}}) - \{{(?:None|(?P<user>[^}}]{{0,300}}))\}} Processed request: [0-9.]{{1,12}}sec(?>.{{1,200}}?"
                r" (?P<size>[0-9]{1,15})B (?P<status>[0-9]{3})!? \")(?P<http_method>[A-Z]{2,20}) (?P<url>[^\"]{1,8000})"
                r" HTTP/(?P<http_version>[0-9.]{1,4})\" \"(?P<agent>.*)\" \[[0-9]{1,10} dbevts\]",
                "http_request",
                category="web",
            ),
            row(r"Failed password login for user (?P<user>.*)", "login", "failure"),
            row(r"Attempted to login as (?P<user>.*) but (?:they do not exist|password .*)", "login", "failure"),
            row(r"User (?P<user>.*) authenticated (?:via|with|using) .*", "login", "success"),
            row(r"<SynapseRequest .*> SynapseError: 403 - (?P<reason>Invalid .*)", "login", "failure"),
        ]
    }
)
_PLEX = Table(
    {
        "": [
            row(
                r"Request: \[(?P<src>\[?[0-9a-fA-F:.]{2,45}\]?):(?P<sport>[0-9]{1,5})(?: \([^()]{0,40}\))?\]"
                r" (?P<http_method>[A-Z]{3,10}) (?P<url>\S{1,8000}) .*",
                "http_request",
                category="web",
            ),
            row(r"Denying access due to (?P<reason>.*) from (?P<src>[0-9a-fA-F:.]{2,45})", "login", "failure"),
            row(r"Auth(?:entication)?: (?:.* )?(?P<reason>(?:failed|came back as invalid).*)", "login", "failure"),
        ]
    }
)
_PIHOLE = Table(
    {
        "": [
            row(
                rf"API: (?P<reason>Incorrect password|Wrong password|Invalid (?:2FA|TOTP)[\w ]{{0,40}}).* from {_IP}",
                "login",
                "failure",
            ),
            row(rf"API: Login (?:successful|ok).* from {_IP}", "login", "success"),
            row(
                rf"(?:API: )?(?P<reason>Rate-limiting|Rate limiting) {_IP} .*",
                "dns_rate_limited",
                "failure",
                category="network",
            ),
            row(r"#* ?FTL started.*", "service_started", "success", category="host"),
        ]
    }
)

_PHP = compiled(
    rf"\[([0-9]{{2}}-[A-Z][a-z]{{2}}-[0-9]{{4}} {_CLOCK}(?:\.[0-9]{{1,6}})?(?: UTC)?)(?: [A-Z][\w/+-]{{2,60}})?\]"
    r" PHP (?:(Fatal error|Parse error|Recoverable fatal error|Warning|Notice|Deprecated|Stack trace):? {1,4})?(.*)"
).fullmatch
_PHP_LEVELS = {"Warning": "warning", "Notice": "notice", "Deprecated": "notice"}


def _open_php(line: str, clock: Clock) -> Opened | None:
    found = _PHP(line)
    if found is None:
        return None
    fields: Fields = {"event.category": "web"}
    if found[2]:
        fields["log.level"] = _PHP_LEVELS.get(found[2], "error")
    return "php", *clock.any(found[1]), "", found[3] or found[2] or "", fields


_KLOG = compiled(
    rf"([IWEF])([0-9]{{2}})([0-9]{{2}}) ({_CLOCK})\.([0-9]{{6}}) {{1,8}}([0-9]{{1,10}}) ([\w./-]{{1,100}}):([0-9]{{1,6}})\] (.*)"
).fullmatch


def _open_klog(line: str, clock: Clock) -> Opened | None:
    found = _KLOG(line)
    if found is None:
        return None
    level, month, day, time, fraction, thread, file, number, message = found.groups()
    hour, minute, second = (int(part) for part in time.split(":"))
    fields: Fields = {
        "log.level": LEVELS[level],
        "process.thread.id": int(thread),
        "log.origin.file.name": file,
        "log.origin.file.line": int(number),
    }
    moment = clock.wall(None, int(month), int(day), hour, minute, second, int(fraction))
    return "klog", *moment, "", message, fields


_MACOS = compiled(
    rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}} {_CLOCK}\.[0-9]{{6}}[+-][0-9]{{4}}) (?:"
    r"0x[0-9a-f]{1,12} {1,12}([A-Z][a-z]{2,10}) {1,12}0x[0-9a-f]{1,16} {1,24}([0-9]{1,10}) {1,8}[0-9]{1,6} {1,8}"
    r"([^:\s\[\]]{1,100}): | ([\w.-]{1,255}) ([^\s\[\]:]{1,100})\[([0-9]{1,10})\]: )"
    r"(?:\(([^()\s]{1,100})\) )?(?:\[([\w.-]{1,100}:[\w.-]{1,100})\] )?(.*)"
).fullmatch


def _open_macos(line: str, clock: Clock) -> Opened | None:
    found = _MACOS(line)
    if found is None:
        return None
    time, level, pid, program, host, syslog_program, syslog_pid, image, logger, message = found.groups()
    program, pid = program or syslog_program, pid or syslog_pid
    fields: Fields = {"process.name": program, "process.pid": int(pid)}
    if level:
        fields["log.level"] = LEVELS.get(level, {"Default": "info", "Fault": "critical"}.get(level, level.lower()))
    for name, value in (("host.name", host), ("macos.image", image), ("log.logger", logger)):
        if value:
            fields[name] = value
    return "macos.unified", *clock.iso(time), program, message, fields


# Context is JSON behind the message: what a client chose is a quoted string there and cannot end one.
_MONOLOG_ADDRESS = r"(?P<src>[0-9A-Fa-f.:]{2,45})"
_MONOLOG_TEXT = r"(?:[^\"\\]|\\.){0,200}"
_MONOLOG_MEMBER = r"\"(?:ip|client_ip|clientIp|ip_address|ipAddress|remote_addr|remoteAddress)\""
_MONOLOG_REFUSED = [
    row(
        r"(?:[Aa]uthentication (?:request )?(?:failure|failed)|[Ll]og-?in (?:failed|failure)|[Ff]ailed log-?in"
        r"(?: attempt)?|(?:[Ii]nvalid|[Bb]ad|[Ww]rong) (?:credentials|password)|[Uu]nsuccessful log-?in)[^{\"]{0,60}"
        rf"\{{(?:\"(?:user|username|user_name|email|login|identifier)\":\"(?P<user>{_MONOLOG_TEXT})\",)?{_MONOLOG_MEMBER}:\"{_MONOLOG_ADDRESS}\".*",
        "login",
        "failure",
    )
]
_MONOLOG_EVENTS = [
    row(
        rf"\{{\"(?:type|event|action)\":\"(?:[A-Za-z_.]{{1,40}}[_.])?(?:LOGIN|login|AUTH|auth)[_.](?:FAILED|failed|FAILURE|failure)\","
        rf"(?:\"(?:user|username|email)\":\"(?P<user>{_MONOLOG_TEXT})\",)?{_MONOLOG_MEMBER}:\"{_MONOLOG_ADDRESS}\".*",
        "login",
        "failure",
    )
]
_MONOLOG_WORDS = (
    "Authentication authentication Login login Failed failed Invalid invalid Bad bad Wrong wrong Unsuccessful"
)
_MONOLOG = Table({**dict.fromkeys(_MONOLOG_WORDS.split(), _MONOLOG_REFUSED), "": _MONOLOG_EVENTS})

OWN = (
    LineDecoder(
        name="php",
        about="PHP's error log.",
        open=_open_php,
        leads=("[00-Aaa-0000 00:00:00",),
        marks=("] PHP ",),
        goes_on=ANY_LINE,
    ),
    LineDecoder(
        name="klog",
        about="glog and klog: Kubernetes' own programs, etcd and others.",
        open=_open_klog,
        leads=("A0000 00:00:00.000000 ",),
        marks=("] ",),
        goes_on=("panic", "goroutine"),
    ),
    LineDecoder(
        name="macos.unified",
        about="macOS unified log, as `log show` prints it, plain or in the style of syslog.",
        open=_open_macos,
        leads=("0000-00-00 00:00:00.000000+0000 ", "0000-00-00 00:00:00.000000-0000 "),
        marks=(" 0a", " 0x", "]: "),
    ),
)
LAYOUTS = (
    layout(
        "tomcat",
        rf"(?P<time>[0-9]{{2}}-[A-Z][a-z]{{2}}-[0-9]{{4}} {_CLOCK}(?:\.[0-9]{{1,6}})?) {_JUL} \[(?P<thread>[^\[\]]{{0,200}})\]"
        r" (?P<logger>[\w$.<>/-]{1,200}) (?P<message>.*)",
        about="Tomcat's catalina and host logs. Its access log is the common format.",
        leads=("00-Aaa-0000 00:00:00.000 A", "00-Aaa-0000 00:00:00 A"),
        marks=(" [",),
        goes_on=ANY_LINE,
        messages=_TOMCAT,
    ),
    layout(
        "tomcat.jul",
        r"(?P<time>[A-Z][a-z]{2} [0-9]{1,2}, [0-9]{4} [0-9]{1,2}:[0-9]{2}:[0-9]{2} [AP]M) (?P<logger>[a-z][\w$.]{1,200})"
        r" (?P<message>[\w$<>]{1,200})",
        about="Java's own logging on two lines, as Tomcat before 8 wrote it: the line with the time.",
        leads=("Aaa 0, 0000 ", "Aaa 00, 0000 "),
        marks=(" AM ", " PM "),
        goes_on=ANY_LINE,
    ),
    layout(
        "jetty",
        rf"(?P<time>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}} {_CLOCK}\.[0-9]{{3}}) ?: ?(?P<level>DEBUG|INFO|WARN|WARNING|ERROR) ?:"
        r" ?(?P<logger>[\w$.]{1,200}):(?P<thread>[^:]{0,200}): (?P<message>.*)",
        about="Jetty's own log. Its request log is the common format.",
        leads=("0000-00-00 00:00:00.000:A", "0000-00-00 00:00:00.000 :"),
        goes_on=ANY_LINE,
    ),
    layout(
        "synapse",
        rf"(?P<time>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}} {_CLOCK},[0-9]{{3}}) - (?P<logger>synapse\.[\w.]{{1,100}}|twisted[\w.]{{0,100}})"
        rf" - (?P<log__origin__file__line>[0-9]{{1,7}}) - {_PYTHON} - (?P<trace__id>[^\s]{{0,200}}) ?- (?P<message>.*)",
        about="Synapse (Matrix): requests and sign-ins.",
        leads=("0000-00-00 00:00:00,000 - aaaaaa",),
        marks=(" - synapse.", " - twisted"),
        goes_on=("ERROR", "CRITICAL", "WARNING"),
        messages=_SYNAPSE,
    ),
    layout(
        "plex",
        rf"(?P<time>[A-Z][a-z]{{2}} [0-9]{{1,2}}, [0-9]{{4}} {_CLOCK}\.[0-9]{{3}}) \[(?P<thread>\w{{1,20}})\]"
        r" (?P<level>VERBOSE|DEBUG|INFO|WARN|ERROR) - (?:\[Req#\w{1,12}[^\]]{0,60}\] )?(?P<message>.*)",
        about="Plex Media Server: requests and refused sign-ins.",
        leads=("Aaa 00, 0000 ", "Aaa 0, 0000 "),
        marks=("] DEBUG - ", "] INFO - ", "] WARN - ", "] ERROR - ", "] VERBOSE - "),
        messages=_PLEX,
    ),
    layout(
        "pihole.ftl",
        rf"\[(?P<time>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}} {_CLOCK}\.[0-9]{{3}})(?: [A-Z]{{2,5}})? (?P<thread>[0-9]{{1,10}}[\w/]{{0,20}})\]"
        r" (?:(?P<level>DEBUG|INFO|NOTICE|WARNING|ERR|ERROR|CRIT|CRITICAL|ALERT|EMERG)(?:_\w{1,20})?: )?(?P<message>.*)",
        about="Pi-hole's FTL: sign-ins to its pages, rate limits, state.",
        leads=("[0000-00-00 00:00:00.000 0", "[0000-00-00 00:00:00.000 A"),
        messages=_PIHOLE,
    ),
    layout(
        "php.fpm",
        rf"\[(?P<time>[0-9]{{2}}-[A-Z][a-z]{{2}}-[0-9]{{4}} {_CLOCK}(?:\.[0-9]{{1,6}})?)\]"
        r" (?P<level>ALERT|ERROR|WARNING|NOTICE|DEBUG): (?:pid [0-9]{1,10}, [^:]{1,100}: )?(?P<message>.*)",
        about="PHP-FPM's own log.",
        leads=("[00-Aaa-0000 00:00:00",),
        marks=("] ALERT: ", "] ERROR: ", "] WARNING: ", "] NOTICE: ", "] DEBUG: "),
        category="web",
    ),
    layout(
        "monolog",
        rf"\[(?P<time>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[T ]{_CLOCK}(?:\.[0-9]{{1,6}})?(?:Z|[+-][0-9]{{2}}:[0-9]{{2}})?)\]"
        r" (?P<logger>[\w-]{1,60})\.(?P<level>DEBUG|INFO|NOTICE|WARNING|ERROR|CRITICAL|ALERT|EMERGENCY): {1,2}(?P<message>.*)",
        about="Monolog, as Magento, Symfony, Laravel and many PHP applications write it.",
        leads=("[0000-00-00",),
        marks=(".DEBUG: ", ".INFO: ", ".NOTICE: ", ".WARNING: ", ".ERROR: ", ".CRITICAL: ", ".ALERT: ", ".EMERGENCY: "),
        messages=_MONOLOG,
        goes_on=ANY_LINE,
        strict=False,
    ),
)
DECODERS = (*OWN, *LAYOUTS)
