"""The page of the language model: saved, tested for real, and the exact text that would be sent."""

from __future__ import annotations

import pytest
from accounts import log_in
from programs import Program

from threatlens.store_analyses import ModelAnalysis
from threatlens.web.context import Services


def _services(app) -> Services:
    return app.extensions["threatlens"]


@pytest.fixture
def browser(app, services):
    app.config["WTF_CSRF_ENABLED"] = False
    services.config.load_config()
    return log_in(app, "admin", "anna")


def test_the_settings_are_saved_and_the_key_is_never_shown(app, browser):
    answer = browser.post("/settings/language-model", data={
        "do": "save", "provider": "anthropic", "base_url": "https://llm.example.org", "model": "tiny<b>",
        "api_key": "sk-never-shown-again", "hourly_budget": "7",
    })  # fmt: skip
    assert answer.status_code == 303
    saved = _services(app).config.config.llm
    assert (saved.enabled, saved.provider, saved.model, saved.hourly_budget) == (False, "anthropic", "tiny<b>", 7)
    page = browser.get("/settings/language-model").text
    assert "sk-never-shown-again" not in page
    assert "tiny&lt;b&gt;" in page


def test_a_wrong_value_is_told_and_a_test_that_fails_says_why(browser):
    assert (
        browser.post("/settings/language-model", data={"hourly_budget": "x", "provider": "openai"}).status_code == 400
    )
    answer = browser.post("/settings/language-model", data={"do": "test"})
    assert answer.status_code == 400
    assert "The test failed" in answer.text


def test_an_incident_that_does_not_exist_has_no_text_to_be_sent(browser):
    assert browser.get("/incidents/1/sent").status_code == 404


def test_the_api_has_no_model_analysis_of_an_incident_that_does_not_exist(app):
    store = _services(app).store
    store.put_analysis(ModelAnalysis(9, "f", "failed", "openai", "tiny", "1", error="it hung up", created_at=1))
    assert Program(app, "viewer").get("/incidents/9").status_code == 404
    assert store.analysis_of(9).error == "it hung up"
