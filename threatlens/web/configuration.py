"""The configuration for administrators: its limits, every version that was saved, a copy of it, and the way back."""

from __future__ import annotations

from flask import Blueprint, Response, abort, flash, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from threatlens.config_export import exported, read_document
from threatlens.config_history import Change
from threatlens.errors import ConfigError
from threatlens.web.auth import actor, needs, record
from threatlens.web.configuration_forms import SettingsForm
from threatlens.web.context import services
from threatlens.web.event_filter import whole
from threatlens.web.overview import trust
from threatlens.web.source_forms import time_zones

VERSIONS = 100

blueprint = Blueprint("configuration", __name__)


@blueprint.route("/settings/configuration", methods=["GET", "POST"])
@needs("admin", fresh=True)
def index() -> AnyResponse:
    """The settings with limits, and the history; the form changes only what was changed in it."""
    config = services().config
    form = SettingsForm(config.config, config.declared_keys)
    if not form.is_submitted():
        return _page(form)
    if not form.validate():
        return _page(form, status=400)
    changes = form.changes()
    if not changes:
        flash("Nothing was changed.", "done")
        return redirect(url_for("configuration.index"), 303)
    try:
        config.change_settings(changes, author=actor().name)
    except ConfigError as error:
        return _page(form, "" if form.blame(error) else str(error), 400)
    record("config.changed", ", ".join(changes))
    flash("Saved; it is in force now.", "done")
    return redirect(url_for("configuration.index"), 303)


@blueprint.get("/settings/configuration/<int:version_id>")
@needs("admin", fresh=True)
def version(version_id: int) -> str:
    """What one version changed, or what is between it and another (`with`), and the way back to it."""
    saved = services().config.history(VERSIONS)
    ids = [each.version_id for each in saved]
    if version_id not in ids:
        abort(404)
    before = next((each for each in ids if each < version_id), 0)
    other = request.args.get("with", before, type=whole)
    if other and other not in ids:
        abort(404)
    return render_template(
        "settings/version.html",
        version=saved[ids.index(version_id)],
        versions=saved,
        other=other,
        changes=_compare(min(other, version_id), max(other, version_id)),
        back=_compare(ids[0], version_id) if version_id != ids[0] else None,
        trust=trust(),
    )


@blueprint.post("/settings/configuration/<int:version_id>/restore")
@needs("admin", fresh=True)
def roll_back(version_id: int) -> AnyResponse:
    """Make a version the newest again."""
    try:
        services().config.roll_back(version_id, author=actor().name)
    except ConfigError as error:
        flash(f"Nothing was changed: {error}", "error")
        return redirect(url_for("configuration.index"), 303)
    record("config.restored", f"version {version_id}")
    flash(f"The configuration is as in version {version_id} again.", "done")
    return redirect(url_for("configuration.index"), 303)


@blueprint.get("/settings/configuration.yaml")
@needs("admin", fresh=True)
def export() -> Response:
    """The configuration in force as threatlens.yaml, without secrets."""
    record("config.exported")
    headers = {"Content-Disposition": 'attachment; filename="threatlens.yaml"'}
    return Response(exported(services().config.load_config()), content_type="application/yaml", headers=headers)


@blueprint.post("/settings/configuration/import")
@needs("admin", fresh=True)
def import_file() -> AnyResponse:
    """Save what an uploaded file says: all of it, or nothing."""
    config = services().config
    try:
        config.import_settings(read_document(_uploaded(), "the file"), author=actor().name, references=False)
    except ConfigError as error:
        return _page(SettingsForm(config.config, config.declared_keys), f"Nothing was changed: {error}", 400)
    record("config.imported")
    flash("The file was imported; it is in force now.", "done")
    return redirect(url_for("configuration.index"), 303)


def _uploaded() -> bytes:
    upload = request.files.get("file")
    content = upload.stream.read() if upload else b""
    if not content:
        raise ConfigError("there is nothing in it")
    return content


def _compare(older: int, newer: int) -> list[Change]:
    try:
        return services().config.compare(older, newer)
    except ConfigError as error:
        flash(str(error), "error")
        return []


def _page(form: SettingsForm, error: str = "", status: int = 200) -> Response:
    config = services().config
    page = render_template(
        "settings/configuration.html",
        form=form,
        error=error,
        versions=config.history(VERSIONS),
        config_errors=config.errors,
        zones=time_zones(),
        calls=services().config.config.heartbeat.url is not None,
        trust=trust(),
    )
    return make_response(page, status)
