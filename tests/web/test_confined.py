"""A token that is for some sources learns nothing of the others, whatever it asks."""

from __future__ import annotations

from typing import Any

import pytest
from builders import Filler
from test_api import routes

HERS, CANARY = "web", "canary-of-another-source"


@pytest.fixture
def headers(services: Any) -> dict[str, str]:
    """Of an administrator's token for one source."""
    filler = Filler(services.store)
    filler.add("a line of hers", source=HERS, severity=9)
    filler.add(f"{CANARY} {CANARY}", source=f"{CANARY}-source", severity=9, user_name=CANARY, source_ip="203.0.113.77")
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
