"""The wall clock, as everything that is stored counts it."""

from __future__ import annotations

import datetime as dt
import os
import time
import zoneinfo


def now_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


def machine_zone() -> dt.tzinfo:
    """The time zone of this machine, with its rules of summer time where it says which it is."""
    return zone_named(machine_zone_name()) or dt.datetime.now().astimezone().tzinfo or dt.UTC


def machine_zone_name() -> str:
    """The name of the machine's zone, as TZ or /etc/localtime give it; "": none that can be told."""
    return os.environ.get("TZ", "").removeprefix(":") or os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2]


def zone_named(name: str) -> dt.tzinfo | None:
    """The time zone of this name, such as Europe/Berlin; None: there is none."""
    try:
        return zoneinfo.ZoneInfo(name) if 0 < len(name) < 64 else None
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None
