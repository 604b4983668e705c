"""What the dashboard knows: the same values for the page, for its live feed and for the line of trust in the rail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from threatlens.event import Event, EventFilter
from threatlens.models import now_us
from threatlens.web.attention import BROKEN_STATES, Item, Knock, attention, verdict
from threatlens.web.context import services
from threatlens.web.event_filter import RANGES
from threatlens.web.presentation import count, percent, plural, size

#: How many bars the histogram of a range has.
BARS = {"15m": 15, "1h": 60, "24h": 72, "7d": 84, "30d": 60}
DASHBOARD_RANGES = ("1h", "24h", "7d")
SEVERE_ROWS = 12
MINUTE_US = 60_000_000
BEHIND_BYTES = 1_000_000  # further from the end of its files than this, a source is said to be catching up


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the histogram: five stacked parts, from the least severe up."""

    start_us: int
    end_us: int
    total: int
    parts: tuple[tuple[int, int, float, float], ...]  # (band, events, y, height), in a box 100 high


@dataclass(frozen=True, slots=True)
class Trust:
    """Whether what one sees is all there is, in three short lines."""

    tone: str  # good, watch, idle
    headline: str
    decoded: str
    lag: str


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything on the dashboard."""

    range_name: str
    items: list[Item]
    total: int
    rate: int  # lines a minute, over the last five whole minutes
    peak: int  # of one bar, as lines a minute
    severe: int  # severity 5 and up
    unknown: int
    bars: tuple[Bar, ...]
    highest: int  # events in the highest bar
    knocks: tuple[tuple[Knock, str], ...]  # with a word about each
    sources: Sequence[Any]


def overview(range_name: str) -> Overview:
    """The dashboard's values now."""
    store, now = services().store, now_us()
    seconds = RANGES[range_name][0]
    since = now - seconds * 1_000_000
    where = EventFilter(start_us=since)
    counts = store.counts(where)
    sources = store.sources()
    logins = store.top("source_ip", EventFilter(start_us=since, categories=("authentication",)), limit=50)
    known = {knock[0]: knock for knock in logins}
    bars, highest = histogram_bars(where, now - seconds * 1_000_000, now, BARS[range_name])
    minutes = [sum(found.values()) for _, found in store.histogram(now - 6 * MINUTE_US, now, 6, EventFilter())][:5]
    width_minutes = max(1, (bars[0].end_us - bars[0].start_us) // MINUTE_US) if bars else 1
    severe = store.page(EventFilter(min_severity=7, start_us=since), limit=200)
    items = attention(
        severe, logins, sources, dead_letters=len(store.dead_letters(limit=100)), range_name=range_name
    )
    return Overview(
        range_name=range_name,
        items=items,
        total=counts.total,
        rate=sum(minutes) // 5,
        peak=max(highest // width_minutes, *minutes, 0),
        severe=sum(n for severity, n in counts.by_severity.items() if severity >= 5),
        unknown=sum(source.unknown for source in sources),
        bars=bars,
        highest=highest,
        knocks=tuple((knock, verdict(known.get(knock[0]))) for knock in store.top("source_ip", where, limit=8)),
        sources=sources,
    )


def histogram_bars(where: EventFilter, start_us: int, end_us: int, buckets: int) -> tuple[tuple[Bar, ...], int]:
    """The bars of a histogram, drawn in a box 100 high, and the number of events in the highest."""
    found = services().store.histogram(start_us, end_us, buckets, where)
    highest = max((sum(n.values()) for _, n in found), default=0)
    starts = [start for start, _ in found]
    width = starts[1] - starts[0] if len(starts) > 1 else max(MINUTE_US, end_us - start_us)
    bars = []
    for start, by_severity in found:
        total = sum(by_severity.values())
        top, parts = 100.0, []
        for number in range(1, 6):
            n = by_severity.get(2 * number - 1, 0) + by_severity.get(2 * number, 0)
            if n:
                # Anything severe stays visible, however small its share of the bar.
                height = max(100.0 * n / highest, 1.5 if number < 4 else 3.0)
                top = max(top - height, 0.0)
                parts.append((number, n, round(top, 2), round(height, 2)))
        bars.append(Bar(start, start + width, total, tuple(parts)))
    return tuple(bars), highest


def trust() -> Trust:
    """Whether every source flows, how much is understood, and how far behind we are."""
    sources = [source for source in services().store.sources() if source.kind != "cli"]
    watched = [source for source in sources if source.enabled]
    broken = [source for source in watched if source.state in BROKEN_STATES]
    behind = sum(max(source.file_size - source.last_offset, 0) for source in watched if source.kind == "file")
    catching_up = [source for source in watched if source.state in ("reading", "waiting")]
    events = sum(source.events for source in sources)
    unknown = sum(source.unknown for source in sources)
    if not watched:
        words = "Nothing is watched yet" if not sources else "All sources are paused"
    elif broken:
        words = f"{len(broken)} of {plural(len(watched), 'source')} {'needs' if len(broken) == 1 else 'need'} you"
    elif catching_up:
        words = f"{plural(len(catching_up), 'source')} catching up"
    elif len(watched) == 1:
        words = "The source is flowing"
    else:
        words = f"All {len(watched)} sources flowing"
    return Trust(
        tone="watch" if broken or services().config.errors else "good" if watched else "idle",
        headline=words,
        decoded=f"{percent(events - unknown, events)} of {count(events)} lines decoded" if events else "no lines yet",
        lag=f"{size(behind)} still to read" if behind > BEHIND_BYTES or catching_up else "nothing waiting to be read",
    )


def newest_severe(limit: int = SEVERE_ROWS) -> list[Event]:
    """The newest events that are worth a look even when nothing burns."""
    return services().store.page(EventFilter(min_severity=5), limit=limit)
