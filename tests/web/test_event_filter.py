from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from werkzeug.datastructures import MultiDict

from threatlens.event import EventFilter
from threatlens.query import parse_query
from threatlens.web.event_filter import View, field_value, quoted, read_view

NOW_US = 1_795_478_400_000_000  # 2026-11-24 00:00:00 UTC


@pytest.fixture(autouse=True)
def in_berlin(app: Any) -> Any:
    with app.test_request_context("/", headers={"Cookie": "tz=Europe/Berlin"}):
        yield


def read(**parameters: Any) -> View:
    return read_view(MultiDict(parameters), NOW_US)


def test_an_empty_address_asks_for_everything() -> None:
    view = read()
    assert (view.where, view.errors, view.is_newest) == (EventFilter(), (), True)


def test_every_part_of_the_address_narrows_the_view() -> None:
    view = read(
        q="failed severity>=3", min_severity="5", max_severity="8", category="authentication", source=["a", "b"]
    )
    assert view.where == EventFilter(5, 8, ("authentication",), ("a", "b"), words=("failed",))


def test_what_two_parts_exclude_together_finds_nothing() -> None:
    assert read(q="source:nginx", source="auth").where.sources == ("",)
    assert read(q="source:(nginx,auth)", source="auth").where.sources == ("auth",)


def test_times_without_a_zone_are_the_viewers() -> None:
    view = read(start="2026-11-23T14:00:00", end="2026-11-23T14:00:00+00:00")
    assert view.where.end_us is not None
    assert view.where.start_us == view.where.end_us - 3_600_000_000
    assert field_value(view.params, "end") == "2026-11-23T15:00:00"


def test_the_narrower_of_two_times_counts() -> None:
    assert read(range="1h").where.start_us == NOW_US - 3_600_000_000
    assert read(range="1h", start="1970-01-02").where.start_us == NOW_US - 3_600_000_000


@pytest.mark.parametrize(
    "parameters",
    [
        {"q": '"never closed'},
        {"q": "x" * 5000},
        {"min_severity": "11"},
        {"min_severity": "²"},
        {"max_severity": "high"},
        {"start": "yesterday"},
        {"start": "0001-01-01T00:00:00+23:00"},
        {"end": "9999-12-31T23:59:59-23:00"},
        {"before": "-1"},
        {"before": "9" * 30},
        {"after": "1 OR 1=1"},
    ],
)
def test_what_cannot_be_understood_becomes_a_sentence(parameters: dict[str, str]) -> None:
    view = read(**parameters)
    assert len(view.errors) <= 1
    assert view.errors or view.where != EventFilter()


def test_a_view_can_be_written_as_an_address_and_read_again() -> None:
    view = read(q='"a b" c&d', min_severity="3", source=["x y", "z"], range="24h")
    again = read_view(MultiDict(parse_qs(urlsplit(view.url()).query)), NOW_US)
    assert again == view
    assert parse_qs(urlsplit(view.url(range=None, before=7)).query) == {
        "q": ['"a b" c&d'],
        "min_severity": ["3"],
        "source": ["x y", "z"],
        "before": ["7"],
    }


def test_a_bar_of_a_chart_leads_to_its_own_time() -> None:
    for view in (read(), read(q="a b", range="24h"), read(start="2026-11-20T00:00:00Z", category="web")):
        start, end = "2026-11-23T10:00:00+00:00", "2026-11-23T11:00:00+00:00"
        there = parse_qs(urlsplit(view.time_url()(start, end)).query)
        assert there == parse_qs(urlsplit(view.url(range=None, start=start, end=end)).query)
        assert (there["start"], there["end"]) == ([start], [end])


@pytest.mark.parametrize("word", ["203.0.113.9", 'say "hi"', "back\\slash", "a:b", "-x", "NOT"])
def test_a_quoted_word_is_searched_as_it_is(word: str) -> None:
    assert parse_query(quoted(word), now_us=NOW_US).words == (word,)


def test_there_is_no_query_for_nothing() -> None:
    assert quoted("  ") == ""
    assert quoted("\ud800") == '"?"'
