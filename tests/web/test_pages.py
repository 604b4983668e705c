"""The pages as a browser without scripts sees them."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from builders import Filler
from sqlalchemy import event

from threatlens.clock import now_us
from threatlens.errors import QueryTimeout, StoreUnavailable
from threatlens.store import DeadLetter

SAMPLES = Path(__file__).parent / "hostile_lines.json"
HOSTILE: list[str] = json.loads(SAMPLES.read_text())


@pytest.fixture
def client(admin_client: Any) -> Any:
    return admin_client


@pytest.fixture
def filler(services: Any) -> Filler:
    filler = Filler(services.store)
    minute = now_us() // 60_000_000 - 10  # a whole one, so that ten lines lie in one bar
    filler.clock = iter(range(minute * 60_000_000, 10**18, 1_000_000))  # type: ignore[assignment]
    return filler


def shown_ids(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'<tr id="e(\d+)"', page)]


class Elements(HTMLParser):
    """The elements of a page and their attributes, without text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(sorted(name for name, _ in attrs))))


@pytest.mark.parametrize("path", ["/events", "/sources", "/sources/add", "/unknown", "/dead-letters", "/"])
def test_every_page_works_at_zero(client: Any, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.text.startswith("<!doctype html>")
    assert answer.text.count("<h1") == 1


@pytest.mark.parametrize("path", ["/", "/events"])
def test_a_page_asks_the_database_in_two_transactions_its_session_and_itself(
    client: Any, filler: Filler, services: Any, path: str
) -> None:
    filler.add("one line")
    client.get(path)
    begun: list[object] = []
    event.listen(services.store.database.engine, "begin", begun.append)

    assert client.get(path).status_code == 200
    assert len(begun) <= 2


def test_the_newest_event_is_on_top_and_pages_lead_to_every_event(client: Any, filler: Filler) -> None:
    filler.add(*(f"line {number}" for number in range(1, 126)))

    seen, address = [], "/events"
    for _ in range(5):
        page = client.get(address).text
        seen.append(shown_ids(page))
        older = re.search(r'rel="next" href="([^"]+)"', page)
        if older is None:
            break
        address = html.unescape(older[1])

    assert [len(ids) for ids in seen] == [50, 50, 25]
    assert [number for ids in seen for number in ids] == list(range(125, 0, -1))
    newer = re.search(r'href="([^"]+)">Newer', page)
    assert newer is not None
    assert shown_ids(client.get(html.unescape(newer[1])).text) == seen[1]


def test_the_address_filters_the_list_and_the_form_shows_it(client: Any, filler: Filler) -> None:
    filler.add("Failed password for root", severity=5)
    filler.add("GET /", source="nginx", category="web", severity=2, log_format="nginx.access")

    page = client.get("/events?q=password&min_severity=4&source=auth&category=authentication&range=1h").text
    assert shown_ids(page) == [1]
    assert 'value="password"' in page
    assert re.search(r'<option value="4" selected>', page)
    assert re.search(r'<option value="auth" selected>', page)
    assert re.search(r"<option selected>authentication", page)
    assert shown_ids(client.get("/events?source=nginx").text) == [2]
    assert "Nothing fits this filter" in client.get("/events?q=nowhere").text


def test_a_search_that_cannot_be_read_is_told_and_kept(client: Any, filler: Filler) -> None:
    filler.add("a line")
    page = client.get("/events", query_string={"q": '"open <b>', "min_severity": "99"}).text
    assert "never closed" in page
    assert "number from 1 to 10" in page
    assert "&#34;open &lt;b&gt;" in page
    assert shown_ids(page) == [1]


def test_only_the_top_of_the_list_is_live(client: Any, filler: Filler) -> None:
    filler.add("a", "b", "c")
    live = re.search(r'ws-connect="([^"]+)"', client.get("/events?q=a&min_severity=2").text)
    still = re.search(r'ws-connect="([^"]+)"', client.get("/events?before=3").text)

    assert live is not None
    assert still is not None
    assert html.unescape(live[1]) == "/ws/ui?page=events&have=3&oldest=1&q=a&min_severity=2"
    assert still[1] == "/ws/ui?page=other"


@pytest.mark.parametrize("line", HOSTILE)
def test_a_hostile_line_adds_no_element_and_no_attribute(client: Any, filler: Filler, line: str) -> None:
    filler.add("harmless words", severity=9, source="a", log_format="unknown")
    filler.add(line, severity=9, source="a", log_format="unknown")

    for one, other in ((1, 2), (2, 1)):
        harmless, hostile = (client.get(f"/events/{number}").text for number in (one, other))
        assert Elements(harmless).found.count(("script", ("defer", "src"))) == 3
        assert {tag for tag, _ in Elements(hostile).found} == {tag for tag, _ in Elements(harmless).found}
    page = client.get("/events").text
    rows = [Elements(row).found for row in re.findall(r"<tr id=.*?</tr>", page, re.DOTALL)]
    assert rows[0] == rows[1]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069\u200b]", page)
    searched = client.get("/events", query_string={"q": line, "source": line, "category": line}).text
    assert {tag for tag, _ in Elements(searched).found} <= {tag for tag, _ in Elements(page).found} | {"p", "strong"}


def test_one_event_shows_raw_and_decoded_as_one_thing(client: Any, filler: Filler) -> None:
    filler.add(
        "before", "Nov 23 06:51:07 web1 sshd[4211]: Failed password for root from 203.0.113.9 port 52144 ssh2", "behind"
    )
    page = client.get("/events/2").text

    assert '<mark tabindex="0" data-fields="source.ip" title="source.ip">203.0.113.9</mark>' in page
    assert re.search(r'<div data-fields="source.ip"><dt>source.<wbr>ip</dt>', page)
    assert '<a href="/events?q=source.ip:203.0.113.9">Only this</a>' in page
    assert 'href="/events/1"' in page
    assert 'href="/events/3"' in page
    assert page.count('<li aria-current="true"') == 1  # the line among those around it


def test_htmx_gets_the_event_without_the_page_around_it(client: Any, filler: Filler) -> None:
    filler.add("a line")
    assert "<!doctype" not in client.get("/events/1", headers={"HX-Request": "true"}).text


@pytest.mark.parametrize("path", ["/events/7", "/events/0", "/events/99999999999999999999999", "/sources/7", "/nope"])
def test_what_is_not_there_is_said_on_a_page(client: Any, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "There is nothing here" in answer.text


def test_a_chart_of_less_than_one_says_that_it_was_more_than_none(client: Any, services: Any) -> None:
    for value in (0.0, 0.4):
        services.store.write_metrics({"queue_lines": value})
    page = client.get("/health").text
    assert "Lines in the queue: now 0, at most 1" in page


@pytest.mark.parametrize(
    ("referrer", "href"),
    [("http://localhost/incidents?status=open", "/incidents?status=open"), ("http://localhost//evil.example/", "/"),
     ("http://evil.example/", None), ("", None)],
)  # fmt: skip
def test_a_refused_form_leads_back_to_its_page_and_nowhere_else(client: Any, referrer: str, href: str | None) -> None:
    answer = client.post("/events/1", headers={"Referer": referrer})
    assert answer.status_code == 405
    assert "evil" not in answer.text
    assert (f'<a class="button primary" href="{href}">Back to the page</a>' in answer.text) == (href is not None)


@pytest.mark.parametrize(("error", "words"), [(QueryTimeout("x"), "took too long"), (StoreUnavailable("x"), "busy")])
def test_a_database_that_does_not_answer_is_told_calmly(
    client: Any, services: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(services.store, "page", fail)
    answer = client.get("/events")
    assert answer.status_code == 503
    assert words in answer.text


def test_other_methods_are_refused_in_words(client: Any) -> None:
    answer = client.delete("/events")
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]


def test_the_dashboard_says_what_needs_attention(client: Any, filler: Filler) -> None:
    filler.add("Accepted password for deploy from 203.0.113.9", severity=8, source_ip="203.0.113.9", outcome=1)
    filler.add(*["Failed password"] * 9, severity=5, source_ip="203.0.113.9", outcome=2)
    page = client.get("/").text

    assert "One thing needs you" in page
    assert "failed to log in 9 times and succeeded 1 time" in page
    assert re.search(r"got in", page)
    assert shown_ids(page) == list(range(10, 0, -1))
    bar = re.search(r'<a href="(/events\?start=[^"]+)" tabindex="-1"[^>]*><title>[^<]*: 10 events', page)
    assert bar is not None
    assert len(shown_ids(client.get(html.unescape(bar[1])).text)) == 10


def test_a_quiet_dashboard_is_useful(client: Any, filler: Filler) -> None:
    filler.stream("auth")
    page = client.get("/").text
    assert "Nothing needs you" in page
    assert "nothing was written lately" in page
    filler.add("one line")
    assert "1 event looked at" in client.get("/").text


def test_unknown_lines_stand_in_shapes(client: Any, services: Any, filler: Filler) -> None:
    source_id, _, _ = filler.stream("app")
    services.store.template_id(
        "worker <*> did <b>not</b> start", sample="worker 7 did <b>not</b> start", source_id=source_id
    )
    page = client.get("/unknown").text
    assert "worker &lt;*&gt; did &lt;b&gt;not&lt;/b&gt; start" in page
    assert "worker 7 did" in page
    assert re.search(r'href="/events\?q=[^"]*worker', page)


def test_a_dead_letter_is_listed_and_can_be_asked_for_again(
    app: Any, client: Any, services: Any, filler: Filler
) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    source_id, stream_id, _ = filler.stream("auth")
    services.store.commit([], [], dead=[DeadLetter(source_id, stream_id, 0, "/x", b"<i>\xff", "utf-8", "it <failed>")])

    page = client.get("/dead-letters").text
    assert "&lt;i&gt;\ufffd" in page
    assert "it &lt;failed&gt;" in page
    assert client.post("/dead-letters/1/replay").status_code == 303
    assert "being tried again" in client.get("/dead-letters").text
    assert client.post("/dead-letters/2/replay").status_code == 404
