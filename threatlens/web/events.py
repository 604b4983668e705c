"""The events page and the page of one event."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from flask import Blueprint, abort, redirect, render_template, request, url_for
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from threatlens import analysis
from threatlens.clock import now_us
from threatlens.decoders.spans import pieces
from threatlens.event import Event, EventFilter, rfc3339
from threatlens.event_match import FieldTest
from threatlens.exports import FORMS
from threatlens.store_search import Found
from threatlens.store_sorting import SORTS
from threatlens.web.auth import actor, kept_within, may_know, needs, record
from threatlens.web.context import of_one_moment, services
from threatlens.web.event_filter import (
    MAX_ID,
    RANGES,
    TURNS,
    View,
    field_value,
    is_column,
    read_view,
    term,
)
from threatlens.web.exporting import exports, stream
from threatlens.web.facets import SPARKS, facets
from threatlens.web.overview import bars_of, fitting_range, histogram_bars, trust
from threatlens.web.problems import ProblemError
from threatlens.web.searches import saved_searches

PAGE_ROWS = 50
CONTEXT_LINES = 6  # of the same source, before and after
MORE_CONTEXT_LINES = 20  # where somebody asks for it
MAX_TERM = 500  # characters of a value that a query asks for
MAX_ADDRESS = 8_000  # characters
#: What is looked for around an event: the name in the query and the field.
NEARBY = {"ip": "source.ip", "user": "user.name", "host": "host.name", "session": "session.id"}
NEARBY_US = 300_000_000
BARS = 90
#: For what is read beside the page itself: seconds and events.
SURVEY_S, SURVEY_EVENTS = 0.6, 5_000
#: Columns that are offered whatever stands in the events at hand.
OFFERED = (
    "source", "category", "host.name", "source.ip", "user.name", "process.name", "event.action", "event.outcome",
    "url.original", "http.response.status_code", "destination.ip", "format", "path", "rule.name",
)  # fmt: skip
MAX_CHART_US = 30 * 86_400_000_000

blueprint = Blueprint("events", __name__)


@blueprint.get("/events")
@needs("viewer", confined=True)
@of_one_moment
def index() -> str:
    """A page of events, newest first, as the URL filters them."""
    view = asked_view()
    last_id = services().store.last_id()
    events, newer, older, stopped = _page(view, last_id)
    summary = _summary(view)
    return render_template(
        "events/index.html",
        events=events,
        facets=facets(view, summary["counts"], events, find=_find()),
        find=_find(),
        saved=(saved := saved_searches()),
        sent={one.search_id for one in services().store.schedules()} if saved else (),
        newer=newer,
        older=older,
        stopped=stopped,
        last_id=last_id,
        **summary,
        ranges=RANGES,
        forms=FORMS.values(),
        sorts=SORTS,
        TURNS=TURNS,
        choosable=_choosable(view, events),
        times={name: field_value(view.params, name) for name in ("start", "end")},
        sources=sorted(each.source_name for each in services().store.sources() if may_know(each.source_name)),
        trust=trust(),
    )


@blueprint.get("/events/survey")
@needs("viewer", confined=True)
@of_one_moment
def survey() -> str:
    """What is known of the whole result, or of as much of it as can be read at once: facets, histogram, how many."""
    view = asked_view()
    seen = services().store.survey(view.where, within_s=SURVEY_S, most=SURVEY_EVENTS)
    summary = _summary(view)
    if not view.where.is_counted:
        summary["bars"], summary["highest"] = bars_of(seen.events, BARS)
    return render_template(
        "events/_survey.html",
        seen=seen,
        facets=facets(
            view, summary["counts"], seen.events, "" if seen.complete else "Of the newest", _over_time(view), _find()
        ),
        find=_find(),
        **summary,
    )


@blueprint.get("/events/export")
@needs("viewer", confined=True)
def export() -> Response:
    """All events that the URL's filter finds, as a file; a filter that cannot be read exports nothing."""
    form = request.args.get("format", "")
    view = asked_view()
    if form not in FORMS or view.errors:
        abort(400, " ".join(view.errors) or f"A format is one of {', '.join(FORMS)}.")
    asked = request.query_string.decode("utf-8", "replace")
    try:
        return stream(view.where, form, bom=request.args.get("bom") == "1", asked=asked)
    except ProblemError as problem:
        abort(problem.status, str(problem))


@blueprint.get("/events/exports")
@needs("viewer", confined=True)
def exports_under_way() -> str:
    """Those of who asks: how far they are. The fragment asks again by itself as long as there are some."""
    return render_template("events/_exports.html", exports=exports().of(actor().name))


@blueprint.post("/events/exports/<int:export_id>/cancel")
@needs("viewer", confined=True)
def cancel_export(export_id: int) -> Response:
    """End one of one's own; its reader sees that the file is not whole."""
    if not exports().cancel(export_id, actor().name):
        abort(404)
    record("events.export_cancelled", str(export_id))
    return redirect(url_for("events.exports_under_way"), 303)


@blueprint.get("/events/<int:event_id>")
@needs("viewer", confined=True)
@of_one_moment
def detail(event_id: int) -> str:
    """One event: raw and decoded as one thing, and what stands around it."""
    event = services().store.event(event_id) if event_id <= MAX_ID else None
    if event is None or not may_know(event.source):
        abort(404)
    template = "events/_detail.html" if request.headers.get("HX-Request") == "true" else "events/detail.html"
    same, where = _same(event, request.args.get("same", ""))
    store, where, all_of_them = services().store, kept_within(where), kept_within(EventFilter())
    lines = CONTEXT_LINES if same == "source" else MORE_CONTEXT_LINES
    before = store.page(where, before=event.id, limit=lines)
    behind = store.page(where, after=event.id, limit=lines)
    return render_template(
        template,
        event=event,
        analysis=analysis.of_event(event, services().rules.advice),
        pieces=pieces(event.raw, event.fields),
        fields=_fields(event),
        around=[*reversed(behind), event, *before],
        cut_off=[each for each in (_stopped(before), _stopped(behind)) if each],
        same=same,
        sames=["source", *(name for name, _ in _values(event))],
        nearby=_nearby(event),
        older=next(iter(store.page(all_of_them, before=event.id, limit=1)), None),
        newer=next(iter(store.page(all_of_them, after=event.id, limit=1)), None),
        trust=trust(),
    )


def _find() -> str:
    """What the values of facets shall have in them."""
    return request.args.get("find", "").strip()[:100]


def asked_view() -> View:
    """What the URL asks for, of what whoever asks may know of."""
    view = read_view(request.args, now_us())
    return replace(view, where=kept_within(view.where))


def _values(event: Event) -> list[tuple[str, str]]:
    """What an event shares with those around it: the name in a query and the value."""
    values = [("file", event.path), *((name, str(event.fields.get(field, ""))) for name, field in NEARBY.items())]
    return [(name, value) for name, value in values if value and term(name, value)]


def _same(event: Event, name: str) -> tuple[str, EventFilter]:
    """Which lines stand around the event: those of the same file, host, address, ..., or of its source."""
    value = dict(_values(event)).get(name)
    if value is None:
        return "source", EventFilter(sources=(event.source,))
    return name, EventFilter(tests=(FieldTest(name, ":", (value,)),))


def _nearby(event: Event) -> list[tuple[str, str]]:
    """What was of the same file, host, address and so on within minutes: words and the query."""
    span = f"after:{rfc3339(event.timestamp_us - NEARBY_US)} before:{rfc3339(event.timestamp_us + NEARBY_US)}"
    return [("everything", span), *((name, f"{term(name, value)} {span}") for name, value in _values(event))]


def _choosable(view: View, events: list[Event]) -> list[str]:
    """The columns that are offered: the usual ones, those chosen, and what the events at hand have."""
    there = sorted(filter(is_column, {name for event in events for name in event.fields}))
    return list(dict.fromkeys((*view.columns, *OFFERED, *there)))[:60]


@of_one_moment
def panels() -> dict[str, str]:
    """The parts of the list's page that are kept up to date, beside the rows themselves."""
    view = asked_view()
    if not view.where.is_counted:
        return {}  # nobody counts that every second
    summary = _summary(view)
    return {
        "events-total": render_template("events/_total.html", **summary),
        "events-summary": render_template("events/_summary.html", **summary),
    }


def _summary(view: View) -> dict[str, Any]:
    bars, highest = _bars(view)
    return {"view": view, "counts": services().store.counts(view.where), "bars": bars, "highest": highest}


def _page(view: View, last_id: int) -> tuple[list[Event], int | None, int | None, Event | None]:
    """The events of this page; the `after` of the newer page and the `before` of the older one; the last event that
    was looked at where the time was up.
    """
    store = services().store
    if view.sort:
        found = store.sorted_page(view.where, view.sort, view.past, limit=PAGE_ROWS + 1)
        events = found[:PAGE_ROWS]
        older = events[-1].id if len(found) > PAGE_ROWS else found.stopped_at
        return events, None, older, _stopped(found)
    if view.after is not None:
        found = store.page(view.where, after=view.after, limit=PAGE_ROWS + 1)
        more = len(found) > PAGE_ROWS
        events = found[:PAGE_ROWS][::-1]
        newer = events[0].id if events and more else found.stopped_at
        return events, newer, events[-1].id if events else view.after + 1, _stopped(found)
    found = store.page(view.where, before=view.before or last_id + 1, limit=PAGE_ROWS + 1)
    events = found[:PAGE_ROWS]
    newer = events[0].id if events and view.before else None
    older = events[-1].id if len(found) > PAGE_ROWS else found.stopped_at
    return events, newer, older, _stopped(found)


def _stopped(found: Found) -> Event | None:
    event = None if found.stopped_at is None else services().store.event(found.stopped_at)
    return event if event is not None and may_know(event.source) else None


def _over_time(view: View) -> dict[tuple[str, str], list[int]]:
    """Sources and categories over the time of the histogram; nothing where the roll-up does not know the search."""
    if not view.where.is_counted:
        return {}
    return services().store.sources_over_time(*_chart_span(view), SPARKS, view.where)


def _bars(view: View) -> tuple[object, int]:
    """The histogram of the filter; none where something is searched that the roll-up does not know."""
    if not view.where.is_counted:
        return (), 0
    return histogram_bars(view.where, *_chart_span(view), BARS)


def _chart_span(view: View) -> tuple[int, int]:
    """From when to when the histogram goes, microseconds since the epoch."""
    end = min(view.where.end_us or now_us(), now_us())
    start = view.where.start_us
    if start is None:
        start = end - RANGES[fitting_range(("15m", "1h", "24h"))][0] * 1_000_000
    if not 0 < end - start <= MAX_CHART_US:
        start = end - MAX_CHART_US
    return start, end


@dataclass(frozen=True, slots=True)
class FieldRow:
    """A field of an event, and where its value leads."""

    name: str
    text: str
    term: str = ""  # of the query; "": no query can ask for it
    only: str = ""  # URL
    include: str = ""  # URL; "" where nothing else is searched
    exclude: str = ""  # URL


def _fields(event: Event) -> list[FieldRow]:
    """The fields; their values narrow down the list that the event is looked at beside, if it is."""
    beside, none = _view_beside(), View(EventFilter(), {})
    rows = []
    for name, value in event.fields.items():
        text = ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
        asked = "" if isinstance(value, list) or len(text) > MAX_TERM or not is_column(name) else term(name, text)
        if not asked:
            rows.append(FieldRow(name, text))
            continue
        include = beside.added(asked) if beside.params else ""
        rows.append(FieldRow(name, text, asked, none.added(asked), include, beside.added("-" + asked)))
    return rows


def _view_beside() -> View:
    """The list beside which this event is shown, as the browser says; else all events."""
    page = urlsplit(request.headers.get("HX-Current-URL", "")[:MAX_ADDRESS])
    if page.path != url_for("events.index"):
        return View(EventFilter(), {})
    return read_view(MultiDict(parse_qsl(page.query)), now_us())
