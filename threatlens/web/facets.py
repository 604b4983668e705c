"""Facets: which values the found events have, and how often, each to be included or left out with a click.

Source and category are counted over the whole result by the roll-up; other fields over the events at hand, and it is
said so where those are not all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from threatlens.event import Event
from threatlens.store_reading import Counts
from threatlens.web.event_filter import View, term

TOP = 8
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
    include: str  # URL
    exclude: str  # URL


@dataclass(frozen=True, slots=True)
class Facet:
    """One field."""

    title: str
    over: str  # what is counted: "On this page", "Of the newest 2,000"; "": the whole result
    values: tuple[Value, ...]


def facets(view: View, counts: Counts, events: Sequence[Event], sampled: str = "On this page") -> list[Facet]:
    """What is known of the result; sampled: which part of it the events are, "" for all."""
    over = f"{sampled} {len(events):,}" if sampled.endswith("newest") else sampled
    found = []
    if view.where.is_counted:
        found += [
            _facet(view, "source", "Source", counts.by_source),
            _facet(view, "category", "Category", counts.by_category),
        ]
    for name, field, title in SAMPLED:
        seen = Counter(str(event.fields[field]) for event in events if field in event.fields)
        found.append(_facet(view, name, title, seen, over))
    return [facet for facet in found if facet.values]


def _facet(view: View, name: str, title: str, seen: Mapping[str, int], over: str = "") -> Facet:
    top = sorted(seen.items(), key=lambda each: (-each[1], each[0]))[:TOP]
    most = top[0][1] if top else 1
    values = []
    for text, n in top:
        asked = term(name, text)
        if asked:
            share = max(1, round(10 * n / most))
            values.append(Value(text, n, share, view.added(asked), view.added("-" + asked)))
    return Facet(title, over, tuple(values))
