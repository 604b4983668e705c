"""A test attack: made-up lines that go the way of all lines, so that one sees an incident arrive; gone with a click."""

from __future__ import annotations

from flask import Blueprint, abort, flash, redirect, request
from werkzeug.wrappers import Response

from threatlens.errors import IngestError
from threatlens.web.appearance import local_path
from threatlens.web.auth import doer, needs, record
from threatlens.web.context import services

blueprint = Blueprint("test_attack", __name__)


@blueprint.post("/test-attack")
@needs("analyst")
def change() -> Response:
    """Fire one, in place of the one before, or take it away."""
    deed, tells = request.form.get("do", ""), "tell" in request.form
    if deed not in ("fire", "remove"):
        abort(400)
    services().store.remove_test_attacks(doer())
    if deed == "remove":
        flash("The test attack is gone.", "done")
    else:
        try:
            services().ingestions.fire_test_attack(tells=tells)
        except IngestError as error:
            flash(f"The test attack was not taken: {error}.", "error")
        else:
            record("test_attack.fired", "test attack", {"with messages": tells})
            flash("The test attack is on its way. It comes up as an incident that says what it is.", "done")
    return redirect(local_path(request.form.get("next", "")), 303)
