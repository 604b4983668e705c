"""The page of a saved search that is sent: who may, what is kept, what is written down."""

from __future__ import annotations

import json
from typing import Any

import pytest
from accounts import log_in, person

from threatlens.store_accounts import COMMAND_LINE

NIGHTLY = {"every": "week", "weekday": "2", "hour": "22", "form": "pdf", "channels": ["ops"]}


@pytest.fixture
def analyst(app: Any, services: Any) -> Any:
    app.config["WTF_CSRF_ENABLED"] = False
    with open(services.settings.yaml_path, "w") as file:
        json.dump({"channels": [{"name": "ops", "type": "email", "to": ["ops@example.org"]}]}, file)
    services.config.load_config()
    client = log_in(app, "analyst")
    client.post("/searches", data={"name": "<i>roots", "params": "q=user:root"})
    return client


def test_a_search_is_sent_as_its_form_says_and_stops(app: Any, services: Any, analyst: Any) -> None:
    assert 'href="/searches/1/send"' in analyst.get("/events").text
    assert "ops: ops@example.org" in analyst.get("/searches/1/send").text
    page = analyst.post("/searches/1/send", data=NIGHTLY, follow_redirects=True).text
    assert "&lt;i&gt;roots is sent every Wednesday at 22:00" in page
    (one,) = services.store.schedules()
    assert (one.every, one.weekday, one.hour, one.form, one.channels) == ("week", 2, 22, "pdf", ("ops",))
    assert one.due_us - one.from_us == 7 * 86_400_000_000
    assert "every Wednesday at 22:00" in analyst.get("/reports").text
    analyst.post("/searches/1/send/now")
    assert [row.kind for row in services.store.notifications()] == ["report"]
    assert "No rule sends anything" not in log_in(app).get("/notifications/channels/ops").text
    assert "sent no longer" in analyst.post("/searches/1/send/stop", follow_redirects=True).text
    assert services.store.schedules() == []
    actions = [entry.action for entry in services.store.audit.entries()]
    assert {"search.schedule", "search.send_now", "search.send", "search.unschedule"} <= set(actions)


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": []},
        {"channels": ["x"]},
        {"hour": "24"},
        {"weekday": "7"},
        {"every": "minute"},
        {"form": "x"},
    ],
)
def test_a_form_that_is_wrong_changes_nothing(services: Any, analyst: Any, wrong: dict[str, Any]) -> None:
    page = analyst.post("/searches/1/send", data={**NIGHTLY, **wrong})
    assert page.status_code == 200
    assert 'class="field-error"' in page.text
    assert services.store.schedules() == []


def test_viewers_send_nothing_and_others_reach_no_search_but_their_own(app: Any, services: Any, analyst: Any) -> None:
    analyst.post("/searches/1/send", data=NIGHTLY)
    other = log_in(app, "analyst", "other")
    for path in ("/searches/1/send", "/searches/1/send/now", "/searches/1/send/stop"):
        assert other.post(path, data=NIGHTLY).status_code == 404
    assert "roots" not in other.get("/reports").text
    viewer = log_in(app, "viewer")
    viewer.post("/searches", data={"name": "mine", "params": "q=a"})
    assert viewer.get("/searches/2/send").status_code == 403
    assert "/searches/2/send" not in viewer.get("/events").text
    admin = log_in(app)
    assert "of an-analyst" in admin.get("/reports").text
    assert admin.post("/searches/1/send/stop").status_code == 303
    assert services.store.schedules() == []


def test_who_is_kept_to_some_sources_may_send_what_they_see(app: Any, services: Any, analyst: Any) -> None:
    services.store.set_sources(person(app, "analyst").id, ["auth"], COMMAND_LINE)
    kept = log_in(app, "analyst")
    assert kept.get("/searches/1/send").status_code == 200
    assert kept.post("/searches/1/send", data=NIGHTLY).status_code == 303
    assert kept.post("/searches/1/send/stop").location == "/events"


def test_without_a_mail_channel_the_page_says_what_is_needed(app: Any) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    admin = log_in(app)
    admin.post("/searches", data={"name": "a", "params": "q=a"})
    page = admin.get("/searches/1/send").text
    assert "no e-mail channel yet" in page
    assert 'href="/notifications/channels/add' in page


def test_the_api_sends_a_search_of_the_tokens_owner_and_of_nobody_else(app: Any, services: Any, analyst: Any) -> None:
    (owner,) = (one.id for one in services.store.users() if services.store.saved_searches(one.id))
    mine = services.store.create_token("mine", "analyst", doer=COMMAND_LINE, user_id=owner)
    nobodys = services.store.create_token("nobodys", "analyst", doer=COMMAND_LINE)

    def ask(method: str, path: str = "", body: Any = None, token: str = mine) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        return app.test_client().open(f"/api/v1/search-schedules{path}", method=method, headers=headers, json=body)

    asked = {"search": "<i>roots", "channels": ["ops"], "every": "week", "weekday": 2, "hour": 22, "form": "pdf"}
    assert ask("POST", body={**asked, "search": "x"}).status_code == 409
    assert ask("POST", body={**asked, "channels": ["x"]}).json["field"] == "channels"
    assert ask("POST", body={**asked, "hour": 24}).status_code == 422
    assert ask("POST", body=asked, token=nobodys).status_code == 409
    made = ask("POST", body=asked)
    assert (made.status_code, made.json["params"], made.json["sent_at"]) == (201, "q=user%3Aroot", None)
    assert ask("POST", body=asked).status_code == 409
    (one,) = services.store.schedules()
    assert (one.every, one.weekday, one.hour, one.form, one.channels) == ("week", 2, 22, "pdf", ("ops",))
    path = f"/{made.json['id']}"
    changed = ask("PATCH", path, {"every": "day", "hour": 6}).json
    assert (changed["every"], changed["hour"], changed["form"]) == ("day", 6, "pdf")
    assert ask("GET").json["schedules"] == [changed]
    assert ask("GET", token=nobodys).json["schedules"] == []
    admins = services.store.create_token("admins", "admin", doer=COMMAND_LINE)
    assert ask("POST", f"{path}/send", token=nobodys).status_code == 404
    assert ask("POST", f"{path}/send", token=admins).status_code == 409
    sent = ask("POST", f"{path}/send")
    assert (sent.status_code, sent.json["due_at"]) == (202, changed["due_at"])
    assert sent.json["sent_at"]
    again = ask("POST", f"{path}/send")
    assert (again.status_code, again.json["detail"]) == (409, "It is not sent: it was sent within the last minute.")
    assert [row.kind for row in services.store.notifications()] == ["report"]
    assert [entry.actor for entry in services.store.audit.page(action="search.send_now")] == ["token mine"]
    assert ask("DELETE", path, token=nobodys).status_code == 404
    assert ask("DELETE", path).status_code == 204
    assert services.store.schedules() == []
