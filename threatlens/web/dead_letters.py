"""Lines that could not be stored as events: kept raw, listed here, replayed when asked."""

from __future__ import annotations

from flask import Blueprint, abort, flash, redirect, render_template, url_for
from werkzeug.wrappers import Response

from threatlens.web.auth import needs
from threatlens.web.context import services
from threatlens.web.event_filter import MAX_ID
from threatlens.web.overview import trust

blueprint = Blueprint("dead_letters", __name__)


@blueprint.get("/dead-letters")
@needs("viewer")
def index() -> str:
    """The newest of them."""
    return render_template("dead_letters/index.html", letters=services().store.dead_letters(limit=200), trust=trust())


@blueprint.post("/dead-letters/<int:letter_id>/replay")
@needs("analyst")
def replay(letter_id: int) -> Response:
    """Ask the engine to try once more to store a line as an event."""
    if letter_id > MAX_ID:
        abort(404)
    if not services().store.request_replay(letter_id):
        abort(404)
    flash("The engine tries it again now. Load the page again to see what came of it.", "done")
    return redirect(url_for("dead_letters.index"), 303)
