from __future__ import annotations

from typing import Any

import pytest
from programs import Program


@pytest.fixture
def admin(app: Any) -> Program:
    return Program(app, "admin")


def test_a_source_lives_from_post_to_delete(app: Any, admin: Program) -> None:
    made = admin.call("POST", "/sources", json={"name": "auth", "path": "/var/log/auth.log", "priority": 2})

    assert made.status_code == 201, made.text
    assert made.headers["Location"] == f"/api/v1/sources/{made.json['id']}"
    assert (made.json["settings"]["priority"], made.json["settings"]["format"]) == (2, "auto")
    path = f"/sources/{made.json['id']}"
    assert admin.get(path).json["name"] == "auth"

    changed = admin.call("PATCH", path, json={"name": "logins", "enabled": False})

    assert changed.status_code == 200, changed.text
    assert (changed.json["name"], changed.json["enabled"], changed.json["settings"]["priority"]) == ("logins", False, 2)
    assert [source["name"] for source in admin.get("/sources").json["sources"]] == ["logins"]
    assert admin.call("DELETE", path).status_code == 204
    assert admin.get("/sources").json == {"sources": []}
    assert [admin.call(method, path, json={}).status_code for method in ("PATCH", "DELETE", "GET")] == [404] * 3


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"path": "/var/log/a.log"}, 422, "name"),
        ({"name": "a", "path": "/etc/shadow"}, 409, "path"),
        ({"name": "a", "path": "/var/log/../../etc/shadow"}, 409, "path"),
        ({"name": "a", "path": "relative.log"}, 422, "path"),
        ({"name": " a", "path": "/var/log/a.log"}, 422, "name"),
        ({"name": "a\u202eb", "path": "/var/log/a.log"}, 422, "name"),
        ({"name": "a", "path": "/var/log/a.log", "priority": 11}, 422, "priority"),
        ({"name": "a", "path": "/var/log/a.log", "priority": 2.5}, 422, "priority"),
        ({"name": "a", "path": "/var/log/a.log", "priority": "2"}, 422, "priority"),
        ({"name": "a", "path": "/var/log/a.log", "format": "klingon"}, 409, "format"),
        ({"name": "a", "path": "/var/log/a.log", "start_at": "middle"}, 422, "start_at"),
        ({"name": "a", "path": "/var/log/a.log", "source_id": 7}, 422, "source_id"),
        ({"name": "a", "path": "/var/log/a.log", "origin": "yaml"}, 422, "origin"),
    ],
)
def test_a_source_that_may_not_be_is_refused_with_its_key(
    admin: Program, body: dict[str, Any], status: int, field: str
) -> None:
    """422: it is not as the document says; 409: it is, and does not go with what is here."""
    answer = admin.call("POST", "/sources", json=body)

    assert (answer.status_code, answer.json["field"]) == (status, field), answer.text
    assert admin.get("/sources").json == {"sources": []}


def test_what_the_file_declares_is_read_only(app: Any, admin: Program, services: Any) -> None:
    with open(services.settings.yaml_path, "w") as file:
        file.write("sources:\n  - {name: declared, path: /var/log/a.log}\n")
    services.config.poll()
    [source] = admin.get("/sources").json["sources"]

    for method, body in (("PATCH", {"enabled": False}), ("DELETE", None)):
        answer = admin.call(method, f"/sources/{source['id']}", json=body)
        assert answer.status_code == 409
        assert "declared in threatlens.yaml" in answer.json["detail"]
    assert (source["origin"], admin.get("/sources").json["sources"]) == ("yaml", [source])
