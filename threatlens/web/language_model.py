"""Settings of the language model: what it is, a test of the connection, and the exact text that would be sent."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, flash, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from threatlens.analyzers.llm import is_remote
from threatlens.clock import now_us
from threatlens.errors import ConfigError
from threatlens.language_model import HOUR_US
from threatlens.web.auth import actor, needs, record
from threatlens.web.context import services
from threatlens.web.event_filter import MAX_ID
from threatlens.web.overview import trust

PROVIDERS = ("openai", "anthropic")

blueprint = Blueprint("language_model", __name__)


@blueprint.get("/settings/language-model")
@needs("admin", fresh=True)
def index() -> Response:
    """The page."""
    return _page()


@blueprint.post("/settings/language-model")
@needs("admin", fresh=True)
def change() -> Response:
    """Save it, or try the saved one: the button says which."""
    if request.form.get("do") == "test":
        try:
            words = services().language_model.test(services().config.config.llm)
        except ConfigError as error:
            return _page(f"The test failed: {error}.", 400)
        record("language_model.tested", services().config.config.llm.model)
        flash(words, "done")
        return redirect(url_for("language_model.index"), 303)
    try:
        services().config.change_settings({"llm": _values()}, author=actor().name)
    except ConfigError as error:
        return _page(str(error), 400)
    record("config.changed", "llm")
    flash("Saved; it is in force now.", "done")
    return redirect(url_for("language_model.index"), 303)


def _values() -> dict[str, Any]:
    """What the form says; an empty key is left out, so that the saved one stays."""
    form = request.form
    budget = form.get("hourly_budget", "")
    values: dict[str, Any] = {
        "enabled": form.get("enabled") == "on",
        "provider": form.get("provider", "")[:60],
        "base_url": form.get("base_url", "").strip()[:2_000],
        "model": form.get("model", "").strip()[:200],
        "hourly_budget": int(budget) if budget.isascii() and budget.isdigit() and len(budget) < 9 else 0,
    }
    for name in ("input_price", "output_price"):
        if form.get(name, "").strip():
            values[name] = form[name].strip()[:20]
    if form.get("currency", "").strip():
        values["currency"] = form["currency"].strip()[:10]
    if form.get("api_key"):
        values["api_key"] = form["api_key"]
    return values


@blueprint.get("/incidents/<int:incident_id>/sent")
@needs("analyst")
def preview(incident_id: int) -> Response:
    """The exact text that would be sent about one incident."""
    incident = services().store.incident(incident_id) if incident_id <= MAX_ID else None
    if incident is None:
        abort(404)
    response = make_response(services().language_model.preview(incident).text)
    response.mimetype = "text/plain"
    return response


def _page(error: str = "", status: int = 200) -> Response:
    config = services().config.config.llm
    page = render_template(
        "settings/language_model.html",
        llm=config,
        remote=bool(config.base_url) and is_remote(config.base_url),
        providers=PROVIDERS,
        use=services().store.model_use(now_us() - HOUR_US),
        month=services().store.model_use(now_us() - 30 * 24 * HOUR_US),
        why_not=services().language_model.why_not(config),
        incident=next(iter(services().store.pressing_incidents(1)), None),
        error=error,
        trust=trust(),
    )
    return make_response(page, status)
