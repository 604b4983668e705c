"""The page of threat lists: what there is, how it does, and who may change it."""

from __future__ import annotations

import re
from typing import Any

from builders import mmdb


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
