"""FreeSWITCH: "2026-11-23 06:51:07.767815 [WARNING] sofia_reg.c:1533 SIP auth failure ...".

The caller's number and realm stand in brackets before the address, which ends the line.
"""

from __future__ import annotations

from threatlens.decoders.tables import Table, layout, row

_TIME = r"(?:[0-9]{4}-)?[0-9]{2}-[0-9]{2} [0-9:]{8}\.[0-9]{6}"
_AT = r" from (?:ip )?(?P<src>\S+)"

_TABLE = Table(
    {
        "SIP": [
            row(
                rf"SIP auth failure \((?P<method>\w+)\) on sofia profile '[^']*' for \[(?P<user>.*)@[^\]@]*\]{_AT}",
                "sip_login",
                "failure",
            ),
            row(
                rf"SIP auth challenge \((?P<method>\w+)\) on sofia profile '[^']*' for \[(?P<user>.*)@[^\]@]*\]{_AT}",
                "sip_challenge",
                "failure",
            ),
        ],
        "Can't": [row(rf"Can't find user \[(?P<user>.*)@[^\]@]*\]{_AT}", "sip_login", "failure")],
        "": [
            row(
                r"IP (?P<src>\S+) Rejected by (?:register )?acl \"(?P<rule>[^\"]*)\".*",
                "sip_denied",
                "failure",
                category="network",
            ),
            row(r"New Channel (?P<reason>.*)", "call_started", category="network"),
            row(r"Hangup (?P<reason>.*)", "call_ended", category="network"),
        ],
    }
)


DECODER = layout(
    "freeswitch",
    rf"(?P<time>{_TIME})(?:[^\[\]]{{1,80}}\[[0-9]{{1,10}}\]: {_TIME})? (?:[0-9.]{{1,6}}% )?"
    r"\[(?P<level>[A-Z]{3,8})\] (?:\[\w+\] )?\[?(?P<logger>\w+\.c(?:pp)?:[0-9]{1,6})\]? (?P<message>.*)",
    about="FreeSWITCH: SIP registrations and calls refused.",
    leads=("0000-00-00 00:00:00.000000 ", "00-00 00:00:00.000000 ["),
    marks=(".c:", ".cpp:"),
    messages=_TABLE,
)
