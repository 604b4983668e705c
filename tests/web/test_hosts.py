"""Only requests that are sent to us are answered (H05): a name that an attacker points at this machine is not ours."""

from __future__ import annotations

from typing import Any

import pytest
from accounts import log_in

from threatlens.settings import load_settings


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_the_loopback_names_are_ours(app: Any, host: str) -> None:
    assert app.test_client().get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/healthz", "/api/v1/events", "/ws/ui", "/static/threatlens.css"])
@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000", "a b", ""])
def test_any_other_name_is_refused(app: Any, path: str, host: str) -> None:
    answer = app.test_client().get(path, headers={"Host": host})
    assert answer.status_code == 400
    assert "Content-Security-Policy" in answer.headers


def test_a_forwarded_host_changes_nothing(app: Any) -> None:
    answer = log_in(app).get("/events", headers={"X-Forwarded-Host": "evil.example"})
    assert answer.status_code == 200
    assert b"evil.example" not in answer.data


def test_names_behind_a_proxy_are_given() -> None:
    settings = load_settings({"THREATLENS_TRUSTED_HOSTS": "logs.example.org, logs"})
    assert settings.hosts[-2:] == ["logs.example.org", "logs"]
