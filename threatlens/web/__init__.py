"""Pages and API: one module per page. register() puts all of it on an app."""

from __future__ import annotations

from flask import Flask
from flask_sock import Sock
from flask_wtf import CSRFProtect
from werkzeug.routing import IntegerConverter, Map

from threatlens.web import (
    accounts,
    answers,
    api,
    appearance,
    audit,
    comparison,
    configuration,
    csp_reports,
    dashboard,
    dead_letters,
    decode,
    doorstep,
    entities,
    error_pages,
    event_socket,
    events,
    gate,
    health,
    incidents,
    language_model,
    live,
    login,
    mutes,
    notifications,
    presentation,
    reports,
    rules,
    search_schedules,
    searches,
    security_headers,
    settings,
    sources,
    test_attack,
    threat_lists,
    traces,
    unknown,
    upload,
)
from threatlens.web.event_filter import MAX_ID
from threatlens.web.limits import share

#: Bytes of a form; the ingest interface has a limit of its own.
MAX_FORM_BYTES = 1 << 20

PAGES = (
    login,
    dashboard,
    incidents,
    mutes,
    rules,
    threat_lists,
    traces,
    events,
    comparison,
    sources,
    notifications,
    reports,
    unknown,
    decode,
    dead_letters,
    appearance,
    health,
    settings,
    accounts,
    audit,
    configuration,
    language_model,
    searches,
    search_schedules,
    entities,
    upload,
    test_attack,
)


class Number(IntegerConverter):
    """A number in a path: of what no database holds, nothing is there."""

    def __init__(self, routes: Map) -> None:
        super().__init__(routes, max=MAX_ID)


def register(app: Flask, hosts: list[str]) -> None:
    """Everything that answers HTTP, for requests that are sent to one of these hosts."""
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_FORM_BYTES,
        MAX_FORM_MEMORY_SIZE=MAX_FORM_BYTES,
        MAX_FORM_PARTS=200,
        SESSION_COOKIE_NAME="threatlens",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/",
        SOCK_SERVER_OPTIONS={"ping_interval": 25, "max_message_size": 65_536},
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session
    )
    app.url_map.converters["int"] = Number
    sock = Sock(app)
    security_headers.register(app, hosts)
    gate.register(app)
    csrf = CSRFProtect(app)
    error_pages.register(app)
    presentation.register(app)
    for page in PAGES:
        app.register_blueprint(page.blueprint)
    app.register_blueprint(api.blueprint)
    csrf.exempt(api.blueprint)
    by_link = answers.make_blueprint()
    app.register_blueprint(by_link)
    csrf.exempt(by_link)  # the link itself is what a forger would need
    violations = csp_reports.make_blueprint()
    app.register_blueprint(violations)
    csrf.exempt(violations)  # browsers send them by themselves
    live.register(app, sock)
    app.register_blueprint(event_socket.make_blueprint(sock))
    found = app.extensions["threatlens"]
    door = doorstep.Doorstep(app.wsgi_app, found.store, found.settings.proxies)
    app.wsgi_app = door  # type: ignore[method-assign]
    share({"wrong tokens": door.allowance, "refusals": app.extensions["threatlens_refusals"]}, found.fanout)
