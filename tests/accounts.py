"""People who are logged in, for tests of what they see and may do."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from threatlens.clock import now_us
from threatlens.store_accounts import COMMAND_LINE, Doer, User
from threatlens.web.auth import Actor

PASSWORD = "correct horse battery staple"


def person(app: Flask, role: str = "admin", name: str = "") -> User:
    """The account of this role, with PASSWORD; made when there is none."""
    services: Any = app.extensions["threatlens"]
    name = name or f"an-{role}"
    known: User | None = services.store.user_named(name)
    if known is not None:
        return known
    made: User = services.store.create_user(name, services.passwords.hash(PASSWORD), role, COMMAND_LINE)
    return made


def new_session(app: Flask, role: str = "admin", name: str = "") -> str:
    """The secret of a new session of this person."""
    user = person(app, role, name)
    services: Any = app.extensions["threatlens"]
    return str(services.store.start_session(user, Doer(f"user {user.name}", "192.0.2.1"), "a test"))


def log_in(app: Flask, role: str = "admin", name: str = "") -> FlaskClient:
    """A browser of this person."""
    client = app.test_client()
    secret = new_session(app, role, name)
    with client.session_transaction() as session:
        session["id"] = secret
    return client


def cookie(app: Flask, role: str = "admin", name: str = "") -> str:
    """The value of the cookie of a new session, for clients that are not Flask's."""
    client = log_in(app, role, name)
    found = client.get_cookie("threatlens")
    assert found is not None
    return found.value


def somebody(app: Flask, role: str = "admin", name: str = "") -> Actor:
    """This person with a new session, as the gate knows them."""
    services: Any = app.extensions["threatlens"]
    found = services.store.session(new_session(app, role, name), now_us(), **services.settings.session_limits)
    return Actor(f"user {found[0].name}", found[0].role, found[0], found[1])
