"""The pages of notifications and reports, and their part of the API: really sent, really shown, no secret comes out."""

from __future__ import annotations

import datetime as dt
import json
import socket
from ipaddress import ip_network
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from programs import Program

from threatlens.clock import now_us
from threatlens.notifications import Happening

SECRET = "whsec_bmV3LXNlY3JldC1vZi10ZW4tYnl0ZXM="


@pytest.fixture
def browser(app: Any, services: Any, settings: Any, admin_client: Any) -> Any:
    app.config["WTF_CSRF_ENABLED"] = False
    with open(settings.yaml_path, "w") as file:
        file.write(json.dumps({"allowed_private_networks": [str(ip_network("127.0.0.0/8"))]}))
    services.config.load_config()
    return admin_client


class Mailbox:
    """Takes every mail."""

    def __init__(self) -> None:
        self.envelopes: list[Any] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 (the library's name)
        self.envelopes.append(envelope)
        return "250 taken"


def add_hook(browser: Any, url: str, **changes: Any) -> Any:
    values = {"name": "hook", "url": url, "secret": SECRET, **changes}
    return browser.post("/notifications/channels/add?type=webhook", data=values)


def test_a_channel_is_added_tested_changed_and_removed(browser: Any, services: Any, hook: Any) -> None:
    assert "Nobody is told yet" in browser.get("/notifications").text
    answer = add_hook(browser, hook.url)
    assert (answer.status_code, answer.location) == (303, "/notifications/channels/hook")

    page = browser.post("/notifications/channels/hook/test").text
    assert "It arrived." in page
    assert "&lt; 200" in page
    assert len(hook.received) == 1
    assert hook.received[0].headers["webhook-signature"].startswith("v1,")

    browser.post("/notifications/channels/hook", data={"name": "hook2", "url": hook.url, "secret": ""})
    (channel,) = services.config.config.channels
    assert (channel.name, channel.secret.resolve()) == ("hook2", SECRET)

    assert browser.post("/notifications/channels/hook2/remove").status_code == 303
    assert services.config.config.channels == ()


def test_a_channel_of_apprise_is_added_and_tested_and_its_url_is_not_shown(browser: Any, hook: Any) -> None:
    url = hook.url.replace("http://", "json://")
    answer = browser.post("/notifications/channels/add?type=apprise", data={"name": "phone", "url": url})
    assert (answer.status_code, answer.location) == (303, "/notifications/channels/phone")

    page = browser.post("/notifications/channels/phone/test").text

    assert "It arrived." in page
    assert "&lt; taken" in page
    assert url not in page
    assert "A test from ThreatLens" in json.loads(hook.received[0].body)["title"]


def test_a_chat_and_a_mailbox_are_tested_and_their_secrets_are_not_shown(browser: Any, hook: Any) -> None:
    url = hook.url + "/T0/B0/verysecret"
    browser.post("/notifications/channels/add?type=slack", data={"name": "room", "url": url})
    page = browser.post("/notifications/channels/room/test").text
    assert "It arrived." in page
    assert "verysecret" not in page
    assert "A test from ThreatLens" in json.loads(hook.received[0].body)["text"]

    mailbox = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Controller(mailbox, hostname="127.0.0.1", port=port, ready_timeout=300)
    server.start()
    try:
        where = {"host": "127.0.0.1", "port": str(port), "tls": "none"}
        mail = {"name": "mail", "to": "ops@example.org", **where}
        assert browser.post("/notifications/channels/add?type=email", data=mail).status_code == 303
        page = browser.post("/notifications/channels/mail/test").text
    finally:
        server.stop()
    assert "It arrived." in page
    assert "&gt; rcpt TO:&lt;ops@example.org&gt;" in page
    assert "&lt; 250" in page
    assert b"A test from ThreatLens" in mailbox.envelopes[0].content
    assert "cannot be reached" in browser.post("/notifications/channels/mail/test").text


def test_a_test_that_does_not_arrive_says_so(browser: Any, hook: Any) -> None:
    hook.answers = [(500, {})]
    add_hook(browser, hook.url)

    page = browser.post("/notifications/channels/hook/test").text

    assert "The receiver answered 500" in page
    assert "It arrived" not in page


def test_no_page_shows_a_secret(browser: Any, hook: Any) -> None:
    add_hook(browser, hook.url)
    for path in ("/notifications", "/notifications/channels/hook", "/notifications/preview"):
        assert SECRET not in browser.get(path).text


def test_a_mistake_stands_beside_its_field(browser: Any) -> None:
    page = add_hook(browser, "http://10.0.0.1/x").text
    assert "field-error" in page
    page = browser.post(
        "/notifications/channels/add?type=email", data={"name": "m", "to": "no address", "tls": "none"}
    ).text
    assert "is not a mail address" in page


def test_a_rule_is_added_and_said_who_is_told(browser: Any, services: Any, hook: Any) -> None:
    add_hook(browser, hook.url)
    values = {"name": "urgent", "min_severity": "8", "max_severity": "10", "channels": "hook", "enabled": "y"}
    assert browser.post("/notifications/rules/add", data=values).status_code == 303
    assert "at once" in browser.get("/notifications/preview?severity=9").text
    assert "Nobody." in browser.get("/notifications/preview?severity=3").text
    assert (
        "No channel is named"
        in browser.post("/notifications/rules/add", data={**values, "name": "x", "channels": "nowhere"}).text
    )
    page = browser.post("/notifications/channels/hook/remove", follow_redirects=True).text
    assert "notice error" in page

    services.store.commit([], [], occurrences=services.notifications.plan(
        [Happening("t", 9, "<script>alert(1)</script>", "web", "nginx", now_us())]
    ))  # fmt: skip
    services.notifications.deliver("hook")
    page = browser.get("/notifications").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert len(hook.received) == 1


def test_the_history_is_filtered_and_a_failed_message_is_sent_again(browser: Any, services: Any, hook: Any) -> None:
    add_hook(browser, hook.url)
    services.notifications.tell_all("system", "x", "something", severity=7)
    hook.answers = [(500, {}), (200, {})]
    services.notifications.deliver("hook")
    (row,) = services.store.notifications()
    with services.store.database.writing() as connection:
        connection.exec_driver_sql("UPDATE notification_history SET status = 'failed'")

    assert "Send again" in browser.get("/notifications?status=failed").text
    assert "something" not in browser.get("/notifications?status=sent").text
    assert browser.post(f"/notifications/{row.id}/resend").status_code == 303
    assert browser.post(f"/notifications/{row.id}/resend").status_code == 404
    services.notifications.deliver("hook")
    assert services.store.notifications()[0].status == "sent"


def test_a_message_that_was_not_answered_is_shown_with_its_reason_and_sent_again_with_one_click(
    browser: Any, services: Any, hook: Any
) -> None:
    add_hook(browser, hook.url)
    services.notifications.test(services.config.config.channels[0])
    services.notifications.tell_all("system", "x", "something", severity=7)
    with services.store.database.writing() as connection:
        (key,) = connection.exec_driver_sql("SELECT key FROM notification_history").one()
    services.store.note_arrived({}, [key], now_us())
    (row,) = services.store.notifications()

    for page in ("/notifications", "/notifications?status=unanswered", f"/notifications/{row.id}"):
        text = browser.get(page).text
        assert "Sent, no answer seen" in text
        assert "anded over whole just before ThreatLens was stopped; the answer was not seen" in text
        assert f'action="/notifications/{row.id}/resend"' in text
    assert "something" not in browser.get("/notifications?status=failed").text
    assert browser.post(f"/notifications/{row.id}/resend", data={"incident": "7"}).location == "/incidents/7"
    services.notifications.deliver("hook")
    assert hook.received[-1].headers["webhook-id"] == key
    assert services.store.notifications(status="unanswered") == []
    assert browser.post(f"/notifications/{row.id}/resend").status_code == 404


def test_channels_of_a_rule_are_ticked_and_one_that_does_not_exist_is_shown_and_not_lost(
    browser: Any, services: Any, settings: Any, hook: Any
) -> None:
    add_hook(browser, hook.url)
    add_hook(browser, hook.url, name="other")
    values = {"name": "urgent", "min_severity": "8", "channels": ["other"], "enabled": "y"}
    browser.post("/notifications/rules/add", data=values)
    page = browser.get("/notifications/rules/urgent").text
    assert 'name="channels" value="hook">' in page
    assert 'name="channels" value="other" checked>' in page

    browser.post("/notifications/rules/urgent", data={**values, "channels": ["hook", "other"]})
    assert services.config.config.notification_rules[0].channels == ("hook", "other")
    page = browser.post("/notifications/rules/urgent", data={**values, "channels": ["hook", "gone"]}).text
    assert 'name="channels" value="gone" checked>' in page
    assert "there is no such channel" in page
    assert "No channel is named" in page
    assert services.config.config.notification_rules[0].channels == ("hook", "other")
    assert "Tick at least one" in browser.post("/notifications/rules/urgent", data={**values, "channels": []}).text


def test_a_saved_rule_goes_on_when_the_file_drops_one_of_its_channels(
    browser: Any, services: Any, settings: Any, hook: Any
) -> None:
    add_hook(browser, hook.url)
    declared = {"allowed_private_networks": ["127.0.0.0/8"],
                "channels": [{"name": "m", "type": "email", "to": ["a@example.org"]}]}  # fmt: skip
    for channels in (declared["channels"], []):
        with open(settings.yaml_path, "w") as file:
            json.dump({**declared, "channels": channels}, file)
        services.config.load_config()
        if channels:
            values = {"name": "urgent", "min_severity": "8", "channels": ["m", "hook"], "enabled": "y"}
            assert browser.post("/notifications/rules/add", data=values).status_code == 303

    assert [one[:2] for one in services.notifications.recipients(Happening("t", 9, "x", "web", "a", 1))] == [
        ("urgent", "hook")
    ]
    page = browser.get("/notifications/rules/urgent").text
    assert 'value="m" checked' in page
    assert "there is no such channel" in page
    assert browser.post("/notifications/rules/urgent", data={**values, "min_severity": "7"}).status_code == 303
    assert services.config.config.notification_rules[0].channels == ("m", "hook")


def test_a_message_shows_its_words_what_was_said_and_why_it_waits(browser: Any, services: Any, hook: Any) -> None:
    assert "Add e-mail" in browser.get("/notifications").text
    add_hook(browser, hook.url, quiet_hours="00:00-23:59")
    assert "No rule sends anything" in browser.get("/notifications/channels/hook").text
    assert 'value="hook" checked' in browser.get("/notifications/rules/add?channel=hook").text
    browser.post(
        "/notifications/rules/add", data={"name": "r", "min_severity": "5", "channels": "hook", "enabled": "y"}
    )
    hook.answers = [(500, {}), (200, {})]
    for severity in (8, 10):
        happening = Happening(f"t{severity}", severity, f"<b>thing {severity}</b>", "web", "nginx", now_us())
        services.store.commit([], [], occurrences=services.notifications.plan([happening]))
    services.notifications.deliver("hook")

    page = browser.get("/notifications").text
    assert "Quiet until" in page
    assert "2 messages wait" in page
    assert "quiet hours until" in page
    assert "the receiver answered 500; tried again at" in page
    loud, quiet = services.store.notifications()
    assert "put together when it is sent" in browser.get(f"/notifications/{quiet.id}").text
    page = browser.get(f"/notifications/{loud.id}").text
    assert "&lt;b&gt;thing 10&lt;/b&gt;" in page
    assert "&lt; 500" in page
    assert browser.get("/notifications/999").status_code == 404


def test_what_the_file_declares_is_read_only(browser: Any, services: Any, settings: Any) -> None:
    with open(settings.yaml_path, "w") as file:
        json.dump({"channels": [{"name": "m", "type": "email", "to": ["a@example.org"]}]}, file)
    services.config.load_config()
    page = browser.get("/notifications/channels/m").text
    assert "declared in threatlens.yaml" in page
    assert "fieldset disabled" in page


def test_the_api_manages_channels_and_never_tells_a_secret(browser: Any, app: Any, hook: Any) -> None:
    program = Program(app, "admin")
    made = program.call(
        "POST", "/channels", json={"name": "hook", "type": "webhook", "url": hook.url, "secret": SECRET}
    )
    assert made.status_code == 201, made.text
    assert SECRET not in program.get("/channels").text
    tested = program.call("POST", "/channels/hook/test")
    assert tested.json["delivered"] is True
    assert tested.json["transcript"][-1] == "< 200"
    hook.answers = [(404, {})]
    assert program.call("POST", "/channels/hook/test").json["delivered"] is False

    rule = {"name": "urgent", "channels": ["hook"], "min_severity": 8}
    assert program.call("POST", "/notification-rules", json=rule).status_code == 201
    assert program.call("PATCH", "/notification-rules/urgent", json={"min_severity": 5}).json["min_severity"] == 5
    changed = program.call("PATCH", "/channels/hook", json={"max_per_minute": 30})
    assert changed.json["max_per_minute"] == 30
    assert program.call("DELETE", "/channels/hook").status_code in (400, 409, 422)
    assert program.call("DELETE", "/notification-rules/urgent").status_code == 204
    assert program.call("DELETE", "/channels/hook").status_code == 204
    assert program.get("/channels").json == {"channels": []}


def test_a_viewer_reads_and_changes_nothing(browser: Any, app: Any, viewer_client: Any) -> None:
    program = Program(app, "viewer")
    assert program.get("/notifications").json == {"notifications": [], "next": None}
    assert program.call("POST", "/channels", json={"name": "x", "type": "email", "to": ["a@b.c"]}).status_code == 403
    assert viewer_client.get("/notifications").status_code == 200
    assert viewer_client.get("/notifications/channels/add").status_code == 403


def test_a_report_is_made_shown_and_fetched(browser: Any, services: Any, app: Any) -> None:
    assert "No report yet" in browser.get("/reports").text
    today = dt.datetime.now().astimezone().date().isoformat()
    answer = browser.post("/reports", data={"first": today, "last": today})
    assert answer.status_code == 303
    page = browser.get(answer.location)
    assert page.status_code == 200
    assert "No events at all" in page.text
    with browser.get(answer.location + "/pdf") as pdf:
        assert pdf.mimetype == "application/pdf"
        assert pdf.data.startswith(b"%PDF-")
    for first in ("x", "9999-12-31"):
        asked = browser.post("/reports", data={"first": first, "last": first}, follow_redirects=True)
        assert "Name two days" in asked.text, first

    program = Program(app)
    assert program.get("/reports").json["reports"][0]["kind"] == "range"
    assert program.refusal("/reports/daily", 404, date=today)["status"] == 404
    assert program.refusal("/reports/daily", 400, date="2026-02-30")["field"] == "date"
    for day in ("0001-01-01", "9999-12-31"):
        assert program.refusal("/reports/daily", 404, date=day)["status"] == 404
    zone = services.store.reports()[0].zone
    report_id = services.store.begin_report("daily", "2026-11-24", 1, 2, zone, now_us())
    services.store.finish_report(
        report_id, data={}, headline="", file=services.store.reports("range")[0].file, size=1, now_us=2
    )
    with program.get("/reports/daily", date="2026-11-24") as answer:
        assert (answer.status_code, answer.mimetype) == (200, "application/pdf")
