"""Prosody, the XMPP server, in its own file. It is asked before syslog, as its lines begin alike."""

from __future__ import annotations

from threatlens.decoders.tables import Table, layout, row

DECODER = layout(
    "prosody",
    r"(?P<time>[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}) (?P<logger>[\w.:-]{1,100})\t(?P<level>debug|info|warn|error)\t"
    r"(?P<message>.*)",
    about="Prosody: XMPP logins.",
    leads=("Aaa 00 00:00:00 ", "Aaa  0 00:00:00 "),
    marks=("\tinfo\t", "\twarn\t", "\tdebug\t", "\terror\t"),
    messages=Table(
        {
            "Failed": [
                row(
                    r"Failed authentication attempt \((?P<reason>[\w -]{1,60})\)(?: for user (?P<user>.*))? from IP: "
                    r"(?P<src>[0-9a-fA-F.:]{2,64})",
                    "login",
                    "failure",
                )
            ],
            "Authenticated": [row(r"Authenticated as (?P<user>.*)", "login", "success")],
            "Client": [
                row(r"Client connected.*", "chat_connect", category="network"),
                row(r"Client disconnected: (?P<reason>.*)", "chat_disconnect", category="network"),
            ],
            "": [row(r"(?P<reason>.*)", category="network")],
        }
    ),
)
