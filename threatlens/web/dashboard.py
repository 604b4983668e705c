"""The dashboard: what needs a person first, then numbers, then charts. Without any source: the first run."""

from __future__ import annotations

import time

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from threatlens.decoders import SourceDecoder
from threatlens.discovery import Discovered, discover
from threatlens.errors import ConfigError
from threatlens.event import EventFilter
from threatlens.web.attention import headline
from threatlens.web.auth import actor, needs
from threatlens.web.context import of_one_moment, services
from threatlens.web.event_filter import RANGES, View
from threatlens.web.overview import DASHBOARD_RANGES, SEVERE_ROWS, fitting_range, overview, trust
from threatlens.web.searches import pinned_searches

blueprint = Blueprint("dashboard", __name__)


@blueprint.get("/")
@needs("viewer", confined=True)
@of_one_moment
def index() -> str | Response:
    """The whole page; who may know of some sources only begins with their events."""
    if actor().sources:
        return redirect(url_for("events.index"), 303)
    if not services().store.sources():
        return render_template(
            "dashboard/first_run.html", found=discovered(), trust=trust(), may_act=actor().may("analyst")
        )
    last_id = services().store.last_id()
    view = severe_view()
    return render_template(
        "dashboard/index.html",
        view=view,
        severe=services().store.page(view.where, before=last_id + 1, limit=SEVERE_ROWS),
        severe_rows=SEVERE_ROWS,
        last_id=last_id,
        ranges=[(name, RANGES[name][1]) for name in DASHBOARD_RANGES],
        trust=trust(),
        may_act=actor().may("analyst"),
        cells=[{"saved": saved} for saved in pinned_searches()],
        **_values(),
    )


@blueprint.post("/first-run")
@needs("admin")
def start_watching() -> Response:
    """Add the logs that were ticked as sources."""
    chosen = set(request.form.getlist("path"))
    added = 0
    for log in discovered():
        if log.path not in chosen or not log.readable:
            continue
        try:
            services().config.add_log_source({"name": log.name, "path": log.path})
            added += 1
        except ConfigError as error:
            flash(f"{log.name}: {error.message}", "error")
    if not added:
        flash("Tick at least one log that can be read.", "error")
    return redirect(url_for("dashboard.index"), 303)


def discovered() -> list[Discovered]:
    """The logs on this machine."""
    found = services()
    return discover(
        found.config.config.allowed_roots,
        decode=lambda line: SourceDecoder().decode(line, time.time()),
        forbidden=(found.settings.data,),
    )


def range_name() -> str:
    """The time range the URL asks for; else a day, or less when all of the day lies in it."""
    name = request.args.get("range", "")
    return name if name in DASHBOARD_RANGES else fitting_range(DASHBOARD_RANGES[:3])


def severe_view() -> View:
    """The events of the dashboard's list."""
    return View(EventFilter(min_severity=5), {"min_severity": 5})


@of_one_moment
def panels() -> dict[str, str]:
    """The parts of the page that are kept up to date, by the id of their element."""
    values = _values()
    return {
        name: render_template(f"dashboard/_{name}.html", **values)
        for name in ("headline", "attention", "numbers", "histogram", "knocking", "targets", "sources")
    }


def _values() -> dict[str, object]:
    seen = overview(range_name())
    return {
        "seen": seen,
        "everything": View(EventFilter(), {}),
        "headline": headline(seen.items),
        "range_words": RANGES[seen.range_name][1].lower(),
    }
