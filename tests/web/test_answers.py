"""Answering from a message: a link asks, its button does it, once, and nobody else's link does anything."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from test_incident_pages import find, match  # noqa: F401  (find is a fixture)

from threatlens.clock import now_us
from threatlens.notices import of_incident
from threatlens.settings import new_secret_key

HOUR_US = 3_600_000_000


@pytest.fixture
def told(services: Any, settings: Any, find: Any, hook: Any) -> Any:  # noqa: F811
    """An incident that was told; what the receiver got."""
    config = {
        "allowed_private_networks": ["127.0.0.0/8"],
        "channels": [{"name": "hook", "type": "webhook", "url": hook.url}],
        "notification_rules": [{"name": "all", "channels": ["hook"], "cooldown_minutes": 0}],
    }
    with open(settings.yaml_path, "w") as file:
        file.write(json.dumps(config))
    services.config.load_config()

    def tell(*matches: Any) -> tuple[int, dict[str, str]]:
        incident_id = find(*matches)
        happening = of_incident(services.store.incident(incident_id), "authentication", "auth", timestamp_us=now_us())
        services.store.tell(services.notifications.plan([happening]), now_us())
        assert services.notifications.deliver("hook") == 1
        links = json.loads(hook.received[-1].body)["data"]["links"]
        return incident_id, {words: url.removeprefix(services.settings.base_url) for words, url in links.items()}

    return tell


@pytest.fixture
def nobody(app: Any) -> Any:
    """A browser without a session."""
    return app.test_client()


def test_opening_a_link_does_nothing_and_its_button_acknowledges_as_the_channel(nobody, services, told):
    incident_id, links = told(match(1))
    for _ in range(3):  # a mail scanner, a preview, a person
        page = nobody.get(links["Acknowledge"])
        assert page.status_code == 200
        assert "203.0.113.9" in page.text
        assert nobody.head(links["Acknowledge"]).status_code == 200
    assert services.store.incident(incident_id).status == "open"

    assert "It is acknowledged" in nobody.post(links["Acknowledge"]).text

    assert services.store.incident(incident_id).status == "acknowledged"
    (note,) = services.store.incident_notes(incident_id)
    assert (note.author, note.text) == ("channel hook", "by a link in a message")
    assert services.store.audit.page()[0].actor == "channel hook"


def test_a_link_works_once(nobody, services, told):
    incident_id, links = told(match(1))
    assert nobody.post(links["Acknowledge"]).status_code == 200
    services.store.change_incident(
        incident_id, services.store.incident(incident_id).version, doer_anna(), kind="reopened", status="open"
    )

    for answer in (nobody.get(links["Acknowledge"]), nobody.post(links["Acknowledge"])):
        assert answer.status_code == 410
        assert "used already" in answer.text
    assert services.store.incident(incident_id).status == "open"


def doer_anna() -> Any:
    from threatlens.store_accounts import Doer

    return Doer("user anna")


def test_a_mute_is_about_the_rules_and_the_subject_of_the_incident_alone(nobody, services, told):
    incident_id, links = told(match(1), match(2))
    assert "Rule 2" in nobody.get(links["Mute"]).text
    assert services.store.mutes() == []

    assert "quiet for 24 hours" in nobody.post(links["Mute"]).text

    mutes = services.store.mutes()
    assert {(each.rule_id, each.source_ip, each.incident_id) for each in mutes} == {
        ("rule-1", "203.0.113.9", incident_id), ("rule-2", "203.0.113.9", incident_id)
    }  # fmt: skip
    assert all(each.expires_us - each.created_at == 24 * HOUR_US and each.author == "channel hook" for each in mutes)
    assert services.store.incident(incident_id).status == "open"


def test_a_link_of_one_incident_does_nothing_to_another(nobody, services, told):
    _, links = told(match(1))
    other = told(match(2, source_ip="198.51.100.7"))[0]
    said, _, signature = links["Acknowledge"].rpartition(".")
    head, _, expires = said.rpartition(".")
    notification, _, incident = head.rpartition(".")
    forged = [
        f"{notification}.{other:x}.{expires}.{signature}",
        f"{notification}.{incident}.{int(expires, 16) + 1:x}.{signature}",
        links["Acknowledge"].replace("/answer/a", "/answer/m"),
        f"{said}.{'A' * 32}",
        "/answer/x",
        "/answer/" + "9" * 5_000,
    ]
    for path in forged:
        assert nobody.post(path).status_code == 404, path
    assert services.store.incident(other).status == "open"
    assert services.store.mutes() == []


def test_a_link_ends_with_its_time_its_channel_its_key_and_when_it_is_withdrawn(
    nobody, services, settings, told, monkeypatch
):
    incident_id, links = told(match(1))
    path = links["Acknowledge"]
    later = now_us() + 73 * HOUR_US
    with monkeypatch.context() as patch:
        patch.setattr("threatlens.web.answers.now_us", lambda: later)
        assert nobody.post(path).status_code == 410

    old = services.config.config
    with monkeypatch.context() as patch:
        patch.setattr(services.config, "_config", replace(old, channels=()))
        assert nobody.post(path).status_code == 404
        patch.setattr(services.config, "_config", replace(old, answers=replace(old.answers, enabled=False)))
        assert nobody.post(path).status_code == 404

    with open(settings.key_path) as file:
        key = file.read()
    with open(settings.key_path, "w") as file:
        file.write(f"{new_secret_key()}\n{key}")
    assert nobody.get(path).status_code == 200, "while keys are changed the old one is known"
    with open(settings.key_path, "w") as file:
        file.write(new_secret_key())
    assert nobody.post(path).status_code == 404
    with open(settings.key_path, "w") as file:
        file.write(key)

    services.store.withdraw_answers("hook", doer_anna(), now_us())
    assert "withdrawn" in nobody.post(path).text
    assert services.store.incident(incident_id).status == "open"
    assert nobody.post(told(match(9, source_ip="198.51.100.9"))[1]["Acknowledge"]).status_code == 200


def test_who_guesses_links_waits_and_a_good_one_of_another_network_works(nobody, told):
    _, links = told(match(1))
    statuses = [nobody.get(f"/answer/guess{i}").status_code for i in range(25)]
    assert statuses[:20] == [404] * 20
    assert statuses[-1] == 429
    elsewhere = {"REMOTE_ADDR": "198.51.100.20"}
    assert nobody.post(links["Acknowledge"], environ_overrides=elsewhere).status_code == 200


def test_no_link_is_stored_and_a_page_of_somebody_else_cannot_press_the_button(nobody, services, told):
    incident_id, links = told(match(1))
    with services.store.database.reading() as connection:
        (payload,) = connection.exec_driver_sql("SELECT payload FROM notification_history").one()
    assert "/answer/" not in payload
    assert nobody.post(links["Acknowledge"], headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert services.store.incident(incident_id).status == "open"


def test_a_log_line_in_the_title_is_text_on_the_page(nobody, told):
    _, links = told(match(1, source_ip=None, user_name="<script>alert(1)</script>", host_name=None))
    page = nobody.get(links["Mute"]).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
