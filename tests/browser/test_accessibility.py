"""Every page passes axe-core's rules of WCAG 2.2 AA, light and dark, and fits a phone and a wall."""

# ruff: noqa: F811 - fixtures are called like what they are

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import Filler
from test_browser import CHROMIUM, Watched, chromium, site  # noqa: F401 - fixtures

from threatlens.analyzers.attack import DETECTION_LOST
from threatlens.clock import now_us
from threatlens.event import RuleMatch
from threatlens.incidents import Finding
from threatlens.own_alerts import OwnAlert, OwnAlerts
from threatlens.raising import Late, Raiser
from threatlens.store import DeadLetter
from threatlens.store_notifications import Occurrence
from threatlens.store_searches import Schedule
from threatlens.web.rule_forms import TEMPLATE

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

RULE = "5a4a5a6e-7a3c-4f4e-9d3a-3f1f1a0b7c11"
AXE = (Path(__file__).parent / "vendor" / "axe-4.14.1.min.js").read_text(encoding="utf-8")
PAGES = (
    "/", "/incidents", "/events", "/events?q=usr:root",
    "/events?column=user.name&column=path&sort=severity", "/events/compare", "/events/1", "/rules", "/sources",
    "/sources/add", "/notifications", "/reports", "/unknown", "/decode", "/dead-letters", "/health", "/upload",
    "/settings", "/settings/users", "/settings/tokens", "/settings/audit", "/entities/address/203.0.113.9",
    "/nope", "/incidents/1", "/incidents/2", "/incidents/1/mute", "/events/1/trace",
    "/rules/threats", "/rules/lists", "/rules/new", "/sources/1", "/notifications/channels/add",
    "/notifications/rules/add", "/notifications/preview", "/settings/users/1", "/settings/configuration",
    "/settings/language-model", "/searches/1/send", "/reports/1", "/notifications/channels/ops",
)  # fmt: skip
#: Made of the same pieces: each of these is looked at in one of the three ways.
LIKE_THEM = (
    "/notifications/1", "/notifications/rules/urgent", f"/rules/{RULE}", f"/rules/{RULE}/edit",
    "/rules/lists?name=admins", "/settings/configuration/1", "/confirm", "/events/1?same=ip", "/health?range=7d",
    "/events?q=has:user", "/entities/user/root", "/entities/host/web1", "/?range=24h",
)  # fmt: skip
WAYS = [("light", 1280), ("light", 360), ("dark", 2560)]
OPEN = ("/login", "/setup?code=none", "/answer/no-such-link")  # without an account
#: GET, but no page of their own: files, parts of pages, and what programs ask for.
NO_PAGES = {
    "static", "audit.export", "configuration.export", "events.survey", "events.export", "events.exports_under_way",
    "health.healthz", "health.readyz", "health.metrics", "language_model.preview", "reports.pdf", "rules.coverage",
    "searches.query_help", "searches.cells", "searches.palette", "unknown.export",
}  # fmt: skip
DRAFT = "name: own.sshd\npattern: Denied (?P<user>\\S+)\nprogram: sshd\nsamples:\n- Denied root\n"
LINE = "Nov 23 06:51:07 web1 sshd[4211]: Failed password for root from 203.0.113.9 port 52144 ssh2"
RUN = """axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}).then((result) =>
  result.violations.flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${node.target} ${node.failureSummary}`)))"""

#: What is written, or can be used, at the very edge of the panel that it stands in.
EDGES = """() => [...document.querySelectorAll(".panel")].flatMap((panel) => {
  const box = panel.getBoundingClientRect();
  return [...panel.querySelectorAll("*")].flatMap((part) => {
    const used = part.matches("button, input:not([type=hidden]), select, textarea");
    const says = [...part.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!(used || says) || !part.checkVisibility({visibilityProperty: true})) return [];
    if (part.closest(".hidden, .panel") !== panel || getComputedStyle(part).position === "absolute") return [];
    const written = document.createRange();
    written.selectNodeContents(part);
    const at = (used ? part : written).getBoundingClientRect();
    const gaps = [["left", at.left - box.left, 6], ["top", at.top - box.top, 4], ["bottom", box.bottom - at.bottom, 4]];
    return gaps.filter(([, gap, least]) => at.width && gap >= 0 && gap < least)
      .map(([side]) => `${side} edge of its panel: <${part.localName}> ${part.textContent.trim().slice(0, 60)}`);
  });
})"""


@pytest.fixture
def filled(site: str, services: Any) -> None:
    filler = Filler(services.store)
    for severity in range(1, 11):
        filler.add(LINE, severity=severity, source_ip="203.0.113.9", user_name="root", outcome=2,
                   timestamp_us=now_us() - severity * 900_000_000)  # fmt: skip
    when = now_us()
    match = RuleMatch(
        "guessing", "Guessing", "high", 8, "correlation", when, when, 2, (), "203.0.113.9", "root", None,
        ("attack.credential-access", "attack.t1110"), (),
    )  # fmt: skip
    Raiser(services.store).raise_all([Late(Finding(match, 9, 1, 1, "failure", "authentication"), (1, 9), None, "auth")])
    filler.add("nothing that anybody knows", source="app", log_format="unknown", timestamp_us=now_us())
    store, now = services.store, now_us()
    services.config.put_named("channels", {"name": "ops", "type": "email", "to": ["ops@example.org"]}, author="a test")
    services.config.put_named("notification_rules", {"name": "urgent", "channels": ["ops"]}, author="a test")
    services.rules.save("mine.yml", TEMPLATE.format(id=RULE))
    services.rules.save_list("admins", "anna")
    store.tell([Occurrence("ops", "urgent", "incident", "t", 8, "guessed passwords", now, now)], now)
    for user in store.users():
        store.save_search(user.id, "A name that is as long as people write them in a hurry", "q=root", now)
        store.pin_search(user.id, store.saved_searches(user.id)[0].name, pinned=True)
    services.searches.begin(Schedule(1, "day", 0, 7, "csv", ("ops",), 0, 0))
    (source,) = [each for each in store.sources() if each.source_name == "auth"]
    alerts = OwnAlerts(store, services.notifications, services.broadcaster)
    number = alerts.put(
        OwnAlert(DETECTION_LOST, source.id, "auth", 1, "Nothing is read.\nNew shapes:\n7 x Denied", now)
    )
    lost = {"kind": "ssh_login failure", "since_us": now, "incident_id": number, "shapes": [["Denied <*>", 7]],
            "draft": DRAFT}  # fmt: skip
    store.write_baseline(source.id, {"lost": {"sshd": lost}}, now)
    services.own_decoders.save(DRAFT)
    Path(services.own_decoders.folder, "broken.yml").write_text("name: own.broken\npattern: (a\n", encoding="utf-8")
    stream_id = filler.stream("auth")[1]
    store.commit([], [], dead=[DeadLetter(source.id, stream_id, 0, "/x", b"\xff", "utf-8", "it failed")])
    report = store.begin_report("range", "2026-11-23", now - 86_400_000_000, now, "UTC", now)
    document = services.reporter.document("range", now - 86_400_000_000, now, "UTC")
    store.finish_report(report, data=document, headline=document["headline"], file="x.pdf", size=1, now_us=now)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(("scheme", "width"), WAYS)
def test_every_page_is_accessible_fits_and_complains_of_nothing(
    chromium: Any,
    site: str,
    scheme: str,
    width: int,
) -> None:
    watched = Watched(chromium, site, width, color_scheme=scheme, bypass_csp=False)
    found: list[str] = []
    for path in (*PAGES, *LIKE_THEM[WAYS.index((scheme, width)) :: len(WAYS)], *OPEN):
        if path == OPEN[0]:
            watched.context.clear_cookies()
        tab = watched.open(path, is_live=False)
        tab.evaluate(AXE)
        found += [f"{path}: {violation}" for violation in (*tab.evaluate(RUN), *tab.evaluate(EDGES))]
        if tab.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            found.append(f"{path}: wider than the window")
    complaints = [said for said in watched.complaints if "404" not in said]
    watched.context.close()

    assert not found, "\n".join(found)
    assert not complaints, "\n".join(complaints)


def test_no_page_is_missing_from_the_walk(app: Any) -> None:
    urls = app.url_map.bind("localhost")
    pages = {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or ()) and not rule.rule.startswith("/api/") and not rule.websocket
    }
    walked = {urls.match(path.partition("?")[0])[0] for path in (*PAGES, *LIKE_THEM, *OPEN) if path != "/nope"}

    assert pages - walked == NO_PAGES


@pytest.mark.usefixtures("filled")
def test_a_dark_page_prints_light_whole_and_without_navigation(chromium: Any, site: str) -> None:
    watched = Watched(chromium, site, 794, color_scheme="dark")
    for path in ("/events", "/incidents/1", "/rules", "/health"):
        tab = watched.open(path, is_live=False)
        tab.evaluate("document.documentElement.dataset.theme = 'dark'")
        tab.emulate_media(media="print")
        ink, ground = tab.evaluate(
            "['color', 'backgroundColor'].map((name) => getComputedStyle(document.querySelector('main'))[name])"
        )
        assert (ink, ground) == ("rgb(22, 32, 46)", "rgba(0, 0, 0, 0)"), path
        assert not any(part.is_visible() for part in tab.locator(".rail, .foot, .filter, .skip").all()), path
        tab.emulate_media(media="screen")
    watched.context.close()


@pytest.mark.usefixtures("filled")
def test_the_rules_are_really_looked_at(chromium: Any, site: str) -> None:
    watched = Watched(chromium, site)
    tab = watched.open("/sources", is_live=False)
    tab.evaluate(AXE)
    tab.evaluate("document.querySelector('h1').replaceChildren(new Image())")
    violations = tab.evaluate(RUN)
    tab.evaluate("document.querySelector('main').innerHTML = '<section class=\"panel\"><p>unpadded</p></section>'")
    unpadded = tab.evaluate(EDGES)
    watched.context.close()

    assert any("image-alt" in violation for violation in violations)
    assert any("left edge" in gap and "unpadded" in gap for gap in unpadded)


@pytest.mark.usefixtures("filled")
def test_searching_reading_and_narrowing_need_no_script(chromium: Any, site: str) -> None:
    watched = Watched(chromium, site, java_script_enabled=False)
    tab = watched.open("/events", is_live=False)
    tab.fill("#q", "severity>=9 user:root")
    tab.click("form.filter button.primary")
    assert tab.locator("tr.event").count() == 2
    tab.click("tr.event a >> nth=0")
    assert "203.0.113.9" in tab.inner_text("main")
    tab.goto(watched.site + "/events")
    tab.click('.facet a[aria-label="Leave out app"]')
    assert tab.locator("tr.event").count() == 10
    tab.fill("#save-name", "without app")
    tab.click(".save button")
    assert "without app" in tab.inner_text(".facets")
    watched.context.close()
