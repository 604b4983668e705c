"""Two windows side by side: what is called new was not there, and nothing is called so that nobody looked for."""

from __future__ import annotations

import re
from typing import Any

import pytest
from accounts import log_in
from builders import Filler

from threatlens.clock import now_us
from threatlens.event import rfc3339
from threatlens.web import comparison
from threatlens.web.comparison import change_word

MINUTE_US = 60_000_000


def line(user: str, address: str) -> str:
    return f"Nov 23 06:51:07 web1 sshd[4211]: Failed password for {user} from {address} port 52144 ssh2"


@pytest.fixture
def client(app: Any, services: Any) -> Any:
    """In the hour before: root from .9, ten times. In this hour: root twice, anna from .8, and the shop."""
    filler, now = Filler(services.store), now_us()
    filler.add(*[line("root", "203.0.113.9")] * 10, timestamp_us=now - 90 * MINUTE_US)
    filler.add(*[line("root", "203.0.113.9")] * 2, timestamp_us=now - 30 * MINUTE_US)
    filler.add(line("anna", "203.0.113.8"), source="shop", severity=7, timestamp_us=now - 20 * MINUTE_US)
    return log_in(app)


def rows(text: str) -> dict[str, list[str]]:
    """Value -> now, then, change."""
    found = re.findall(r"<td hx-disable><a [^>]*><bdi>([^<]*)</bdi>.*?</tr>", text)
    cells = [
        re.findall(r'<td class="n[^"]*">([^<]*)</td>', row) for row in re.findall(r"<tr><td hx-disable>.*?</tr>", text)
    ]
    return dict(zip(found, cells, strict=True))


def test_what_is_more_less_and_new_is_said(client: Any) -> None:
    text = client.get("/events/compare").text
    assert rows(text) == rows(text) | {
        "auth": ["2", "10", "÷ 5.0"],
        "shop": ["1", "0", "new"],
        "root": ["2", "10", "÷ 5.0"],
        "anna": ["1", "0", "new"],
        "203.0.113.8": ["1", "0", "new"],
        "web1": ["3", "10", "÷ 3.3"],
    }
    news = text.partition('<ul class="news">')[2].partition("</ul>")[0]
    assert "anna" in news
    assert "root" not in news


def test_a_window_of_the_address_is_compared_with_the_day_before(client: Any) -> None:
    start = rfc3339(now_us() - 100 * MINUTE_US)
    text = client.get("/events/compare", query_string={"start": start, "with": "day", "q": "source:auth"}).text
    assert rows(text)["auth"] == ["12", "0", "new"]
    assert "shop" not in rows(text)


def test_what_was_only_sampled_is_not_called_new(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "SURVEY_EVENTS", 1)
    monkeypatch.setattr("threatlens.store_reading.SURVEYED", 1)
    found = rows(client.get("/events/compare").text)
    assert found["anna"] == ["100 %", "0", "not in the sample then"]
    assert found["shop"] == ["1", "0", "new"]


def test_nothing_to_compare_is_no_mistake(app: Any) -> None:
    text = log_in(app).get("/events/compare?with=nonsense&q=usr:x").text
    assert "Neither time has an event" in text
    assert "did you mean" in text


def test_the_words_of_a_change() -> None:
    assert [change_word(*pair, certain=True)[0] for pair in ((3, 0), (0, 3), (30, 10), (10, 30), (10, 10.5))] == [
        "new", "gone", "× 3.0", "÷ 3.0", "same",
    ]  # fmt: skip
