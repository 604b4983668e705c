"""Facets: which values the found events have, and how often, each to be included or left out with a click.

Source and category are counted over the whole result by the roll-up; other fields over the lines on the page, and it is
said so.
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
    whole: bool  # counted over the whole result, not over the lines on the page
    values: tuple[Value, ...]


def facets(view: View, counts: Counts, events: Sequence[Event]) -> list[Facet]:
    """What is known of the result."""
    found = []
    if view.where.is_counted:
        found += [
            _facet(view, "source", "Source", counts.by_source, whole=True),
            _facet(view, "category", "Category", counts.by_category, whole=True),
        ]
    for name, field, title in SAMPLED:
        seen = Counter(str(event.fields[field]) for event in events if field in event.fields)
        found.append(_facet(view, name, title, seen, whole=False))
    return [facet for facet in found if facet.values]


def _facet(view: View, name: str, title: str, seen: Mapping[str, int], *, whole: bool) -> Facet:
    top = sorted(seen.items(), key=lambda each: (-each[1], each[0]))[:TOP]
    most = top[0][1] if top else 1
    values = []
    for text, n in top:
        asked = term(name, text)
        if asked:
            share = max(1, round(10 * n / most))
            values.append(Value(text, n, share, view.added(asked), view.added("-" + asked)))
    return Facet(title, whole, tuple(values))
