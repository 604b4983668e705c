"""Toasts tell of what is urgent once, and again only when it has become worse."""

from __future__ import annotations

from typing import Any

import pytest

from threatlens.event import EventUpdate
from threatlens.web.toasts import Toasts


def incident(severity: int = 8, outcome: str = "attempt", number: int = 1, **more: Any) -> EventUpdate:
    data = {
        "id": number,
        "status": "open",
        "severity": severity,
        "outcome": outcome,
        "title": "<b>x</b> guessed",
        **more,
    }
    return EventUpdate("incident", data, 1, priority=severity)


@pytest.fixture
def in_request(app: Any) -> Any:
    with app.test_request_context("/"):
        yield


def test_an_urgent_incident_is_told_once_and_again_when_it_is_worse(in_request: Any) -> None:
    toasts = Toasts(is_analyst=False)
    first = toasts.html((incident(),))
    assert "/incidents/1" in first
    assert "&lt;b&gt;x&lt;/b&gt; guessed" in first
    assert toasts.html((incident(), incident(7))) == ""
    assert "Somebody got in" in toasts.html((incident(8, "success"),))
    assert toasts.html((incident(10, "success"),)) != ""


def test_what_is_not_urgent_or_not_open_is_no_toast(in_request: Any) -> None:
    toasts = Toasts(is_analyst=True)
    assert toasts.html((incident(6), incident(9, status="closed"), EventUpdate("system_status", {}, 1))) == ""


def test_the_incident_that_is_being_read_needs_no_telling(in_request: Any) -> None:
    toasts = Toasts(is_analyst=True, reading=1)
    assert toasts.html((incident(),)) == ""
    assert toasts.html((incident(number=2),)) != ""


def test_notifications_are_for_analysts(in_request: Any) -> None:
    update = EventUpdate("notification", {"id": 4, "channel": "mail", "status": "sent", "title": "t", "severity": 8}, 1)
    failed = EventUpdate(
        "notification", {"id": 5, "channel": "mail", "status": "failed", "title": "t", "severity": 2}, 1
    )
    assert Toasts(is_analyst=False).html((update, failed)) == ""
    html = Toasts(is_analyst=True).html((update, failed))
    assert "Sent by mail" in html
    assert "Could not be sent by mail" in html


def test_what_several_channels_were_told_of_one_thing_is_one_toast(in_request: Any) -> None:
    toasts = Toasts(is_analyst=True)

    def told(number: int, **changes: Any) -> str:
        data = {"id": number, "incident_id": 7, "severity": 9, "status": "sent", "channel": f"c{number}", "title": "x"}
        return toasts.html((EventUpdate("notification", {**data, **changes}, 1, priority=3, id=number),))

    assert "Sent by c1" in told(1)
    assert told(2) == ""
    assert "Could not be sent by c3" in told(3, status="failed")
    assert "/notifications/4" in told(4, severity=10), "it has become worse"


def test_of_many_alerts_at_once_the_newest_are_shown(in_request: Any) -> None:
    html = Toasts(is_analyst=True).html(tuple(incident(number=number) for number in range(50)))
    assert html.count("<article") == 20
    assert "/incidents/49" in html
