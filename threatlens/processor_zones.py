"""What the times in a source's lines tell about its clock and its zone, beside the times at which they were read."""

from __future__ import annotations

import logging
import zoneinfo

from threatlens.clock import machine_zone_name
from threatlens.decoders import SourceDecoder
from threatlens.decoders.skew import ClockSkew
from threatlens.event import LogEntry

log = logging.getLogger(__name__)


def machine_zone() -> str:
    """The IANA name of the machine's zone, as TZ or /etc/localtime give it; "": none that can be told."""
    name = machine_zone_name()
    return name if "/" in name and name in zoneinfo.available_timezones() else ""


class Zones:
    """The clocks of all sources. The thread that decodes writes, others read."""

    def __init__(self, local_zone: str | None = None) -> None:
        """`local_zone`: the name of the machine's own zone; None: look."""
        self._local_zone = machine_zone() if local_zone is None else local_zone
        self._skews: dict[int, ClockSkew] = {}

    def observe(self, entry: LogEntry, decoder: SourceDecoder, newest_us: int, line: str) -> None:
        """The newest line of an entry and the time that it carried; a zone that is certain by now is learned."""
        skew = self._skews.setdefault(entry.source_id, ClockSkew())
        if not skew.observe(int(entry.timestamp * 1_000_000), newest_us):
            return
        minutes = skew.certain_zone_minutes
        if minutes and decoder.learn_zone(minutes, line, entry.timestamp, self._local_zone):
            log.info("%s writes in a zone that is %+d minutes off", entry.source_name, minutes)
            skew.forget()

    def skews(self) -> dict[int, tuple[int, int]]:
        """Sources whose clock is off: microseconds ahead of ours, and the zone in minutes that would explain it."""
        return {
            source_id: (skew.ahead_us, skew.zone_minutes)
            for source_id, skew in list(self._skews.items())
            if skew.ahead_us
        }
