"""Who gets in: every route says what it needs, and the gate keeps to it, for every role, way and method."""

from __future__ import annotations

import re
from typing import Any

import pytest
from accounts import PASSWORD, log_in, person
from programs import Program

from threatlens.clock import now_us
from threatlens.store_accounts import COMMAND_LINE, ROLES
from threatlens.web import gate as gate_module
from threatlens.web.auth import PUBLIC, access_of
from threatlens.web.gate import Refusals

#: Path variables for any route.
VALUES = {"event_id": 1, "source_id": 1, "letter_id": 1, "user_id": 99, "token_id": 1, "ingestion_id": "x",
          "filename": "threatlens.css"}  # fmt: skip
#: What answers without credentials.
HANDSHAKE = {"Upgrade": "websocket", "Connection": "Upgrade", "Origin": "http://localhost"}
OPEN = {"/answer/<token>", "/login", "/setup", "/healthz", "/readyz", "/static/<path:filename>"}


def routes(app: Any) -> list[tuple[str, str, Any, str]]:
    """(method, path, view, rule) of every route, from the map of the application itself."""
    found = []
    adapter = app.url_map.bind("localhost")
    for rule in app.url_map.iter_rules():
        values = {name: VALUES.get(name, 1) for name in rule.arguments}
        path = adapter.build(rule.endpoint, values)
        methods = sorted((rule.methods or set()) - {"OPTIONS"})
        found += [(method, path, app.view_functions[rule.endpoint], rule.rule) for method in methods]
    return found


def test_every_route_declares_who_may_use_it(app: Any) -> None:
    undeclared = [
        rule for _, _, view, rule in routes(app) if access_of(view) is None and not rule.startswith("/static")
    ]
    assert undeclared == []
    assert {access_of(view).role for _, _, view, _ in routes(app) if access_of(view)} <= {PUBLIC, *ROLES}  # type: ignore[union-attr]


@pytest.mark.parametrize("value", ["9" * 40, "0" * 19 + "1" + "9" * 30, "9223372036854775808", "0001-01-01"])
def test_a_number_beyond_measure_is_no_mistake_of_ours(app: Any, admin_client: Any, value: str) -> None:
    app.testing, app.config["WTF_CSRF_ENABLED"] = False, False
    asked = (
        "events?before=", "events?sort=source&past=", "events/compare?start=", "events/compare?end=",
        "incidents?before=", "incidents?min_severity=", "notifications?before=", "settings/audit?before=",
    )  # fmt: skip
    form = {"shape": value, "remove": value, "token": value, "pause": value}
    sent = ("unknown/draft", "settings/tokens/revoke", "sources/switch", "entities/user/a")

    statuses = {each: admin_client.get(f"/{each}{value}").status_code for each in asked}
    statuses |= {each: admin_client.post(f"/{each}", data=form).status_code for each in sent}

    assert [each for each, status in statuses.items() if status >= 500] == []


def test_a_route_that_declares_nothing_is_open_to_nobody(app: Any, admin_client: Any) -> None:
    app.add_url_rule("/forgotten", "forgotten", lambda: "secret")
    assert admin_client.get("/forgotten").status_code == 403
    assert app.test_client().get("/forgotten").status_code == 303


def test_only_the_doors_answer_without_credentials(app: Any) -> None:
    client = app.test_client()
    person(app)
    for method, path, _, rule in routes(app):
        answer = client.open(path, method=method)
        answer.close()
        if rule in OPEN:
            assert answer.status_code in {200, 400, 401, 403, 404, 503}, (method, path)
        elif answer.status_code == 303:
            assert answer.headers["Location"].startswith("/login"), (method, path)
            assert method in {"GET", "HEAD"}
        else:
            assert answer.status_code in {400, 401, 403}, (method, path, answer.status_code)
    assert client.get("/nothing/here").headers["Location"].startswith("/login")


@pytest.mark.parametrize("role", ROLES)
def test_the_matrix_of_roles_routes_and_methods(app: Any, role: str) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    person(app, "admin", "root")
    for method, path, view, rule in routes(app):
        access = access_of(view)
        if access is None or access.role == PUBLIC or rule.startswith(("/api/", "/ws/")):
            continue
        answer = log_in(app, role).open(path, method=method)
        answer.close()
        refused = ROLES.index(role) < ROLES.index(access.role)
        assert (answer.status_code == 403) == refused, (role, method, path, answer.status_code)
        asks_password = method == "POST" and path in {"/confirm", "/settings/password"}
        assert answer.status_code not in ({500} if asks_password else {401, 500}), (role, method, path)


def test_a_refusal_is_written_down_by_cookie_and_by_token_but_not_without_end(app: Any, viewer_client: Any) -> None:
    audit = app.extensions["threatlens"].store.audit
    viewer_client.get("/settings/users")
    Program(app, "viewer").get("/tokens")
    refused = audit.page(action="refused")
    assert [(entry.actor, entry.target) for entry in refused] == [
        ("token a viewer", "GET /api/v1/tokens"), ("user an-viewer", "GET /settings/users"),
    ]  # fmt: skip
    now = [0.0]
    refusals = Refusals(lambda: now[0])
    assert sum(refusals.take("eve") for _ in range(1_000)) == gate_module.REFUSALS
    assert refusals.take("anna")
    now[0] += 2.0
    assert [refusals.take("eve") for _ in range(3)] == [True, True, False]


def test_every_change_is_written_down_once(app: Any, services: Any) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    client = log_in(app)
    audit = services.store.audit
    before = audit.page()[0].id
    client.post("/sources/switch")
    client.post("/appearance", data={"theme": "dark"})
    client.get("/events")
    client.post("/sources/add", data={})
    client.post("/settings/users", data={"name": "x", "role": "viewer", "password": PASSWORD, "again": PASSWORD})
    made = Program(app, "admin").call("POST", "/users", json={"name": "ben", "role": "viewer", "password": PASSWORD})
    assert made.status_code == 201
    assert [entry.action for entry in audit.page() if entry.id > before][::-1] == [
        "sources.switch", "user.created", "token.created", "user.created",
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["/settings/users", "/settings/tokens"])
def test_what_matters_asks_for_the_password_again(app: Any, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    client = log_in(app)
    assert client.get(path).status_code == 200
    later = now_us() + 16 * 60_000_000
    monkeypatch.setattr(gate_module, "now_us", lambda: later)
    assert client.get(path).headers["Location"] == f"/confirm?next={path}"
    assert client.post(path, data={"name": "x"}).headers["Location"] == "/confirm?next=/settings"
    assert app.extensions["threatlens"].store.audit.page()[0].action == "login", "nothing was changed yet"
    assert client.post("/confirm", data={"password": "wrong", "next": path}).status_code == 401
    monkeypatch.setattr("threatlens.web.login.now_us", lambda: later)
    assert client.post("/confirm", data={"password": PASSWORD, "next": path}).headers["Location"] == path
    assert client.get(path).status_code == 200


def test_the_password_given_again_makes_a_new_secret_and_the_old_one_is_dead(app: Any) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    client, copy = log_in(app), app.test_client()
    before = client.get_cookie("threatlens").value
    copy.set_cookie("threatlens", before)
    assert client.post("/confirm", data={"password": PASSWORD, "next": "/events"}).status_code == 303
    assert client.get_cookie("threatlens").value != before
    assert client.get("/events").status_code == 200
    assert copy.get("/events").status_code == 303


@pytest.mark.parametrize("deed", ["log out", "role", "disable", "remove"])
def test_the_cookie_of_somebody_who_lost_their_rights_is_worth_nothing(app: Any, services: Any, deed: str) -> None:
    person(app, "admin", "root")
    client, eve = log_in(app, "analyst", "eve"), person(app, "analyst", "eve")
    assert client.get("/events").status_code == 200
    {
        "log out": lambda: services.store.end_sessions(eve.id, COMMAND_LINE),
        "role": lambda: services.store.set_role(eve.id, "viewer", COMMAND_LINE),
        "disable": lambda: services.store.set_enabled(eve.id, False, COMMAND_LINE),
        "remove": lambda: services.store.remove_user(eve.id, COMMAND_LINE),
    }[deed]()
    assert client.get("/events").status_code == 303
    assert client.get("/ws/ui", headers=HANDSHAKE).status_code == 401


def test_whose_session_has_ended_is_told_so_and_comes_back_to_where_they_were(app: Any, services: Any) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    client, form = log_in(app, "admin", "anna"), {"Accept": "text/html"}
    other = app.test_client()
    other.set_cookie("threatlens", client.get_cookie("threatlens").value)
    services.store.end_sessions(services.store.user_named("anna").id, COMMAND_LINE)

    login = client.get("/events?q=root", follow_redirects=True)
    refused = other.post("/settings/users", data={"name": "mallory"}, headers=form)

    assert "The session has ended. Log in again; you come back to where you were." in login.text
    assert refused.status_code == 401
    assert "nothing was changed" in refused.text
    assert 'href="/login">Log in</a>' in refused.text
    assert "has ended" not in app.test_client().get("/events", follow_redirects=True).text


def test_the_cookie_is_signed_with_sha_256(app: Any) -> None:
    client = log_in(app)
    signature = client.get_cookie(app.config["SESSION_COOKIE_NAME"]).value.rpartition(".")[2]
    assert len(signature) == 43, "32 bytes in base64"


def test_a_clock_that_is_put_back_logs_nobody_out_and_a_cookie_of_somebody_else_lets_nobody_in(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = log_in(app)
    signed = client.get_cookie("threatlens").value
    an_hour_before = now_us() // 1_000_000 - 3_600
    monkeypatch.setattr("itsdangerous.timed.TimestampSigner.get_timestamp", lambda _: an_hour_before)
    assert client.get("/settings").status_code == 200
    client.set_cookie("threatlens", signed[:-4] + ("aaaa" if signed[-4:] != "aaaa" else "bbbb"))
    assert client.get("/settings").status_code == 303


def test_a_form_needs_the_token_of_its_own_session(app: Any) -> None:
    def form_token(client: Any) -> str:
        return str(client.get("/settings").text.split('name="csrf-token" content="')[1].split('"')[0])

    anna, eve = log_in(app, "admin", "anna"), log_in(app, "admin", "eve")
    for token in ("", "wrong", form_token(eve)):
        answer = anna.post("/settings/users", data={"csrf_token": token, "name": "mallory"})
        assert answer.status_code == 403
    found = app.extensions["threatlens"].store.audit.page(limit=3)
    assert {(each.actor, each.action) for each in found} == {("user anna", "refused")}
    assert all("form token" in each.detail for each in found)
    assert anna.post("/logout", data={"csrf_token": form_token(anna)}).status_code == 303
    assert "mallory" not in [user.name for user in app.extensions["threatlens"].store.users()]


@pytest.mark.parametrize("path", ["/logout", "/settings/tokens/revoke", "/sources/1/remove"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "TRACE", "PROPFIND", "FOO"])
def test_another_method_has_no_effect(app: Any, path: str, method: str) -> None:
    client = log_in(app)
    answer = client.open(path, method=method, headers={"X-HTTP-Method-Override": "POST"})
    assert answer.status_code == 405
    assert client.get("/events").status_code == 200


def test_a_page_fragment_for_somebody_unknown_leads_to_the_login(app: Any) -> None:
    answer = app.test_client().get("/events/1", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/login?next=/events/1")


def test_reports_of_browsers_are_bounded(app: Any, viewer_client: Any) -> None:
    report = {"csp-report": {"blocked-uri": "http://evil.example/\x1b[2J" + "x" * 5_000}}
    answer = viewer_client.post("/csp-reports", json=report, content_type="application/csp-report")
    assert answer.status_code == 204
    assert (
        viewer_client.post("/csp-reports", data=b"x" * 1_000_000, content_type="application/csp-report").status_code
        == 413
    )
    assert viewer_client.post("/csp-reports", data=b"{", content_type="application/csp-report").status_code == 400
    assert viewer_client.post("/csp-reports", data=b"{}", content_type="text/plain").status_code == 415
    statuses = {viewer_client.post("/csp-reports", json={}).status_code for _ in range(310)}
    assert statuses == {204, 429}
    assert app.test_client().post("/csp-reports", json=report).status_code == 401


def test_a_number_that_no_database_holds_leads_nowhere(app: Any, admin_client: Any) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    program, found = Program(app, "admin"), {}
    for rule in app.url_map.iter_rules():
        if rule.arguments and "<int:" in rule.rule:
            path = re.sub("<int:[a-z_]+>", str(2**63), rule.rule)
            for method in rule.methods - {"HEAD", "OPTIONS"}:
                asks = admin_client if not path.startswith("/api/") else app.test_client()
                headers = program.headers if path.startswith("/api/") else {}
                found[method, rule.rule] = asks.open(path, method=method, headers=headers).status_code

    assert len(found) > 20
    assert set(found.values()) <= {404, 405}, found
