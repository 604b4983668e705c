"""The tester shows what the pipeline would make of a line, and stores nothing."""

from __future__ import annotations

from typing import Any

import pytest
from accounts import log_in

LINE = "Nov 23 06:51:07 web1 sshd[4211]: Failed password for <b>root</b> from 203.0.113.9 port 52144 ssh2"


@pytest.fixture
def client(app: Any) -> Any:
    app.config["WTF_CSRF_ENABLED"] = False
    return log_in(app)


def test_a_line_is_shown_with_its_fields_and_why(client: Any, services: Any) -> None:
    page = client.post("/decode", data={"lines": LINE + "\nno such thing"}).text
    assert "sshd" in page
    assert 'data-fields="source.ip"' in page
    assert "syslog.rfc3164" in page
    assert "&lt;b&gt;root&lt;/b&gt;" in page
    assert "<b>root" not in page
    assert "unknown" in page
    assert not services.store.sources()


def test_the_form_is_empty_at_first(client: Any) -> None:
    assert "Paste up to" in client.get("/decode").text


@pytest.mark.parametrize(("name", "value"), [("format", "nosuch"), ("timezone", "Mars/Base")])
def test_what_does_not_exist_is_said(client: Any, name: str, value: str) -> None:
    assert value in client.post("/decode", data={"lines": LINE, name: value}).text
