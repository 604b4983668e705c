"""The pages in a real browser: what happens by itself, what must never happen, and how it fits a phone."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from accounts import cookie
from builders import Filler
from werkzeug.serving import make_server

from threatlens.clock import now_us
from threatlens.event import EventFilter, RuleMatch
from threatlens.incidents import Finding
from threatlens.raising import Late, Raiser
from threatlens.web import live

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

HOSTILE: list[str] = json.loads((Path(__file__).parents[1] / "web" / "hostile_lines.json").read_text())
PAGES = (
    "/", "/events", "/events/1", "/sources", "/sources/add", "/unknown", "/dead-letters", "/events?q=%22", "/nope",
    "/settings", "/settings/users", "/settings/users/1", "/settings/tokens", "/settings/audit", "/confirm",
    "/settings/configuration",
)  # fmt: skip
SETTINGS = ("/settings", "/settings/users", "/settings/tokens", "/settings/audit", "/settings/configuration")
WATCH_SHIFTS = """window.first = document.querySelector("#e1"); window.shifted = 0;
new PerformanceObserver((list) => { for (const one of list.getEntries()) window.shifted += one.value; })
  .observe({type: "layout-shift"})"""
#: A state of the connection may be over before anybody has asked for it.
KEEP_STATES = """window.states = [];
new MutationObserver(() => window.states.push(document.querySelector("#connection").dataset.state))
  .observe(document.querySelector("#connection"), {attributes: true, attributeFilter: ["data-state"]})"""
COOKIES: dict[str, str] = {}  # a session for each site that runs
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def filler(services: Any) -> Filler:
    """Stores and announces, as the engine does."""
    filler = Filler(services.store)
    filler.clock = iter(range(now_us() - 3_000_000_000, 10**18, 1_000_000))  # type: ignore[assignment]
    add = filler.add

    def announced(*lines: str, **more: Any) -> int:
        first = add(*lines, **more)
        events = services.store.page(EventFilter(), after=first - 1, limit=len(lines))
        services.broadcaster.publish(first, len(lines), lambda: events)
        return first

    filler.add = announced  # type: ignore[method-assign]
    return filler


@pytest.fixture
def site(app: Any, services: Any) -> Iterator[str]:
    services.broadcaster.begin(0)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    COOKIES[address] = cookie(app)
    yield address
    del COOKIES[address]
    services.broadcaster.close()
    server.shutdown()
    thread.join(60)
    server.server_close()


class Watched:
    """A tab, what it complained about and what it asked for."""

    def __init__(self, chromium: Any, site: str, width: int = 1440, **more: Any) -> None:
        self.context = chromium.new_context(viewport={"width": width, "height": 800}, timezone_id="UTC", **more)
        self.context.add_cookies([{"name": "threatlens", "value": COOKIES[site], "url": site}])
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(60_000)
        self.site = site
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.tab.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning") else None
        )
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))
        self.tab.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: str, *, is_live: bool = True) -> Any:
        self.tab.goto(self.site + path)
        if is_live:
            self.tab.wait_for_selector('#connection[data-state="live"]', state="attached")
        return self.tab

    def ids(self, rows: str = "tr.event") -> list[int]:
        """The ids of the rows from the top."""
        found: list[int] = self.tab.eval_on_selector_all(rows, "rows => rows.map(row => Number(row.dataset.id))")
        return found

    def until(self, condition: str) -> None:
        """Wait until it holds; the policy of the pages forbids the library's own way, which needs eval."""
        for _ in range(2_400):
            if self.tab.evaluate(condition):
                return
            self.tab.wait_for_timeout(25)
        pytest.fail(f"it never held: {condition}")

    def wait_for_row(self, number: int) -> None:
        self.tab.wait_for_selector(f"#e{number}", state="attached")


@pytest.fixture
def watched(chromium: Any, site: str) -> Iterator[Watched]:
    watched = Watched(chromium, site)
    yield watched
    watched.context.close()


def test_rows_arrive_without_reload_and_in_order(watched: Watched, filler: Filler) -> None:
    filler.add("first")
    tab = watched.open("/events")
    tab.evaluate("window.same = true")
    for number in range(5):
        filler.add(*(f"line {number} {part}" for part in range(7)))
        watched.wait_for_row(7 * number + 8)

    assert watched.ids() == list(range(36, 0, -1))
    assert tab.evaluate("window.same")
    watched.until("document.querySelector('#events-total').textContent.includes('36')")
    assert watched.complaints == []


def test_the_filter_in_the_address_filters_what_arrives(watched: Watched, filler: Filler) -> None:
    filler.add("a quiet line")
    watched.open("/events?min_severity=7&q=line")
    filler.add("another quiet line", "and one more")
    filler.add("a loud line", severity=9)
    watched.wait_for_row(4)
    assert watched.ids() == [4]


def test_a_row_changes_in_its_place_when_a_match_is_found_later(
    watched: Watched, filler: Filler, services: Any
) -> None:
    filler.add("Failed password for root", "Failed password for admin", outcome=2)
    tab = watched.open("/events")
    tab.evaluate(WATCH_SHIFTS)
    before = tab.locator("#e1").bounding_box()
    when = now_us()
    match = RuleMatch(
        "guessing", "Guessing", "high", 8, "correlation", when, when, 2, (), "192.0.2.1", None, None, (), ()
    )
    finding = Finding(match, 2, 1, 1, "failure", "authentication")
    Raiser(services.store, broadcaster=services.broadcaster).raise_all(
        [Late(finding, (1, 2), None, "auth", severities=((1, 8),))]
    )
    tab.wait_for_selector("#e1 a.matched")

    assert tab.locator("#e1 .severity").get_attribute("title") == "Severity 8 of 10"
    assert tab.locator("a.matched").count() == 2
    assert tab.evaluate("window.first === document.querySelector('#e1')")
    assert tab.evaluate("window.shifted") == 0
    assert tab.locator("#e1").bounding_box() == before
    assert watched.complaints == []


def test_who_reads_further_down_is_not_disturbed_and_g_leads_back(watched: Watched, filler: Filler) -> None:
    filler.add(*(f"line {number}" for number in range(100)))
    tab = watched.open("/events")
    tab.evaluate("scrollTo(0, 900)")
    watched.until("scrollY > 800")
    before = tab.evaluate("document.querySelector('#e60').getBoundingClientRect().top")
    filler.add(*(f"new {number}" for number in range(20)))
    watched.wait_for_row(120)

    tab.wait_for_selector("#pill", state="visible")
    assert tab.inner_text("#pill") == "20 new, press G"
    assert tab.evaluate("document.querySelector('#e60').getBoundingClientRect().top") == before
    assert not tab.is_visible("#e120")

    tab.keyboard.press("G")
    tab.wait_for_selector("#e120", state="visible")
    assert not tab.is_visible("#pill")
    assert tab.evaluate("scrollY") == 0
    assert watched.ids() == list(range(120, 50, -1))


def test_a_row_that_is_open_holds_the_list_still(watched: Watched, filler: Filler) -> None:
    filler.add(
        *(f"Nov 23 06:51:07 web1 sshd[42]: Failed password for root from 203.0.113.{n} port 9 ssh2" for n in range(5))
    )
    tab = watched.open("/events")
    tab.keyboard.press("j")
    tab.keyboard.press("j")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#detail .raw", state="visible")
    assert tab.inner_text("tr.chosen .message") == tab.inner_text("#e4 .message")
    filler.add("one more")
    tab.wait_for_selector("#pill", state="visible")

    tab.hover("mark[data-fields='source.ip']")
    assert tab.evaluate("document.querySelector('.fields [data-fields=\"source.ip\"]').classList.contains('lit')")
    tab.keyboard.press("Escape")
    tab.wait_for_selector("#e6", state="visible")
    assert not tab.is_visible("#detail")
    assert watched.complaints == []


@pytest.mark.parametrize("width", [360, 1440])
def test_a_list_that_follows_moves_no_box(chromium: Any, site: str, filler: Filler, width: int) -> None:
    filler.add(*(f"line {number}" for number in range(30)))
    watched = Watched(chromium, site, width)
    tab = watched.open("/events")
    watched.until("document.querySelector('#following').textContent === 'Following'")
    tab.evaluate(WATCH_SHIFTS)
    first = filler.add(*HOSTILE, "long " * 100, "x", severity=10)
    watched.wait_for_row(first)
    first = filler.add(*(f"flood {number}" for number in range(200)))
    watched.wait_for_row(first + 199)
    last = filler.add("and on it goes", severity=5)
    watched.wait_for_row(last)

    assert watched.ids("#events tr.event")[:51] == list(range(last, last - 51, -1))
    assert watched.ids("#events tr.event")[51:] == list(range(first - 1, 0, -1))
    assert "150 more arrived" in tab.inner_text("#events tr.gap")
    tab.evaluate("new Promise(requestAnimationFrame)")
    assert tab.evaluate("window.shifted") == 0
    heights = "rows => [...new Set(rows.map(row => row.getBoundingClientRect().height))]"
    assert len(tab.eval_on_selector_all("#events tbody tr:not(:last-child)", heights)) == 1
    assert watched.complaints == []
    watched.context.close()


def test_whoever_points_at_a_row_marks_its_text_or_stands_on_it_keeps_it(watched: Watched, filler: Filler) -> None:
    filler.add(*(f"line {number}" for number in range(9)))
    watched.tab.clock.install()
    tab = watched.open("/events")

    def waits_until(end: Callable[[], None]) -> None:
        number = filler.add("one more")
        tab.wait_for_selector("#pill", state="visible")
        assert watched.ids("#events tr.event")[0] == number - 1
        assert tab.inner_text("#following") == "Paused"
        end()
        tab.wait_for_selector(f"#events #e{number}")
        assert not tab.is_visible("#pill")
        assert tab.inner_text("#following") == "Following"

    box = tab.locator("#e5").bounding_box()
    tab.mouse.move(box["x"] + 300, box["y"] + 5)
    tab.mouse.move(box["x"] + 310, box["y"] + 5)
    waits_until(lambda: tab.mouse.move(5, 5))
    tab.mouse.move(box["x"] + 300, box["y"] + 5)
    waits_until(lambda: tab.clock.fast_forward(3_100))  # it only lies there
    tab.mouse.move(5, 5)
    tab.evaluate("getSelection().selectAllChildren(document.querySelector('#e5 .message'))")
    waits_until(lambda: tab.evaluate("getSelection().removeAllRanges()"))
    tab.focus("#e5 a")
    waits_until(lambda: tab.focus("h1 ~ * button"))
    tab.click("#following")
    waits_until(lambda: tab.click("#following"))
    tab.keyboard.press("p")
    waits_until(lambda: tab.keyboard.press("p"))
    assert watched.complaints == []


def test_who_was_led_to_the_newest_line_stays_on_the_newest(watched: Watched, filler: Filler) -> None:
    filler.add("a line")
    tab = watched.open("/events")
    tab.keyboard.press("G")
    filler.add("another")
    watched.wait_for_row(2)
    assert tab.evaluate("document.activeElement.closest('tr').id") == "e2"
    filler.add("and another")
    watched.wait_for_row(3)
    tab.keyboard.press("j")
    assert tab.get_attribute("tr.chosen", "id") == "e2", "the next after the newest"


@pytest.mark.parametrize("end", ["hang up", "say goodbye"])
def test_a_reconnect_misses_nothing_and_repeats_nothing(
    watched: Watched, filler: Filler, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    feeds: list[Any] = []
    run = live._Feed.run
    monkeypatch.setattr(live._Feed, "run", lambda feed: [feeds.append(feed), run(feed)])
    filler.add("before")
    tab = watched.open("/events")
    filler.add("seen")
    watched.wait_for_row(2)
    tab.evaluate(KEEP_STATES)

    if end == "hang up":
        feeds[0].ws.sock.hang_up()
    else:
        feeds[0].ws.close(1001, "the server is stopping")
    watched.until("window.states.includes('reconnecting')")
    filler.add(*(f"while away {number}" for number in range(10)))
    tab.wait_for_selector('#connection[data-state="live"]')
    filler.add("back again")
    watched.wait_for_row(13)
    assert watched.ids() == list(range(13, 0, -1))
    assert len(feeds) == 2


def test_a_browser_without_network_says_so(watched: Watched, filler: Filler) -> None:
    filler.add("a line")
    tab = watched.open("/events")
    watched.context.set_offline(True)
    tab.wait_for_selector('#connection[data-state="offline"]')
    watched.context.set_offline(False)
    tab.wait_for_selector('#connection[data-state="live"]')


def test_the_list_stays_bounded_and_a_flood_is_marked(watched: Watched, filler: Filler) -> None:
    filler.add(*(f"line {number}" for number in range(40)))
    tab = watched.open("/events")
    assert not tab.is_visible("#older")
    for number in range(5):
        first = filler.add(*(f"flood {number} {part}" for part in range(200)))
        watched.wait_for_row(first + 199)
    assert len(watched.ids()) + tab.locator("#events tr.gap").count() == 200
    older = tab.get_attribute("#older a", "href") or ""
    assert tab.is_visible("#older")
    assert older.endswith(f"before={watched.ids()[-1]}"), "the older page begins where the list ends"
    assert "150 more arrived" in tab.inner_text("tr.gap >> nth=0")
    tab.click("tr.gap a >> nth=0")
    tab.wait_for_url("**before=**")
    assert len(watched.ids()) == 50


@pytest.mark.parametrize("width", [360, 1280])
def test_every_page_fits_and_breaks_no_policy(chromium: Any, site: str, filler: Filler, width: int) -> None:
    filler.add(
        "Nov 23 06:51:07 web1 sshd[42]: Failed password for root from 203.0.113.9 port 9 ssh2" + " long" * 300,
        severity=8,
    )
    filler.add("x" * 3000, severity=9, source="a-source-with-quite-a-long-name", log_format="unknown")
    watched = Watched(chromium, site, width)
    for path in PAGES:
        tab = watched.open(path, is_live=path not in ("/nope", "/confirm"))

        assert tab.evaluate("document.documentElement.scrollWidth") <= width, path
        assert [said for said in watched.complaints if "404" not in said] == [], path
        assert all(url.startswith(site) for url in watched.asked), path
    watched.context.close()


def test_a_query_is_completed_with_the_keyboard_and_offers_what_was_searched_lately(
    watched: Watched, filler: Filler
) -> None:
    filler.add("Failed password for root", user_name="root")
    tab = watched.open("/events")
    tab.keyboard.press("/")
    tab.keyboard.type("us")
    tab.wait_for_selector("#q-options li[data-asked=us]")
    assert tab.get_attribute("#q", "aria-expanded") == "true"
    tab.keyboard.press("ArrowDown")
    assert tab.get_attribute("#q", "aria-activedescendant") == "q-option-1"
    tab.keyboard.press("Tab")
    tab.wait_for_selector("#q-options li:has-text('user:root')")
    assert not tab.is_visible(".query-wrong"), "nothing is wrong with what is being written"
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    assert tab.input_value("#q") == "user:root"
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/events?q=user%3Aroot")
    tab.goto(tab.url.partition("?")[0])
    tab.focus("#q")
    assert tab.inner_text("#q-options") == "user:root"
    tab.keyboard.press("Escape")
    assert not tab.is_visible("#q-options")
    tab.keyboard.press("Escape")
    assert tab.evaluate("document.activeElement.tagName") == "BODY"
    assert watched.complaints == []


def test_keys_lead_everywhere(watched: Watched, filler: Filler) -> None:
    filler.add("a line")
    tab = watched.open("/events")
    tab.keyboard.press("?")
    tab.wait_for_selector("#keys[open]")
    tab.keyboard.press("Escape")
    tab.wait_for_selector("#keys", state="hidden")
    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.id") == "q"
    tab.keyboard.type("line")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/events?q=line")
    tab.keyboard.press("g")
    tab.keyboard.press("s")
    tab.wait_for_url("**/sources")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"


def test_a_time_is_chosen_in_the_chart_by_dragging_and_with_the_keyboard(watched: Watched, filler: Filler) -> None:
    now = now_us()
    for minutes in range(1, 40):
        filler.add("a line", timestamp_us=now - minutes * 60_000_000)
    tab = watched.open("/events?range=1h&q=source:auth")
    bars = tab.locator("#events-chart a[data-start]")
    ends = [bars.nth(place).get_attribute(name) for place, name in ((20, "data-start"), (30, "data-end"))]
    chosen = f"start={quote(ends[0] or '', safe='')}&end={quote(ends[1] or '', safe='')}"

    tab.keyboard.press("Tab")
    bars.nth(20).focus()
    assert "1 event" in tab.inner_text("#events-chart .said") or "0 events" in tab.inner_text("#events-chart .said")
    for _ in range(10):
        tab.keyboard.press("Shift+ArrowRight")
    assert tab.locator("#events-chart a.within").count() == 11
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"**/events?q=source%3Aauth&{chosen}")
    assert tab.locator("tr.event").count() < 39

    tab.goto(watched.site + "/events?range=1h&q=source:auth")
    bars.nth(20).hover()
    tab.mouse.down()
    ends = [bars.nth(place).get_attribute(name) for place, name in ((20, "data-start"), (30, "data-end"))]
    filler.add("arrives meanwhile")
    watched.wait_for_row(40)
    bars.nth(30).hover()
    tab.mouse.up()
    tab.wait_for_url("**&start=*")
    assert [quote(end or "", safe="") in tab.url for end in ends] == [True, True]


def test_the_dashboard_changes_by_itself(watched: Watched, filler: Filler) -> None:
    filler.add("a line")
    tab = watched.open("/")
    assert tab.inner_text("#headline") == "Nothing needs you"
    filler.add("something burns", severity=9, source_ip="203.0.113.9")
    watched.wait_for_row(2)
    watched.until("document.querySelector('#headline').textContent.includes('One thing needs you')")


def test_the_theme_follows_the_system_and_the_switch(chromium: Any, site: str, filler: Filler) -> None:
    watched = Watched(chromium, site, color_scheme="dark")
    tab = watched.open("/unknown")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = tab.evaluate(ground)
    tab.click("[data-theme-switch]")
    assert tab.evaluate(ground) != dark
    light = tab.evaluate(ground)
    tab.reload()
    assert tab.evaluate(ground) == light
    watched.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(chromium: Any, site: str, filler: Filler, scheme: str) -> None:
    for severity in range(1, 11):
        filler.add(f"severity {severity}", severity=severity, source_ip="203.0.113.9", outcome=2)
    watched = Watched(chromium, site, color_scheme=scheme)
    for path in ("/", "/events", "/sources", "/events/1", *SETTINGS):
        worst = watched.open(path).evaluate(CONTRAST)
        assert worst["ratio"] >= 4.5, (path, worst)
    watched.context.close()


CONTRAST = """() => {
  const numbers = (color) => color.match(/[0-9.]+/g).map(Number);
  const light = (color) => numbers(color).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if ((numbers(color)[3] ?? 1) > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  let worst = { ratio: 99 };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.offsetParent || element.closest(".skip, svg")) continue;
    const [one, other] = [light(getComputedStyle(element).color), light(ground(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < worst.ratio) worst = { ratio, text: element.textContent.slice(0, 60), of: element.className };
  }
  return worst;
}"""
