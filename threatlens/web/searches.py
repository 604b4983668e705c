"""The query bar beside the list: help while one writes, searches that were saved, and the palette over everything."""

from __future__ import annotations

import ipaddress
from urllib.parse import parse_qsl, urlencode

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from threatlens.clock import now_us
from threatlens.errors import QueryError
from threatlens.query import MAX_LENGTH, parse_query
from threatlens.store_searches import SavedSearch
from threatlens.web.auth import access_of, actor, is_open, may_know, needs
from threatlens.web.completion import completions
from threatlens.web.context import services
from threatlens.web.event_filter import quoted

MAX_NAME = 80  # characters
MAX_PARAMS = 4_000  # characters
MOST_FOUND = 20
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
    return render_template("events/_query_help.html", options=completions(text), wrong=wrong, text=text)


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
        except QueryError as error:
            flash(str(error), "error")
    return redirect(url_for("events.index") + (f"?{params}" if params else ""), 303)


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
        try:
            address = str(ipaddress.ip_address(text))
            found.insert(0, ("Address", address, url_for("entities.detail", kind="address", value=address)))
        except ValueError:
            if " " not in text:
                found.append(("User", text, url_for("entities.detail", kind="user", value=text)))
                found.append(("Host", text, url_for("entities.detail", kind="host", value=text)))
    if text:
        found.append(("Events", f"Search for {text}", url_for("events.index", q=quoted(text))))
    return found


def _is_for(endpoint: str) -> bool:
    """Whether the page exists and whoever asks may see it."""
    access = access_of(current_app.view_functions.get(endpoint))
    return access is not None and actor().may(access.role) and is_open(endpoint)
