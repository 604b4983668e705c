"""Tine 2.0: "78017 00cff -- none -- - 2026-11-23T06:51:07+00:00 WARN (4): Tinebase_Controller::login::106 text"."""

from __future__ import annotations

from threatlens.decoders.tables import Table, layout, row

_TABLE = Table(
    {
        "Login": [
            row(
                r"Login with username (?P<user>.*) from (?P<src>\S+) failed \((?P<reason>-?[0-9]+)\)!?",
                "login",
                "failure",
            ),
            row(r"Login with username (?P<user>.*) from (?P<src>\S+) succeeded.*", "login", "success"),
        ]
    }
)

DECODER = layout(
    "tine20",
    r"[0-9a-f]{5} [0-9a-f]{5} .{1,80} - (?P<time>[0-9T: .,+Z-]{19,35}) "
    r"(?P<level>[A-Z]+) \([0-9]\): (?P<logger>\S+?)(?:::[0-9]+)? (?P<message>.*)",
    about="Tine 2.0 groupware: logins.",
    leads=("0", "a"),
    marks=(" (4): ", " (5): ", " (6): ", " (3): ", " (7): "),
    messages=_TABLE,
)
