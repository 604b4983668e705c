"""Facets: which values the found events have, and how often, each to be included or left out with a click.

Source and category are counted over the whole result by the roll-up; other fields over the events at hand, and it is
said so where those are not all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from threatlens.event import Event
from threatlens.store_reading import Counts
from threatlens.web.event_filter import View, term

TOP = 10
SPARKS = 16  # columns of the small chart of a value
#: Short name in the query, field, heading.
SAMPLED = (
    ("src", "source.ip", "Source address"), ("user", "user.name", "User"), ("host", "host.name", "Host"),
    ("action", "event.action", "Action"), ("outcome", "event.outcome", "Outcome"),
    ("process", "process.name", "Process"), ("status", "http.response.status_code", "Status"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a facet."""

    text: str
    n: int
    share: int  # of the most frequent one, 1 to 10
    include: str  # URL; where it is asked for already, one without it
    exclude: str  # URL
    only: str  # URL of a search for this alone; "": it is that already
    chosen: bool  # the search asks for it
    spark: tuple[int, ...] = ()  # events over the time of what is counted, the latest last; empty: not known


@dataclass(frozen=True, slots=True)
class Facet:
    """One field."""

    title: str
    over: str  # what is counted: "On this page", "Of the newest 2,000"; "": the whole result
    values: tuple[Value, ...]
    more: int = 0  # values that are not among them


def facets(
    view: View,
    counts: Counts,
    events: Sequence[Event],
    sampled: str = "On this page",
    over_time: Mapping[tuple[str, str], Sequence[int]] | None = None,
    find: str = "",
) -> list[Facet]:
    """What is known of the result; sampled: which part of it the events are, "" for all; over_time: events in each
    stretch of time, by ("source" or "category", its name); find: only values with this in them."""
    known = over_time or {}
    place = _places(events)
    over = f"{sampled} {len(events):,}" if sampled.endswith("newest") else sampled
    found = []
    if view.where.is_counted:
        found += [
            _facet(view, name, title, seen, find, sparks={text: known.get((name, text), ()) for text in seen})
            for name, title, seen in (
                ("source", "Source", counts.by_source),
                ("category", "Category", counts.by_category),
            )
        ]
    for name, field, title in SAMPLED:
        seen: Counter[str] = Counter()
        sparks: dict[str, list[int]] = {}
        for event in events:
            if field in event.fields:
                text = str(event.fields[field])
                seen[text] += 1
                sparks.setdefault(text, [0] * SPARKS)[place(event)] += 1
        found.append(_facet(view, name, title, seen, find, over, sparks))
    return [facet for facet in found if facet.values]


def _places(events: Sequence[Event]) -> Callable[[Event], int]:
    """Which column of a small chart an event belongs to, from the earliest of these to the latest."""
    times = [event.timestamp_us for event in events]
    start, width = (min(times), max(times) + 1 - min(times)) if times else (0, 1)
    return lambda event: (event.timestamp_us - start) * SPARKS // width


def _facet(
    view: View,
    name: str,
    title: str,
    seen: Mapping[str, int],
    find: str,
    over: str = "",
    sparks: Mapping[str, Sequence[int]] | None = None,
) -> Facet:
    wanted = [each for each in seen.items() if find.lower() in each[0].lower()]
    top = sorted(wanted, key=lambda each: (-each[1], each[0]))[:TOP]
    most = top[0][1] if top else 1
    values = []
    for text, n in top:
        asked = term(name, text)
        if asked:
            share = max(1, round(10 * n / most))
            spark = tuple((sparks or {}).get(text, ()))
            chosen = view.asks(asked)
            include = view.without(asked) if chosen else view.added(asked)
            only = "" if view.params.get("q", "") in ("", asked) else view.url(q=asked)
            values.append(Value(text, n, share, include, view.added("-" + asked), only, chosen, spark))
    return Facet(title, over, tuple(values), len(wanted) - len(top))
