"""Threat lists: which there are, how they do, and how far past events were compared with what is new in them."""

from __future__ import annotations

from flask import Blueprint, abort, flash, redirect, render_template, url_for
from flask_wtf import FlaskForm
from werkzeug.wrappers import Response
from wtforms import SelectChoice, SelectField, StringField

from threatlens.detectors.threats import RULE_ID
from threatlens.errors import ConfigError
from threatlens.web.auth import actor, doer, needs
from threatlens.web.context import services
from threatlens.web.overview import trust

MAX_NAME, MAX_URL = 80, 2_000

blueprint = Blueprint("threat_lists", __name__)


class ThreatListForm(FlaskForm):  # type: ignore[misc]
    """A list that is fetched."""

    name = StringField("Name", description="Matches and pages call it so; letters, digits, . - _")
    url = StringField("URL", description="One entry a line, or CSV: addresses, networks, domains, hashes, URLs.")
    every = SelectField(
        "Fetch it every",
        choices=[SelectChoice("3600", "hour"), SelectChoice("21600", "6 hours"), SelectChoice("86400", "day"),
                 SelectChoice("604800", "week")],
        default="21600",
    )  # fmt: skip


@blueprint.get("/rules/threats")
@needs("viewer")
def index() -> str:
    """All lists."""
    return _page(ThreatListForm())


def _page(form: ThreatListForm) -> str:
    store = services().store
    return render_template(
        "threat_lists/index.html",
        lists=store.threat_lists(),
        comparison=store.list_pass(),
        geo=services().rules.geo.files,
        geo_error=services().rules.geo.error,
        form=form,
        rule_id=RULE_ID,
        may_act=actor().may("analyst"),
        may_change=actor().may("admin"),
        trust=trust(),
    )


@blueprint.post("/rules/threats")
@needs("admin")
def add() -> Response | str:
    """Follow another list."""
    form = ThreatListForm()
    if form.validate_on_submit():
        name, url = (form.name.data or "").strip()[:MAX_NAME], (form.url.data or "").strip()[:MAX_URL]
        try:
            services().threat_lists.add(name, url, int(form.every.data), doer())
        except ConfigError as error:
            form.url.errors = [f"{error.message[:1].upper()}{error.message[1:]}."]
            return _page(form)
        flash("It is fetched within seconds.", "done")
    return redirect(url_for("threat_lists.index"), 303)


@blueprint.post("/rules/threats/<name>/refresh")
@needs("analyst")
def refresh(name: str) -> Response:
    """Fetch it now."""
    if not services().store.refresh_threat_list(name, doer()):
        abort(404)
    flash("It is fetched within seconds.", "done")
    return redirect(url_for("threat_lists.index"), 303)


@blueprint.post("/rules/threats/<name>/remove")
@needs("admin")
def remove(name: str) -> Response:
    """Forget a list that is fetched; what it found stays."""
    try:
        gone = services().threat_lists.remove(name, doer())
    except ConfigError as error:
        flash(f"{error.message[:1].upper()}{error.message[1:]}.", "error")
        return redirect(url_for("threat_lists.index"), 303)
    if not gone:
        abort(404)
    flash(f"The list {name} is gone.", "done")
    return redirect(url_for("threat_lists.index"), 303)
