"""What the dashboard knows: the same values for the page, for its live feed and for the line of trust in the rail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from threatlens.clock import now_us
from threatlens.event import Event, EventFilter
from threatlens.mutes import until_words
from threatlens.store_mutes import Mute
from threatlens.web.attention import BROKEN_STATES, Item, Knock, SourceState, attention, verdict
from threatlens.web.auth import actor, may_know
from threatlens.web.context import services
from threatlens.web.event_filter import RANGES
from threatlens.web.presentation import count, percent, plural, sentence, size, zone

#: How many bars the histogram of a range has.
BARS = {"15m": 15, "1h": 60, "24h": 72, "7d": 84, "30d": 60}
DASHBOARD_RANGES = ("15m", "1h", "24h", "7d")
SEVERE_ROWS = 12
TARGETS = 6
SEVERE_READ = 60  # newest severe events that are told of in sentences
MINUTE_US = 60_000_000
#: Parts of the engine without which attacks go unseen; what else is unwell stands on the page of health alone.
WATCHING = frozenset(
    ("coverage", "database", "decoders", "detection", "disk", "engine", "inotify", "open files", "rules", "sources",
     "yields")
)  # fmt: skip
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
    incidents: int  # open ones
    blind: str  # what keeps attacks from being seen, in a sentence; "": nothing that is known


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything on the dashboard."""

    range_name: str
    items: list[Item]
    total: int
    rate: int  # lines a minute, now
    peak: int  # of one bar, as lines a minute
    severe: int  # severity 5 and up
    unknown: int
    matches: int  # of rules
    waiting: int  # lines in the queue
    targets: Sequence[tuple[str, str, int]]  # user or host, its name, matches
    bars: tuple[Bar, ...]
    highest: int  # events in the highest bar
    knocks: tuple[tuple[Knock, str], ...]  # with a word about each
    sources: Sequence[Any]
    hours: Mapping[int, Sequence[int]]  # of each source: events by the hour of the last day


def overview(range_name: str) -> Overview:
    """The dashboard's values now."""
    store, now = services().store, now_us()
    seconds = RANGES[range_name][0]
    since = now - seconds * 1_000_000
    where = EventFilter(start_us=since)
    counts = store.counts(where)
    sources = store.sources()
    busiest, logins = store.busiest_addresses(start_us=since, category="authentication", limits=(8, 50))
    known = {knock[0]: knock for knock in logins}
    bars, highest = histogram_bars(where, now - seconds * 1_000_000, now, BARS[range_name])
    engine = services().engine_status()
    rate = round(60 * engine.get("lines_per_s", 0))
    width_minutes = max(1, (bars[0].end_us - bars[0].start_us) // MINUTE_US) if bars else 1
    severe = store.page(EventFilter(min_severity=7, start_us=since), limit=SEVERE_READ)
    dead = sum(not letter.event_id for letter in store.dead_letters(limit=100))
    pressing = store.pressing_incidents()
    items = attention(
        severe,
        logins,
        sources,
        dead_letters=dead,
        range_name=range_name,
        incidents=pressing,
        muted=muted({one.id: one.last_us for one in pressing}),
    )
    return Overview(
        range_name=range_name,
        items=items,
        total=counts.total,
        rate=rate,
        peak=max(highest // width_minutes, rate),
        severe=sum(n for severity, n in counts.by_severity.items() if severity >= 5),
        unknown=sum(source.unknown for source in sources),
        matches=store.matches_since(since),
        waiting=engine.get("queue", {}).get("lines", 0),
        targets=store.top_targets(since, limit=TARGETS),
        bars=bars,
        highest=highest,
        knocks=tuple((knock, verdict(knock, known.get(knock[0]))) for knock in busiest),
        sources=sources,
        hours=store.hours_of_sources(now),
    )


def fitting_range(names: Sequence[str]) -> str:
    """The shortest of these ranges (shortest first) in which everything of the longest lies: a chart without a void."""
    now = now_us()
    totals = [services().store.counts(EventFilter(start_us=now - RANGES[name][0] * 1_000_000)).total for name in names]
    return next(name for name, total in zip(names, totals, strict=True) if total == totals[-1])


def histogram_bars(where: EventFilter, start_us: int, end_us: int, buckets: int) -> tuple[tuple[Bar, ...], int]:
    """The bars of a histogram, drawn in a box 100 high, and the number of events in the highest."""
    found = services().store.histogram(start_us, end_us, buckets, where)
    return drawn(found, max(MINUTE_US, end_us - start_us))


def bars_of(events: Sequence[Event], buckets: int) -> tuple[tuple[Bar, ...], int]:
    """The same for events at hand: from the earliest to the latest of them."""
    if not events:
        return (), 0
    times = [event.timestamp_us for event in events]
    start = min(times) // MINUTE_US * MINUTE_US
    width = MINUTE_US * -(-(max(times) + 1 - start) // (buckets * MINUTE_US))
    found: list[tuple[int, dict[int, int]]] = [(at, {}) for at in range(start, max(times) + 1, width)]
    for event in events:
        bar = found[(event.timestamp_us - start) // width][1]
        bar[event.severity] = bar.get(event.severity, 0) + 1
    return drawn(found, width)


def drawn(found: Sequence[tuple[int, dict[int, int]]], only_us: int, highest: int = 0) -> tuple[tuple[Bar, ...], int]:
    """Bars from (start, events by severity); only_us: how wide a single one is; highest: the scale, else their own."""
    highest = highest or max((sum(n.values()) for _, n in found), default=0)
    starts = [start for start, _ in found]
    width = starts[1] - starts[0] if len(starts) > 1 else only_us
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
    sources = [source for source in services().store.sources() if may_know(source.source_name)]
    kept = bool(actor().sources)
    watched = [source for source in sources if source.enabled and source.kind != "cli"]
    engine = services().engine_status()
    trouble = _trouble(engine, watched)
    events, unknown = sum(source.events for source in sources), sum(source.unknown for source in sources)
    return Trust(
        tone="watch" if trouble else "good" if watched else "idle",
        headline=trouble or _flowing(watched, bool(sources)),
        decoded=f"{percent(events - unknown, events)} of {count(events)} decoded" if events else "no lines yet",
        lag="" if kept else _lag(engine),
        incidents=0 if kept else services().store.incidents_by_status().get("open", 0),
        blind=blind(engine) if watched and not kept else "",
    )


def muted(quiet_since: Mapping[int, int] | None = None) -> Mapping[int, str]:
    """The incidents that mutes in force were made from: until when, in words; of several the last one counts.

    quiet_since: when the last match joined each of the incidents that are asked about; those that went on after they
    were muted, by what the mute does not cover, are left out.
    """
    now = now_us()
    longest: dict[int, Mute] = {}
    for mute in services().store.mutes(now=now):
        known = longest.get(mute.incident_id)
        if mute.incident_id and (known is None or mute.expires_us > known.expires_us):
            longest[mute.incident_id] = mute
    return {
        number: until_words(mute, now, zone())
        for number, mute in longest.items()
        if quiet_since is None or quiet_since.get(number, now) <= mute.created_at
    }


def blind(engine: Mapping[str, Any]) -> str:
    """What of the engine's status keeps attacks from being seen, in a sentence; "" if nothing does."""
    if not engine:
        return "The engine is not running: nothing is read."
    unwell = [
        part for part in engine.get("components", ())
        if part["name"] in WATCHING and part["state"] in ("degraded", "failed")
    ]  # fmt: skip
    if not unwell:
        return ""
    unwell.sort(key=lambda part: part["state"] != "failed")
    more = f" And {plural(len(unwell) - 1, 'more part')}." if len(unwell) > 1 else ""
    return f"{unwell[0]['name'].capitalize()}: {sentence(unwell[0]['reason'])}{more}"


def _trouble(engine: Mapping[str, Any], watched: Sequence[SourceState]) -> str:
    """What stands in the way, in few words."""
    broken = sum(source.state in BROKEN_STATES for source in watched)
    if not engine:
        return "The engine is not running"
    if engine.get("unavailable"):
        return "The database takes no data"
    if services().config.errors:
        return "The configuration has mistakes"
    return f"{broken} of {plural(len(watched), 'source')} {'needs' if broken == 1 else 'need'} you" if broken else ""


def _flowing(watched: Sequence[SourceState], any_source: bool) -> str:
    behind = sum(source.state in ("reading", "waiting") for source in watched)
    if not watched:
        return "All sources are paused" if any_source else "Nothing is watched yet"
    if behind:
        return f"{plural(behind, 'source')} catching up"
    return "The source is flowing" if len(watched) == 1 else f"All {len(watched)} sources flowing"


def _lag(engine: Mapping[str, Any]) -> str:
    if engine.get("behind_bytes", 0) > BEHIND_BYTES:
        return f"{size(engine['behind_bytes'])} still to read"
    return f"lag {1000 * engine.get('last_batch_s', 0):.0f} ms" if engine else ""
