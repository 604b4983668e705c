"""The sources: how each is doing and what to do about it; adding, changing, pausing and removing them."""

from __future__ import annotations

import os

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from threatlens.clock import now_us
from threatlens.errors import ConfigError
from threatlens.store_sources import SourceView
from threatlens.web.auth import actor, needs
from threatlens.web.context import services
from threatlens.web.event_filter import whole
from threatlens.web.overview import trust
from threatlens.web.preview import Preview, checked, preview
from threatlens.web.source_forms import DEFAULTS, SourceForm, as_form_data, time_zones

blueprint = Blueprint("sources", __name__)


@blueprint.get("/sources")
@needs("viewer")
def index() -> str:
    """The list."""
    return render_template("sources/index.html", trust=trust(), **_values())


def panels() -> dict[str, str]:
    """The part of the list that is kept up to date."""
    return {"source-list": render_template("sources/_list.html", **_values())}


def _values() -> dict[str, object]:
    config, status = services().config, services().engine_status()
    return {
        "sources": services().store.sources(),
        "hours": services().store.hours_of_sources(now_us()),
        "skews": {int(number): skew for number, skew in status.get("skews", {}).items()},
        "habits": {int(number): usual for number, usual in status.get("habits", {}).items()},
        "config_errors": config.errors,
        "config_warnings": config.warnings if config.get_log_sources() else [],
    }


@blueprint.route("/sources/add", methods=["GET", "POST"])
@needs("admin")
def add() -> Response | str:
    """A new source; the button "test" shows what would be read without saving anything."""
    form = SourceForm(data=as_form_data("", request.args.get("path", "")[:4096], True, {}))
    if form.is_submitted() and form.validate():
        if "test" in request.form:
            return _form_page(form, None, _tested(form))
        try:
            source = services().config.add_log_source(form.values(), author=actor().name)
        except ConfigError as error:
            return _form_page(form, None, None, error)
        flash(f"{source.source_name} is being watched.", "done")
        return redirect(url_for("sources.index"), 303)
    return _form_page(form, None, None)


@blueprint.route("/sources/<int:source_id>", methods=["GET", "POST"])
@needs("admin")
def edit(source_id: int) -> Response | str:
    """A source that is there. What threatlens.yaml declares is shown and not changed."""
    source = _source(source_id)
    form = SourceForm(data=as_form_data(source.source_name, source.path, source.enabled, source.settings))
    if form.is_submitted() and form.validate():
        if "test" in request.form:
            return _form_page(form, source, _tested(form))
        try:
            changed = services().config.update_log_source(source.source_name, form.values(), author=actor().name)
        except ConfigError as error:
            return _form_page(form, source, None, error)
        flash(f"{changed.source_name} was changed.", "done")
        return redirect(url_for("sources.index"), 303)
    return _form_page(form, source, None)


@blueprint.post("/sources/switch")
@needs("admin")
def switch() -> Response:
    """Pause a source, or go on watching it: the button's name says which, its value the source."""
    for name, enabled in (("pause", False), ("resume", True)):
        if name in request.form:
            source = _source(request.form.get(name, type=whole) or 0)
            try:
                services().config.update_log_source(source.source_name, {"enabled": enabled}, author=actor().name)
            except ConfigError as error:
                flash(f"{source.source_name}: {error.message}", "error")
    return redirect(url_for("sources.index"), 303)


@blueprint.post("/sources/<int:source_id>/remove")
@needs("admin")
def remove(source_id: int) -> Response:
    """Forget a source; its events stay."""
    source = _source(source_id)
    try:
        services().config.remove_log_source(source.source_name, author=actor().name)
    except ConfigError as error:
        flash(f"{source.source_name}: {error.message}", "error")
    else:
        flash(f"{source.source_name} is no longer watched. Its events are kept.", "done")
    return redirect(url_for("sources.index"), 303)


def _source(source_id: int) -> SourceView:
    found = [source for source in services().store.sources() if source.id == source_id]
    if not found:
        abort(404)
    return found[0]


def _tested(form: SourceForm) -> Preview | None:
    try:
        config = checked(form.values(), tuple(services().config.config.allowed_roots))
        found = services()
        return preview(config, (os.path.realpath(found.settings.data),), found.own_decoders.registry())
    except ConfigError as error:
        if not form.blame(error):
            flash(error.message, "error")
        return None


def _form_page(
    form: SourceForm, source: SourceView | None, tested: Preview | None, error: ConfigError | None = None
) -> str:
    if error is not None and not form.blame(error):
        flash(str(error), "error")
    return render_template(
        "sources/form.html",
        form=form,
        source=source,
        tested=tested,
        zones=time_zones(),
        defaults=DEFAULTS,
        trust=trust(),
    )
