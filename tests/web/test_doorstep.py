"""Wrong tokens by the thousand: refused before the app sees them, and never at the cost of a right one."""

from __future__ import annotations

from typing import Any

import pytest

from threatlens.errors import StoreUnavailable
from threatlens.web.doorstep import FREE, MAX_ADDRESSES, WAIT_S, Doorstep

WRONG = {"Authorization": "Bearer tl_" + "A" * 43}


def at(app: Any, address: str, headers: dict[str, str], path: str = "/api/v1/events", **more: Any) -> Any:
    return app.test_client().get(path, headers=headers, environ_base={"REMOTE_ADDR": address}, **more)


def test_a_wrong_token_is_refused_like_a_missing_one_and_costs_the_app_nothing(app: Any) -> None:
    seen: list[str] = []
    inner = app.wsgi_app._inner
    app.wsgi_app._inner = lambda environ, start: seen.append("asked") or inner(environ, start)
    refused, missing = at(app, "192.0.2.1", WRONG), at(app, "192.0.2.1", {})

    assert seen == ["asked"]
    assert {
        name: value for name, value in refused.headers.items() if name not in {"X-Request-Id", "Content-Length"}
    } == {name: value for name, value in missing.headers.items() if name not in {"X-Request-Id", "Content-Length"}}
    assert refused.status_code == missing.status_code == 401
    assert {**refused.json, "request_id": ""} == {**missing.json, "request_id": ""}
    assert refused.json["request_id"] == refused.headers["X-Request-Id"]


def test_over_tls_the_refusal_says_so(app: Any) -> None:
    answer = at(app, "192.0.2.1", WRONG, base_url="https://localhost")
    assert "max-age" in answer.headers["Strict-Transport-Security"]


def test_an_address_that_goes_on_is_told_to_wait_and_others_are_not(app: Any, services: Any) -> None:
    now = [100.0]
    app.wsgi_app = Doorstep(app.wsgi_app, services.store, (), clock=lambda: now[0])
    statuses = [at(app, "192.0.2.1", WRONG).status_code for _ in range(FREE + 3)]
    last = at(app, "192.0.2.1", WRONG)

    assert statuses == [401] * FREE + [429] * 3
    assert last.headers["Retry-After"] == last.headers["X-Accel-Expires"] == str(WAIT_S)
    assert at(app, "192.0.2.2", WRONG).status_code == 401
    now[0] += WAIT_S
    assert [at(app, "192.0.2.1", WRONG).status_code for _ in range(WAIT_S + 1)] == [401] * WAIT_S + [429]


def test_addresses_of_one_ipv6_network_are_one(app: Any) -> None:
    statuses = [at(app, f"2001:db8::{number:x}", WRONG).status_code for number in range(FREE + 1)]
    assert statuses[-1] == 429


def test_a_right_token_gets_in_from_an_address_that_is_told_to_wait(app: Any, services: Any) -> None:
    right = {"Authorization": f"Bearer {services.store.create_token('shipper', 'viewer')}"}
    for _ in range(FREE + 1):
        at(app, "192.0.2.1", WRONG)
    assert at(app, "192.0.2.1", right).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/events", "/healthz", "/nowhere", "/ws/events"])
def test_a_wrong_token_is_refused_wherever_it_is_shown(app: Any, path: str) -> None:
    assert at(app, "192.0.2.1", WRONG, path).status_code == 401


def test_what_a_client_says_about_its_address_counts_only_behind_a_proxy(app: Any) -> None:
    for number in range(FREE + 1):
        answer = at(app, "192.0.2.1", {**WRONG, "X-Forwarded-For": f"192.0.2.{number + 10}"})
    assert answer.status_code == 429


def test_the_addresses_that_are_remembered_are_bounded(services: Any) -> None:
    step = Doorstep(lambda *_: [], services.store, ())
    for number in range(MAX_ADDRESSES + 10):
        environ = {"HTTP_AUTHORIZATION": WRONG["Authorization"], "REQUEST_METHOD": "GET",
                   "REMOTE_ADDR": f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"}  # fmt: skip
        list(step(environ, lambda *_: None))  # type: ignore[arg-type,return-value]
    assert len(step.allowance._left) == MAX_ADDRESSES


def test_while_the_database_is_away_nobody_is_called_wrong(
    app: Any, services: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_token: str) -> None:
        raise StoreUnavailable("the disk is gone")

    monkeypatch.setattr(type(services.store), "check_token", lambda _store, token: away(token))
    assert at(app, "192.0.2.1", WRONG).status_code == 503
