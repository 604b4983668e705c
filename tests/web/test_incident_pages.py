"""Incidents as pages and as API: a story, decisions that can be undone, and no trust in what a log says."""

from __future__ import annotations

import html
import re
import urllib.parse
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from builders import NOW_US, Filler
from programs import Program

from threatlens.analyzers.advice import filled
from threatlens.clock import now_us
from threatlens.event import RuleMatch, rfc3339
from threatlens.incidents import Finding, fold
from threatlens.mutes import LASTING, morning_us
from threatlens.store_accounts import Doer
from threatlens.store_detections import DetectionRow, write_detections
from threatlens.store_incidents import IncidentTable
from threatlens.visible import visible

HOSTILE = "<script>alert(1)</script>$(reboot)"
ANNA = Doer("user anna")


def match(number: int, **changes: Any) -> RuleMatch:
    plain = RuleMatch(
        f"rule-{number}", f"Rule {number}", "high", 8, "rule", now_us() + number, now_us() + number, 1, (),
        "203.0.113.9", "root", "web1", ("attack.credential-access", "attack.t1110"), (0,),
    )  # fmt: skip
    return replace(plain, **changes)


@pytest.fixture
def find(services: Any) -> Any:
    """Have rules find something: the id of its incident."""

    def found(*matches: RuleMatch, outcome: str = "failure", category: str = "authentication") -> int:
        with services.store.database.writing() as connection:
            findings = [Finding(one, 1, 1, 1, outcome, category) for one in matches]
            ids, _ = fold(findings, IncidentTable(connection))
            rows = [DetectionRow(one, 1, (1,), 1, number, "") for one, number in zip(matches, ids, strict=True)]
            write_detections(connection, rows)
        return ids[-1]

    return found


def page(client: Any, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return str(answer.text)


def act(client: Any, incident_id: int, deed: str, **values: Any) -> Any:
    text = page(client, f"/incidents/{incident_id}")
    token = re.search(r'name="csrf_token" value="([^"]+)"', text)[1]  # type: ignore[index]
    version = re.search(r'name="version" value="(\d+)"', text)[1]  # type: ignore[index]
    form = {"csrf_token": token, "version": version, "do": deed, **values}
    return client.post(f"/incidents/{incident_id}", data=form, follow_redirects=True)


def test_the_list_says_what_happened_and_the_url_filters_it(viewer_client, find):
    find(match(1))
    find(match(2, source_ip="198.51.100.7", tags=("attack.initial-access", "attack.t1078")), outcome="success")
    text = page(viewer_client, "/incidents")
    assert "guessed passwords" in text
    assert "got in as root" in text
    assert "guessed passwords" not in page(viewer_client, "/incidents?outcome=success")
    assert "got in" not in page(viewer_client, "/incidents?q=203.0.113.9")
    assert "No incident fits" in page(viewer_client, "/incidents?status=closed")


def test_the_dashboard_begins_with_open_incidents(viewer_client, services, find):
    services.store.put_api_source("auth", "auto")
    incident_id = find(match(1))
    assert f'href="/incidents/{incident_id}"' in page(viewer_client, "/")


def test_a_story_shows_stages_times_and_evidence(viewer_client, find):
    incident_id = find(*(match(1, timestamp_us=now_us() + n) for n in range(214)))
    text = page(viewer_client, f"/incidents/{incident_id}")
    assert "× 214" in text
    assert '<li class="lit">Credential access' in text
    assert 'href="/events/1"' in text


def test_what_was_counted_leads_to_all_of_its_lines(viewer_client, find):
    counted = match(1, kind="correlation", count=5, first_us=1_795_435_200_000_000, timestamp_us=1_795_435_230_000_000)
    text = page(viewer_client, f"/incidents/{find(counted)}")
    (link,) = re.findall(r'href="(/events\?[^"]+)"[^>]*>its lines', text)
    asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(html.unescape(link)).query))
    assert asked["q"] == "source.ip:203.0.113.9"
    assert (asked["start"], asked["end"]) == ("2026-11-23T12:00:00+00:00", "2026-11-23T12:00:30.000001+00:00")
    assert "notice" not in page(viewer_client, html.unescape(link)).partition("<main")[2].partition("<table")[0]


@pytest.mark.parametrize("path", ["/incidents", "/incidents/1", "/incidents/1/mute", "/"])
def test_nothing_from_a_log_becomes_markup(analyst_client, services, find, path):
    services.store.put_api_source("auth", "auto")
    find(match(1, source_ip=None, user_name=HOSTILE, host_name=HOSTILE, rule_name=HOSTILE, tags=()))
    text = page(analyst_client, path)
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_a_note_of_several_lines_reads_as_such_and_a_mark_of_a_log_makes_none(analyst_client, find):
    incident_id = find(match(1))
    text = act(analyst_client, incident_id, "comment", text="first\r\nsecond\nthird\u2028still third").text
    assert re.findall(r'<bdi class="log">(first|second|third[^<]*)</bdi>(<br>)?', text) == [
        ("first", "<br>"), ("second", "<br>"), (f"third{visible(chr(0x2028))}still third", ""),
    ]  # fmt: skip


def test_decisions_are_noted_audited_and_undone(analyst_client, services, find):
    incident_id = find(match(1))
    assert "Acknowledged" in act(analyst_client, incident_id, "acknowledge").text
    act(analyst_client, incident_id, "assign", assignee="anna")
    act(analyst_client, incident_id, "comment", text="seen on the firewall, too")
    act(analyst_client, incident_id, "close", text="blocked")
    assert services.store.incident(incident_id).status == "closed"
    act(analyst_client, incident_id, "undo")
    incident = services.store.incident(incident_id)
    assert (incident.status, incident.assignee) == ("acknowledged", "anna")
    kinds = [note.kind for note in services.store.incident_notes(incident_id)]
    assert kinds == ["acknowledged", "assigned", "comment", "closed", "undone"]
    actions = [entry.action for entry in services.store.audit.page(action="incident")]
    assert sorted(actions) == sorted(f"incident.{kind}" for kind in kinds)


def test_who_decides_about_an_old_version_is_told(analyst_client, services, find):
    incident_id = find(match(1))
    answer = act(analyst_client, incident_id, "close", version="0")
    assert "somebody else has changed this incident" in answer.text
    assert services.store.incident(incident_id).status == "open"


def test_who_may_only_read_changes_nothing(viewer_client, find):
    incident_id = find(match(1))
    text = page(viewer_client, f"/incidents/{incident_id}")
    assert 'name="do"' not in text
    token = re.search(r'name="csrf_token" value="([^"]+)"', text)[1]
    answer = viewer_client.post(f"/incidents/{incident_id}", data={"csrf_token": token, "do": "close", "version": "1"})
    assert answer.status_code == 403


def test_a_closed_incident_that_goes_on_is_open_again(services, find):
    incident_id = find(match(1))
    services.store.change_incident(incident_id, 1, ANNA, kind="closed", status="closed")
    assert find(match(1)) == incident_id
    assert services.store.incident(incident_id).status == "open"
    assert services.store.incident_notes(incident_id)[-1].kind == "reopened"


def test_what_comes_much_later_is_a_new_incident_that_knows_the_old_one(services, find):
    old = find(match(1))
    new = find(match(1, first_us=now_us() + 8 * 3600 * 10**6, timestamp_us=now_us() + 8 * 3600 * 10**6))
    assert new != old
    assert services.store.incident(new).previous_id == old


def test_a_false_positive_stays_one_until_something_else_happens(services, find):
    incident_id = find(match(1))
    services.store.change_incident(incident_id, 1, ANNA, kind="false_positive", status="false_positive")
    find(match(1))
    assert services.store.incident(incident_id).status == "false_positive"
    find(match(2))
    assert services.store.incident(incident_id).status == "open"


def test_what_a_taken_over_user_does_belongs_to_who_took_him_over(services, find):
    incident_id = find(match(1, tags=("attack.initial-access", "attack.t1078"), user_name="deploy"), outcome="success")
    later = match(2, source_ip=None, user_name="deploy", tags=("attack.persistence", "attack.t1053"))
    assert find(later, outcome="", category="process") == incident_id
    assert services.store.incident(incident_id).title == "got in as deploy and planted a scheduled job"
    other = match(3, source_ip="198.51.100.3", user_name="deploy")
    assert find(other) != incident_id, "who guesses the same user's password is somebody else"


def test_many_spoofed_addresses_are_one_incident(services, find):
    many = [match(1, source_ip=f"198.51.{n // 250}.{n % 250}", user_name=None, host_name=None) for n in range(300)]
    find(*many)
    crowd = [incident for incident in services.store.incidents(limit=500) if incident.subject[0] == "rule"]
    assert len(services.store.incidents(limit=500)) == 51
    assert [incident.n for incident in crowd] == [250]


def test_a_mute_is_previewed_made_and_hides_from_then_on(analyst_client, services, find):
    incident_id = find(match(1), match(1), match(2))
    text = page(analyst_client, f"/incidents/{incident_id}/mute?scope=rule&rule=rule-1&lasting=1d")
    assert "hidden 2 matches" in text
    token = re.search(r'name="csrf_token" value="([^"]+)"', text)[1]
    form = {"csrf_token": token, "scope": "rule", "rule": "rule-1", "lasting": "1d", "reason": "a scanner of ours"}
    analyst_client.post(f"/incidents/{incident_id}/mute", data={**form, "do": "preview"})
    assert not services.store.mutes()
    analyst_client.post(f"/incidents/{incident_id}/mute", data={**form, "do": "mute"})
    (mute,) = services.store.mutes(now=now_us())
    assert (mute.rule_id, mute.source_ip, mute.incident_id) == ("rule-1", "", incident_id)
    assert 86_000 * 10**6 < mute.expires_us - now_us() <= 86_400 * 10**6
    assert [entry.action for entry in services.store.audit.page(action="mute")] == ["mute.added"]


@pytest.mark.parametrize(
    "scope", [{"scope": ""}, {"scope": "source.ip", "source.ip": "0.0.0.0/0"}, {"scope": "source.ip", "source.ip": "x"}]
)
def test_a_mute_of_everything_is_refused(analyst_client, services, find, scope):
    incident_id = find(match(1))
    text = page(analyst_client, f"/incidents/{incident_id}/mute")
    token = re.search(r'name="csrf_token" value="([^"]+)"', text)[1]
    answer = analyst_client.post(f"/incidents/{incident_id}/mute", data={"csrf_token": token, "do": "mute", **scope})
    assert "notice error" in answer.text
    assert not services.store.mutes()


def test_an_empty_list_says_what_was_looked_at_and_offers_a_test(app, analyst_client, viewer_client, services, find):
    assert "No line came in that time" in page(analyst_client, "/incidents")
    filler = Filler(services.store)
    filler.add("nothing that anybody knows", source="app", log_format="unknown", timestamp_us=now_us())
    filler.add(*["a line"] * 1_249, source="auth", timestamp_us=now_us())
    text = page(analyst_client, "/incidents")
    assert "No incidents in 24 h." in text
    assert "ThreatLens saw 1,250 lines from 2 sources in that time" in text
    assert "Fire a test attack?" in text
    for_viewers = page(viewer_client, "/incidents")
    assert "1,250 lines" in for_viewers
    assert "Fire a test attack" not in for_viewers
    act(analyst_client, find(match(1)), "close")
    text = page(analyst_client, "/incidents")
    assert "No open incident." in text
    assert "No incidents in 24 h." not in text
    assert "1,250 lines" not in page(analyst_client, "/incidents?q=nothing")


BERLIN = "Europe/Berlin"


@pytest.fixture
def in_berlin(analyst_client):
    analyst_client.set_cookie("tz", BERLIN)
    return analyst_client


def test_one_click_mutes_what_is_ticked_until_monday_where_one_is_and_undo_ends_it(in_berlin, services, find):
    first, second = find(match(1)), find(match(2, source_ip="198.51.100.7"))
    token = re.search(r'name="csrf_token" value="([^"]+)"', page(in_berlin, "/incidents"))[1]
    ticked = {"csrf_token": token, "incident": [f"{first}:0", f"{second}:0"]}
    text = in_berlin.post("/incidents", data={**ticked, "mute": "week"}, follow_redirects=True).text
    assert re.search(r"2 incidents are muted until (Monday|tomorrow) 08:00\.", text)
    assert len(re.findall(r"muted until (?:Monday|tomorrow) 08:00<", text)) == 2
    assert "Undo: muted × 2" in text
    of_second, of_first = services.store.mutes(now=now_us())
    assert (of_first.source_ip, of_second.source_ip, of_first.rule_id) == ("203.0.113.9", "198.51.100.7", "")
    assert of_first.expires_us == morning_us("week", now_us(), ZoneInfo(BERLIN))
    text = in_berlin.post("/incidents", data={"csrf_token": token, "do": "undo"}, follow_redirects=True).text
    assert "2 incidents are as before." in text
    assert not services.store.mutes(now=now_us())
    assert [note.kind for note in services.store.incident_notes(first)] == ["muted", "undone"]
    assert in_berlin.post("/incidents", data={**ticked, "mute": "for ever"}).status_code == 400
    assert "Tick at least one" in in_berlin.post(
        "/incidents", data={"csrf_token": token, "mute": "1h"}, follow_redirects=True
    ).text  # fmt: skip


def test_a_story_says_that_it_is_muted_until_something_more_severe_comes(analyst_client, services, find):
    incident_id = find(match(1), match(2, severity=9))
    text = act(analyst_client, incident_id, "", mute="severity").text
    assert "1 incident is muted until something more severe comes." in text
    assert 'class="muted-until">muted until something more severe comes<' in text
    (mute,) = services.store.mutes(now=now_us())
    assert (mute.condition, mute.condition_n, mute.known) == ("severity", 9, ())
    assert "until something more severe comes" in page(analyst_client, "/rules")
    assert "It is not muted any more." in act(analyst_client, incident_id, "undo").text
    assert not services.store.mutes(now=now_us())


def test_a_muted_incident_needs_nobody_until_it_goes_on_all_the_same(analyst_client, services, find):
    services.store.put_api_source("auth", "auto")
    incident_id = find(match(1, timestamp_us=now_us() - 10**6))
    assert "One thing needs you" in page(analyst_client, "/")
    act(analyst_client, incident_id, "", mute="8h")
    assert "Nothing needs you" in page(analyst_client, "/")
    find(match(2, timestamp_us=now_us() + 10**6))
    assert "One thing needs you" in page(analyst_client, "/")


def test_until_somebody_else_comes_is_about_the_rule_and_knows_who_came_before(analyst_client, services, find):
    incident_id = find(match(1), match(1, user_name="anna"))
    act(analyst_client, incident_id, "", mute="other")
    (mute,) = services.store.mutes(now=now_us())
    assert (mute.rule_id, mute.source_ip) == ("rule-1", "")
    assert sorted(mute.known) == ["source.ip=203.0.113.9", "user.name=anna", "user.name=root"]


def test_the_form_of_a_mute_offers_every_choice_and_counts(in_berlin, services, find):
    incident_id = find(match(1))
    text = page(in_berlin, f"/incidents/{incident_id}/mute")
    assert len(re.findall(r'<option (?:selected )?value="[^"]+">(?:until|\d|a )', text)) >= len(LASTING)
    token = re.search(r'name="csrf_token" value="([^"]+)"', text)[1]
    form = {"csrf_token": token, "scope": "rule", "rule": "rule-1", "lasting": "count", "do": "mute"}
    wrong = in_berlin.post(f"/incidents/{incident_id}/mute", data={**form, "count": "0"})
    assert "A number from 1 to 100,000." in wrong.text
    answer = in_berlin.post(f"/incidents/{incident_id}/mute", data={**form, "count": "25"}, follow_redirects=True)
    assert "is in force until 25 more come." in answer.text
    assert services.store.mutes()[0].condition_n == 25


# -- the API


def test_programs_mute_until_a_morning_or_until_something_happens(app, services, find):
    incident_id = find(match(1))
    program = Program(app, "analyst")
    body = {"rule_id": "rule-1", "until": "week", "time_zone": BERLIN, "incident_id": incident_id}
    made = program.call("POST", "/mutes", json=body)
    assert made.status_code == 201
    assert made.json["expires_at"] == rfc3339(morning_us("week", now_us(), ZoneInfo(BERLIN)))
    waits = program.call("POST", "/mutes", json={**body, "until": "other"}).json
    assert (waits["condition"], waits["ended_at"], waits["incident_id"]) == ("other", None, incident_id)
    assert [one["id"] for one in program.get("/mutes").json["mutes"]] == [waits["id"], made.json["id"]]
    assert program.call("DELETE", f"/mutes/{waits['id']}").status_code == 204
    assert program.call("DELETE", f"/mutes/{waits['id']}").status_code == 404
    assert [one["id"] for one in program.get("/mutes").json["mutes"]] == [made.json["id"]]
    for wrong, field in (
        ({"until": "1h"}, ""), ({"source_ip": "::/0", "until": "1h"}, "source_ip"),
        ({**body, "time_zone": "Mars"}, "time_zone"), ({"rule_id": "x", "until": "severity"}, "incident_id"),
        ({**body, "incident_id": 999}, "incident_id"),
    ):  # fmt: skip
        refused = program.call("POST", "/mutes", json=wrong)
        assert (refused.status_code, refused.json.get("field", "")) == (409, field)
    assert Program(app, "viewer").call("POST", "/mutes", json=body).status_code == 403
    assert [entry.action for entry in services.store.audit.page(action="mute")] == ["mute.ended", *["mute.added"] * 2]


def test_programs_list_read_and_change_incidents(app, services, find):
    first, second = find(match(1)), find(match(2, source_ip="198.51.100.7"))
    program = Program(app, "analyst")
    listed = program.get("/incidents", limit=1).json
    assert ([one["id"] for one in listed["incidents"]], listed["next"]) == ([second], second)
    assert [one["id"] for one in program.get("/incidents", before=second).json["incidents"]] == [first]
    whole = program.get(f"/incidents/{first}").json
    assert whole["stages"] == ["credential-access"]
    assert whole["title"] == "203.0.113.9 guessed passwords"
    body = {"version": whole["version"], "status": "closed", "comment": "blocked"}
    changed = program.call("PATCH", f"/incidents/{first}", json=body)
    assert (changed.status_code, changed.json["status"]) == (200, "closed")
    assert program.call("PATCH", f"/incidents/{first}", json=body).status_code == 409
    assert program.call("PATCH", f"/incidents/{first}", json={"status": "open"}).status_code == 422
    assert program.get("/incidents/999").status_code == 404
    assert Program(app, "viewer").call("PATCH", f"/incidents/{first}", json=body).status_code == 403


def test_programs_list_and_switch_rules(app, services):
    program = Program(app, "analyst")
    rules = program.get("/rules").json["rules"]
    assert len(rules) > 50
    path = f"/rules/{rules[0]['id']}"
    assert program.call("PATCH", path, json={"state": "off"}).json == {"state": "off"}
    assert next(rule for rule in program.get("/rules").json["rules"] if rule["id"] == rules[0]["id"])["state"] == "off"
    assert program.call("PATCH", "/rules/none", json={"state": "off"}).status_code == 404
    assert program.call("PATCH", path, json={"state": "loud"}).status_code == 422


# -- advice


@pytest.mark.parametrize(
    ("value", "command"),
    [
        ("203.0.113.9", "ufw deny from 203.0.113.9"),
        ("a b", "ufw deny from 'a b'"),
        ("$(reboot)", "ufw deny from '$(reboot)'"),
        ("x'; reboot #", """ufw deny from 'x'"'"'; reboot #'"""),
        ("-rf", "ufw deny from <source.ip>"),
        ("a\nb", "ufw deny from <source.ip>"),
        (None, "ufw deny from <source.ip>"),
    ],
)
def test_values_in_commands_are_safe_in_a_shell(value, command):
    (_, code, _) = filled("Run `ufw deny from {source.ip}` now.", {"source.ip": value} if value else {})
    assert (code.text, code.is_code) == (command, True)


def test_what_stands_in_quotes_already_takes_only_plain_words():
    text = '`grep "from {source.ip}"`'
    assert filled(text, {"source.ip": "203.0.113.9"})[0].text == 'grep "from 203.0.113.9"'
    assert filled(text, {"source.ip": "$(reboot)"})[0].text == 'grep "from <source.ip>"'


def test_sentences_name_what_is_there():
    assert filled("{user.name} came.", {"user.name": "anna"})[0].text == "anna came."
    assert filled("{user.name} came.", {})[0].text == "an account came."
    assert NOW_US


def triage(client: Any, deed: str, *chosen: str, **values: Any) -> Any:
    token = re.search(r'name="csrf_token" value="([^"]+)"', page(client, "/incidents"))[1]  # type: ignore[index]
    form = {"csrf_token": token, "do": deed, "incident": list(chosen), **values}
    return client.post("/incidents", data=form, follow_redirects=True)


def test_several_incidents_are_changed_at_once_and_that_is_undone(analyst_client, services, find):
    first = find(match(1))
    second = find(match(2, source_ip="198.51.100.7"))
    third = find(match(3, source_ip="198.51.100.8"))
    services.store.change_incident(second, 1, ANNA, kind="assigned", assignee="anna")
    text = triage(analyst_client, "false_positive", f"{first}:1", f"{second}:1", f"{third}:1", min_severity="2").text

    assert "2 incidents are false positive now." in text
    assert "1 incident changed meanwhile and stayed as it was." in text
    assert "Undo: false positive × 2" in text
    assert [services.store.incident(number).status for number in (first, second, third)] == [
        "false_positive", "open", "false_positive"
    ]  # fmt: skip

    services.store.change_incident(third, 2, ANNA, kind="reopened", status="open")
    assert "1 incident is as before." in triage(analyst_client, "undo").text
    assert services.store.incident(first).status == "open"
    assert {entry.action for entry in services.store.audit.page(action="incident")} >= {
        "incident.false_positive", "incident.undone"
    }  # fmt: skip
    assert triage(analyst_client, "false_positive", "1:1; drop").status_code == 400
    assert "Tick at least one" in triage(analyst_client, "close").text


def test_who_only_reads_has_nothing_to_tick(viewer_client, find):
    find(match(1))
    text = page(viewer_client, "/incidents")
    assert 'id="triage"' not in text
    assert "may-act" not in text


def test_a_false_positive_leads_to_the_narrowest_way_to_keep_it_quiet(analyst_client, find):
    incident_id = find(match(1))
    text = act(analyst_client, incident_id, "false_positive").text
    address = re.search(r'href="(/incidents/\d+/mute[^"]+)"[^>]*>keep just this quiet', text)[1]  # type: ignore[index]
    preview = page(analyst_client, address.replace("&amp;", "&"))
    assert preview.count(" checked") == 3
    assert "It would have hidden 1 match" in preview
