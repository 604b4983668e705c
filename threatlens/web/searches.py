"""The query bar beside the list: help while one writes, searches that were saved, and the palette over everything."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from urllib.parse import parse_qsl, urlencode

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from threatlens.clock import now_us
from threatlens.errors import QueryError
from threatlens.event import EventFilter
from threatlens.query import MAX_LENGTH, parse_query
from threatlens.store_searches import MAX_PINNED, SavedSearch
from threatlens.web.appearance import local_path
from threatlens.web.auth import access_of, actor, is_open, kept_within, may_know, needs
from threatlens.web.completion import completions, values_of
from threatlens.web.context import services
from threatlens.web.event_filter import RANGES, quoted, read_view
from threatlens.web.overview import bars_of

MAX_NAME = 80  # characters
MAX_PARAMS = 4_000  # characters
MOST_FOUND = 20
NAMED = 5  # addresses, and users, among them
#: Of a cell of the dashboard: its bars; seconds and events for a search that reads lines.
CELL_BARS, CELL_S, CELL_EVENTS = 24, 0.2, 2_000
#: What a saved search keeps of an address; the place in the list is not of it.
KEPT = frozenset(("q", "min_severity", "max_severity", "category", "source", "range", "start", "end", "column", "sort"))
PAGES = (
    ("Dashboard", "dashboard.index"), ("Incidents", "incidents.index"), ("Events", "events.index"),
    ("Rules", "rules.index"), ("Sources", "sources.index"), ("Add a source", "sources.add"),
    ("Unknown lines", "unknown.index"), ("Test a line", "decode.index"), ("Dead letters", "dead_letters.index"),
    ("Upload files", "upload.index"), ("Notifications", "notifications.index"), ("Reports", "reports.index"),
    ("Settings", "settings.index"), ("Users", "accounts.index"), ("Tokens", "settings.tokens"),
    ("Audit log", "audit.index"), ("Health", "health.index"), ("Threat lists", "threat_lists.index"),
    ("Compare two times", "comparison.index"), ("Configuration", "configuration.index"), ("New rule", "rules.add"),
    ("Language model", "language_model.index"),
)  # fmt: skip

blueprint = Blueprint("searches", __name__)


def saved_searches() -> list[SavedSearch]:
    """What the person looking has saved."""
    user = actor().user
    return services().store.saved_searches(user.id) if user else []


@blueprint.get("/events/query")
@needs("viewer", confined=True)
def query_help() -> str:
    """What may come next in the query, and what is wrong with it, underlined."""
    text = request.args.get("q", "")[: MAX_LENGTH + 1]
    wrong: QueryError | None = None
    try:
        parse_query(text, now_us=now_us())
    except QueryError as error:
        wrong = error
    options = completions(text)
    begun = len(text) - len(text.split()[-1]) if text.split() else 0
    if wrong is not None and options and (not wrong.column or wrong.column > begun):
        wrong = None  # it is being written
    return render_template(
        "events/_query_help.html", options=options, wrong=wrong, text=text,
        completing=True,
    )  # fmt: skip


@blueprint.post("/searches")
@needs("viewer", confined=True)
def save() -> Response:
    """Keep a search under a name."""
    name = " ".join(request.form.get("name", "").split())[:MAX_NAME]
    params = kept(request.form.get("params", ""))
    user = actor().user
    if user is None:
        abort(403)
    if not name or not params:
        flash("A saved search has a name, and something that is searched.", "error")
    else:
        try:
            services().store.save_search(user.id, name, params, now_us())
            flash(f"Saved as {name}.", "done")
            if "pin" in request.form:
                _pin(user.id, name, pinned=True)
        except QueryError as error:
            flash(str(error), "error")
    return redirect(url_for("events.index") + (f"?{params}" if params else ""), 303)


@blueprint.post("/searches/pin")
@needs("viewer", confined=True)
def pin() -> Response:
    """Put one of one's own on the dashboard, or take it away."""
    user = actor().user
    if user is None:
        abort(403)
    _pin(user.id, request.form.get("name", "")[:MAX_NAME], pinned=request.form.get("pinned") == "1")
    return redirect(local_path(request.form.get("next", "")), 303)


def _pin(user_id: int, name: str, *, pinned: bool) -> None:
    if not services().store.pin_search(user_id, name, pinned=pinned):
        flash(f"At most {MAX_PINNED} searches stand on the dashboard; take one away first.", "error")
    else:
        flash(f"{name} stands on the dashboard." if pinned else f"{name} is off the dashboard.", "done")


@blueprint.get("/searches/cells")
@needs("viewer")
def cells() -> str:
    """The searches of the dashboard with their numbers in its range."""
    return render_template("dashboard/_cells.html", cells=[_cell(saved) for saved in pinned_searches()], counted=True)


def pinned_searches() -> list[SavedSearch]:
    """What of one's own stands on the dashboard."""
    return [saved for saved in saved_searches() if saved.pinned]


def _cell(saved: SavedSearch) -> dict[str, object]:
    """What a cell shows: how many events there are in the range, at least, and when."""
    span = request.args.get("range", "")
    pairs = [pair for pair in parse_qsl(saved.params) if pair[0] not in ("range", "start", "end", "sort")]
    view = read_view(MultiDict([*pairs, ("range", span if span in RANGES else "24h")]), now_us())
    where, store = kept_within(view.where), services().store
    if where.is_counted:
        total, complete = store.counts(where).total, True
        found = store.histogram(where.start_us or 0, now_us(), CELL_BARS, where)
        hours = [sum(by_severity.values()) for _, by_severity in found]
    else:
        seen = store.survey(where, within_s=CELL_S, most=CELL_EVENTS)
        total, complete = len(seen.events), seen.complete
        hours = [bar.total for bar in bars_of(seen.events, CELL_BARS)[0]]
    return {
        "saved": saved, "url": view.url(), "n": total, "complete": complete, "hours": hours,
        "rule_url": _rule_url(saved.name, where),
    }  # fmt: skip


def _rule_url(name: str, where: EventFilter) -> str:
    """The form of a notification rule that asks for the same; "" where no rule can, or not from who asks."""
    rest = replace(where, start_us=None, end_us=None, sources=(), categories=(), min_severity=1, max_severity=10)
    if rest != EventFilter() or not actor().may("admin"):
        return ""
    return url_for(
        "notifications.add_rule",
        name=name,
        source=where.sources,
        category=where.categories,
        min_severity=where.min_severity,
        max_severity=where.max_severity,
    )


@blueprint.post("/searches/<int:search_id>/delete")
@needs("viewer", confined=True)
def delete(search_id: int) -> Response:
    """Forget one of one's own."""
    user = actor().user
    if user is None or search_id > 2**62 or not services().store.delete_search(user.id, search_id):
        abort(404)
    flash("The saved search is forgotten.", "done")
    return redirect(url_for("events.index"), 303)


@blueprint.get("/palette")
@needs("viewer", confined=True)
def palette() -> str:
    """Pages, sources, saved searches, rules, addresses and users that fit a few letters."""
    text = " ".join(request.args.get("find", "").split())[:200]
    return render_template("_palette.html", found=_found(text)[:MOST_FOUND], text=text)


def kept(params: str) -> str:
    """The part of an address that a saved search keeps, in one way of writing it; "" if there is none."""
    if len(params) > MAX_PARAMS:
        return ""
    pairs = [(name, value) for name, value in parse_qsl(params) if name in KEPT]
    return urlencode(pairs)


def _found(text: str) -> list[tuple[str, str, str]]:
    """(what it is, its name, its address)."""
    sought = text.lower()
    known: list[tuple[str, str, str]] = [
        ("Page", name, url_for(endpoint)) for name, endpoint in PAGES if _is_for(endpoint)
    ]
    known += [("Search", saved.name, f"{url_for('events.index')}?{saved.params}") for saved in saved_searches()]
    known += [
        ("Source", source.source_name, url_for("events.index", source=source.source_name))
        for source in services().store.sources()
        if may_know(source.source_name)
    ]
    found = [each for each in known if sought in each[1].lower()]
    if text and not actor().sources:
        found += [
            ("Rule", rule.name, url_for("rules.detail", rule_id=rule.id))
            for rule in services().rules.loaded().rules
            if sought in rule.name.lower()
        ][:8]
        found.sort(key=lambda each: not each[1].lower().startswith(sought))
        found += _named(text)
        try:
            address = str(ipaddress.ip_address(text))
            found = [each for each in found if each[:2] != ("Address", address)]
            found.insert(0, ("Address", address, url_for("entities.detail", kind="address", value=address)))
        except ValueError:
            if " " not in text:
                if not any(each[:2] == ("User", text) for each in found):
                    found.append(("User", text, url_for("entities.detail", kind="user", value=text)))
                found.append(("Host", text, url_for("entities.detail", kind="host", value=text)))
    if text:
        found.append(("Events", f"Search for {text}", url_for("events.index", q=quoted(text))))
    return found


def _named(begun: str) -> list[tuple[str, str, str]]:
    """The busiest addresses of the last day, and users, whose names begin so."""
    found: list[tuple[str, str, str]] = []
    for kind, field, words in (("address", "src", "Address"), ("user", "user", "User")):
        names = [name for name in values_of(field, begun.lower()) if name.lower().startswith(begun.lower())]
        found += [(words, name, url_for("entities.detail", kind=kind, value=name)) for name in names[:NAMED]
                  if 0 < len(name) < 300]  # fmt: skip
    return found


def _is_for(endpoint: str) -> bool:
    """Whether the page exists and whoever asks may see it."""
    access = access_of(current_app.view_functions.get(endpoint))
    return access is not None and actor().may(access.role) and is_open(endpoint)
