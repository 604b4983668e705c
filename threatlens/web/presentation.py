"""How values look on a page: text made safe to read, times, numbers, severity.

Everything here returns plain text and leaves escaping to the templates, so there is no way round it: a log line is
written by somebody who may be an attacker, and this module only makes what it does visible.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import re
import zoneinfo
from typing import Any, NamedTuple
from urllib.parse import urlencode

from flask import Flask, current_app, g, request, url_for

from threatlens.clock import machine_zone, now_us, zone_named
from threatlens.event import Event, Fields, rfc3339
from threatlens.event_match import texts_of
from threatlens.query import hint
from threatlens.visible import visible

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: Flags of an event, explained (threatlens.event.FLAG_NAMES).
FLAG_WORDS = {
    "truncated": "The line was longer than can be kept; its end is cut off.",
    "unterminated": "The file ended in the middle of this line and nobody finished it.",
    "decode_error": "Some bytes are not text in the source's encoding; they are shown as \ufffd and kept as they are.",
    "parse_error": "A decoder failed on this line; it is kept as it was read.",
    "time_error": "The line carries no usable time; the time of reading stands in.",
    "time_clamped": "The line's time cannot be true; it was moved to the nearest time that can.",
    "duplicate_key": "The line names a key twice; the last value won.",
    "fields_cut": "The line has more fields than are taken out of it; the rest is in the raw line.",
    "from_export": "This event was read in from an export of ThreatLens, with the line and the time that stand there.",
}

#: What each state of a source means (threatlens.event.SOURCE_STATES), and how its dot looks.
STATE_WORDS = {
    "starting": ("Starting", "idle"),
    "flowing": ("Flowing", "ok"),
    "reading": ("Catching up", "busy"),
    "waiting": ("Waiting for the queue", "busy"),
    "missing": ("Nothing there", "warn"),
    "no_permission": ("No permission", "bad"),
    "refused": ("Refused", "bad"),
    "error": ("Read error", "bad"),
    "disabled": ("Off", "idle"),
    "paused": ("Paused", "idle"),
}


def zone() -> dt.tzinfo:
    """The time zone of the person looking: what the browser says, else the machine's own."""
    if "zone" not in g:
        g.zone = zone_named(request.cookies.get("tz", "")) or machine_zone()
    found: dt.tzinfo = g.zone
    return found


def zone_name() -> str:
    """The zone in words, for the foot of the page and for cache keys."""
    found = zone()
    return found.key if isinstance(found, zoneinfo.ZoneInfo) else dt.datetime.now(found).tzname() or "local time"


def moment(timestamp_us: int) -> dt.datetime:
    """Microseconds since the epoch in the viewer's zone."""
    return (EPOCH + dt.timedelta(microseconds=timestamp_us)).astimezone(zone())


def clock(timestamp_us: int) -> str:
    """HH:MM:SS, with the day when it is not today and with the year when it is not this year."""
    if not timestamp_us:
        return "never"
    then, today = moment(timestamp_us), _today()
    if then.date() == today:
        return f"{then:%H:%M:%S}"
    return f"{then.day} {then:%b %H:%M:%S}" if then.year == today.year else f"{then.day} {then:%b %Y %H:%M:%S}"


def _today() -> dt.date:
    """The day of the person looking; asked a hundred times a page, and looked up once a minute."""
    minute = now_us() // 60_000_000
    known: tuple[int, dt.date] | None = g.get("today")
    if known is None or known[0] != minute:
        known = g.today = minute, moment(minute * 60_000_000).date()
    return known[1]


def minute_clock(timestamp_us: int) -> str:
    """HH:MM, with the day when it is not today: the axis of a chart."""
    return clock(timestamp_us)[:-3]


def utc(timestamp_us: int) -> str:
    """The exact time in UTC, for a title."""
    return rfc3339(timestamp_us).replace("T", " ").replace("+00:00", " UTC") if timestamp_us else ""


def exact(timestamp_us: int) -> str:
    """The time where the viewer is, and in UTC below it: for a title, to which the script adds how long ago that is."""
    return f"{moment(timestamp_us):%Y-%m-%d %H:%M:%S} {zone_name()}\n{utc(timestamp_us)}"


def ago(timestamp_us: int) -> str:
    """How long ago, in the largest unit that says enough."""
    if not timestamp_us:
        return "never"
    seconds = (now_us() - timestamp_us) // 1_000_000
    if seconds < 5:
        return "just now"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:,} {unit} ago"
    return f"{seconds} s ago"


def size(number: int) -> str:
    """Bytes in the unit a person would choose."""
    amount = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def count(number: int) -> str:
    """2,143,908."""
    return f"{number:,}"


def compact(number: int) -> str:
    """2.1 M: for places where only the order of size matters."""
    if number < 10_000:
        return f"{number:,}"
    return f"{number / 1000:.0f} k" if number < 1_000_000 else f"{number / 1_000_000:.1f} M"


def percent(part: int, whole: int) -> str:
    """99.2 %; never rounded up to 100 nor down to 0 where that would lie."""
    share = 100 * part / whole if whole else 0.0
    if 0 < part < whole:
        share = min(max(share, 0.1), 99.9)
    return f"{share:.0f} %" if share in (0, 100) else f"{share:.1f} %"


def band(severity: int) -> int:
    """Which of the five shapes and colours a severity of 1-10 has."""
    return (severity + 1) // 2


def plural(number: int, one: str, many: str = "") -> str:
    """ "1 line", "1,284 lines"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def sentence(text: str) -> str:
    """The text with a capital at its start, unless that is a name, and a full stop at its end."""
    text = text.strip()
    if not text:
        return ""
    first = text.split(maxsplit=1)[0]
    is_name = "." in first.rstrip(".") or first.endswith(":")
    return (text[0] if is_name else text[0].upper()) + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


#: What a remedy that is a command begins with.
PROGRAMS = {"sudo", "python", "chmod", "chown", "mv", "cp", "rm", "df", "setfacl", "systemctl", "sysctl", "timedatectl"}


def remedied(text: str) -> tuple[str, str]:
    """The words of a remedy and, at its end, its command; one of both may be missing."""
    if text.split(" ", 1)[0] in PROGRAMS:
        return "", text
    words, colon, command = text.rpartition(": ")
    return (f"{words}:", command) if colon else (text, "")


def particulars(text: str) -> str:
    """The JSON object of an entry of the audit log in words, without empty lists; the text itself if it is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    if not isinstance(found, dict):
        return text
    return "; ".join(
        f"{name.replace('_', ' ')}: {_particular(name, value)}" for name, value in found.items() if value != []
    )


def _particular(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    if isinstance(value, int) and name.endswith(("_at", "_us")):
        return utc(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


#: Fields that say most about a line, in the order in which people want them.
TELLING = (
    "source.ip", "user.name", "event.action", "event.outcome", "http.request.method", "url.original",
    "http.response.status_code", "process.name", "host.name", "log.level",
)  # fmt: skip


#: What the columns of a list are called; other fields are called as they are.
NAMES = {
    "source": "Source", "category": "Category", "host.name": "Host", "source.ip": "Address", "user.name": "User",
    "process.name": "Process", "event.action": "Action", "event.outcome": "Outcome", "url.original": "Path",
    "http.response.status_code": "Status", "destination.ip": "To", "format": "Format", "path": "File",
    "rule.name": "Rule",
}  # fmt: skip


def fielded(text: str) -> list[tuple[str, bool]]:
    """The parts of an explanation, and which of them are names of fields that are filled in: {source.ip}."""
    return [(part, at % 2 == 1) for at, part in enumerate(re.split(r"\{([a-zA-Z0-9_.]+)\}", text)) if part]


def cell(event: Event, name: str) -> str:
    """What a column shows of an event."""
    return ", ".join(texts_of(event, name))


def telling(fields: Fields, most: int = 6) -> list[tuple[str, str]]:
    """The few fields of a line that say most about it."""
    known = [name for name in TELLING if name in fields]
    names = known + [name for name in fields if name not in known]
    return [(name, str(fields[name])) for name in names[:most]]


class Mark(NamedTuple):
    """That an event is part of what rules found."""

    incident_id: int | None  # None: it was too small for an incident
    rule_id: str
    words: str


def mark(event: Event) -> Mark | None:
    """The worst of its matches that are not kept quiet, and all of them in words; None: there are none."""
    loud = [each for each in event.detections if not each["suppressed"]]
    if not loud:
        return None
    worst = max(loud, key=lambda each: (each["severity"], each["incident_id"] or 0))
    names = ", ".join(dict.fromkeys(str(each["rule.name"]) for each in loud))
    number = worst["incident_id"]
    return Mark(number, worst["rule.id"], f"Incident {number}: {names}" if number else names)


def asset(filename: str) -> str:
    """The address of a static file; it changes with the content, so browsers may keep it for ever."""
    known: dict[str, str] = current_app.extensions.setdefault("threatlens_assets", {})
    if filename not in known or current_app.debug:
        path = os.path.join(current_app.static_folder or "", filename)
        with open(path, "rb") as file:
            known[filename] = hashlib.sha256(file.read()).hexdigest()[:12]
    return url_for("static", filename=filename, v=known[filename])


def live_url(page: str, **parameters: Any) -> str:
    """The address of a page's live feed: a path, so that the browser takes scheme and host from the page's own."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return f"{request.script_root}/ws/ui?{urlencode({'page': page, **given}, doseq=True)}"


def event_url(event_id: int) -> str:
    """The address of an event's page, as url_for writes it; a list has fifty of them."""
    if "events_url" not in g:
        g.events_url = url_for("events.index")
    return f"{g.events_url}/{event_id}"


def theme() -> str:
    """light, dark, or nothing: the system decides."""
    chosen = request.cookies.get("theme", "")
    return chosen if chosen in ("light", "dark") else ""


#: What a link to a page says where somebody pastes it: the kind of page, and nothing that is on it or in its address.
KINDS = (
    ("/incidents/", "An incident"), ("/incidents", "Incidents"), ("/events/", "An event"),
    ("/events", "A search of events"),
    ("/entities/", "An address, user or host"), ("/rules", "Detection rules"), ("/sources", "Log sources"),
    ("/notifications", "Notifications"), ("/reports", "Reports"), ("/health", "Health"), ("/settings", "Settings"),
)  # fmt: skip


def kind_of(path: str) -> str:
    """What kind of page this is, whether or not there is one."""
    return next((f"{words} · ThreatLens" for begun, words in KINDS if path.startswith(begun)), "ThreatLens")


def density() -> str:
    """dense, or nothing: comfortable."""
    return "dense" if request.cookies.get("density") == "dense" else ""


def register(app: Flask) -> None:
    """Give the templates their filters and globals."""
    times: tuple[Any, ...] = (clock, minute_clock, exact, ago)
    for each in (*times, visible, size, count, compact, band, sentence, telling):
        app.add_template_filter(each)
    app.add_template_filter(rfc3339)
    app.add_template_filter(cell)
    app.add_template_filter(particulars)
    app.add_template_filter(remedied)
    app.add_template_filter(mark)
    app.add_template_filter(fielded)
    app.add_template_global(percent)
    app.add_template_global(plural)
    app.add_template_global(hint, "query_hint")
    app.add_template_global(asset)
    app.add_template_global(live_url)
    app.add_template_global(event_url)
    app.add_template_global(theme)
    app.add_template_global(density)
    app.add_template_global(kind_of)
    app.add_template_global(zone_name)
    app.jinja_env.globals.update(FLAG_WORDS=FLAG_WORDS, STATE_WORDS=STATE_WORDS, NAMES=NAMES)
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
