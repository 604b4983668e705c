"""Logs of devices and desktop programs: Android's logcat, Windows servicing, health trackers, Proxifier."""

from __future__ import annotations

from threatlens.decoders.tables import layout

DECODERS = (
    layout(
        "android.logcat",
        r"(?P<time>(?:[0-9]{4}-)?[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3,9}(?: [+-][0-9]{4})?) {1,6}"
        r"(?P<pid>[0-9]{1,10}) {1,6}(?P<tid>[0-9]{1,10}) (?P<level>[VDIWEFA]) (?P<logger>[^:]{0,200}?) *: ?"
        r"(?P<message>.*)",
        about="Android's logcat (threadtime).",
        leads=("00-00 00:00:00.000", "0000-00-00 00:00:00.000  "),
    ),
    layout(
        "android.brief",
        r"(?P<level>[VDIWEFA])/(?P<logger>[^(]{1,200}?) *\( *(?P<pid>[0-9]{1,10})\): (?P<message>.*)",
        about="Android's logcat (brief): no time.",
        leads=("A/",),
        marks=("): ",),
    ),
    layout(
        "windows.cbs",
        r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}), "
        r"(?P<level>Info|Warning|Error|Perf|Fatal) {1,40}(?P<logger>[\w-]{1,40}) {1,20}(?P<message>.*)",
        about="Windows component-based servicing (CBS.log) and DISM.",
        leads=("0000-00-00 00:00:00, A",),
    ),
    layout(
        "healthapp",
        r"(?P<time>[0-9]{8}-[0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}:[0-9]{1,3})\|(?P<logger>[\w.-]{1,100})\|"
        r"(?P<pid>[0-9]{1,10})\|(?P<message>.*)",
        about="Health trackers' apps: time|component|process|message.",
        leads=("00000000-0",),
        marks=("|",),
    ),
    layout(
        "proxifier",
        r"\[(?P<time>[0-9]{2}\.[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2})\] (?P<program>[^:]{1,100}?) - (?P<message>.*)",
        about="Proxifier: which program reached what through which proxy.",
        leads=("[00.00 00:00",),
        category="network",
    ),
)
