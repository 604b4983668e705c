"""Two windows of time side by side: what is more, what is less, what is new.

Sources, categories, severities and rules are counted over all of both windows. Other fields are read from the newest
events of each, as far as a person waits, and are then compared by their share; only where a whole window was read, a
value that is missing there is called new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flask import Blueprint, render_template, request

from threatlens.clock import now_us
from threatlens.event import Event, EventFilter
from threatlens.store_reading import Survey
from threatlens.web.auth import actor, kept_within, needs
from threatlens.web.context import of_one_moment, services
from threatlens.web.event_filter import RANGES, View, read_view, term
from threatlens.web.facets import SAMPLED
from threatlens.web.overview import drawn, trust

SURVEY_S, SURVEY_EVENTS = 0.3, 300  # of each window
TOP = 8
BARS = 60
HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
MINUTE_US = 60_000_000
#: Word in the address, and what the window is compared with.
WITH = {"before": "the time just before", "day": "the day before", "week": "the week before"}

blueprint = Blueprint("comparison", __name__)


@dataclass(frozen=True, slots=True)
class Change:
    """One value in both windows."""

    text: str
    now: str  # a count, or a share of what was read
    then: str
    word: str  # new, gone, × 2.5, ÷ 3, same
    tone: str  # more, less, same
    url: str  # its events


@dataclass(frozen=True, slots=True)
class Group:
    """The values of one field."""

    title: str
    over: str  # what is compared, where it is not everything
    changes: tuple[Change, ...]


@blueprint.get("/events/compare")
@needs("viewer", confined=True)
@of_one_moment
def index() -> str:
    """What a window of the filter in the address has that another does not have."""
    now = now_us()
    view = read_view(request.args, now)
    view = replace(view, where=kept_within(view.where))
    is_kept = bool(actor().sources)  # rules and shapes of lines are counted over all sources together
    chosen = request.args.get("with", "")
    chosen = chosen if chosen in WITH else "before"
    end = max(min(view.where.end_us or now, now), MINUTE_US)
    start = view.where.start_us if view.where.start_us is not None else end - RANGES["1h"][0] * 1_000_000
    start = max(min(start, end - MINUTE_US) // MINUTE_US * MINUTE_US, 0)
    back = {"before": end - start, "day": DAY_US, "week": 7 * DAY_US}[chosen]
    windows = [replace(view.where, start_us=start - shift, end_us=end - shift) for shift in (0, back)]
    store = services().store
    counts = [store.counts(where) for where in windows]
    surveys = [store.survey(where, within_s=SURVEY_S, most=SURVEY_EVENTS) for where in windows]
    shapes = [shape for shape in (() if is_kept else store.templates()) if start <= shape.first_seen_us < end]
    groups = [] if is_kept else [_rules(view, windows)]
    if view.where.is_counted:
        groups += [
            _counted(view, "source", "Source", counts[0].by_source, counts[1].by_source),
            _counted(view, "category", "Category", counts[0].by_category, counts[1].by_category),
        ]
    groups += [_sampled(view, name, field, title, surveys) for name, field, title in SAMPLED]
    return render_template(
        "comparison/index.html",
        view=view,
        chosen=chosen,
        WITH=WITH,
        windows=windows,
        counts=counts,
        charts=_charts(windows) if view.where.is_counted else (),
        groups=[group for group in groups if group.changes],
        new=[(group.title, change) for group in groups for change in group.changes if change.word == "new"],
        shapes=shapes[:TOP],
        severe=[sum(n for severity, n in each.by_severity.items() if severity >= 5) for each in counts],
        trust=trust(),
    )


def _charts(windows: Sequence[EventFilter]) -> list[Any]:
    """Both histograms, to one scale."""
    found = []
    for where in windows:
        start, end = where.start_us or 0, where.end_us or 0
        found.append(services().store.histogram(start, end, BARS, where))
    highest = max((sum(n.values()) for bars in found for _, n in bars), default=0)
    return [drawn(bars, MINUTE_US, highest) for bars in found]


def _rules(view: View, windows: Sequence[EventFilter]) -> Group:
    """Which rules matched; without regard to the rest of the filter."""
    hits = [services().store.rule_hits(where.start_us or 0, where.end_us or 0) for where in windows]
    names = {rule_id: name for each in hits for rule_id, (name, _) in each.items()}
    now, then = ({rule_id: n for rule_id, (_, n) in each.items()} for each in hits)
    changes = _changes(now, then, whole=True)
    return Group(
        "Rules",
        "",
        tuple(replace(each, text=names[each.text], url=view.url(q=term("rule", names[each.text]))) for each in changes),
    )


def _counted(view: View, name: str, title: str, now: Mapping[str, int], then: Mapping[str, int]) -> Group:
    return Group(
        title, "", tuple(replace(each, url=_only(view, name, each.text)) for each in _changes(now, then, whole=True))
    )


def _sampled(view: View, name: str, field: str, title: str, surveys: Sequence[Survey]) -> Group:
    now, then = (Counter(_values(survey.events, field)) for survey in surveys)
    whole = all(survey.complete for survey in surveys)
    over = "" if whole else f"of the newest {max(len(survey.events) for survey in surveys):,}"
    sizes, complete = zip(*((len(survey.events), survey.complete) for survey in surveys), strict=True)
    changes = _changes(now, then, whole=whole, sizes=sizes, complete=complete)
    return Group(title, over, tuple(replace(each, url=_only(view, name, each.text)) for each in changes))


def _values(events: Sequence[Event], field: str) -> list[str]:
    return [str(event.fields[field]) for event in events if field in event.fields]


def _only(view: View, name: str, value: str) -> str:
    asked = term(name, value)
    return view.added(asked) if asked else view.url()


def _changes(
    now: Mapping[str, int],
    then: Mapping[str, int],
    *,
    whole: bool,
    sizes: tuple[int, ...] = (1, 1),
    complete: tuple[bool, ...] = (True, True),
) -> list[Change]:
    """What changed most, first what is new; complete: of which window everything is known, so that 0 is none."""
    scale = [1.0, 1.0] if whole else [100 / max(size, 1) for size in sizes]
    rows = []
    for text in {*now, *then}:
        here, there = now.get(text, 0) * scale[0], then.get(text, 0) * scale[1]
        word, tone = change_word(here, there, certain=complete[0 if there else 1])
        shown = [f"{value:,.0f}" if whole else _percent(value) for value in (here, there)]
        rows.append((word != "new", -abs(here - there), text, Change(text, shown[0], shown[1], word, tone, "")))
    return [row[-1] for row in sorted(rows, key=lambda row: row[:3])[:TOP]]


def _percent(share: float) -> str:
    return "0" if not share else f"{share:.1f} %" if share < 10 else f"{share:.0f} %"


def change_word(here: float, there: float, *, certain: bool) -> tuple[str, str]:
    """What became of a value, in a word, and its tone; certain: a 0 means that there was none."""
    if not there:
        return ("new" if certain else "not in the sample then"), "more"
    if not here:
        return ("gone" if certain else "not in the sample now"), "less"
    if here >= 1.1 * there:
        return f"× {here / there:.1f}", "more"
    if there >= 1.1 * here:
        return f"÷ {there / here:.1f}", "less"
    return "same", "same"
