"""A token or person kept to some sources learns nothing of the others, whatever they ask."""

from __future__ import annotations

import json
from typing import Any

import pytest
from accounts import PASSWORD, log_in, person, somebody
from builders import Filler
from flask import g
from programs import Program
from test_api import routes
from test_gate import routes as all_routes
from test_live import Browser

from threatlens.errors import ConfigError
from threatlens.event import EventFilter
from threatlens.store_accounts import COMMAND_LINE
from threatlens.web import live
from threatlens.web.auth import PUBLIC, access_of, token_actor, within
from threatlens.web.event_socket import Grant

HERS, CANARY = "web", "canary-of-another-source"


def fill(services: Any) -> Filler:
    """A line of hers, and one of another source."""
    filler = Filler(services.store)
    filler.add("a line of hers", source=HERS, severity=9)
    filler.add(f"{CANARY} {CANARY}", source=f"{CANARY}-source", severity=9, user_name=CANARY, source_ip="203.0.113.77")
    return filler


@pytest.fixture
def headers(services: Any) -> dict[str, str]:
    """Of an administrator's token for one source."""
    fill(services)
    token = services.store.create_token("for web", "admin", sources=(HERS,))
    return {"Authorization": f"Bearer {token}"}


def test_an_event_of_another_source_is_not_there(app: Any, headers: dict[str, str]) -> None:
    client = app.test_client()
    assert client.get("/api/v1/events/1", headers=headers).json["source"] == HERS
    assert client.get("/api/v1/events/2", headers=headers).status_code == 404
    assert [each["id"] for each in client.get("/api/v1/events", headers=headers).json["events"]] == [1]
    assert client.get(f"/api/v1/events?source={CANARY}-source", headers=headers).status_code == 403


def test_no_address_tells_of_another_source(app: Any, headers: dict[str, str]) -> None:
    client = app.test_client()
    api = [path for method, path, _ in routes(app) if method == "GET"]
    pages = [
        rule.rule
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or ()) and not rule.arguments and not rule.rule.startswith(("/api/", "/ws/"))
    ]
    answered = 0
    for path in (
        *api,
        *pages,
        "/events/2",
        "/sources/2",
        f"/api/v1/events?q={CANARY}",
        "/api/v1/events/export?format=csv",
    ):
        answer = client.get(path, headers=headers)
        answered += answer.status_code == 200
        echo = 1 if CANARY in path else 0
        assert answer.text.count(CANARY) <= echo, path
        assert "203.0.113.77" not in answer.text, path
    assert answered >= 5


@pytest.fixture
def hers(app: Any, services: Any) -> Any:
    """The browser of an analyst who may know of one source."""
    fill(services)
    person(app, "admin", "root")
    ana = person(app, "analyst", "ana")
    services.store.set_sources(ana.id, [HERS], COMMAND_LINE)
    return log_in(app, "analyst", "ana")


def test_a_person_kept_to_sources_finds_no_byte_of_another_on_any_route(app: Any, hers: Any) -> None:
    answered = set()
    paths = {path for method, path, _, rule in all_routes(app) if method == "GET" and not rule.startswith("/static")}
    paths |= {
        "/events/2", "/events/1?same=ip", "/events?sort=severity", f"/events?q={CANARY}", "/events/survey?q=line",
        f"/events?source={CANARY}-source", f"/events/survey?q=source:{CANARY}-source", "/events/query?q=source:",
        "/events/query?q=user:", "/events/query?q=ip:", f"/events/compare?q={CANARY}", f"/entities/user/{CANARY}",
        "/events/export?format=csv", "/events/export?format=ndjson", "/entities/address/203.0.113.77",
        f"/palette?find={CANARY[:6]}", "/palette?find=", "/incidents/1", "/reports/1", "/sources/2", "/dead-letters",
    }  # fmt: skip
    for path in sorted(paths):
        answer = hers.get(path)
        if answer.status_code == 200:
            answered.add(path.partition("?")[0])
        echoed = path.count(CANARY) or path.count("203.0.113.77")
        # What was asked for is echoed: take each form of it away, then nothing may be left.
        text = answer.text if not echoed else answer.text.replace(path.rpartition("=")[2], "")
        for word in (f"{CANARY} {CANARY}", f"{CANARY}-source"):
            assert word not in text, path
        if not echoed:
            assert CANARY not in text, path
            assert "203.0.113.77" not in text, path
    assert {"/events", "/events/1", "/events/survey", "/events/export", "/settings", "/palette"} <= answered
    assert "/events/2" not in answered


def test_every_other_page_is_closed_to_a_person_kept_to_sources(app: Any, hers: Any) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    for method, path, view, rule in all_routes(app):
        access = access_of(view)
        if access is None or access.role == PUBLIC or access.confined or rule.startswith(("/api/", "/ws/")):
            continue
        answer = hers.open(path, method=method)
        answer.close()
        assert answer.status_code == 403, (method, path)


def test_their_own_events_are_all_there(hers: Any) -> None:
    page = hers.get("/events").text
    assert "a line of hers" in page
    assert hers.get("/").headers["Location"] == "/events"
    assert "a line of hers" in hers.get("/events/export?format=csv").text
    assert [link for link in ("/incidents", "/rules", "/health") if f'href="{link}"' in page] == []


def test_the_live_pages_of_a_person_kept_to_sources_show_no_other(app: Any, services: Any, hers: Any) -> None:
    filler = Filler(services.store)

    def new_lines() -> None:
        for source in (HERS, f"{CANARY}-source"):
            number = filler.add(f"new line of {source}", source=source, severity=9)
            where = EventFilter(sources=(source,))
            services.broadcaster.publish(
                number, 1, lambda where=where, last=number: services.store.page(where, after=last - 1, limit=1)
            )

    for page in ("events", "dashboard", "incidents", "health", "sources", "other"):
        with app.test_request_context(f"/ws/ui?page={page}&have=0&oldest=0"):
            g.actor = somebody(app, "analyst", "ana")
            browser = Browser(new_lines, lambda: None, lambda: None)
            live.serve(browser, live.LivePages())
        assert CANARY not in "".join(browser.frames), page
        if page == "events":
            assert f"new line of {HERS}" in "".join(browser.frames)


def test_what_a_person_may_see_on_a_socket_is_their_sources(app: Any, hers: Any) -> None:
    assert Grant.of(somebody(app, "analyst", "ana")).sources == (HERS,)


def test_a_token_knows_of_no_source_that_its_maker_does_not(services: Any, app: Any) -> None:
    store, eve = services.store, person(app, "analyst", "eve")
    store.create_token("all", "viewer", user_id=eve.id)
    store.create_token("two", "viewer", user_id=eve.id, sources=(HERS, "db"))
    store.create_token("other", "viewer", user_id=eve.id, sources=("db",))
    store.set_sources(eve.id, [HERS, "mail"], COMMAND_LINE)

    assert {view.name: view.sources for view in store.tokens()} == {"all": (HERS, "mail"), "two": (HERS,)}
    assert within(EventFilter(), token_actor(store.tokens()[1]).sources).sources == (HERS,)


def test_an_administrator_sees_every_source(services: Any, app: Any) -> None:
    store, root, eve = services.store, person(app, "admin", "root"), person(app, "viewer", "eve")
    with pytest.raises(ConfigError, match="sees every source"):
        store.set_sources(root.id, [HERS], COMMAND_LINE)
    store.set_sources(eve.id, [HERS], COMMAND_LINE)
    with pytest.raises(ConfigError, match="sees every source"):
        store.set_role(eve.id, "admin", COMMAND_LINE)
    assert store.user(eve.id).role == "viewer"


def test_the_limit_is_set_on_the_page_and_written_down(app: Any, services: Any) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    admin, eve = log_in(app), person(app, "viewer", "eve")
    answer = admin.post(f"/settings/users/{eve.id}", data={"do": "sources", "sources": f"{HERS}, db,, "})
    assert answer.status_code == 303
    assert f'value="{HERS}, db"' in admin.get(f"/settings/users/{eve.id}").text
    assert f"viewer; {HERS}, db" in admin.get("/settings/users").text
    [entry] = services.store.audit.page(action="user.sources_changed")
    assert (entry.target, json.loads(entry.detail)) == ("eve", {"sources": [HERS, "db"]})


def test_the_limit_is_set_by_the_api(app: Any) -> None:
    api = Program(app, "admin")
    made = api.call("POST", "/users", json={"name": "eve", "role": "viewer", "password": PASSWORD, "sources": [HERS]})
    assert made.json["sources"] == [HERS]
    address = f"/users/{made.json['id']}"
    assert api.call("PATCH", address, json={"sources": [HERS, "db"]}).json["sources"] == [HERS, "db"]
    assert api.call("PATCH", address, json={"enabled": True}).json["sources"] == [HERS, "db"]
    assert api.call("PATCH", address, json={"sources": [], "role": "admin"}).json["sources"] == []
