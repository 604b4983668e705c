"""Errors as pages for people: what happened, in one sentence, and a way on. Never a traceback, never a path.

Requests below /api/ get application/problem+json (RFC 9457) instead.
"""

from __future__ import annotations

import logging

from flask import Flask, Response, g, jsonify, make_response, render_template, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException

from threatlens.errors import QueryError, QueryTimeout, StoreUnavailable
from threatlens.web.appearance import local_path

log = logging.getLogger(__name__)

TITLES = {
    400: "That request could not be understood",
    401: "Log in first",
    403: "That is not allowed",
    404: "There is nothing here",
    405: "That cannot be done here",
    413: "That is too much at once",
    429: "Too much at once",
    500: "ThreatLens made a mistake",
    503: "ThreatLens is busy",
}
WORDS = {
    400: "Something in it does not fit. If you came from a form, go back, load the page again and retry.",
    401: "The session has ended, and nothing was changed. Log in, then do it again.",
    403: "The change did not come from a page of this ThreatLens. Load the page again and retry.",
    404: "The address is wrong, or what was there has been removed or has grown too old to keep.",
    405: "This address answers, but not to this kind of request. Go back and use the buttons of the page.",
    413: "The form or file is larger than ThreatLens takes in one go. Send it in smaller pieces.",
    429: "Wait a moment, then try again.",
    500: "It was written to the log of the server. Nothing that was stored is lost; watching goes on. Try again.",
    503: "The database did not answer in time. Watching goes on; try again in a moment.",
}


def register(app: Flask) -> None:
    """Show these pages for every error of the application."""
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(QueryError, query_error)
    app.register_error_handler(QueryTimeout, query_timeout)
    app.register_error_handler(StoreUnavailable, store_unavailable)


def http_error(error: HTTPException) -> Response:
    """Any refusal, and the mistakes that nobody caught (500)."""
    status = 403 if isinstance(error, CSRFError) else error.code or 500
    if status < 400:
        return make_response(error.get_response())
    if isinstance(error, CSRFError):
        g.forged = "form token"
        return _answer(403, "The form is too old, or not from this ThreatLens. Go back, load the page again and retry.")
    custom = error.description if status in (400, 403) and error.description != type(error).description else None
    answer = _answer(status, custom or "")
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After", "WWW-Authenticate"):
            answer.headers[name] = value
    return answer


def query_error(error: QueryError) -> Response:
    """The address asks for something that cannot be asked."""
    return _answer(400, str(error))


def query_timeout(_error: QueryTimeout) -> Response:
    """The question takes too long."""
    return _answer(503, "That search took too long. Narrow it: a shorter time, one source, a higher severity.")


def store_unavailable(error: StoreUnavailable) -> Response:
    """The database is busy, full or away."""
    log.warning("page refused, store unavailable: %s", error)
    answer = _answer(503, "")
    answer.headers["Retry-After"] = "2"
    return answer


def _answer(status: int, words: str) -> Response:
    title = TITLES.get(status, "That did not work")
    words = words or WORDS.get(status, "")
    if request.path.startswith("/api/"):
        answer = jsonify({"type": "about:blank", "title": title, "status": status, "detail": words})
        answer.content_type = "application/problem+json"
    else:
        page = render_template(
            "error.html", status=status, title=title, words=words, again=_again(status), back=_back()
        )
        answer = make_response(page)
    answer.status_code = status
    return answer


def _again(status: int) -> str:
    """The same address, where asking once more may help; else nothing."""
    may_help = status in (429, 500, 503) and request.method == "GET"
    path = request.script_root + (request.full_path if request.query_string else request.path)
    return local_path(path) if may_help else ""


def _back() -> str:
    """The page of ours that a refused form was sent from, or nothing."""
    begun, referrer = request.host_url, request.referrer or ""
    is_ours = request.method == "POST" and referrer.startswith(begun)
    return local_path("/" + referrer[len(begun) :]) if is_ours else ""
