"""Rules as pages: listed, switched, edited with checks, tried before they count; and why a line matched or did not."""

from __future__ import annotations

import dataclasses
import io
import itertools
import os
import re
import zipfile
from typing import Any

import pytest
from builders import Filler

from threatlens.clock import now_us
from threatlens.settings import PROJECT
from threatlens.store_accounts import Doer
from threatlens.store_detections import RuleNumbers
from threatlens.web.rule_list import RuleView, rows_of
from threatlens.web.rules import tried

RULE = """title: Somebody logged in
id: 10000000-0000-4000-8000-000000000001
level: medium
logsource: {product: linux, service: sshd}
detection:
  login: {event.action: ssh_login, event.outcome: success}
  condition: login
threatlens:
  explanation: '{user.name} logged in.'
"""
RULE_ID = "10000000-0000-4000-8000-000000000001"
LINE = "2026-11-23T06:51:07+00:00 web1 sshd[4211]: Accepted password for anna from 203.0.113.9 port 52144 ssh2"
FAILED = LINE.replace("Accepted", "Failed")


@pytest.fixture
def client(admin_client: Any) -> Any:
    return admin_client


def post(client: Any, page: str, path: str, **values: Any) -> Any:
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get(page).text)[1]  # type: ignore[index]
    return client.post(path, data={"csrf_token": token, **values}, follow_redirects=True)


def save(client: Any, text: str = RULE, name: str = "mine.yml") -> Any:
    return post(client, "/rules/new", "/rules/new", name=name, text=text, do="save")


def test_rules_are_counted_as_everywhere(viewer_client):
    page = viewer_client.get("/rules").text

    counted = re.search(r"([0-9]+) of ([0-9]+) rules, which count ([0-9]+) steps", page)
    assert counted is not None
    with open(os.path.join(PROJECT, "docs", "rules.md"), encoding="utf-8") as file:
        assert f"ships {counted[2]} Sigma rules" in file.read()
    assert counted[1] == counted[2]
    seen = listed(viewer_client, "/rules?order=name")
    assert len(seen) == len(set(seen)) == int(counted[1]), "every rule is on one page"
    assert len(listed(viewer_client, "/rules?kind=step")) == int(counted[3])


def listed(client: Any, address: str) -> list[str]:
    """The ids of the rules of all pages of a list."""
    ids: list[str] = []
    while address:
        page = client.get(address).text
        ids += re.findall(r'<td class="name"><a href="/rules/([^"]+)"', page)
        found = re.search(r'rel="next" href="([^"]+)"', page)
        address = found[1].replace("&amp;", "&") if found else ""
    return ids


def test_the_list_holds_what_its_address_asks_for(viewer_client, services):
    rules = {rule.id: rule for rule in services.rules.loaded().rules}
    for asked, holds in (
        ("q=t1110", lambda rule: any(tag.startswith("attack.t1110") for tag in rule.tags)),
        ("level=critical", lambda rule: rule.level == "critical"),
        ("tag=attack.t1110", lambda rule: any(tag.startswith("attack.t1110") for tag in rule.tags)),
        ("kind=correlation", lambda rule: rule.kind == "correlation"),
        ("log=linux+sshd", lambda rule: rule.correlation is not None or rule.logsource.service == "sshd"),
    ):
        found = listed(viewer_client, f"/rules?{asked}")
        assert found, asked
        assert all(holds(rules[rule_id]) for rule_id in found), asked


def test_rules_that_fired_are_told_from_those_that_did_not(services):
    rows = rows_of(services.rules.loaded().rules[:2], {}, {}, str)
    fired = dataclasses.replace(rows[0], seen=RuleNumbers(3, 0, 5, {}))

    def shown(choice: str) -> list[bool]:
        return [RuleView(fired=choice, kind=row.rule.kind).fits(row, (), any_kind=True) for row in (fired, rows[1])]

    assert (shown("yes"), shown("no"), shown("absent")) == ([True, False], [False, True], [False, False])
    assert RuleView().ordered([rows[1], fired])[0] is fired, "what fires is on top"


def test_many_rules_are_switched_at_once_and_back(client, services):
    ids = listed(client, "/rules?level=critical")[:3]
    services.store.set_rule_states({ids[0]: "observe"}, Doer("lena", "192.0.2.7", "r-1"))
    page = post(client, "/rules", "/rules", rule=ids, do="off", level="critical")
    assert "3 rules are off now" in page.text
    assert page.request.query_string == b"level=critical", "the list is as it was"
    assert {services.store.rule_states()[rule_id] for rule_id in ids} == {"off"}
    assert listed(client, "/rules?state=off") == ids

    post(client, "/rules", "/rules", do="undo")

    assert services.store.rule_states() == {ids[0]: "observe", ids[1]: "on", ids[2]: "on"}
    assert len(services.store.audit.page(action="rule.state")) == 7


def test_all_that_the_filter_finds_is_switched_and_nothing_else(client, services):
    wanted = set(listed(client, "/rules?level=low"))
    assert len(wanted) > 50, "more than a page"
    post(client, "/rules", "/rules", all="1", do="observe", level="low")
    assert {rule_id for rule_id, state in services.store.rule_states().items() if state == "observe"} == wanted


def test_only_rules_that_exist_are_switched_and_only_by_who_may(client, viewer_client, services):
    assert "Tick at least one rule" in post(client, "/rules", "/rules", rule="nothing", do="off").text
    assert post(client, "/rules", "/rules", do="explode").status_code == 400
    token = re.search(r'name="csrf-token" content="([^"]+)"', viewer_client.get("/rules").text)[1]
    assert viewer_client.post("/rules", data={"csrf_token": token, "all": "1", "do": "off"}).status_code == 403
    assert services.store.rule_states() == {}


def test_rules_are_listed_with_their_numbers(viewer_client):
    text = viewer_client.get("/rules?q=brute").text
    assert "SSH brute force" in text
    assert "Upload" not in text.split("<main")[1]
    assert "is being learned until" in text
    assert viewer_client.get("/rules/none").status_code == 404


def test_a_rule_of_ones_own_is_saved_checked_and_removed(client, services):
    answer = save(client)
    assert "Somebody logged in" in answer.text
    path = os.path.join(services.rules.folder, "mine.yml")
    assert os.path.exists(path)
    wrong = post(client, f"/rules/{RULE_ID}/edit", f"/rules/{RULE_ID}/edit", name="mine.yml", do="save",
                 text=RULE.replace("condition: login", "condition: nothing"))  # fmt: skip
    assert "field-error" in wrong.text
    with open(path) as file:
        assert file.read() == RULE, "what is wrong is not saved"
    post(client, f"/rules/{RULE_ID}/edit", f"/rules/{RULE_ID}/edit", name="mine.yml", text=RULE, do="remove")
    assert not os.path.exists(path)
    actions = [entry.action for entry in services.store.audit.page(action="rule")]
    assert actions == ["rule.removed", "rule.saved"]


def test_an_analyst_switches_rules_and_writes_none(client, analyst_client, services):
    save(client)
    page = f"/rules/{RULE_ID}"
    assert "Copy to edit" not in analyst_client.get(page).text.replace("Edit</a>", "Copy to edit")
    text = analyst_client.get("/rules").text
    assert not any(each in text for each in ("/rules/new", "/rules/upload", "/rules/lists"))
    token = re.search(r'name="csrf-token" content="([^"]+)"', text)[1]
    for path in ("/rules/new", f"{page}/edit", "/rules/lists", "/rules/upload"):
        form = {"csrf_token": token, "name": "mine.yml", "text": "x", "do": "remove"}
        assert analyst_client.post(path, data=form).status_code == 403, path
    assert os.listdir(services.rules.folder) == ["mine.yml"]
    post(analyst_client, page, f"{page}/state", state="observe")
    assert services.store.rule_states()[RULE_ID] == "observe"


@pytest.mark.parametrize("name", ["../evil.yml", "/etc/evil.yml", ".hidden.yml", "a b.yml", "rule.txt", ""])
def test_a_file_stays_in_its_folder(client, services, name):
    assert "field-error" in save(client, name=name).text
    assert not [file for file in os.listdir(services.rules.folder) if file.endswith(".yml")]


def test_an_id_is_had_once(client, services):
    save(client)
    assert "belongs to the rule in" in save(client, name="copy.yml").text


def test_a_zip_of_rules_is_taken_within_bounds(client, services, monkeypatch):
    def archive(**files: str) -> Any:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, text in files.items():
                zipped.writestr(name.replace("__", "/") + ".yml", text)
        buffer.seek(0)
        return buffer, "rules.zip"

    answer = post(client, "/rules", "/rules/upload", archive=archive(**{"..__..__mine": RULE, "bad": "x: ["}))
    assert "1 files of rules were saved" in answer.text
    assert "bad.yml" in answer.text
    assert os.path.exists(os.path.join(services.rules.folder, "mine.yml"))
    monkeypatch.setattr("threatlens.web.rules.MAX_ARCHIVE_BYTES", 1_000)
    answer = post(client, "/rules", "/rules/upload", archive=archive(bomb="#" * 100_000))
    assert "0 files of rules were saved" in answer.text
    assert "0 files" in post(client, "/rules", "/rules/upload", archive=(io.BytesIO(b"PK"), "a.zip")).text
    whole = archive(mine=RULE)[0].getvalue()
    torn = whole[:45] + b"\xff" * 40 + whole[85:]
    answer = post(client, "/rules", "/rules/upload", archive=(io.BytesIO(torn), "a.zip"))
    assert "The zip is broken" in answer.text


def test_states_and_exceptions_are_set_and_audited(client, services):
    save(client)
    page = f"/rules/{RULE_ID}"
    post(client, page, page + "/state", state="observe")
    assert services.store.rule_states() == {RULE_ID: "observe"}
    post(client, page, page + "/state", state="loud")
    assert services.store.rule_states() == {RULE_ID: "observe"}
    post(client, page, page + "/exceptions", conditions="user.name = backup\nsource.ip=192.0.2.*", reason="ours")
    (exception,) = services.store.rule_exceptions()
    assert exception.conditions == {"user.name": "backup", "source.ip": "192.0.2.*"}
    for nothing in ("", "user.name", "user.name = *"):
        post(client, page, page + "/exceptions", conditions=nothing)
    assert len(services.store.rule_exceptions()) == 1
    post(client, page, page + "/exceptions", remove=exception.id)
    assert not services.store.rule_exceptions()
    assert {entry.action for entry in services.store.audit.page(action="rule")} == {
        "rule.saved", "rule.state", "rule.exception.added", "rule.exception.removed",
    }  # fmt: skip


def test_a_rule_that_is_off_is_not_in_the_engine(client, services):
    save(client)
    assert RULE_ID in {rule.id for rule in services.rules.engine().rules}
    post(client, f"/rules/{RULE_ID}", f"/rules/{RULE_ID}/state", state="off")
    services.rules._looked_s = float("-inf")
    assert RULE_ID not in {rule.id for rule in services.rules.engine().rules}


@pytest.fixture
def filler(services: Any) -> Filler:
    filler = Filler(services.store)
    filler.clock = itertools.count(now_us() - 3 * 86_400_000_000, 60_000_000)
    return filler


def test_a_rule_is_tried_on_what_is_stored(client, services, filler):
    save(client)
    filler.add(LINE, FAILED, LINE, FAILED, LINE)
    answer = post(client, f"/rules/{RULE_ID}", f"/rules/{RULE_ID}/try")
    assert "It would have fired 3 times" in answer.text
    assert not services.store.detections(), "trying stores nothing"


def test_a_trial_ends_in_time_and_says_so(client, services, filler, app):
    save(client)
    filler.add(*[LINE] * 20)
    clock = itertools.count(0, 100)
    with app.app_context():
        found = tried(services.rules, RULE_ID, clock=lambda: next(clock))
    assert not found.complete
    assert found.events == 0


def test_lists_are_edited(client, services):
    post(client, "/rules/lists", "/rules/lists", name="admins", entries="anna\r\n# nobody\n\nbert")
    services.rules._looked_s = float("-inf")
    services.rules._loaded = None
    assert services.rules.loaded().lists == {"admins": ("anna", "bert")}
    post(client, "/rules/lists", "/rules/lists", name="../x", entries="a")
    assert os.listdir(services.rules.lists_folder) == ["admins.txt"]


def test_why_and_why_not(client, services, filler):
    save(client)
    first = filler.add(LINE, FAILED)
    assert "1 rule matches now" in (text := client.get(f"/events/{first}/trace").text) or "rules match now" in text
    assert "Somebody logged in" in text
    text = client.get(f"/events/{first + 1}/trace").text
    assert "Somebody logged in" in text
    assert "event.outcome is" in text.replace("&#39;", "'")
    assert client.get("/events/999/trace").status_code == 404


def test_a_hostile_line_is_text_on_its_trace(client, filler):
    event_id = filler.add(LINE.replace("anna", "<script>alert(1)</script>"))
    text = client.get(f"/events/{event_id}/trace").text
    assert "<script>alert" not in text
