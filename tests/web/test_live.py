"""The live feed, with a socket of our own in place of the library's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from accounts import log_in, somebody
from builders import NOW_US, Filler
from flask import g
from simple_websocket import ConnectionClosed

from threatlens.clock import now_us
from threatlens.errors import StoreUnavailable
from threatlens.event import EventFilter, RuleMatch
from threatlens.incidents import Finding, fold
from threatlens.raising import Late, Raiser
from threatlens.store_incidents import IncidentTable
from threatlens.web import live
from threatlens.web.seats import seats

HANDSHAKE = {"Upgrade": "websocket", "Connection": "Upgrade", "Origin": "http://localhost"}


class Writer:
    """The socket below."""

    def heard(self) -> None: ...

    def finish(self, _join: object, _linger_s: float, *, said_goodbye: bool) -> None:
        self.said_goodbye = said_goodbye


class Thread:
    """The library's reading thread."""

    def join(self, _timeout_s: float) -> None: ...


class Browser:
    """A WebSocket whose browser does one thing each time it is listened to, then leaves."""

    def __init__(self, *acts: Callable[[], object]) -> None:
        self.acts = list(acts)
        self.frames: list[str] = []
        self.closed: tuple[int, str] | None = None
        self.sock, self.thread = Writer(), Thread()
        self.messages: list[str] = []

    def send(self, frame: str) -> None:
        self.frames.append(frame)

    def receive(self, timeout: float) -> str | None:
        if self.messages:
            return self.messages.pop()
        if not self.acts:
            raise ConnectionClosed(1001)
        self.acts.pop(0)()
        return None

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def ids(self) -> list[list[int]]:
        """The ids of the rows in each frame that has some."""
        found = [[int(number) for number in re.findall(r'<tr id="e(\d+)"', frame)] for frame in self.frames]
        return [ids for ids in found if ids]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PANELS_S", 0.001)


@pytest.fixture
def filler(services: Any) -> Filler:
    """Stores and announces."""
    filler = Filler(services.store)
    add = filler.add

    def announced(*lines: str, **more: Any) -> int:
        first = add(*lines, **more)
        n = len(lines)
        services.broadcaster.publish(first, n, lambda: services.store.page(EventFilter(), after=first - 1, limit=n))
        return first

    filler.add = announced  # type: ignore[method-assign]
    return filler


def watch(app: Any, query: str, *acts: Callable[[], object]) -> Browser:
    browser = Browser(*acts)
    with app.test_request_context(f"/ws/ui?{query}", headers={"Cookie": "tz=UTC"}):
        g.actor = somebody(app)
        live.serve(browser, live.LivePages())
    return browser


def nothing() -> None: ...


def test_new_events_come_as_rows_newest_first(app: Any, filler: Filler) -> None:
    filler.add("old")
    browser = watch(
        app, "page=events&have=1", nothing, lambda: filler.add("a", "b"), lambda: filler.add("c"), nothing, nothing
    )
    assert browser.ids() == [[3, 2], [4]]


def test_the_filter_in_the_address_filters_the_feed(app: Any, filler: Filler) -> None:
    def both() -> None:
        filler.add("quiet line", severity=2)
        filler.add("loud line", severity=8, source="kern")

    browser = watch(
        app, "page=events&have=0&min_severity=7&q=line&source=kern", nothing, both, nothing, nothing, nothing
    )
    assert browser.ids() == [[2]]


def test_a_reconnect_misses_nothing_and_repeats_nothing(app: Any, filler: Filler) -> None:
    filler.add(*(f"line {number}" for number in range(1, 11)))
    browser = watch(app, "page=events&have=6", nothing, lambda: filler.add("next"), nothing, nothing)
    assert browser.ids() == [[10, 9, 8, 7], [11]]


def test_who_was_away_for_long_gets_the_newest_and_a_marked_gap(app: Any, filler: Filler) -> None:
    filler.add(*(f"line {number}" for number in range(1, 201)))
    browser = watch(app, "page=events&have=1&q=line", nothing)
    assert browser.ids() == [list(range(200, 150, -1))]
    gap = re.search(r'<tr class="gap">.*?href="([^"]+)"', browser.frames[0])
    assert gap is not None
    assert gap[1] == "/events?q=line&amp;before=151"


def test_who_comes_back_to_a_search_that_takes_too_long_sees_a_marked_gap(
    app: Any, filler: Filler, monkeypatch: pytest.MonkeyPatch
) -> None:
    filler.add(*(f"line {number}" for number in range(1, 301)))
    monkeypatch.setattr("threatlens.store_search.SEARCH_S", -1.0)
    browser = watch(app, "page=events&have=1&q=status:503", nothing)
    gap = re.search(r'<tr class="gap">.*?href="([^"]+)"', browser.frames[0])
    assert gap is not None
    assert gap[1] == "/events?q=status:503&amp;before=301"


def test_rows_that_a_slow_search_does_not_come_to_again_are_said_to_be_as_they_were(
    app: Any, filler: Filler, monkeypatch: pytest.MonkeyPatch
) -> None:
    filler.add(*(f"line {number}" for number in range(1, 301)))
    said = "(event 300): rows below that are as they were"
    monkeypatch.setattr("threatlens.store_search.WINDOW", 2)
    assert said not in "".join(watch(app, "page=events&have=300&oldest=2&q=status:503", nothing).frames)
    monkeypatch.setattr("threatlens.store_search.SEARCH_S", -1.0)
    assert "are as they were when the page was opened" in "".join(
        watch(app, "page=events&have=300&oldest=2&q=status:503", nothing).frames
    )


def test_a_flood_is_sampled_and_says_so(app: Any, filler: Filler) -> None:
    flood = [f"line {number}" for number in range(300)]
    browser = watch(app, "page=events&have=0", nothing, lambda: filler.add(*flood), nothing, nothing)
    assert browser.ids() == [list(range(300, 250, -1))]
    assert "250 more arrived and are stored; this shows the newest 50." in browser.frames[-1]
    assert 'data-n="300"' in browser.frames[-1]


def test_who_fell_off_the_ring_is_served_from_the_database(
    app: Any, services: Any, filler: Filler, monkeypatch: Any
) -> None:
    monkeypatch.setattr(services.broadcaster, "_max_events", 3)

    def much() -> None:
        for number in range(10):
            filler.add(f"line {number}")

    browser = watch(
        app, "page=events&have=0", nothing, much, nothing, nothing, lambda: filler.add("last"), nothing, nothing
    )
    assert [number for ids in reversed(browser.ids()) for number in ids] == list(range(11, 0, -1))


def test_panels_are_sent_when_they_changed_and_only_then(
    app: Any, services: Any, filler: Filler, monkeypatch: Any
) -> None:
    monkeypatch.setattr(live, "PANELS_IDLE_S", 0.0)
    monkeypatch.setattr(live.LivePages, "painted", lambda *_: {"trust": str(services.store.last_id())})
    browser = watch(app, "page=other", *[nothing] * 6, lambda: filler.add("a"), *[nothing] * 6)
    assert browser.frames == [
        '<div id="trust" hx-swap-oob="innerHTML">0</div>',
        '<div id="trust" hx-swap-oob="innerHTML">1</div>',
    ]


EVERYWHERE = {"trust", "coverage", "open-incidents"}


@pytest.mark.parametrize(
    ("page", "panels"),
    [
        ("dashboard", {"headline", "attention", "numbers", "histogram", "knocking", "sources", "targets", *EVERYWHERE}),
        ("sources", {"source-list", *EVERYWHERE}),
        ("events", {"events-total", "events-summary", *EVERYWHERE}),
        ("nonsense", EVERYWHERE),
    ],
)
def test_every_panel_has_its_place_on_the_page(app: Any, filler: Filler, page: str, panels: set[str]) -> None:
    filler.add("Failed password", severity=5, source_ip="192.0.2.1", outcome=2, timestamp_us=NOW_US)
    browser = watch(app, f"page={page}", nothing)
    sent = set(re.findall(r'<div id="([^"]+)" hx-swap-oob="innerHTML">', "".join(browser.frames)))
    path = {"dashboard": "/", "sources": "/sources", "events": "/events"}.get(page, "/unknown")
    there = log_in(app).get(path).text

    assert sent == panels
    assert all(f'id="{panel}"' in there for panel in panels)


def test_what_was_rendered_once_serves_everybody(app: Any, filler: Filler, monkeypatch: Any) -> None:
    rendered: list[int] = []
    original = live.get_template_attribute

    def counting(template: str, name: str) -> Any:
        def row(event: Any, columns: Any) -> str:
            rendered.append(event.id)
            return str(original(template, name)(event, columns))

        return row

    monkeypatch.setattr(live, "get_template_attribute", counting)
    monkeypatch.setattr(live, "now_us", lambda: NOW_US)  # no day ends meanwhile
    filler.add("a", "b", "c")
    pages, who = live.LivePages(), somebody(app)
    for query in ("page=events&have=0", "page=events&have=1", "page=events&have=0&q=b"):
        with app.test_request_context(f"/ws/ui?{query}"):
            g.actor = who
            live.serve(Browser(nothing), pages)
    assert sorted(rendered) == [1, 2, 3]


def test_no_text_of_a_log_becomes_markup_on_its_way(app: Any, filler: Filler) -> None:
    filler.add(
        '</td></table><div id="trust" hx-swap-oob="true"><script>x</script>\x1b[2J', log_format="unknown", severity=9
    )
    for page in ("events", "dashboard"):
        frames = "".join(watch(app, f"page={page}&have=0", nothing, nothing).frames)
        assert "<script" not in frames
        assert 'hx-swap-oob="true"' not in frames
        assert "\x1b" not in frames
        assert "␛[2J" in frames


def test_more_browsers_than_seats_are_told_to_come_back(app: Any, services: Any) -> None:
    with app.app_context():
        room = seats()
        while room.take():
            pass
    browser = watch(app, "page=events")
    assert browser.closed is not None
    assert browser.closed[0] == 1013

    with app.app_context():
        room.leave()
    watch(app, "page=events", nothing)
    with app.app_context():
        assert room.take()  # a browser that leaves gives its seat back


def test_a_browser_that_talks_is_cut_off(app: Any) -> None:
    browser = Browser(nothing)
    browser.messages = ["x"] * 50
    with app.test_request_context("/ws/ui?page=events"):
        g.actor = somebody(app)
        live.serve(browser, live.LivePages())
    assert browser.closed is not None
    assert browser.closed[0] == 1008


def test_a_server_that_stops_says_so(app: Any, services: Any) -> None:
    browser = watch(app, "page=events", services.broadcaster.close, nothing)
    assert browser.closed == (1001, "the server is stopping")


def test_a_busy_database_ends_the_feed_and_the_browser_comes_back(
    app: Any, services: Any, filler: Filler, monkeypatch: Any
) -> None:
    filler.add("a")

    def busy(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("busy")

    monkeypatch.setattr(services.store, "page", busy)
    browser = watch(app, "page=events&have=0", nothing)
    assert browser.closed is not None
    assert browser.closed[0] == 1011  # htmx connects again after this code


ORIGINS = [
    "http://evil.example",
    "null",
    "https://localhost",
    "http://localhost:81",
    "http://evil-localhost",
    "http://localhost.evil.example",
]


@pytest.mark.parametrize("origin", [*ORIGINS, None])
def test_a_page_of_another_origin_is_refused_before_the_upgrade(app: Any, origin: str | None) -> None:
    client = log_in(app)
    headers = {**HANDSHAKE, "Origin": origin} if origin else {"Upgrade": "websocket", "Connection": "Upgrade"}
    assert client.get("/ws/ui", headers=headers).status_code == 403


def test_a_browser_that_is_not_logged_in_is_refused_before_the_upgrade(app: Any) -> None:
    assert app.test_client().get("/ws/ui", headers=HANDSHAKE).status_code == 401


@pytest.mark.parametrize(
    ("text", "number"), [("7", 7), ("0", 0), ("", None), ("-1", None), ("x", None), ("9" * 19, None)]
)
def test_what_a_browser_says_it_has(text: str, number: int | None) -> None:
    assert live.have_id(text) == number


def test_a_row_that_is_shown_is_renewed_when_a_later_match_is_about_it(app: Any, services: Any, filler: Filler) -> None:
    first = filler.add("one", "two", "three")
    filler.add("four")

    def completed() -> None:
        match = RuleMatch("guessing", "Guessing", "high", 8, "correlation", NOW_US, NOW_US, 3, (), "192.0.2.1", None,
                          None, (), ())  # fmt: skip
        late = Late(Finding(match, first + 2, first, 1, "", "authentication"), (first, first + 2), None, "auth",
                    severities=((first + 2, 8),))  # fmt: skip
        Raiser(services.store, broadcaster=services.broadcaster).raise_all([late])

    acts = [nothing, completed, nothing, nothing, nothing]
    browser = watch(app, f"page=events&have={first + 2}&oldest={first + 1}", *acts)

    renewed = [frame for frame in browser.frames if "#changed-rows" in frame]
    assert [re.findall(r'<tr id="e(\d+)"', frame) for frame in renewed] == [[str(first + 2)]], "only what is shown"
    assert 'title="Incident 1: Guessing"' in renewed[0]
    assert "band-4" in renewed[0], "and as severe as it is now"
    assert services.store.event(first + 2).severity == 8
    counts = services.store.counts(EventFilter())
    assert (counts.total, counts.by_severity) == (4, {2: 3, 8: 1})

    again = watch(app, f"page=events&have={first + 2}&oldest={first}", nothing)
    ids = [re.findall(r'<tr id="e(\d+)"', frame.split("</table>")[0]) for frame in again.frames if "#changed" in frame]
    assert ids == [[str(first + 2), str(first)]], "a page that was made before is brought up to date when it connects"


def test_an_incident_says_who_else_has_it_open(app: Any, services: Any) -> None:
    match = RuleMatch("r", "Rule", "high", 8, "rule", NOW_US, NOW_US, 1, (), "203.0.113.9", None, None, (), (0,))
    with services.store.database.writing() as connection:
        (number,), _ = fold([Finding(match, 1, 1, 1, "failure", "authentication")], IncidentTable(connection))
    anna, ben = log_in(app, "analyst", "anna"), log_in(app, "viewer", "ben")
    said: list[str] = []

    def look() -> None:
        said.append(anna.get(f"/incidents/{number}").text)
        said.append(ben.get(f"/incidents/{number}").text)
        said.append(ben.get("/incidents").text)

    def comes() -> None:
        g.actor = anna_herself  # the clients above share the context
        services.store.watch_incident(number, "ben", now_us())

    browser = Browser(look, comes, nothing)
    with app.test_request_context(f"/ws/ui?page=incident&incident={number}"):
        g.actor = anna_herself = somebody(app, "analyst", "anna")
        live.serve(browser, live.LivePages())
    services.store.leave_incident(number, "ben")
    look()

    assert "looking at" not in said[0], "nobody is told of oneself"
    assert "<strong>anna</strong> is looking at this, too" in said[1]
    assert "anna is looking at it" in said[2]
    assert "<strong>ben</strong> is looking at this, too" in browser.frames[-1], "it comes by itself"
    assert "looking at" not in said[4], "whoever leaves is gone"
    assert services.store.incident_watchers(now_us() + 46_000_000) == {}
