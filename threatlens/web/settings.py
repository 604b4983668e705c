"""Settings of one's own account: the password, and the browsers one is logged in with."""

from __future__ import annotations

from flask import Blueprint, abort, flash, make_response, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from threatlens.errors import ConfigError, StaleChange
from threatlens.store_accounts import Session, User
from threatlens.web.auth import actor, doer, needs
from threatlens.web.context import services
from threatlens.web.login import check_new_password, start_anew, try_password
from threatlens.web.overview import trust

blueprint = Blueprint("settings", __name__)


def person() -> tuple[User, Session]:
    """Whose browser this is."""
    who = actor()
    if who.user is None or who.session is None:
        abort(403)
    return who.user, who.session


@blueprint.get("/settings")
@needs("viewer", confined=True)
def index() -> Response:
    """The page."""
    return _page()


@blueprint.post("/settings/password")
@needs("viewer", confined=True)
def change_password() -> Response:
    """Another password, given the present one; every other session ends."""
    user, _ = person()
    new = request.form.get("password", "")
    refused = try_password(user, request.form.get("present", ""), action="login.confirmation")
    if refused is not None:
        words = f"Too many tries. Wait {refused} s." if refused else "That is not your present password."
        return _page(words, 429 if refused else 401)
    try:
        check_new_password(new, request.form.get("again", ""), user.name)
    except ConfigError as error:
        return _page(error.message, 400)
    try:
        changed = services().store.set_password(user.id, services().passwords.hash(new), doer(), since=user.password_at)
        start_anew(changed or user)
    except StaleChange:  # the password that was given is the one before
        session.clear()
        return redirect(url_for("login.login"), 303)
    flash("The password was changed. You are logged out everywhere else.", "done")
    return redirect(url_for("settings.index"), 303)


@blueprint.post("/settings/sessions")
@needs("viewer", confined=True)
def end_sessions() -> Response:
    """End one session of one's own, or all others: the button says which."""
    user, mine = person()
    chosen = request.form.get("session", "")
    if chosen == "others":
        services().store.end_sessions(user.id, doer(), but=mine.id_hash)
    elif chosen:
        services().store.end_sessions(user.id, doer(), only=chosen)
    if chosen == mine.id_hash:
        session.clear()
        return redirect(url_for("login.login"), 303)
    flash("Logged out there.", "done")
    return redirect(url_for("settings.index"), 303)


def _page(error: str = "", status: int = 200) -> Response:
    user, mine = person()
    sessions = services().store.sessions_of(user.id)
    page = render_template("settings/index.html", user=user, mine=mine, sessions=sessions, error=error, trust=trust())
    return make_response(page, status)
