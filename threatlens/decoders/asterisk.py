"""Asterisk: "[2026-11-23 06:51:07] NOTICE[31][C-01]: chan_sip.c:1 text" and its security events.

Callers choose names and numbers, which stand in quotes before the address; the last one counts.
"""

from __future__ import annotations

from typing import Any

from threatlens.decoders.tables import Table, layout, row

_NET: dict[str, Any] = {"category": "network"}
_C = (
    r"(?:[A-Z]{4,8}\[[0-9]{1,10}\](?:\[C-[0-9a-f]{1,16}\])?:? )?"
    r"(?:[\w./-]{1,60}(?::[0-9]{1,6})?:? (?:in )?(?:[\w]{1,60}: )?)?"
)
_V4 = (
    r"(?:\[?(?P<src>[0-9]{1,3}"
    r"(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})\]?)(?::(?P<sport>[0-9]{1,5}))?"
)
_PAIRS = r"(?:,\w+=\"[^\"]*\"){0,12}?"
_REMOTE = (
    rf"(?>{_PAIRS},AccountID=\")(?>(?P<user>.*)\",SessionID=\")[^\"]*\"{_PAIRS},"
    r"RemoteAddress=\"IPV[46]/(?P<transport>\w+)/(?P<src>[^/\"\s]+)/(?P<sport>[0-9]{1,5})\".*"
)
_FAILED = (
    "FailedACL|InvalidAccountID|ChallengeResponseFailed|InvalidPassword|AuthMethodNotAllowed|RequestBadFormat|"
    "SessionLimit|LoadAverageLimit|RequestNotAllowed|RequestNotSupported|UnexpectedAddress|InvalidTransport"
)

_TABLE = Table(
    {
        "": [
            row(rf"{_C}Registration from '(?P<user>.*)' failed for '{_V4}' - (?P<reason>.*)", "sip_login", "failure"),
            row(
                rf"{_C}Request '(?P<method>\w+)' from '(?P<user>.*)'"
                rf" failed for '{_V4}' \(callid: .*\) - (?P<reason>.*)",
                "sip_login",
                "failure",
            ),
            row(
                rf"{_C}Call from '(?P<user>.*)' \({_V4}\) to extension '"
                rf"(?P<reason>.*)' rejected because extension not found in context '.*'\.?",
                "sip_login",
                "failure",
            ),
            row(
                rf"{_C}(?:Host )?{_V4} (?P<reason>failed to authenticate|failed MD5 authentication) "
                r"(?:as|for) '(?P<user>.*)'(?: \([^()']*\))?",
                "sip_login",
                "failure",
            ),
            row(rf"{_C}Host {_V4} denied access to register peer '(?P<user>.*)'", "sip_login", "failure"),
            row(
                rf"{_C}Host {_V4} did not provide proper"
                rf" plaintext password for '(?P<user>.*)'",
                "sip_login",
                "failure",
            ),
            row(
                rf"{_C}Registration of '(?>(?P<user>.*)' rejected: ')"
                rf"(?P<reason>.*)' from: '{_V4}'",
                "sip_login",
                "failure",
            ),
            row(rf"{_C}Peer '(?P<user>.*)' is not dynamic \(from {_V4}\)", "sip_login", "failure"),
            row(rf"{_C}Host {_V4} denied access to register peer '(?P<user>.*)'", "sip_login", "failure"),
            row(
                rf"{_C}(?:Sending fake auth rejection|Failed to"
                rf" authenticate (?:user|device)) .*",
                "sip_login",
                "failure",
            ),
            row(rf"{_C}No registration for peer '(?P<user>.*)' \(from {_V4}\)", "sip_login", "failure"),
            row(rf"{_C}hacking attempt detected '{_V4}'", "sip_login", "failure"),
            row(rf"{_C}SecurityEvent=\"(?P<reason>{_FAILED})\"{_REMOTE}", "sip_login", "failure"),
            row(rf"{_C}SecurityEvent=\"(?P<reason>SuccessfulAuth)\"{_REMOTE}", "sip_login", "success"),
            row(rf"{_C}SecurityEvent=\"(?P<reason>\w+)\"{_REMOTE}", **_NET),
            row(rf"{_C}.*Rejecting unknown SIP connection from {_V4}\"?.*", "sip_denied", "failure", **_NET),
            row(rf"{_C}(?P<reason>.*)", **_NET),
        ]
    }
)

DECODER = layout(
    "asterisk",
    r"\[?(?P<time>(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[A-Z][a-z]{2} [ 0-9][0-9])[T ][0-9:]{8}(?:\.[0-9]{1,6})?"
    r"(?:[+-][0-9]{4})?)\]? "
    r"(?P<level>NOTICE|WARNING|ERROR|SECURITY|VERBOSE|DEBUG|DTMF)\[(?P<pid>[0-9]{1,10})\](?:\[C-[0-9a-f]+\])?:? "
    r"(?P<message>.*)",
    about="Asterisk: SIP and IAX registrations, calls, security events.",
    leads=("[0000-00-00", "[Aaa 00 00:00:00] A", "[Aaa  0 00:00:00] A"),
    marks=("] NOTICE[", "] WARNING[", "] ERROR[", "] SECURITY[", "] VERBOSE[", "] DEBUG[", "] DTMF["),
    messages=_TABLE,
    programs=("asterisk",),
)
