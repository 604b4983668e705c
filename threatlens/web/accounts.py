"""Settings for administrators: accounts and tokens. The password must have been given lately."""

from __future__ import annotations

from flask import Blueprint, abort, flash, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from threatlens.clock import now_us
from threatlens.errors import ConfigError
from threatlens.store_accounts import ROLES, User
from threatlens.store_tokens import SCOPES
from threatlens.web.auth import actor, doer, needs
from threatlens.web.context import services
from threatlens.web.event_filter import MAX_ID, whole
from threatlens.web.login import check_new_password
from threatlens.web.overview import trust

DAY_US = 86_400_000_000
#: Days that a token made here lasts; 0: until it is revoked.
LIFETIMES = (30, 90, 365, 0)

blueprint = Blueprint("accounts", __name__)


# -- users


@blueprint.get("/settings/users")
@needs("admin", fresh=True)
def users() -> Response:
    """All accounts."""
    return _users()


@blueprint.post("/settings/users")
@needs("admin", fresh=True)
def create_user() -> Response:
    """A new account."""
    form = request.form
    name, role, password = form.get("name", ""), form.get("role", ""), form.get("password", "")
    sources = _asked_sources()
    try:
        check_new_password(password, form.get("again", ""), name)
        user = services().store.create_user(name, services().passwords.hash(password), role, doer(), sources=sources)
    except ConfigError as error:
        return _users(error.message, {"name": name[:100], "role": role, "sources": ", ".join(sources)[:1_000]})
    flash(f"{user.name} may log in now.", "done")
    return redirect(url_for("accounts.users"), 303)


@blueprint.get("/settings/users/<int:user_id>")
@needs("admin", fresh=True)
def user(user_id: int) -> Response:
    """One account."""
    return _user_page(_user(user_id))


@blueprint.post("/settings/users/<int:user_id>")
@needs("admin", fresh=True)
def change_user(user_id: int) -> Response:
    """Another role, password or sources, disabling, logging out, removing: the button says which."""
    found, store, who = _user(user_id), services().store, doer()
    form = request.form
    try:
        match form.get("do", ""):
            case "role":
                store.set_role(found.id, form.get("role", ""), who)
                words = f"{found.name} has another role now, and is logged out."
            case "sources":
                store.set_sources(found.id, _asked_sources(), who)
                words = f"{found.name} may see other sources now, and is logged out."
            case "password":
                check_new_password(form.get("password", ""), form.get("again", ""), found.name)
                store.set_password(found.id, services().passwords.hash(form.get("password", "")), who)
                words = f"{found.name} has another password now, and is logged out."
            case "disable" | "enable" as what:
                store.set_enabled(found.id, what == "enable", who)
                words = f"{found.name} may {'log in again' if what == 'enable' else 'no longer log in'}."
            case "log out":
                store.end_sessions(found.id, who)
                words = f"{found.name} is logged out everywhere."
            case "remove":
                store.remove_user(found.id, who)
                flash(f"{found.name} was removed, with the tokens of that account.", "done")
                return redirect(url_for("accounts.users"), 303)
            case _:
                abort(400)
    except ConfigError as error:
        return _user_page(found, error.message)
    flash(words, "done")
    return redirect(url_for("accounts.user", user_id=found.id), 303)


def _asked_sources() -> list[str]:
    """The names of sources that a form lists."""
    return [each.strip() for each in request.form.get("sources", "")[:10_000].split(",") if each.strip()]


def _user(user_id: int) -> User:
    found = services().store.user(user_id) if user_id <= MAX_ID else None
    if found is None:
        abort(404)
    return found


def _users(error: str = "", form: dict[str, str] | None = None) -> Response:
    store = services().store
    page = render_template("settings/users.html", users=store.users(), roles=ROLES, form=form or {}, error=error,
                           trust=trust())  # fmt: skip
    return make_response(page, 400 if error else 200)


def _user_page(found: User, error: str = "") -> Response:
    sessions = services().store.sessions_of(found.id)
    page = render_template("settings/user.html", user=found, sessions=sessions, roles=ROLES, error=error, trust=trust())
    return make_response(page, 400 if error else 200)


# -- tokens


@blueprint.get("/settings/tokens")
@needs("admin", fresh=True)
def tokens() -> Response:
    """All tokens, without their secrets."""
    return _tokens()


@blueprint.post("/settings/tokens")
@needs("admin", fresh=True)
def create_token() -> Response:
    """A new token; the page that answers shows it this once."""
    form = request.form
    days = form.get("days", type=whole)
    sources = _asked_sources()
    shown: dict[str, object] = {
        "name": form.get("name", "")[:100], "role": form.get("role", ""), "sources": ", ".join(sources)[:1_000],
        "scopes": form.getlist("scope"), "days": days,
    }  # fmt: skip
    who = actor()
    if days not in LIFETIMES:
        return _tokens(error="choose how long the token lasts", form=shown)
    try:
        made = services().store.create_token(
            form.get("name", ""),
            form.get("role", ""),
            doer=doer(),
            user_id=who.user.id if who.user else None,
            expires_at=now_us() + days * DAY_US if days else 0,
            scopes=form.getlist("scope"),
            sources=sources,
        )
    except ConfigError as error:
        return _tokens(error=error.message, form=shown)
    return _tokens(made=made)


@blueprint.post("/settings/tokens/revoke")
@needs("admin", fresh=True)
def revoke_token() -> Response:
    """A token ends now: the button's value says which."""
    number = request.form.get("token", 0, type=whole)
    if not number or not services().store.revoke_token(number, doer()):
        abort(404)
    flash("The token is refused from now on.", "done")
    return redirect(url_for("accounts.tokens"), 303)


def _tokens(*, made: str = "", error: str = "", form: dict[str, object] | None = None) -> Response:
    store = services().store
    page = render_template(
        "settings/tokens.html",
        tokens=store.tokens(),
        names={each.id: each.name for each in store.users()},
        now=now_us(),
        made=made,
        error=error,
        form=form or {"scopes": list(SCOPES), "days": LIFETIMES[1]},
        roles=ROLES,
        scopes=SCOPES,
        lifetimes=LIFETIMES,
        trust=trust(),
    )
    return make_response(page, 400 if error else 200)
