"""Logs of devices and desktop programs: Android's logcat, Windows servicing, health trackers, Proxifier."""

from __future__ import annotations

from threatlens.decoders.base import LineDecoder, Opened, compiled
from threatlens.decoders.tables import layout
from threatlens.decoders.times import Clock

_HEALTH = compiled(
    r"([0-9]{4})([0-9]{2})([0-9]{2})-([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,3})\|([\w.-]{1,100})\|"
    r"([0-9]{1,10})\|(.*)"
).fullmatch


def _open_healthapp(line: str, clock: Clock) -> Opened | None:
    """The parts of the clock have no leading zeros: "0:0:31:7" is 31 seconds and 7 milliseconds."""
    found = _HEALTH(line)
    if found is None:
        return None
    *clock_parts, component, pid, message = found.groups()
    year, month, day, h, m, s, millisecond = map(int, clock_parts)
    timestamp_us, flags = clock.wall(year, month, day, h, m, s, millisecond * 1000)
    return "healthapp", timestamp_us, flags, "", message, {"log.logger": component, "process.pid": int(pid)}


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
    LineDecoder(
        name="healthapp",
        about="Health trackers' apps: time|component|process|message.",
        open=_open_healthapp,
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
