"""Incidents are worked through with the keyboard alone, and without any script."""

# ruff: noqa: F811 - fixtures are called like what they are

from __future__ import annotations

from typing import Any

import pytest
from test_accessibility import AXE, RUN
from test_browser import CHROMIUM, WATCH_SHIFTS, Watched, chromium, site, watched  # noqa: F401 - fixtures

from threatlens.clock import now_us
from threatlens.event import RuleMatch
from threatlens.incidents import Finding, fold
from threatlens.store_detections import DetectionRow, write_detections
from threatlens.store_incidents import IncidentTable
from threatlens.web import live

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture
def incidents(services: Any) -> None:
    """Three, the newest about 203.0.113.3."""
    services.store.put_api_source("auth", "auto")
    matched(services, 1, 2, 3)


def matched(services: Any, *numbers: int) -> None:
    """A match about each of these addresses; the first one opens an incident."""
    with services.store.database.writing() as connection:
        for number in numbers:
            one = RuleMatch(
                "guessing", "Passwords are guessed", "high", 8, "rule", now_us() + number, now_us() + number, 1, (),
                f"203.0.113.{number}", "root", "web1", ("attack.credential-access",), (0,),
            )  # fmt: skip
            ids, _ = fold([Finding(one, 1, 1, 1, "failure", "authentication")], IncidentTable(connection))
            write_detections(connection, [DetectionRow(one, 1, (1,), 1, ids[0], "")])


def statuses(services: Any) -> list[str]:
    return [incident.status for incident in services.store.incidents(statuses=(), limit=9)]


def arrived(tab: Any, address: str) -> None:
    """The page is there and its script runs."""
    tab.wait_for_url(address)
    tab.wait_for_selector('#connection[data-state="live"]', state="attached")


def test_triage_needs_nothing_but_the_keyboard(watched: Watched, services: Any, incidents: None) -> None:
    tab = watched.open("/")
    keys = tab.keyboard
    keys.press("g")
    keys.press("i")
    arrived(tab, "**/incidents")
    for key in ("j", "x", "j", "x", "a"):
        keys.press(key)
    tab.wait_for_selector("text=2 incidents are acknowledged now.")
    arrived(tab, "**/incidents")
    assert statuses(services) == ["acknowledged", "acknowledged", "open"]

    keys.press("u")
    tab.wait_for_selector("text=2 incidents are as before.")
    arrived(tab, "**/incidents")
    assert statuses(services) == ["open", "open", "open"]

    keys.press("j")
    keys.press("f")
    tab.wait_for_selector("text=1 incident is false positive now.")
    arrived(tab, "**/incidents")
    assert statuses(services) == ["false_positive", "open", "open"]

    keys.press("j")
    keys.press("Enter")
    arrived(tab, "**/incidents/2")
    keys.press("a")
    tab.wait_for_selector("text=The incident is acknowledged.")
    arrived(tab, "**/incidents/2")
    keys.press("m")
    tab.wait_for_selector(".mute-menu[open]")
    keys.press("m")
    tab.wait_for_url("**/incidents/2/mute")
    assert watched.complaints == []


def test_two_keys_mute_and_a_third_undoes_it(watched: Watched, services: Any, incidents: None) -> None:
    tab = watched.open("/incidents")
    keys = tab.keyboard
    for key in ("j", "x", "j", "x", "m"):
        keys.press(key)
    tab.wait_for_selector(".mute-menu[open]")
    assert tab.evaluate("document.activeElement.value") == "1h"
    tab.evaluate(AXE)
    assert tab.evaluate(RUN) == []
    keys.press("Escape")
    assert tab.evaluate("document.activeElement.title") == "Mute (m)", "Escape gives the focus back"
    assert not tab.is_visible(".mute-menu .menu-box")
    keys.press("m")
    keys.press("5")
    tab.wait_for_selector("text=2 incidents are muted until something more severe comes.")
    arrived(tab, "**/incidents")
    assert tab.locator(".incident .muted-until").count() == 2
    assert [mute.condition for mute in services.store.mutes()] == ["severity", "severity"]
    keys.press("u")
    tab.wait_for_selector("text=2 incidents are as before.")
    assert services.store.mutes(now=now_us()) == []
    assert watched.complaints == []


def test_who_works_in_the_list_is_not_disturbed_by_what_changes_and_what_is_new(
    watched: Watched, services: Any, incidents: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PANELS_IDLE_S", 0.2)
    tab = watched.open("/incidents")
    tab.keyboard.press("j")
    tab.keyboard.press("x")
    tab.evaluate(WATCH_SHIFTS)
    matched(services, 2, 4)
    tab.wait_for_selector("#i2:has-text('× 2')")
    order = (
        "document.activeElement.closest('.incident').id + [...document.querySelectorAll('.incident')].map(i => i.id)"
    )

    assert tab.evaluate(order) == "i3i3,i2,i1"
    assert tab.locator("#i3 .pick").is_checked()
    assert tab.evaluate("window.shifted") == 0
    assert tab.inner_text("#incident-pill") == "1 new"

    tab.click("#i3 .pick")
    tab.click("#incident-pill")
    tab.wait_for_selector("#i4")
    assert tab.locator(".incident").first.get_attribute("id") == "i4"
    assert watched.complaints == []


def test_who_is_named_is_looked_at_beside_the_page_and_the_focus_comes_back(
    watched: Watched, services: Any, incidents: None
) -> None:
    tab = watched.open("/incidents/3")
    tab.focus("a[data-peek][href$='203.0.113.3']")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#peek:not([hidden])")
    assert tab.evaluate("document.activeElement.id") == "peek-title"
    assert tab.inner_text("#peek-title") == "Address 203.0.113.3"
    assert tab.url.endswith("/incidents/3"), "the page is not left"
    tab.click("#peek a[href='/incidents/3']", trial=True)
    tab.evaluate(AXE)
    assert tab.evaluate(RUN) == []
    tab.keyboard.press("Escape")
    assert not tab.is_visible("#peek")
    assert tab.evaluate("document.activeElement.getAttribute('href')") == "/entities/address/203.0.113.3"
    tab.set_viewport_size({"width": 360, "height": 740})
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#peek:not([hidden])")
    assert tab.evaluate("document.querySelector('#peek').scrollWidth <= 360")
    tab.click("[data-close-peek]")
    assert tab.evaluate("document.activeElement.getAttribute('href')") == "/entities/address/203.0.113.3"
    assert watched.complaints == []


def test_triage_needs_no_script(chromium: Any, site: str, services: Any, incidents: None) -> None:
    watched = Watched(chromium, site, java_script_enabled=False)
    tab = watched.open("/incidents", is_live=False)
    for number in (0, 2):
        tab.check(f".pick >> nth={number}")
    tab.click("#triage button >> nth=0")
    assert statuses(services) == ["acknowledged", "open", "acknowledged"]
    tab.check(".pick >> nth=1")
    tab.click(".mute-menu summary")
    tab.click(".mute-menu button >> nth=0")
    assert "muted until" in tab.inner_text("#i2")
    tab.click(".incident a >> nth=1")
    tab.fill("#text", "Looked at it")
    tab.click("button[value=comment]")
    assert "Looked at it" in tab.inner_text(".notes")
    watched.context.close()
