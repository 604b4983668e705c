"""Programs that guard others: Fail2ban, scanlogd, Monit, Monitorix; their addresses are what they acted on."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, layout, row

_IDS: dict[str, Any] = {"category": "intrusion_detection"}

_FAIL2BAN = Table(
    {
        "": [
            row(r"\[(?P<rule>[^\]\s]+)\] (?:Restore )?Ban (?P<src>\S+)", "host_banned", "success", **_IDS),
            row(r"\[(?P<rule>[^\]\s]+)\] Unban (?P<src>\S+)", "host_unbanned", "success", **_IDS),
            row(r"\[(?P<rule>[^\]\s]+)\] Found (?P<src>\S+)(?: - .*)?", "attack_found", **_IDS),
            row(r"\[(?P<rule>[^\]\s]+)\] (?P<src>\S+) already banned", "host_banned", **_IDS),
            row(r"\[(?P<rule>[^\]\s]+)\] Ignore (?P<src>\S+).*", "attack_ignored", **_IDS),
            row(r"\[(?P<rule>[^\]\s]+)\] (?P<reason>.*)", **_IDS),
            row(r"(?P<reason>.*)", category="process"),
        ]
    }
)
_FAIL2BAN_TAGGED = r"(?:fail2ban\.\w+ *)?(?:\[[0-9]{1,10}\]:? *)?(?:NOTICE|WARNING|INFO|ERROR) +(?:-? ?)?"
_FAIL2BAN_SYSLOG = Table(
    {
        "": [
            row(
                rf"(?:{_FAIL2BAN_TAGGED})?\["
                rf"(?P<rule>[^\]\s]+)\] (?:Restore )?Ban (?P<src>\S+)",
                "host_banned",
                "success",
                **_IDS,
            ),
            row(
                rf"(?:{_FAIL2BAN_TAGGED})?\["
                rf"(?P<rule>[^\]\s]+)\] Unban (?P<src>\S+)",
                "host_unbanned",
                "success",
                **_IDS,
            ),
            row(rf"(?:{_FAIL2BAN_TAGGED})?\[(?P<rule>[^\]\s]+)\] Found (?P<src>\S+)(?: - .*)?", "attack_found", **_IDS),
            row(r"(?P<reason>.*)", category="process"),
        ]
    }
)
_SCANLOGD = Table(
    {
        "": [
            row(
                r"(?P<src>[^\s:]+)(?::(?P<sport>[0-9]{1,5}))?"
                r" to (?P<dst>\S+?) ports (?P<reason>[0-9, .]+).*",
                "port_scan",
                **_IDS,
            ),
        ]
    }
)
_MONIT = Table(
    {
        "": [
            row(
                r"(?:error\s*: |warning\s*: )?HttpRequest: access denied -- client \[?(?P<src>[^\s\]:]+)\]?:? "
                r"(?:(?:unknown|wrong password for)"
                r" user '(?P<user>.*)'|missing or invalid Authorization"
                r" header|.*)",
                "http_login",
                "failure",
            ),
            row(
                r"(?:error\s*: |warning\s*: )?(?:Warning: )?Client '?(?P<src>[^\s':]+)'?"
                r" supplied (?:unknown|wrong password for) user '(?P<user>.*)'.*",
                "http_login",
                "failure",
            ),
            row(r"(?:\w+\s*: )?'(?P<unit>[^']*)' (?P<reason>.*)", "service_info", category="process"),
        ]
    }
)
_MONITORIX = Table(
    {
        "": [
            row(
                r"(?:NOTEXIST|AUTHERR|NOTALLOWED) -"
                r" \[(?P<src>[^\]\s]+)\] (?P<reason>.*)",
                "http_denied",
                "failure",
                category="web",
            ),
            row(r"OK - \[(?P<src>[^\]\s]+)\] .*", "http_request", "success", category="web"),
        ]
    }
)
DECODERS = (
    layout(
        "fail2ban",
        r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8},[0-9]{3}) (?:(?P<host>[\w.-]+) )?(?P<logger>fail2ban\.\w+)"
        r" *(?:\[(?P<pid>[0-9]{1,10})\])?: (?P<level>[A-Z]+) +(?P<message>.*)",
        about="Fail2ban's own log: found, banned, unbanned.",
        leads=("0000-00-00 00:00:00,000 ",),
        marks=("fail2ban.",),
        messages=_FAIL2BAN,
    ),
    MessageDecoder(
        name="fail2ban.syslog",
        about="Fail2ban in syslog.",
        read=_FAIL2BAN_SYSLOG.read,
        programs=("fail2ban", "fail2ban-server", "fail2ban.actions", "fail2ban.filter"),
    ),
    MessageDecoder(name="scanlogd", about="scanlogd: port scans.", read=_SCANLOGD.read, programs=("scanlogd",)),
    layout(
        "monit",
        r"\[(?:[A-Z]{2,5} )?(?P<time>(?:[0-9]{4}-[0-9]{2}-[0-9]{2}T|[A-Z][a-z]{2} [ 0-9][0-9] )[0-9:]{8}"
        r"(?:[+-][0-9]{4})?)\] (?P<level>error|warning|info|debug|alert|notice) *: (?P<message>.*)",
        about="Monit: refused requests, services.",
        leads=(
            "[AAA Aaa 00 00:00:00] ",
            "[AAA Aaa  0 00:00:00] ",
            "[AAAA Aaa 00 00:00:00] ",
            "[0000-00-00T00:00:00",
            "[Aaa 00 00:00:00] a",
            "[Aaa  0 00:00:00] a",
        ),
        marks=("HttpRequest: ", " : '", ": '", "supplied ", "Monit", "onit daemon"),
        messages=_MONIT,
        programs=("monit",),
    ),
    layout(
        "monitorix",
        r"(?P<time>[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} [0-9]{4}) - (?P<message>"
        r"(?:OK|NOTEXIST|AUTHERR|NOTALLOWED) - \[.*)",
        about="Monitorix' web server: refused requests.",
        leads=("Aaa Aaa 00 00:00:00 0000 - A", "Aaa Aaa  0 00:00:00 0000 - A"),
        messages=_MONITORIX,
    ),
)
