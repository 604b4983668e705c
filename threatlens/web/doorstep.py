"""The doorstep: a wrong token is refused before anything is made of its request.

A flood of wrong tokens must leave the interpreter to those who have a right one. What Flask does for a request (its
context, routing, hooks, the answer with all its headers) costs several times what it takes to see that nobody knows a
token: its shape, and one look into a snapshot in memory. An address that goes on gets 429; deploy/nginx.conf remembers
that answer (X-Accel-Expires) and gives it in our place, so that not even the server has work with the flood.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from threatlens.errors import StoreUnavailable
from threatlens.store import EventStore
from threatlens.web.auth import BEARER, address_of, wrong_token
from threatlens.web.limits import Allowance, network
from threatlens.web.problems import PROBLEM_TYPE, ProblemError, new_request_id, problem_text
from threatlens.web.security_headers import HEADERS, HSTS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: Wrong tokens of one address (an IPv6 /64) that are answered 401: so many at once, and one more each second.
FREE, FREE_PER_S = 10, 1.0
#: Seconds for which one that goes on is told to wait, and for which a proxy may say so in our place.
WAIT_S = 5
MAX_ADDRESSES = 10_000  # remembered; of more, the one that was quiet longest is forgotten
STATUS = {401: "401 UNAUTHORIZED", 429: "429 TOO MANY REQUESTS"}


class Doorstep:
    """The WSGI application in front of the app's own."""

    def __init__(
        self,
        inner: WSGIApplication,
        store: EventStore,
        proxies: tuple[str, ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner
        self._store = store
        self._proxies = proxies  # whose X-Forwarded-For is believed
        self.allowance = Allowance(FREE, FREE_PER_S, MAX_ADDRESSES, strict=True, clock=clock)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass a request on, or refuse it."""
        header = environ.get("HTTP_AUTHORIZATION", "")
        # Who brings a cookie is a browser, whose session may count; whatever else is wrong is for the app to say.
        if not header or "HTTP_COOKIE" in environ or not self._is_wrong(header):
            return self._inner(environ, start_response)
        problem = wrong_token()
        if self._goes_on(environ):
            wait = {"Retry-After": str(WAIT_S), "X-Accel-Expires": str(WAIT_S)}
            problem = ProblemError(429, "Too many wrong tokens came from this address; wait.", headers=wait)
        request_id = new_request_id()
        body = problem_text(problem, request_id)
        headers = {
            **HEADERS,
            **problem.headers,
            "Content-Type": PROBLEM_TYPE,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Vary": "Cookie",
            "X-Request-Id": request_id,
        }
        if environ.get("wsgi.url_scheme") == "https":
            headers["Strict-Transport-Security"] = HSTS
        start_response(STATUS[problem.status], list(headers.items()))
        return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]

    def _is_wrong(self, header: str) -> bool:
        """Whether this is the token of nobody. Other ways to say who one is are for the app to judge."""
        match = BEARER.fullmatch(header)
        try:
            return match is not None and self._store.check_token(match[1]) is None
        except StoreUnavailable:
            return False

    def _goes_on(self, environ: WSGIEnvironment) -> bool:
        """Count one more wrong token; whether its address has sent too many."""
        return not self.allowance.take(network(address_of(environ, self._proxies)))
