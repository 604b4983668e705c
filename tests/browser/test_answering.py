"""What reaches people in a browser: the desktop while the tab is hidden, exports under way, the page of a link."""

from __future__ import annotations

import re
from typing import Any

from builders import Filler
from test_browser import Watched, chromium, filler, pytestmark, site, watched  # noqa: F401

from threatlens.clock import now_us
from threatlens.event import EventUpdate
from threatlens.store_notifications import Occurrence

#: Stands for the desktop, and for a tab that nobody looks at.
DESKTOP = """
window.shown = [];
class Notification { constructor(title, options) { window.shown.push([title, options.body]); } }
Notification.permission = "granted";
window.Notification = Notification;
Object.defineProperty(document, "hidden", { get: () => window.away === true });
"""


def incident(number: int) -> EventUpdate:
    data = {"id": number, "severity": 9, "status": "open", "outcome": "attempt", "title": f"attacker {number} <b>"}
    return EventUpdate("incident", data, now_us(), priority=9, id=number)


def test_an_alert_reaches_the_desktop_only_while_the_tab_is_in_the_background(
    watched: Watched,  # noqa: F811
    services: Any,
) -> None:
    watched.tab.add_init_script(DESKTOP)
    tab = watched.open("/")
    services.broadcaster.publish_update(incident(1))
    watched.until("document.querySelectorAll('#toasts .toast').length === 1")
    assert tab.evaluate("window.shown") == []

    tab.evaluate("window.away = true")
    services.broadcaster.publish_update(incident(2))
    watched.until("window.shown.length === 1")
    assert tab.evaluate("window.shown") == [["ThreatLens", "attacker 2 <b>"]]
    assert watched.complaints == []


def test_alerts_beyond_a_few_are_counted_and_come_when_there_is_room_and_none_moves(
    watched: Watched,  # noqa: F811
    services: Any,
) -> None:
    tab = watched.open("/")
    places = "[...document.querySelectorAll('.toast:not([hidden])')].map(one => one.offsetTop)"
    for number in range(1, 5):
        services.broadcaster.publish_update(incident(number))
    watched.until("document.querySelectorAll('.toast:not([hidden])').length === 4")
    before = tab.evaluate(places)
    assert not tab.is_visible("#toasts-more")
    for first, n in ((5, 16), (21, 32)):
        for number in range(first, first + 16):
            services.broadcaster.publish_update(incident(number))
        watched.until(f"document.querySelector('#toasts-more a').textContent === '{n} more alerts'")
    assert tab.evaluate(places) == before
    assert tab.locator(".toast").count() <= 24, "what waits is bounded"

    tab.click(".toast >> nth=0 >> [data-dismiss]")
    watched.until("document.querySelector('#toasts-more a').textContent === '31 more alerts'")
    tab.click("[data-dismiss-all]")
    watched.until("document.querySelector('#toasts-more').hidden")
    assert tab.locator(".toast").count() == 0
    assert watched.complaints == []


def test_an_export_under_way_shows_beside_the_button_and_is_cancelled_there(
    watched: Watched,  # noqa: F811
    filler: Filler,  # noqa: F811
    app: Any,
) -> None:
    filler.add(*(f"line {number}" for number in range(300)))
    tab = watched.open("/events")
    from threatlens.web.exporting import exports

    with app.app_context():
        who = "user " + str(app.extensions["threatlens"].store.users()[0].name)
        export = exports().begin(who, "ndjson", "")
    assert export is not None
    export.events, export.at_id, export.last_id = 250, 250, 300
    tab.click("#export-menu summary")
    tab.wait_for_selector("#exports progress")
    assert re.search(r"ndjson: 250 events", tab.inner_text("#exports"))
    tab.click("#exports button")
    watched.until("document.querySelector('#exports').innerText.includes('is ending')")
    assert export.cancelled
    exports_of(app).end(export)
    watched.until("document.querySelector('#exports').innerText.trim() === ''")
    assert watched.complaints == []


def test_the_history_of_messages_stays_a_table_while_it_grows(
    watched: Watched,  # noqa: F811
    services: Any,
) -> None:
    tab = watched.open("/notifications")
    assert "Nothing was told yet" in tab.inner_text("#notification-history")
    now = now_us()
    services.store.tell([Occurrence("ops", "urgent", "incident", "t", 8, "attacker <b>", now, now)], now)
    services.broadcaster.publish_update(incident(1))
    tab.wait_for_selector("#notification-history tbody tr td")
    assert tab.locator("#notification-history tbody tr").count() == 1
    assert tab.locator("#notification-history tbody td").count() == 7
    assert "attacker <b>" in tab.inner_text("#notification-history")
    assert watched.complaints == []


def exports_of(app: Any) -> Any:
    from threatlens.web.exporting import exports

    with app.app_context():
        return exports()
