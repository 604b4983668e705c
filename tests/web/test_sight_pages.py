"""What ThreatLens sees and what it does not, as pages, the API and metrics say it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from builders import NOW_US, Filler

from threatlens.analyzers.attack import DETECTION_LOST
from threatlens.own_alerts import OwnAlert, OwnAlerts
from threatlens.web.traces import needed

HOSTILE = "<img src=x onerror=alert(1)>"
DRAFT = "name: own.sshd\npattern: Denied (?P<user>\\S+)\nprogram: sshd\nsamples:\n- Denied root\n"


@pytest.fixture
def rule(services: Any) -> Any:
    return next(rule for rule in services.rules.loaded().rules if rule.correlation is None and rule.level == "high")


@pytest.fixture
def blind(services: Any, rule: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """A source that is not understood any more, with its incident; the incident's id."""
    event_id = Filler(services.store).add("Denied root", source="auth")
    (source,) = services.store.sources()
    alerts = OwnAlerts(services.store, services.notifications, services.broadcaster)
    incident_id = alerts.put(OwnAlert(DETECTION_LOST, source.id, "auth", event_id, f"Lost: {HOSTILE}", NOW_US))
    lost = {"kind": "ssh_login failure", "since_us": NOW_US, "incident_id": incident_id}
    stored = {"lost": {"sshd": {**lost, "shapes": [[f"Denied {HOSTILE}", 7]], "draft": DRAFT}}}
    services.store.write_baseline(source.id, stored, NOW_US)
    usual = {
        "learned_lines": 1200, "yields": {"lines": 0.99, "actions": 0.9, "logins": 0.61}, "lines_per_hour": 120.0,
        "learned_days": 9.0, "last_line_s": NOW_US / 1e6, "silent": True, "lost": [{"program": "sshd", **lost}],
    }  # fmt: skip
    coverage = {
        "at_us": NOW_US, "seconds": 1.0, "rules": 300, "can_fire": 299, "untested": 0, "off": 0,
        "failing": [{"id": rule.id, "name": rule.name, "reason": "its own sample does not match"}],
        "absent": {"other": "linux auditd"}, "decoders": 9, "decoder_samples": 9, "decoders_failing": [],
        "sentence": "299 of 300 rules can fire; 1 cannot here because no source provides linux auditd",
    }  # fmt: skip
    status = {"state": "degraded", "components": [], "habits": {str(source.id): usual}, "coverage": coverage}
    monkeypatch.setattr(type(services), "engine_status", lambda _self: status)
    return incident_id


def test_the_list_of_sources_says_what_is_usual_and_what_is_lost(blind: int, viewer_client: Any) -> None:
    page = viewer_client.get("/sources").text
    assert "ssh_login failure is not read any more" in page
    assert f"/incidents/{blind}" in page
    assert "It has been silent since" in page
    assert "61" in page
    assert "120 lines" in page


def test_the_page_of_rules_names_those_that_cannot_fire(blind: int, rule: Any, viewer_client: Any) -> None:
    page = viewer_client.get("/rules").text
    assert "299 of 300 rules can fire; 1 cannot here because no source provides linux auditd" in page
    assert "cannot fire: its own sample does not match" in page
    assert "This rule cannot fire:" in viewer_client.get(f"/rules/{rule.id}").text


def test_an_incident_leads_from_the_new_shapes_to_a_decoder(blind: int, analyst_client: Any, app: Any) -> None:
    page = analyst_client.get(f"/incidents/{blind}").text
    assert "ssh_login failure is not read any more" in page
    assert "Detection lost" in page
    assert HOSTILE not in page
    for said in ("An attempt; as far as", "nothing succeeded", "led to 1 match", "ATT&amp;CK stages"):
        assert said not in page, "nobody attempted anything"
    assert "is not understood any more</h1>" in page

    token = re.search(r'name="csrf_token" value="([^"]+)"', page)[1]  # type: ignore[index]
    answer = analyst_client.post("/unknown/draft", data={"text": DRAFT, "csrf_token": token})
    assert answer.status_code == 200
    assert "own.sshd" in answer.text


def test_programs_are_told_the_same(blind: int, rule: Any, services: Any, app: Any) -> None:
    token = services.store.create_token("reader", "viewer")
    headers = {"Authorization": f"Bearer {token}"}
    found = app.test_client().get("/api/v1/health", headers=headers).json
    assert found["coverage"]["can_fire"] == 299
    assert found["coverage"]["failing"][0]["id"] == rule.id
    (usual,) = found["habits"]
    assert (usual["source"], usual["yields"]["logins"], usual["lost"][0]["incident_id"]) == ("auth", 0.61, blind)

    text = app.test_client().get("/metrics", headers=headers).text
    assert 'threatlens_rules{state="failing"} 1' in text
    assert 'threatlens_source_yield_ratio{source="auth",kind="logins"} 0.61' in text
    assert 'threatlens_source_silent{source="auth"} 1' in text


def test_without_an_engine_nothing_is_claimed(services: Any, viewer_client: Any, app: Any) -> None:
    assert "rules can fire" not in viewer_client.get("/rules").text
    token = services.store.create_token("reader", "viewer")
    found = app.test_client().get("/api/v1/health", headers={"Authorization": f"Bearer {token}"}).json
    assert (found["coverage"], found["habits"]) == (None, [])


def test_what_a_correlation_waits_for_is_said_in_words() -> None:
    assert needed("value_count gte 12 within 10 s") == "at least 12 different values within 10 s"
    assert needed("temporal_ordered a, b within 60 s") == "temporal_ordered a, b within 60 s"
