"""The query bar and what stands around the list: completion, mistakes, saved searches, facets, entities."""

from __future__ import annotations

import re
from typing import Any

import pytest
from accounts import log_in
from builders import NOW_US, Filler

from threatlens.clock import now_us
from threatlens.event import EventFilter

HOSTILE = '<img src=x onerror="alert(1)">'


def line(user: str, address: str, host: str = "web1", *, good: bool = False) -> str:
    word = "Accepted" if good else "Failed"
    return f"Nov 23 06:51:07 {host} sshd[4211]: {word} password for {user} from {address} port 52144 ssh2"


@pytest.fixture
def client(app: Any) -> Any:
    app.config["WTF_CSRF_ENABLED"] = False
    return log_in(app)


@pytest.fixture
def filled(services: Any) -> Filler:
    filler = Filler(services.store)
    for number in range(6):
        filler.add(line("root", "203.0.113.9"), source_ip="203.0.113.9", user_name="root", outcome=2)
        filler.add(line("anna", "192.0.2.4", "web2", good=True), source_ip="192.0.2.4", user_name="anna", outcome=1,
                   source="office", severity=1 + number)  # fmt: skip
    return filler


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("us", "user:"),
        ("failed -us", "failed -user:"),
        ("user:ro", "user:root"),
        ("-user:(", None),
        ("user:AN", "user:anna"),
        ("source:of", "source:office"),
        ("failed source:auth,of", "failed source:auth,office"),
        ("category:au", "category:authentication"),
        ("host:web", "host:web2"),
        ("outcome:f", "outcome:failure"),
        ("after:-2", "after:-24h"),
    ],
)
def test_a_query_is_completed(client: Any, filled: Filler, text: str, option: str | None) -> None:
    answer = client.get("/events/query", query_string={"q": text}).text
    assert (f'data-value="{option}">' in answer) is (option is not None)


def test_an_address_of_today_completes_a_query(client: Any, services: Any) -> None:
    from threatlens.clock import now_us

    Filler(services.store).add(line("root", "203.0.113.9"), source_ip="203.0.113.9", timestamp_us=now_us())
    assert 'value="ip:203.0.113.9"' in client.get("/events/query?q=ip:203").text


def test_what_is_wrong_is_underlined_and_said(client: Any) -> None:
    for answer in (client.get("/events/query?q=failed+usr:root").text, client.get("/events?q=failed+usr:root").text):
        assert '<span class="wrong">usr</span>' in answer
        assert "did you mean &#34;user&#34;?" in answer


def test_a_hostile_query_stays_text(client: Any) -> None:
    for path in ("/events/query", "/events", "/palette"):
        answer = client.get(path, query_string={"q": HOSTILE, "find": HOSTILE}).text
        assert "<img" not in answer


def test_a_search_is_saved_found_again_and_forgotten(client: Any, filled: Filler) -> None:
    client.post("/searches", data={"name": HOSTILE, "params": "q=user%3Aroot&before=7&evil=1"})
    page = client.get("/events").text
    assert "/events?q=user%3Aroot" in page
    assert "evil=1" not in page
    assert "<img" not in page
    assert "q=user%3Aroot" in client.get("/palette?find=onerror").text
    assert client.post("/searches/1/delete").status_code == 303
    assert client.post("/searches/1/delete").status_code == 404


def test_a_saved_search_stands_on_the_dashboard_with_its_count(app: Any, client: Any, filled: Filler) -> None:
    filled.add("x", source="office", severity=7, timestamp_us=now_us())
    client.post("/searches", data={"name": "Severe", "params": "source=office&min_severity=6&range=7d", "pin": "1"})
    client.post("/searches", data={"name": "Words", "params": "q=password"})
    client.post("/searches/pin", data={"name": "Words", "pinned": "1", "next": "/"})
    page = client.get("/").text
    assert "/searches/cells?range=" in page
    assert page.count('class="panel cell"') == 2
    cells = client.get("/searches/cells?range=15m").text
    assert re.findall(r"<strong>(.+?)</strong>", cells) == ["1", "0"]
    rule = re.search(r'href="(/notifications/rules/add[^"]+)"', cells)
    assert rule is not None
    form = client.get(rule[1].replace("&amp;", "&")).text
    assert 'value="Severe"' in form
    assert 'value="office"' in form
    assert cells.count("/notifications/rules/add") == 1, "no rule can ask for words"

    assert "cell" not in log_in(app, "viewer").get("/searches/cells").text, "they are one's own"
    client.post("/searches/pin", data={"name": "Words", "pinned": "0"})
    assert client.get("/").text.count('class="panel cell"') == 1
    for number in range(6):
        client.post("/searches", data={"name": f"n{number}", "params": "q=a", "pin": "1"})
    assert client.get("/").text.count('class="panel cell"') == 6
    assert (
        "At most 6" in client.post("/searches/pin", data={"name": "Words", "pinned": "1"}, follow_redirects=True).text
    )


def test_the_palette_offers_only_pages_that_may_be_seen(viewer_client: Any, admin_client: Any) -> None:
    for client, offered in ((viewer_client, False), (admin_client, True)):
        found = client.get("/palette?find=new rule").text
        assert ('href="/rules/new"' in found) is offered
    assert 'href="/health"' in viewer_client.get("/palette?find=health").text


def test_the_palette_finds_addresses_and_users_by_how_they_begin(client: Any, services: Any) -> None:
    filler = Filler(services.store)
    filler.add("x", source_ip="203.0.113.9", user_name="root", timestamp_us=now_us())
    assert 'href="/entities/address/203.0.113.9"' in client.get("/palette?find=203.0").text
    assert client.get("/palette?find=203.0.113.9").text.count("/entities/address/203.0.113.9") == 1
    assert client.get("/palette?find=Ro").text.count('href="/entities/user/root"') == 1
    assert "/entities/user/root" not in client.get("/palette?find=oot").text


def test_nothing_is_called_wrong_while_it_is_being_written(client: Any, filled: Filler) -> None:
    def said(text: str) -> str:
        return str(client.get("/events/query", query_string={"q": text}).text)

    assert "query-wrong" not in said("failed user:")
    assert "query-wrong" in said("usr:root us"), "the mistake stands before what is being written"
    assert "query-wrong" in said("failed user:nobodyx(")


def test_a_search_of_somebody_else_is_not_there(app: Any, client: Any) -> None:
    client.post("/searches", data={"name": "mine", "params": "q=a"})
    other = log_in(app, "viewer")
    assert "q=a" not in other.get("/palette?find=mine").text
    assert other.post("/searches/1/delete").status_code == 404


def test_facets_count_include_and_leave_out(client: Any, filled: Filler) -> None:
    page = client.get("/events?q=has:user").text
    assert "q=has:user+user:root" in page
    assert "q=has:user+-user:root" in page
    assert "q=has:user+src:203.0.113.9" in page
    page = client.get("/events").text
    assert "q=source:office" in page


def test_a_value_that_is_asked_for_is_marked_and_a_click_takes_it_away(client: Any, filled: Filler) -> None:
    page = client.get("/events?q=has:user+user:root&source=auth").text
    chosen = re.search(r'<li class="chosen"><a [^>]*href="([^"]+)" aria-current="true"[^>]*><bdi>root<', page)
    assert chosen
    assert chosen[1] == "/events?q=has:user&amp;source=auth"
    only = re.search(r'class="only" href="([^"]+)"[^>]*aria-label="Only 203.0.113.9"', page)
    assert only
    assert only[1] == "/events?q=src:203.0.113.9&amp;source=auth"


def test_facets_show_the_ten_most_frequent_and_the_others_are_found_by_what_is_in_them(
    client: Any, services: Any
) -> None:
    filler = Filler(services.store)
    for number in range(14):
        filler.add(line("root", f"203.0.113.{number + 1}"), source_ip=f"203.0.113.{number + 1}", user_name="root")
    page = client.get("/events").text
    assert len(re.findall(r'aria-label="Leave out 203', page)) == 10
    assert "4 more values" in page
    for path in ("/events", "/events/survey"):
        found = client.get(path, query_string={"find": "113.14"}).text
        assert re.findall(r'aria-label="Leave out ([^"]+)"', found) == ["203.0.113.14"]
        nothing = client.get(path, query_string={"find": HOSTILE}).text
        assert "No value has “&lt;img src=x" in nothing


def test_lines_around_an_event_say_where_the_time_was_up(
    client: Any, services: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threatlens.store_search.WINDOW", 2)
    filler = Filler(services.store)
    for host in ("rare", *["web1"] * 20, "rare", *["web1"] * 20, "rare"):
        filler.add(line("root", "203.0.113.9", host))
    assert "It came as far as" not in client.get("/events/22?same=host").text
    monkeypatch.setattr("threatlens.store_search.SEARCH_S", -1.0)
    assert client.get("/events/22?same=host").text.count("(event ") == 2, "both ways"


def test_a_page_of_somebody_fits_beside_another_page(client: Any, filled: Filler) -> None:
    beside = client.get("/entities/user/root", headers={"HX-Request": "true", "HX-Target": "peek-body"}).text
    assert "<html" not in beside
    assert 'id="peek-title"' in beside
    assert 'href="/entities/address/203.0.113.9" data-peek' in beside
    assert "Failed password for root" in beside
    whole = client.get("/entities/user/root").text
    assert "<html" in whole
    hostile = client.get(f"/entities/user/{HOSTILE}", headers={"HX-Target": "peek-body"}).text
    assert "<img src=x" not in hostile


def test_values_show_when_they_were_met(client: Any, services: Any, filled: Filler) -> None:
    start, minute = NOW_US - 600_000_000, 60_000_000
    filled.add("x", source="early", timestamp_us=start)
    filled.add("y", "z", source="late", timestamp_us=start + 9 * minute)
    known = services.store.sources_over_time(start, start + 10 * minute, 10, EventFilter(sources=("early", "late")))
    assert known[("source", "early")] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    assert known[("source", "late")] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert known[("category", "authentication")] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    days = services.store.sources_over_time(start - 86_400_000_000, start + 60 * minute, 2, EventFilter())
    assert days[("source", "late")] == [0, 2]

    page = client.get("/events/survey?q=source:late&start=2026-11-23T23:50:00Z&end=2026-11-24T00:10:00Z").text
    assert page.count('class="spark"') >= 2, "of the source and of its category"
    assert 'hx-trigger="load, fresh"' in client.get("/events").text


def test_every_value_of_an_event_narrows_down_the_list_beside_it(client: Any, filled: Filler) -> None:
    event = filled.add(
        line("o'neil", "203.0.113.50"), source_ip="203.0.113.50", user_name="o'neil", timestamp_us=now_us()
    )
    alone = client.get(f"/events/{event}").text
    assert 'href="/events?q=source.ip:203.0.113.50">Only this' in alone
    assert 'href="/events?q=-source.ip:203.0.113.50">Leave out' in alone
    assert "Add to the search" not in alone
    assert 'href="/entities/address/203.0.113.50" data-peek>Everything about it' in alone
    for link in re.findall(r'href="(/events[?]q=[^"]+)">(?:Only this|Leave out)', alone):
        assert "could not be read" not in client.get(link.replace("&#39;", "'").replace("&amp;", "&")).text, link

    beside = {"HX-Request": "true", "HX-Current-URL": "http://localhost/events?q=failed&source=auth"}
    panel = client.get(f"/events/{event}", headers=beside).text
    assert 'href="/events?q=failed+user.name:' in panel
    assert re.search(r'q=failed\+-host.name:web1&amp;source=auth">Leave out', panel)
    assert re.search(r'q=host.name:web1">Only this', panel)

    name = re.search(r'name="name" value="(source.ip:[^"]+)"', panel)
    assert name is not None
    client.post("/searches", data={"name": name[1], "params": f"q={name[1]}", "pin": "1"})
    assert re.findall(r"<strong>(.+?)</strong>", client.get("/searches/cells?range=7d").text) == ["1"]


def test_an_event_leads_to_what_stood_around_it(client: Any, filled: Filler) -> None:
    page = client.get("/events/1").text
    assert "same address" in page
    address = page.partition("same user")[0].rpartition('href="')[2].partition('"')[0]
    assert client.get(address.replace("&amp;", "&")).text.count("Failed password for root") == 6


def test_an_address_has_a_page_with_its_whole_life(client: Any, filled: Filler) -> None:
    page = client.get("/entities/address/203.0.113.9").text
    assert "<dd>6</dd>" in page
    assert "/entities/user/root" in page
    assert "/events/1" in page
    assert "anna" not in page


def test_users_and_hosts_have_pages(client: Any, filled: Filler) -> None:
    assert "/entities/address/192.0.2.4" in client.get("/entities/user/anna").text
    assert "/entities/user/anna" in client.get("/entities/host/web2").text
    assert "Nothing is known" in client.get("/entities/user/nobody").text


@pytest.mark.parametrize("path", ["address/no", "user/%00", "thing/x", "user/" + "x" * 301, "address/%3Cimg%3E"])
def test_what_is_no_entity_is_not_found(client: Any, path: str) -> None:
    assert client.get(f"/entities/{path}").status_code == 404


def test_an_address_has_one_page_whatever_it_is_written_like(client: Any) -> None:
    assert client.get("/entities/address/2001:DB8:0::5").headers["Location"].endswith("/entities/address/2001:db8::5")


def test_the_palette_knows_pages_sources_and_addresses(client: Any, filled: Filler) -> None:
    assert "/events?source=office" in client.get("/palette?find=offi").text
    assert 'href="/settings"' in client.get("/palette?find=sett").text
    assert 'href="/entities/address/203.0.113.9"' in client.get("/palette?find=203.0.113.9").text


def test_a_note_about_an_address_is_kept_and_audited(client: Any, services: Any, filled: Filler) -> None:
    path = "/entities/address/203.0.113.9"
    page = client.post(path, data={"text": f"our own scanner {HOSTILE}"}, follow_redirects=True).text
    assert "our own scanner" in page
    assert "<img" not in page
    assert "our own scanner" not in client.get("/entities/user/root").text

    note = services.store.entity_notes("source.ip", "203.0.113.9")[0]
    assert note.author.startswith("user ")
    client.post(path, data={"remove": str(note.id)})
    assert services.store.entity_notes("source.ip", "203.0.113.9") == []
    entries = services.store.audit.page(action="entity")
    assert [entry.action for entry in entries] == ["entity.note_removed", "entity.noted"]
    assert all("our own scanner" in entry.detail and entry.target == "source.ip 203.0.113.9" for entry in entries)
    assert client.post(path, data={"remove": "77"}).status_code == 404


def test_who_only_reads_writes_no_note(app: Any, filled: Filler) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    viewer = log_in(app, role="viewer")
    assert viewer.post("/entities/address/203.0.113.9", data={"text": "no"}).status_code == 403
    assert 'class="note-form"' not in viewer.get("/entities/address/203.0.113.9").text


@pytest.mark.parametrize(
    ("same", "ids"), [("source", [1]), ("host", [2, 1]), ("user", [3, 1]), ("ip", [3, 2, 1]), ("nonsense", [1])]
)
def test_what_stood_around_a_line_is_of_the_same_source_host_user_or_address(
    client: Any, services: Any, same: str, ids: list[int]
) -> None:
    filler = Filler(services.store)
    filler.add(line("root", "203.0.113.9"), source_ip="203.0.113.9", user_name="root")
    filler.add(line("anna", "203.0.113.9"), source="office", source_ip="203.0.113.9", user_name="anna")
    filler.add(line("root", "203.0.113.9", "web2"), source="office", source_ip="203.0.113.9", user_name="root")
    around = client.get(f"/events/1?same={same}").text.partition('id="around"')[2].partition("</ol>")[0]
    assert [int(number) for number in re.findall(r'<li[^>]*><a href="/events/(\d+)"', around)] == (
        ids if len(ids) > 1 else []
    )
