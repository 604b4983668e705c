from __future__ import annotations

from typing import Any

import pytest
from accounts import log_in

from threatlens.web.appearance import local_path
from threatlens.web.security_headers import CONTENT_SECURITY_POLICY

PATHS = [
    "/",
    "/events",
    "/events/1",
    "/sources",
    "/sources/add",
    "/unknown",
    "/dead-letters",
    "/healthz",
    "/nope",
    "/login",
    "/confirm",
    "/setup",
    "/settings",
    "/settings/users",
    "/settings/tokens",
    "/settings/audit",
    "/static/threatlens.css",
    "/static/nope",
    "/api/v1/events",
    "/ws/ui",
]


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_carries_the_policy(app: Any, path: str) -> None:
    answer = log_in(app).get(path)
    answer.close()

    assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in answer.headers["Permissions-Policy"]
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_mistake_of_ours_carries_it_too_and_tells_nothing(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise RuntimeError("secret /path/to/file")

    app.config["PROPAGATE_EXCEPTIONS"] = False
    monkeypatch.setattr(app.extensions["threatlens"].store, "last_id", fail)
    answer = log_in(app).get("/events")

    assert answer.status_code == 500
    assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert "ThreatLens made a mistake" in answer.text
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_pages_are_not_kept_and_static_files_are(app: Any) -> None:
    client = log_in(app)
    page = client.get("/events")
    address = page.text.split('rel="stylesheet" href="')[1].split('"')[0]

    with client.get(address) as named, client.get("/static/threatlens.css") as unnamed:
        assert "immutable" in named.headers["Cache-Control"]
        assert "immutable" not in unnamed.headers.get("Cache-Control", "")
    assert page.headers["Cache-Control"] == "no-store"
    assert "Cookie" in page.headers["Vary"]


OTHERS = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "https://localhost"},
    {"Origin": "http://localhost:81"},
    {"Origin": "http://localhost.evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", OTHERS, ids=str)
def test_a_change_asked_for_by_another_site_is_refused(app: Any, headers: dict[str, str]) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    client = log_in(app)
    assert client.post("/appearance", data={"theme": "dark"}, headers=headers).status_code == 403
    (refused,) = app.extensions["threatlens"].store.audit.page(limit=1)
    assert (refused.action, refused.target) == ("refused", "POST /appearance")
    assert "another site" in refused.detail
    assert client.post("/appearance", data={"theme": "dark"}, headers={"Origin": "http://localhost"}).status_code == 303


@pytest.mark.parametrize(
    "path",
    [
        "/appearance",
        "/first-run",
        "/sources/add",
        "/sources/switch",
        "/sources/1/remove",
        "/dead-letters/1/replay",
        "/login",
        "/setup",
        "/confirm",
        "/logout",
        "/settings/password",
        "/settings/sessions",
        "/settings/users",
        "/settings/users/1",
        "/settings/tokens",
        "/settings/tokens/revoke",
    ],
)
def test_no_form_is_taken_without_its_token(app: Any, path: str) -> None:
    answer = log_in(app).post(path, data={"csrf_token": "wrong"})
    assert answer.status_code == 403
    assert "That is not allowed" in answer.text


@pytest.mark.parametrize(
    "target", ["//evil.example", "/\\evil.example", "https:evil", "javascript:alert(1)", "", "x", "/a\nb", "/%0d\r\n"]
)
def test_a_switch_leads_back_to_this_site_only(target: str) -> None:
    assert local_path(target) == "/"
    assert local_path("/events?q=a") == "/events?q=a"


def test_light_and_dark_work_without_scripts(app: Any) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    client = log_in(app)
    answer = client.post("/appearance", data={"theme": "dark", "next": "/events?q=a"})

    assert answer.headers["Location"] == "/events?q=a"
    assert 'data-theme="dark"' in client.get("/events").text


def test_dense_and_comfortable_work_without_scripts_and_beside_the_theme(app: Any) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    client = log_in(app)
    client.post("/appearance", data={"theme": "dark"})
    assert "data-density" not in client.get("/events").text.partition("<head>")[0]
    client.post("/appearance", data={"density": "dense"})
    assert 'data-theme="dark" data-density="dense"' in client.get("/events").text
    client.post("/appearance", data={"density": "comfortable"})
    assert "data-density" not in client.get("/events").text.partition("<head>")[0]
