"""Columns and orders of the list of events: in the address, page by page, with and without a filter."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from accounts import log_in
from builders import NOW_US, Filler

from threatlens.event import EventFilter
from threatlens.event_match import FieldTest
from threatlens.store_sorting import SORTS

MINUTE_US = 60_000_000


@pytest.fixture
def client(app: Any) -> Any:
    return log_in(app)


@pytest.fixture
def filled(services: Any) -> Filler:
    """24 events in an order that is none, two of three with an address and a user."""
    filler = Filler(services.store)
    for number in range(24):
        address, user = (f"203.0.113.{number % 5}", f"user{number % 3}") if number % 3 else (None, None)
        filler.add(
            f"Nov 23 06:51:07 web1 sshd[4211]: Failed password for {user} from {address} port {number} ssh2",
            source=("auth", "office", "shop")[number % 3], category=("web", "authentication")[number % 2],
            severity=1 + number * 7 % 10, source_ip=address, user_name=user,
            timestamp_us=NOW_US + (number * 11 % 24) * MINUTE_US // 2,
        )  # fmt: skip
    return filler


def keyed(event: Any, sort: str) -> Any:
    name = sort.removeprefix("-")
    value = {"severity": event.severity, "time": event.timestamp_us, "source": event.source,
             "category": event.category, "oldest": event.id}.get(name)  # fmt: skip
    return event.fields.get(name, "") if value is None else value


@pytest.mark.parametrize("where", [EventFilter(), EventFilter(tests=(FieldTest("port", ">", ("5",)),))])
@pytest.mark.parametrize("sort", SORTS)
def test_every_order_gives_every_event_once_whatever_the_pages(
    services: Any, filled: Filler, sort: str, where: EventFilter
) -> None:
    store = services.store
    seen: list[Any] = []
    past = None
    while True:
        page = store.sorted_page(where, sort, past, limit=5)
        seen += page
        if len(page) < 5:
            break
        past = page[-1].id

    matching = [
        event for event in store.page(where, limit=100) if "." not in sort or event.fields.get("user.name") != "None"
    ]
    assert sorted(event.id for event in seen) == sorted(event.id for event in matching)
    falling = sort.startswith("-") is not (sort.removeprefix("-") in ("severity", "time"))
    keys = [keyed(event, sort) for event in seen]
    assert keys == sorted(keys, reverse=falling)


@pytest.mark.parametrize("sort", SORTS)
def test_an_order_whose_time_is_up_gives_every_event_all_the_same(
    services: Any, filled: Filler, monkeypatch: pytest.MonkeyPatch, sort: str
) -> None:
    for chunk in ("threatlens.store_sorting.CHUNK", "threatlens.store_search.WINDOW"):
        monkeypatch.setattr(chunk, 2)
    where = EventFilter(tests=(FieldTest("port", ">", ("9",)),))
    whole = services.store.sorted_page(where, sort, None, limit=100)
    assert whole

    monkeypatch.setattr("threatlens.store_search.SEARCH_S", -1.0)
    seen, past, stops = [], None, 0
    while True:
        page = services.store.sorted_page(where, sort, past, limit=100)
        seen += page
        if page.stopped_at is None:
            break
        stops += 1
        past = page.stopped_at
    assert [event.id for event in seen] == [event.id for event in whole]
    assert stops > 1


def test_what_arrives_does_not_move_the_next_page(services: Any, filled: Filler) -> None:
    store = services.store
    first = store.sorted_page(EventFilter(), "severity", None, limit=5)
    expected = store.sorted_page(EventFilter(), "severity", None, limit=10)[5:]
    filled.add("the worst", severity=10)
    assert store.sorted_page(EventFilter(), "severity", first[-1].id, limit=5) == expected


def test_columns_and_order_are_in_the_address(client: Any, filled: Filler) -> None:
    text = client.get("/events?column=user.name&column=source.ip&sort=severity&q=sshd").text
    heads = re.findall(r"<th [^>]*>(?:<a[^>]*>)?([^<]+)<", text)
    assert heads == ["Time", "Sev", "User", "Address", "Message"]
    assert 'aria-sort="descending"' in text
    rows = re.findall(r'title="Severity (\d+) of 10"', text.partition("<tbody>")[2])
    assert rows == sorted(rows, key=int, reverse=True)
    assert "203.0.113.4" in text
    # The forms of the search, of the columns and of values keep what the others say.
    assert text.count('<input type="hidden" name="column" value="user.name">') == 2
    assert '<input type="hidden" name="q" value="sshd">' in text


def test_an_order_is_paged_by_links_alone(client: Any, services: Any) -> None:
    filler = Filler(services.store)
    filler.add(*(f"line {number}" for number in range(120)))
    path, seen = "/events?sort=oldest", []
    for _ in itertools.count():
        text = client.get(path).text
        seen += [int(number) for number in re.findall(r'<tr id="e(\d+)"', text)]
        link = re.search(r'rel="next" href="([^"]+)"', text)
        if link is None:
            break
        path = link[1].replace("&amp;", "&")
    assert seen == list(range(1, 121))


def test_nonsense_in_the_address_is_said_or_passed_over(client: Any, filled: Filler) -> None:
    text = client.get("/events?sort=colour&column=evil%3Cscript%3E&column=" + "&column=".join(["user.name"] * 20)).text
    assert "There is no order called “colour”." in text
    assert "evil<" not in text
    assert text.count('<th class="column"') == 1
    assert client.get("/events?column=-").text.count('<th class="column"') == 0


def test_a_column_shows_a_hostile_value_as_text(client: Any, services: Any) -> None:
    filler = Filler(services.store)
    filler.add("Nov 23 06:51:07 web1 sshd[1]: Failed password for <b>x</b> from 203.0.113.9 port 9 ssh2")
    assert "<b>x" not in client.get("/events?column=user.name").text


def test_a_search_that_reads_lines_is_counted_a_moment_later(
    client: Any, filled: Filler, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = client.get("/events?q=port>20").text
    address = re.search(r'hx-get="(/events/survey[^"]+)"', page)[1]  # type: ignore[index]
    assert ">3 found</span>" in client.get(address.replace("&amp;", "&")).text

    monkeypatch.setattr("threatlens.web.events.SURVEY_EVENTS", 2)
    monkeypatch.setattr("threatlens.store_reading.SURVEYED", 2)
    answer = client.get("/events/survey?q=sshd").text
    assert ">at least 2 found</span>" in answer
    assert "Of the newest 2" in answer


def test_facets_are_counted_over_more_than_the_page(client: Any, services: Any) -> None:
    filler = Filler(services.store)
    line = "Nov 23 06:51:07 web1 sshd[1]: Failed password for root from 203.0.113.9 port 9 ssh2"
    filler.add(*[line] * 130, source_ip="203.0.113.9", user_name="root")
    assert "On this page" in client.get("/events").text
    answer = client.get("/events/survey").text
    assert "On this page" not in answer
    assert re.search(r'203\.0\.113\.9</bdi></a><svg class="spark"[^>]*>.*?</svg><span class="n">130</span>', answer)
