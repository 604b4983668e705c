"""Coming in and going out: the first account, the login, the password asked again, the log-out.

Whatever is wrong with a login, the answer is the same, and takes as long. A second factor, when there is one, stands
between the right password and start_session.
"""

from __future__ import annotations

import math
import socket

from flask import Blueprint, abort, make_response, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from threatlens.clock import now_us
from threatlens.errors import ConfigError, StaleChange
from threatlens.passwords import check_password
from threatlens.store_accounts import User
from threatlens.web.appearance import local_path
from threatlens.web.auth import PUBLIC, actor, client_address, current, doer, needs, record
from threatlens.web.context import services
from threatlens.web.limits import keys_for
from threatlens.web.security_headers import SAFE_METHODS

WRONG = "The name or the password is not right."
MAX_FIELD = 1_000  # characters; what is longer is no name and no password
NOBODY = 0  # the id of no account

blueprint = Blueprint("login", __name__)


@blueprint.route("/setup", methods=["GET", "POST"])
@needs(PUBLIC)
def setup() -> Response:
    """The first administrator, with the code that was printed at the start; afterwards there is nothing here."""
    store = services().store
    if store.users():
        abort(404)
    code = request.values.get("code", "")[:MAX_FIELD]
    if not store.is_setup_code(code, now_us()):
        return make_response(render_template("login/no_code.html"), 403)
    name, error = request.form.get("name", "")[:MAX_FIELD], None
    if request.method == "POST":
        password = request.form.get("password", "")
        try:
            check_new_password(password, request.form.get("again", ""), name)
            user = store.set_up(code, name, services().passwords.hash(password), doer(), now_us())
        except ConfigError as wrong:
            error = wrong
        else:
            if user is None:
                abort(404)
            return _let_in(user, url_for("dashboard.index"))
    page = render_template("login/setup.html", code=code, name=name, error=error)
    return make_response(page, 400 if error else 200)


@blueprint.route("/login", methods=["GET", "POST"])
@needs(PUBLIC)
def login() -> Response:
    """The login form, and what comes from it."""
    target = local_path(request.values.get("next", ""))
    if request.method in SAFE_METHODS:
        if current() is not None:
            return redirect(target, 303)
        if not services().store.users():
            return redirect(url_for("login.setup"), 303)
        ended = bool(request.args.get("ended"))
        return make_response(render_template("login/login.html", name="", next=target, error="", ended=ended))
    name, password = request.form.get("name", "")[:MAX_FIELD], request.form.get("password", "")
    user = services().store.user_named(name)
    refused = try_password(user, password, action="login")
    if refused is not None or user is None:
        return _again("login/login.html", refused or 0, name=name, next=target)
    try:
        return _let_in(user, target)
    except StaleChange:  # that was the password before the one there is now, or the account of before
        return _again("login/login.html", 0, name=name, next=target)


@blueprint.route("/confirm", methods=["GET", "POST"])
@needs("viewer", confined=True)
def confirm() -> Response:
    """Before what matters, the password once more."""
    who, target = actor(), local_path(request.values.get("next", ""))
    if who.user is None or who.session is None:
        abort(403)
    if request.method in SAFE_METHODS:
        return make_response(render_template("login/confirm.html", next=target, error=""))
    refused = try_password(who.user, request.form.get("password", ""), action="login.confirmation")
    if refused is not None:
        return _again("login/confirm.html", refused, next=target)
    session["id"] = services().store.confirm_session(who.session.id_hash, now_us(), doer())
    return redirect(target, 303)


@blueprint.post("/logout")
@needs("viewer", confined=True)
def logout() -> Response:
    """End this session, everywhere it is open."""
    who = actor()
    if who.user is not None and who.session is not None:
        services().store.end_sessions(who.user.id, doer(), only=who.session.id_hash, action="logout")
    session.clear()
    answer = redirect(url_for("login.login"), 303)
    answer.headers["Clear-Site-Data"] = '"cache", "storage"'
    return answer


def check_new_password(password: str, again: str, name: str) -> None:
    """Raises ConfigError: the two differ, or the password is too weak."""
    if password != again:
        raise ConfigError("the two passwords are not the same", key="again")
    host = request.host.rpartition(":")[0] or request.host
    check_password(password, [name, host, socket.gethostname()])


def try_password(user: User | None, password: str, *, action: str) -> int | None:
    """None: it is right. Else 0, or the seconds to wait before the next try. Everything is written down."""
    found, address, now = services(), client_address(), now_us()
    name = user.name if user is not None else request.form.get("name", "")[:100]
    user_id = user.id if user is not None else NOBODY  # whom nobody knows is asked about as often: it takes as long
    known = found.store.is_known_address(user_id, address, now)
    keys = keys_for(name.casefold(), address, known=known)
    wait = found.limits.begin(keys)
    if wait > 0:
        return max(1, math.ceil(wait))
    kept = found.store.password_of(user_id) or None
    right = found.passwords.matches(kept, password)
    if right and user is not None and user.enabled:
        found.limits.succeeded(keys)
        if kept is not None and found.passwords.is_outdated(kept):
            found.store.renew_hash(user.id, found.passwords.hash(password), before=kept)
        return None
    # What was typed as a name may be a password by mistake: only names that exist are written down.
    record(f"{action}.failed", user.name if user is not None else "no account of that name")
    return 0


def _again(template: str, wait_s: int, **values: object) -> Response:
    words = f"Too many tries. Wait {wait_s} s, then try again." if wait_s else WRONG
    answer = make_response(render_template(template, error=words, **values), 429 if wait_s else 401)
    if wait_s:
        answer.headers["Retry-After"] = str(wait_s)
    return answer


def _let_in(user: User, target: str) -> Response:
    start_anew(user)
    return redirect(target, 303)


def start_anew(user: User) -> None:
    """A new session for somebody who gave the right password, whatever the browser brought before.

    Raises StaleChange where the account is not as `user` says any more.
    """
    who = doer()
    before = session.get("id")
    if isinstance(before, str) and (old := current()) is not None and old.user and old.session:
        services().store.end_sessions(old.user.id, who, only=old.session.id_hash, action="logout")
    session.clear()
    browser = request.headers.get("User-Agent", "")
    session["id"] = services().store.start_session(user, who.named(f"user {user.name}"), browser)
