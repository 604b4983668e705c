"""The gate in front of every page: who is asking, what the route needs, and whether the two go together.

Nothing is open unless its route says so. What is below /api and /ws has gates of its own with the same rules, which
answer programs.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable

from flask import Flask, Request, Response, abort, current_app, g, make_response, redirect, request, session, url_for
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from itsdangerous import BadSignature
from werkzeug.wrappers import Response as AnyResponse

from threatlens.clock import now_us
from threatlens.errors import StoreUnavailable
from threatlens.web.auth import (
    PUBLIC,
    Actor,
    access_of,
    browser_actor,
    client_address,
    current,
    is_open,
    record,
    token_actor,
)
from threatlens.web.auth import bearer_token as bearer
from threatlens.web.context import services
from threatlens.web.limits import Allowance
from threatlens.web.security_headers import SAFE_METHODS

logger = logging.getLogger(__name__)

#: Microseconds for which a password that was given counts as given just now.
FRESH_US = 15 * 60_000_000
#: Refusals that one person or token may cause to be written down: so many at once, and one more each second.
REFUSALS, REFUSALS_PER_S = 300, 1.0
MAX_REFUSED = 1_000
#: Changes that matter to nobody else.
UNRECORDED = {"appearance.switch"}


class BrowserSessions(SecureCookieSessionInterface):
    """Flask's signed cookie; under TLS its name makes browsers refuse it from anybody but this very host."""

    digest_method = staticmethod(hashlib.sha256)

    def get_cookie_name(self, app: Flask) -> str:
        return f"__Host-{app.config['SESSION_COOKIE_NAME']}" if request.is_secure else app.config["SESSION_COOKIE_NAME"]

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002 - Flask's signature
        return request.is_secure

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """How old it may be says the table of sessions: a cookie of a clock that was put back since is none of the
        future, and logs nobody out."""
        serializer, signed = self.get_signing_serializer(app), request.cookies.get(self.get_cookie_name(app))
        try:
            return self.session_class(serializer.loads(signed) if serializer and signed else None)
        except BadSignature:
            return self.session_class()


class Refusals(Allowance):
    """Which refusals are written down: who asks without end must not fill the disk."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(REFUSALS, REFUSALS_PER_S, MAX_REFUSED, clock=clock)


def register(app: Flask) -> None:
    """Put the gate before everything else that looks at a request."""
    app.session_interface = BrowserSessions()
    app.extensions["threatlens_refusals"] = Refusals()
    app.before_request(welcome)
    app.before_request(admit)
    app.after_request(record_change)
    app.teardown_request(farewell)
    app.add_template_global(current, "me")
    app.add_template_global(is_open)


def welcome() -> None:
    """Whoever works through lines gives way to this request from now on; a socket is no guest, it lives for hours."""
    if not request.path.startswith("/ws/"):
        g.courtesy = services().courtesy
        g.courtesy.come()


def farewell(_error: BaseException | None) -> None:
    """It is answered."""
    courtesy = g.pop("courtesy", None)
    if courtesy is not None:
        courtesy.go()


def admit() -> AnyResponse | None:
    """Let a request for a page in, or answer it."""
    if request.endpoint == "static" or request.path.startswith(("/api/", "/ws/")):
        return None
    access = access_of(current_app.view_functions.get(request.endpoint or ""))
    if access is not None and access.role == PUBLIC:
        g.actor = browser_actor() if "id" in session else None
        return None
    who = _asker(programs=access is not None and access.programs)
    if who is None:
        return _to_login()
    g.actor = who
    if request.endpoint is None:
        return None  # what does not exist is answered as such
    if access is None or not who.may(access.role):
        refuse(who)
        abort(
            403,
            "Your role does not allow this. An administrator can change it under Settings, Users."
            if access
            else "This page is open to nobody.",
        )
    if who.sources and not access.confined:
        refuse(who)
        abort(403, "Your account is for some sources only, and this page shows more. An administrator can change that.")
    if access.fresh and who.session is not None and now_us() - who.session.confirmed_at > FRESH_US:
        g.recorded = True  # nothing is changed yet
        back = _here() if request.method in SAFE_METHODS else url_for("settings.index")
        return redirect(url_for("login.confirm", next=back), 303)
    return None


def record_change(answer: Response) -> Response:
    """Write down a change that wrote no entry of its own: a page that leads on, an operation that is done.

    And one that somebody's session was used for who may not have meant it.
    """
    if "forged" in g:
        g.actor = current() or (browser_actor() if "id" in session else None)  # it may be refused before it is admitted
        if g.actor is not None:
            refuse(g.actor, g.forged)
        return answer
    done = 200 <= answer.status_code < 300 if request.path.startswith("/api/") else 300 <= answer.status_code < 400
    if request.method in SAFE_METHODS or not done or current() is None or g.get("recorded"):
        return answer
    view = current_app.view_functions.get(request.endpoint or "")
    if request.endpoint in UNRECORDED or getattr(view, "scope", "") == "ingest":
        return answer
    try:
        record(str(request.endpoint), request.path)
    except StoreUnavailable as error:
        logger.warning("a change was not written down: %s", error)
    return answer


def refuse(who: Actor, reason: str = "") -> None:
    """Write down that somebody asked for what their role, or this reason, does not allow."""
    refusals: Refusals = current_app.extensions["threatlens_refusals"]
    if not refusals.take(who.name):
        return
    try:
        detail = {"role": who.role} | ({"reason": reason} if reason else {})
        record("refused", f"{request.method} {request.path}", detail)
    except StoreUnavailable as error:
        logger.warning("a refusal was not written down: %s", error)


def _asker(*, programs: bool) -> Actor | None:
    if programs and (token := bearer()) is not None:
        view = services().store.check_token(token)
        return token_actor(view) if view is not None and not view.sources and "read" in view.scopes else None
    return browser_actor()


def _here() -> str:
    """The path that was asked for, with what we may be served below."""
    return request.script_root + (request.full_path if request.query_string else request.path)


def _to_login() -> AnyResponse:
    """Somebody unknown wants a page: a browser is led to the login, anything else is told."""
    has_ended = "id" in session
    if session:
        session.clear()
    comes_back = request.method in SAFE_METHODS and request.path != "/"
    address = url_for("login.login", next=_here() if comes_back else None, ended=1 if has_ended else None)
    if request.headers.get("HX-Request") == "true":
        answer = make_response("", 401)
        answer.headers["HX-Redirect"] = address
        return answer
    if request.method in SAFE_METHODS and "Authorization" not in request.headers:
        return redirect(address, 303)
    if "text/html" in request.headers.get("Accept", ""):
        abort(401)  # a form of a page that stood open: nothing is changed
    return Response("Log in first.\n", 401, content_type="text/plain; charset=utf-8",
                    headers={"WWW-Authenticate": 'Bearer realm="ThreatLens"'})  # fmt: skip


def known_as() -> str:
    """The address and name that limits are counted for."""
    who = current()
    return client_address() if who is None else who.name
