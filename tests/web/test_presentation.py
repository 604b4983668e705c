from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from flask import url_for

from threatlens.clock import now_us
from threatlens.web import presentation


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("a\x00b\x07\r\n\x7f", "a␀b␇␍␊␡"),
        ("tab\tstays", "tab\tstays"),
        ("\x9b2J", "[U+009B]2J"),
        ("user \u202egnp.exe\u202c", "user [U+202E]gnp.exe[U+202C]"),
        ("a\u200bb\u2066c\u2069\ufeff", "a[U+200B]b[U+2066]c[U+2069][U+FEFF]"),
        ("\U000e0041", "[U+E0041]"),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
        ("<b>&amp; größe 🔒", "<b>&amp; größe 🔒"),
    ],
)
def test_what_hides_or_controls_is_shown_as_a_symbol(text: str, shown: str) -> None:
    assert presentation.visible(text) == shown
    shown.encode()


@pytest.fixture
def in_berlin(app: Any) -> Any:
    with app.test_request_context("/", headers={"Cookie": "tz=Europe/Berlin"}):
        yield


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp()) * 1_000_000


def test_the_address_of_an_event_is_that_of_its_route(in_berlin: None) -> None:
    assert presentation.event_url(17) == url_for("events.detail", event_id=17)


def test_a_page_that_stays_open_learns_that_a_day_is_over(in_berlin: None, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    for now in ("2026-11-24T22:59:59+00:00", "2026-11-24T23:00:00+00:00"):  # midnight in Berlin
        monkeypatch.setattr(presentation, "now_us", lambda now=now: at(now))
        shown.append(presentation.clock(at("2026-11-24T20:00:00+00:00")))
    assert shown == ["21:00:00", "24 Nov 21:00:00"]


def test_times_are_written_in_the_zone_of_the_browser(in_berlin: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presentation, "now_us", lambda: at("2026-11-24T12:00:00+00:00"))

    assert presentation.zone_name() == "Europe/Berlin"
    assert presentation.clock(at("2026-11-24T08:42:17+00:00")) == "09:42:17"
    assert presentation.clock(at("2026-11-23T23:30:00+00:00")) == "00:30:00"  # today in Berlin
    assert presentation.clock(at("2026-11-23T09:00:00+00:00")) == "23 Nov 10:00:00"
    assert presentation.clock(at("2025-07-01T09:00:00+00:00")) == "1 Jul 2025 11:00:00"
    assert presentation.utc(at("2026-11-24T08:42:17+00:00")) == "2026-11-24 08:42:17 UTC"
    assert presentation.exact(at("2026-11-24T08:42:17+00:00")) == (
        "2026-11-24 09:42:17 Europe/Berlin\n2026-11-24 08:42:17 UTC"
    )


@pytest.mark.parametrize("name", ["Nowhere/City", "../../etc/passwd", "\x00", "x" * 500])
def test_a_time_zone_that_does_not_exist_leaves_the_machines_own(app: Any, name: str) -> None:
    with app.test_request_context("/", environ_overrides={"HTTP_COOKIE": f"tz={name}"}):
        assert presentation.clock(now_us()).count(":") == 2


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "just now"), (59, "59 s ago"), (61, "1 min ago"), (7200, "2 h ago"), (200_000, "2 d ago")],
)
def test_how_long_ago(monkeypatch: pytest.MonkeyPatch, seconds: int, words: str) -> None:
    monkeypatch.setattr(presentation, "now_us", lambda: 10**15)
    assert presentation.ago(10**15 - seconds * 1_000_000) == words


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [(0, 0, "0 %"), (1, 1, "100 %"), (999_999, 1_000_000, "99.9 %"), (1, 1_000_000, "0.1 %"), (1, 4, "25.0 %")],
)
def test_a_share_is_never_rounded_to_all_or_nothing(part: int, whole: int, words: str) -> None:
    assert presentation.percent(part, whole) == words


def test_numbers_for_people() -> None:
    assert presentation.count(2_143_908) == "2,143,908"
    assert [presentation.size(n) for n in (0, 999, 1000, 22_182_331, 5_200_000_000)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "22.2 MB",
        "5.2 GB",
    ]
    assert [presentation.compact(n) for n in (9999, 12_345, 2_143_908)] == ["9,999", "12 k", "2.1 M"]
    assert [presentation.band(n) for n in range(1, 11)] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_what_the_audit_log_holds_about_a_change_is_read_as_words() -> None:
    held = (
        '{"role": "viewer", "scopes": ["read", "write"], "sources": [], "pasted": true, "files": 1200, "x": {"a": 1}}'
    )
    assert presentation.particulars(held) == (
        'role: viewer; scopes: read, write; pasted: yes; files: 1200; x: {"a": 1}'
    )
    assert "2027-02-25 03:33:04" in presentation.particulars('{"expires_at": 1803526384457002}')
    assert [presentation.particulars(text) for text in ("[1]", "{", "")] == ["[1]", "{", ""]


def test_the_command_of_a_remedy_is_told_from_its_words() -> None:
    assert presentation.remedied("sudo usermod -aG adm anna") == ("", "sudo usermod -aG adm anna")
    assert presentation.remedied("Binary records; to look at them: last") == (
        "Binary records; to look at them:",
        "last",
    )
    assert presentation.remedied("use its test button") == ("use its test button", "")


def test_a_sentence_begins_with_a_capital_and_ends() -> None:
    assert presentation.sentence("no permission to read x") == "No permission to read x."
    assert presentation.sentence("Done!") == "Done!"
    assert presentation.sentence("hooks.example.org has no address") == "hooks.example.org has no address."
    assert presentation.sentence("ops: 2 tries in a row failed") == "ops: 2 tries in a row failed."
    assert presentation.sentence(" ") == ""
