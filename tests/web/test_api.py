"""The gate of the API: who is let in, what is refused, and that both are the same for every route."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from programs import Program

from threatlens.clock import now_us
from threatlens.errors import StoreUnavailable
from threatlens.store_accounts import ROLES
from threatlens.web.operations import Operation

GOOD_SHAPE = "tl_" + "A" * 43
#: Path variables for any route.
VALUES = {
    "user_id": 99, "event_id": 1, "source_id": 1, "token_id": 1, "ingestion_id": "x", "incident_id": 1, "rule_id": "x",
    "mute_id": 1, "name": "x", "notification_id": 1, "report_id": 1, "schedule_id": 1,
}  # fmt: skip


def routes(app: Any) -> list[tuple[str, str, Any]]:
    """(method, path, view) of everything below /api."""
    with app.test_request_context():
        adapter = app.create_url_adapter(None) or app.url_map.bind("localhost")
    return [
        (method, adapter.build(rule.endpoint, {name: VALUES[name] for name in rule.arguments}),
         app.view_functions[rule.endpoint])
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/")
        for method in sorted((rule.methods or set()) - {"HEAD"})
    ]  # fmt: skip


def test_every_route_below_api_declares_a_role(app: Any) -> None:
    found = routes(app)

    assert len(found) >= 14
    assert [path for _method, path, view in found if not (isinstance(view, Operation) and view.role in ROLES)] == []


def test_a_route_that_declares_nothing_stays_closed(app: Any) -> None:
    app.add_url_rule("/api/v1/forgotten", "forgotten", lambda: "secret")

    answer = Program(app, "admin").call("GET", "/forgotten")

    assert answer.status_code == 403
    assert "secret" not in answer.text


@pytest.mark.parametrize("role", ROLES)
def test_a_role_opens_its_own_routes_and_no_others(app: Any, role: str) -> None:
    client = app.test_client()
    for number, (method, path, view) in enumerate(routes(app)):
        token = app.extensions["threatlens"].store.create_token(f"{role} {number}", role)

        answer = client.open(path, method=method, headers={"Authorization": f"Bearer {token}"})

        refused = ROLES.index(role) < ROLES.index(view.role)
        assert (answer.status_code == 403) == refused, (method, path, answer.text)
        assert answer.status_code not in {401, 500}, (method, path, answer.text)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {GOOD_SHAPE}",
        f"bearer  {GOOD_SHAPE}",
        f"Basic {GOOD_SHAPE}",
        f"Bearer {GOOD_SHAPE}x",
        f"Bearer {GOOD_SHAPE}, Bearer {GOOD_SHAPE}",
        "Bearer tl_" + "A" * 1_000_000,
        "Bearer tl_\u00e9" + "A" * 42,
        "Bearer tl_wrongwrongwrongwrong",
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/openapi.json", "/api/v1/nothing", "/api/", "/api/v2"])
def test_without_a_good_token_nothing_below_api_answers(app: Any, authorization: str | None, path: str) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}

    answer = app.test_client().get(path, headers=headers)

    assert answer.status_code == 401
    assert answer.mimetype == "application/problem+json"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json["detail"] == "A valid token is needed: Authorization: Bearer tl_..."


def test_a_wrong_token_costs_no_disk_access(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = app.extensions["threatlens"].store
    client = app.test_client()
    client.get("/api/v1/events", headers={"Authorization": f"Bearer {GOOD_SHAPE}"})  # reads the snapshot
    monkeypatch.setattr("threatlens.store_tokens.SNAPSHOT_S", 3600.0)
    monkeypatch.setattr(type(store.database), "reading", lambda *_a, **_m: pytest.fail("the database was asked"))

    for number in range(200):
        token = "tl_" + str(number).zfill(43)
        assert client.get("/api/v1/events", headers={"Authorization": f"Bearer {token}"}).status_code in {401, 429}


def test_a_revoked_token_is_refused_at_once(app: Any) -> None:
    admin, other = Program(app, "admin"), Program(app, "viewer")
    assert other.get("/stats").status_code == 200
    [number] = [t["id"] for t in admin.get("/tokens").json["tokens"] if t["role"] == "viewer"]

    assert admin.call("DELETE", f"/tokens/{number}").status_code == 204

    assert other.get("/stats").status_code == 401
    assert admin.call("DELETE", f"/tokens/{number}").status_code == 404


def test_a_token_is_shown_once_and_works(app: Any) -> None:
    admin = Program(app, "admin")

    made = admin.call("POST", "/tokens", json={"name": "shipper", "role": "analyst"})

    assert made.status_code == 201
    headers = {"Authorization": f"Bearer {made.json['token']}"}
    assert app.test_client().get("/api/v1/stats", headers=headers).status_code == 200
    assert made.json["token"] not in admin.get("/tokens").text
    assert admin.call("POST", "/tokens", json={"name": "shipper", "role": "viewer"}).status_code == 409


def test_a_token_makes_none_that_may_more_or_lasts_longer(app: Any, services: Any) -> None:
    ends = now_us() + 5 * 86_400_000_000
    made = services.store.create_token("narrow", "admin", scopes=("write",), expires_at=ends)
    headers = {"Authorization": f"Bearer {made}"}

    def make(**more: Any) -> Any:
        body = {"name": f"t{len(services.store.tokens())}", "role": "admin", **more}
        return app.test_client().post("/api/v1/tokens", headers=headers, json=body)

    refused = [make(scopes=["read"]), make(scopes=["write", "ingest"]), make(days=30)]
    assert [(each.status_code, each.json["field"]) for each in refused] == [
        (403, "scopes"), (403, "scopes"), (403, "days"),
    ]  # fmt: skip
    assert make().status_code == make(scopes=["write"], days=4).status_code == 201
    found = [(view.scopes, view.expires_at <= ends) for view in services.store.tokens()]
    assert found == [(("write",), True)] * 3


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, "body"),
        (b"[]", 400, "body"),
        (b"null", 400, "body"),
        (b"{", 400, "body"),
        (b'{"name":"a","name":"b","role":"viewer"}', 400, "body"),
        (b'{"name":NaN}', 400, "body"),
        (b'{"name":1e400}', 400, "body"),
        (b'{"name":' + b"9" * 5000 + b"}", 400, "body"),
        (b'\xef\xbb\xbf{"name":"a","role":"viewer"}', 400, "body"),
        ('{"name":"a","role":"viewer"}'.encode("utf-16"), 400, "body"),
        (b'{"name":"\\ud800","role":"viewer"}', 400, "body"),
        (b'{"name":' * 33 + b"1" + b"}" * 33, 400, "body"),
        (b'{"name":' + b"[" * 100_000, 400, "body"),
        (b'{"name":"a"}', 422, "role"),
        (b'{"name":"a","role":"root"}', 422, "role"),
        (b'{"name":1,"role":"viewer"}', 422, "name"),
        (b'{"name":"","role":"viewer"}', 422, "name"),
        (b'{"name":"a\\u0000","role":"viewer"}', 422, "name"),
        (b'{"name":"a","role":"viewer","id":1}', 422, "id"),
        (b" " * 300_000, 413, ""),
    ],
)
def test_a_body_is_read_strictly(app: Any, body: bytes, status: int, field: str) -> None:
    admin = Program(app, "admin")

    answer = admin.call("POST", "/tokens", data=body, content_type="application/json")

    assert answer.status_code == status, answer.text
    assert answer.json.get("field", "") == field
    assert len(admin.get("/tokens").json["tokens"]) == 1


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_a_json_operation_takes_json_only(app: Any, kind: str | None) -> None:
    admin = Program(app, "admin")

    answer = admin.call("POST", "/tokens", data=b'{"name":"a","role":"admin"}', content_type=kind)

    assert answer.status_code == 415


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "PROPFIND", "FOO", "PUT", "POST"])
def test_another_method_is_a_problem_405(app: Any, method: str) -> None:
    answer = Program(app).call(method, "/events", headers={"X-HTTP-Method-Override": "GET", "Origin": "http://evil"})

    assert answer.status_code == 405
    assert answer.mimetype == "application/problem+json"
    assert "GET" in answer.headers["Allow"]
    assert not [name for name, _value in answer.headers if name.lower().startswith("access-control")]


def test_every_answer_has_a_request_id_and_is_not_cached(app: Any) -> None:
    program = Program(app)
    answers = [program.get(path) for path in ("/events", "/nothing", "/tokens")]
    answers.append(program.get("/events", limit="x"))
    answers.append(app.test_client().get("/api/v1/events"))

    assert [answer.status_code for answer in answers] == [200, 404, 403, 400, 401]
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == 5
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}


def test_a_get_changes_nothing(app: Any) -> None:
    admin = Program(app, "admin")
    before = admin.get("/sources").json, [t["name"] for t in admin.get("/tokens").json["tokens"]]

    for (method, path, _view), kind in itertools.product(routes(app), ("GET", "HEAD")):
        if method != "GET":
            admin.call(kind, path.removeprefix("/api/v1"))

    assert before == (admin.get("/sources").json, [t["name"] for t in admin.get("/tokens").json["tokens"]])


def test_what_is_not_below_ws_is_a_problem_404(app: Any) -> None:
    answer = app.test_client().get("/ws/nothing")

    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_healthz_says_only_that_the_process_lives(app: Any) -> None:
    answer = app.test_client().get("/healthz")

    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_readyz_names_no_address_user_or_path(app: Any, services: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> int:
        words = 'the database does not answer: connection to "db.internal" (192.0.2.5) failed for user "threatlens"'
        raise StoreUnavailable(words, reason="away")

    monkeypatch.setattr(services.store, "last_id", away)
    answer = app.test_client().get("/readyz")

    assert answer.status_code == 503
    assert "the database does not answer" in answer.json["reasons"]
    assert not any(word in answer.text for word in ("192.0.2.5", "internal", "user"))


def test_readyz_says_why_not(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client, kind = app.test_client(), type(app.extensions["threatlens"])
    monkeypatch.setattr(kind, "readiness", lambda _self: ["no engine runs"])
    not_ready = client.get("/readyz")
    monkeypatch.setattr(kind, "readiness", lambda _self: [])

    assert (not_ready.status_code, not_ready.json["reasons"]) == (503, ["no engine runs"])
    assert (client.get("/readyz").status_code, client.get("/readyz").json) == (200, {"status": "ok"})
