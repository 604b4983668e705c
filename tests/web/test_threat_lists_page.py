"""The page of threat lists: what there is, how it does, and who may change it."""

from __future__ import annotations

import re
from typing import Any

from builders import mmdb
from programs import Program


def post(client: Any, path: str, **values: Any) -> Any:
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get("/rules/threats").text)[1]  # type: ignore[index]
    return client.post(path, data={"csrf_token": token, **values}, follow_redirects=True)


def test_a_list_is_followed_fetched_and_removed(app, admin_client, services, settings, tmp_path):
    refused = post(admin_client, "/rules/threats", name="feed", url="http://169.254.169.254/x", every="3600")
    assert "169.254.169.254" in refused.text
    assert services.store.threat_lists() == []

    evil = "https://lists.example.org/<script>"
    text = post(admin_client, "/rules/threats", name="feed", url=evil, every="3600").text
    assert "waiting" in text
    assert "<script>" not in text
    services.store.change_threat_list(
        "feed", error="it answered with status 500", entries=7, checked_at=1_795_478_400_000_000, seen="1:1"
    )
    text = admin_client.get("/rules/threats").text
    assert "it answered with status 500" in text
    assert "stays in force" in text

    assert "within seconds" in post(admin_client, "/rules/threats/feed/refresh").text
    assert "is gone" in post(admin_client, "/rules/threats/feed/remove").text
    assert post(admin_client, "/rules/threats/feed/remove").status_code == 404
    actions = [entry.action for entry in services.store.audit.page(limit=10)]
    assert {"threat_list.added", "threat_list.refreshed", "threat_list.removed"} <= set(actions)


def test_programs_follow_lists_and_leave_them(app, services):
    admin = Program(app, "admin")
    made = admin.call("POST", "/threat-lists", json={"name": "feed", "url": "https://lists.example.org/a.txt"})

    assert made.status_code == 201, made.text
    assert made.headers["Location"] == "/api/v1/threat-lists/feed"
    assert (made.json["every_hours"], made.json["declared"], made.json["entries"]) == (6, False, 0)
    assert [one["name"] for one in admin.get("/threat-lists").json["threat_lists"]] == ["feed"]
    for body, status, field in (
        ({"name": "feed", "url": "https://lists.example.org/a.txt"}, 409, "name"),
        ({"name": "a/b", "url": "https://lists.example.org/a.txt"}, 422, "name"),
        ({"name": "b", "url": "http://169.254.169.254/x"}, 409, "url"),
        ({"name": "b", "url": "https://lists.example.org/a.txt", "every_hours": 0}, 422, "every_hours"),
    ):
        answer = admin.call("POST", "/threat-lists", json=body)
        assert (answer.status_code, answer.json["field"]) == (status, field), answer.text
    assert Program(app, "viewer").call("POST", "/threat-lists/feed/refresh").status_code == 403
    assert admin.call("POST", "/threat-lists/feed/refresh").status_code == 204
    assert [admin.call("DELETE", "/threat-lists/feed").status_code for _ in range(2)] == [204, 404]


def test_a_declared_list_is_read_only(app, admin_client, services):
    with open(services.settings.yaml_path, "w") as file:
        file.write("threat_lists:\n  - {name: drop, url: 'http://10.0.0.1/x'}\n  - {name: a/b, url: 'https://a.b/'}\n")
    services.config.poll()
    assert {(error.line, error.key) for error in services.config.errors} == {
        (2, "threat_lists.0.url"), (3, "threat_lists.1.name"),
    }  # fmt: skip
    with open(services.settings.yaml_path, "w") as file:
        file.write("threat_lists:\n  - {name: drop, url: 'https://lists.example.org/drop.txt', every_hours: 12}\n")
    services.config.poll()
    services.store.put_threat_list("drop", "https://lists.example.org/drop.txt", 43_200, declared=True)

    assert [one.name for one in services.config.config.threat_lists] == ["drop"]
    assert "configuration file" in admin_client.get("/rules/threats").text
    assert "declared in the configuration file" in post(admin_client, "/rules/threats/drop/remove").text
    assert Program(app, "admin").call("DELETE", "/threat-lists/drop").status_code == 409
    assert len(services.store.threat_lists()) == 1


def test_somebody_who_may_not_change_lists_sees_them(viewer_client, analyst_client, services, settings, tmp_path):
    services.threat_lists.tend()
    (tmp_path / "data" / "rules" / "threats" / "bad.txt").write_text("203.0.113.9\n")
    (tmp_path / "data" / "geo").mkdir()
    (tmp_path / "data" / "geo" / "country.mmdb").write_bytes(mmdb(203, {"country": {"iso_code": "SE"}}))
    services.threat_lists.tend()
    text = viewer_client.get("/rules/threats").text
    assert "bad" in text
    assert "in force" in text
    assert "country.mmdb" in text
    assert "Follow a list" not in text
    assert post(analyst_client, "/rules/threats", name="x", url="https://example.org/", every="3600").status_code == 403


def test_the_page_of_rules_says_what_is_learned(viewer_client, filler):
    filler.add("GET / 200", source="nginx")
    assert re.search(r"usual at each hour of the week .* for\s+0 of 1 source", viewer_client.get("/rules").text)
