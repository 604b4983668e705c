"""What every answer says to the browser, and which requests come from our own pages.

The content security policy has no exception anywhere: no inline script, no inline style, nothing from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from flask import Flask, Request, Response, abort, g, request

#: Where browsers say what the policy has stopped.
REPORTS = "/csp-reports"
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "object-src 'none'",
        f"report-uri {REPORTS}",
        "report-to csp",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Reporting-Endpoints": f'csp="{REPORTS}"',
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
HSTS = "max-age=31536000; includeSubDomains"
STATIC_FOR_EVER = "public, max-age=31536000, immutable"


def register(app: Flask, hosts: Sequence[str]) -> None:
    """Put the headers on every answer; refuse other hosts than these, and changes that another site's page asks for."""
    ours = frozenset(host.lower() for host in hosts)

    def refuse_other_hosts() -> Response | None:
        """A name that somebody else points at this machine is not ours (DNS rebinding)."""
        unnamed = "localhost" if request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0" else ""  # 1.1 has to name it
        if _host_name(request.environ.get("HTTP_HOST", unnamed)) in ours:
            return None
        words = "ThreatLens is not served under this name. Behind a proxy, name it in THREATLENS_TRUSTED_HOSTS.\n"
        return Response(words, 400, content_type="text/plain; charset=utf-8")

    app.before_request(refuse_other_hosts)
    app.before_request(refuse_other_sites)
    app.after_request(add_headers)


def _host_name(host: str) -> str:
    """A Host header without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def add_headers(response: Response) -> Response:
    """Headers for every answer, errors included."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.endpoint == "static" and response.status_code in (200, 304) and "v" in request.args:
        response.headers["Cache-Control"] = STATIC_FOR_EVER
    elif request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
        response.vary.add("Cookie")
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", HSTS)
    return response


def refuse_other_sites() -> None:
    """A change must come from our own pages; programs that carry a token and no cookie are not browsers."""
    if request.method in SAFE_METHODS or (request.authorization is not None and not request.cookies):
        return
    site = request.headers.get("Sec-Fetch-Site", "")
    origin = request.headers.get("Origin")
    if site in ("cross-site", "same-site") or (origin is not None and not is_own_origin(request)):
        g.forged = "another site"  # whose session it came with is written down (gate.py)
        abort(403, "This change was asked for by another site.")


def is_own_origin(asked: Request) -> bool:
    """Whether the request's Origin is exactly the scheme, host and port it was sent to."""
    return asked.headers.get("Origin") == f"{asked.scheme}://{asked.host}"
