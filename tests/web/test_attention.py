from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from threatlens.event import Event
from threatlens.store_incidents import Incident
from threatlens.web.attention import attention, headline, verdict
from threatlens.web.overview import blind


@dataclass
class Source:
    source_name: str = "auth"
    state: str = "flowing"
    state_reason: str = ""
    remedy: str = ""
    events: int = 1000
    unknown: int = 0


def event(number: int, severity: int = 7, source: str = "auth", **fields: str) -> Event:
    named = {name.replace("_", "."): value for name, value in fields.items()}
    return Event(
        number, number, number, source, 1, "", "authentication", severity, "sshd", f"message {number}", "raw", named
    )


def items(*, severe: Any = (), logins: Any = (), sources: Any = None, dead_letters: int = 0) -> list[Any]:
    return attention(severe, logins, sources or [Source()], dead_letters=dead_letters, range_name="24h")


def test_where_nothing_burns_nothing_is_said() -> None:
    logins = [("192.0.2.1", 40, 4, 30), ("192.0.2.2", 20, 20, 0)]
    assert items(logins=logins) == []
    assert headline([]) == "Nothing needs you"


def test_what_is_muted_stands_last_says_until_when_and_needs_nobody() -> None:
    loud, quiet = (Incident(number, ("source.ip", f"203.0.113.{number}"), severity=10 - number) for number in (2, 1))
    logins = [("203.0.113.1", 90, 90, 0)]
    found = attention(
        [], logins, [Source()], dead_letters=0, range_name="24h", incidents=[quiet, loud],
        muted={1: "until Monday 08:00"},
    )  # fmt: skip
    assert [item.subject for item in found] == ["203.0.113.2", "203.0.113.1"]
    assert found[1].detail == "An attempt, × 0. Muted until Monday 08:00."
    assert headline(found) == "One thing needs you"


def test_severe_events_are_grouped_by_who_is_behind_them() -> None:
    found = items(
        severe=[
            event(9, source_ip="203.0.113.9"),
            event(8, 9, source_ip="203.0.113.9"),
            event(7, user_name="deploy"),
            event(6, 8, source="kern"),
        ]
    )
    assert [(item.severity, item.subject, item.title) for item in found] == [
        (9, "203.0.113.9", "is behind 2 severe events"),
        (8, "kern", "logged 1 severe event"),
        (7, "deploy", "is the user in 1 severe event"),
    ]
    assert found[0].sample == "message 9"
    assert found[0].query == {"min_severity": 7, "range": "24h", "q": '"203.0.113.9"'}
    assert found[1].query == {"min_severity": 7, "range": "24h", "source": "kern"}


def test_an_address_that_failed_often_and_then_got_in_is_said_once() -> None:
    logins = [("203.0.113.9", 220, 214, 2)]
    (alone,) = items(logins=logins)
    (both,) = items(logins=logins, severe=[event(1, source_ip="203.0.113.9")])

    assert alone.title == both.title == "failed to log in 214 times and succeeded 2 times"
    assert alone.severity == 7


def test_guessing_that_leads_nowhere_is_worth_a_calm_sentence() -> None:
    (item,) = items(logins=[("198.51.100.23", 90, 90, 0)])
    assert (item.severity, item.title) == (5, "failed to log in 90 times; nothing got through")


def test_a_source_that_cannot_be_read_comes_with_its_remedy() -> None:
    broken = Source(state="no_permission", state_reason="no permission to read /x", remedy="sudo usermod -aG adm me")
    (item,) = items(sources=[broken])
    assert (item.title, item.detail, item.remedy) == (
        "may not be read",
        "No permission to read /x.",
        "sudo usermod -aG adm me",
    )
    assert item.endpoint == "sources.index"


def test_many_lines_that_nobody_understands_are_said_few_are_not() -> None:
    assert items(sources=[Source(events=1000, unknown=100), Source(events=10, unknown=10)]) == []
    (item,) = items(sources=[Source(events=1000, unknown=370)])
    assert "37.0 %" in item.title


def test_dead_letters_are_said() -> None:
    (item,) = items(dead_letters=3)
    assert item.title == "3 lines could not be stored"
    assert headline([item]) == "One thing needs you"
    assert headline([item] * 3) == "Three things need you"
    assert headline([item] * 12) == "12 things need you"


def test_a_name_that_no_query_can_hold_is_not_put_into_one() -> None:
    (item,) = items(severe=[event(1, user_name='x" OR "')])
    assert item.subject == "auth"


def test_a_word_about_an_address() -> None:
    busy = ("a", 90, 45, 45)
    assert verdict(busy, ("a", 9, 9, 0)) == "guessing"
    assert verdict(busy, ("a", 9, 8, 1)) == "got in"
    assert verdict(busy, ("a", 2, 1, 1)) == "logged in"
    assert verdict(busy, ("a", 2, 1, 0)) == verdict(busy, None) == ""
    assert verdict(("a", 40, 38, 0), None) == "turned away"


def test_what_keeps_attacks_from_being_seen_is_said_and_nothing_else() -> None:
    def engine(**states: str) -> dict[str, Any]:
        return {"components": [{"name": n, "state": s, "reason": f"{n} says why"} for n, s in states.items()]}

    assert blind({}) == "The engine is not running: nothing is read."
    assert blind(engine(rules="starting", channels="failed", memory="degraded")) == ""
    assert blind(engine(rules="degraded", database="failed")) == "Database: Database says why. And 1 more part."
