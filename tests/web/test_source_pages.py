"""Sources as a person manages them: list, add, test, change, pause, forget; and the first run."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest
from accounts import log_in
from builders import Filler

from threatlens.clock import now_us
from threatlens.event import SourceStatus
from threatlens.web import dashboard

LINE = "Nov 23 06:51:07 web1 sshd[4211]: Failed password for <b>root</b> from 203.0.113.9 port 52144 ssh2\n"


@pytest.fixture
def logs(tmp_path: Any, settings: Any) -> Any:
    """A folder of logs that may be read."""
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "auth.log").write_text(LINE * 3)
    os.makedirs(settings.data, mode=0o700)
    with open(settings.yaml_path, "w") as file:
        file.write(f"allowed_roots: [{json.dumps(str(folder))}]\n")
    return folder


@pytest.fixture
def client(logs: Any, app: Any, services: Any) -> Any:
    app.config["WTF_CSRF_ENABLED"] = False
    services.config.load_config()
    return log_in(app)


def form(logs: Any, **changes: Any) -> dict[str, Any]:
    return {
        "name": "auth",
        "path": str(logs / "auth.log"),
        "format": "auto",
        "start_at": "beginning",
        "enabled": "y",
        **changes,
    }


def source(services: Any) -> Any:
    (only,) = services.store.sources()
    return only


def test_a_source_is_added_changed_paused_and_forgotten(client: Any, services: Any, logs: Any) -> None:
    assert client.post("/sources/add", data=form(logs, priority="2", timezone="Europe/Berlin")).status_code == 303
    added = source(services)
    assert (added.source_name, added.path, added.origin, added.enabled) == ("auth", str(logs / "auth.log"), "ui", True)
    assert (added.settings["priority"], added.settings["timezone"]) == (2, "Europe/Berlin")

    page = client.get(f"/sources/{added.id}").text
    assert 'value="Europe/Berlin"' in page
    assert client.post(f"/sources/{added.id}", data=form(logs, name="ssh")).status_code == 303
    assert source(services).source_name == "ssh"

    client.post("/sources/switch", data={"pause": added.id})
    assert not source(services).enabled
    assert 'name="resume"' in client.get("/sources").text
    client.post("/sources/switch", data={"resume": added.id})
    assert source(services).enabled

    assert "no longer watched" in client.post(f"/sources/{added.id}/remove", follow_redirects=True).text
    assert services.store.sources() == []


@pytest.mark.parametrize(
    ("changes", "label", "words"),
    [
        ({"path": "relative.log"}, "path", "relative"),
        ({"path": "/etc/passwd"}, "path", "outside allowed_roots"),
        ({"path": ""}, "path", "empty"),
        ({"name": ""}, "name", "name"),
        ({"priority": "11"}, "priority", "1 to 10"),
        ({"priority": "x"}, "priority", "valid integer"),
        ({"timezone": "Europe/Berlim"}, "timezone", "Europe/Berlin"),
        ({"polling_interval": "-1"}, "polling_interval", "number from"),
        ({"format": "nonsense"}, "format", "valid choice"),
    ],
)
def test_a_mistake_is_shown_beside_its_field(
    client: Any, services: Any, logs: Any, changes: dict[str, str], label: str, words: str
) -> None:
    answer = client.post("/sources/add", data=form(logs, **changes))

    assert answer.status_code == 200
    field = re.search(rf'<div class="field wrong">\s*<label for="{label}">.*?</div>', answer.text, re.DOTALL)
    assert field is not None
    assert words in field[0]
    assert services.store.sources() == []


def test_a_test_shows_decoded_lines_and_saves_nothing(client: Any, services: Any, logs: Any) -> None:
    page = client.post("/sources/add", data=form(logs, test="1")).text

    assert "1 file" in page
    assert page.count('<span class="chip">sshd</span>') == 3
    assert "&lt;b&gt;root&lt;/b&gt;" in page
    assert services.store.sources() == []


def test_a_test_tells_why_nothing_can_be_read(client: Any, logs: Any) -> None:
    (logs / "link.log").symlink_to("/etc/passwd")
    os.mkfifo(logs / "pipe.log")

    assert "no file at" in client.post("/sources/add", data=form(logs, path=str(logs / "none.log"), test="1")).text
    outside = client.post("/sources/add", data=form(logs, path=str(logs / "link.log"), test="1")).text
    assert "outside the allowed roots" in outside
    assert "root:x" not in outside
    assert "no file at" in client.post("/sources/add", data=form(logs, path=str(logs / "pipe.log"), test="1")).text
    assert "outside" in client.post("/sources/add", data=form(logs, path="/etc/passwd", test="1")).text


def test_what_the_file_declares_is_shown_and_not_changed(client: Any, services: Any, logs: Any, settings: Any) -> None:
    with open(settings.yaml_path, "a") as file:
        file.write(f"sources:\n  - {{name: declared, path: {json.dumps(str(logs / 'auth.log'))}}}\n")
    services.config.poll()
    declared = source(services)

    page = client.get("/sources").text
    assert "threatlens.yaml" in page
    assert 'name="pause"' not in page
    assert "<fieldset disabled>" in client.get(f"/sources/{declared.id}").text
    client.post("/sources/switch", data={"pause": declared.id})
    client.post(f"/sources/{declared.id}", data=form(logs, name="other"))
    assert source(services) == declared


def test_mistakes_in_the_file_are_told_with_their_place(client: Any, services: Any, settings: Any) -> None:
    with open(settings.yaml_path, "a") as file:
        file.write("sourcess: []\n")
    services.config.poll()

    page = client.get("/sources").text
    assert "The configuration has 1 mistake." in page
    assert re.search(r"threatlens.yaml:2.*sourcess", page)


def test_every_state_says_what_to_do(client: Any, services: Any, logs: Any) -> None:
    client.post("/sources/add", data=form(logs))
    number = source(services).id
    status = SourceStatus(number, "auth", "no_permission", "no permission to read it", "sudo usermod -aG adm me")
    services.store.write_source_status([status])
    page = client.get("/sources").text
    assert "No permission" in page
    assert '<span class="what-to-do">sudo usermod -aG adm me</span>' in page

    services.store.write_source_status([SourceStatus(number, "auth", "reading", bytes_total=5_200_000_000)])
    assert '<progress max="5200000000" value="0"' in client.get("/sources").text


def test_the_first_run_lists_what_is_there_and_one_button_starts(client: Any, services: Any, logs: Any) -> None:
    (logs / "locked.log").write_text(LINE)
    found = client.get("/").text
    assert "Which logs shall ThreatLens watch?" in found
    assert "&lt;b&gt;root&lt;/b&gt;" in found
    assert "source.ip" in found
    assert 'action="/decode"' in found  # any line can be tried before anything is watched

    answer = client.post("/first-run", data={"path": [str(logs / "auth.log"), "/etc/passwd"]})
    assert answer.status_code == 303
    assert source(services).path == str(logs / "auth.log")
    assert "needs you" in client.get("/").text


def test_the_first_run_says_how_to_get_a_permission(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = dashboard.Discovered("kern", "/var/log/kern.log", "file", False, remedy="sudo usermod -aG adm me")
    monkeypatch.setattr(dashboard, "discover", lambda *_, **__: [locked])
    page = client.get("/").text
    assert "not readable yet" in page
    assert "sudo usermod -aG adm me" in page
    assert "Watch a file" in page


def test_logs_that_no_decoder_knows_are_offered_and_not_ticked(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    known = dashboard.Discovered("auth", "/var/log/auth.log", "file", True, 9, "sshd", LINE, {})
    other = dashboard.Discovered("term", "/var/log/term.log", "file", True, 9, "unknown", "Log ended", {})
    monkeypatch.setattr(dashboard, "discover", lambda *_, **__: [known, other])
    page = client.get("/").text
    assert 'value="/var/log/auth.log" checked>' in page
    assert 'value="/var/log/term.log">' in page
    assert "What no decoder knows is not ticked" in page


def test_ticking_nothing_is_answered_kindly(client: Any, services: Any) -> None:
    page = client.post("/first-run", follow_redirects=True).text
    assert "Tick at least one log" in page
    assert services.store.sources() == []


def test_a_test_reads_with_decoders_of_ones_own(client: Any, services: Any, logs: Any) -> None:
    services.own_decoders.save("name: shop.gate\npattern: gate (?P<user>[a-z]+) refused")
    (logs / "auth.log").write_text("gate alice refused\n")
    assert "shop.gate" in client.post("/sources/add", data=form(logs, test="1")).text


def test_a_learned_zone_is_shown_and_can_be_switched_off(client: Any, services: Any, logs: Any) -> None:
    client.post("/sources/add", data=form(logs, learn_timezone="y"))
    added = source(services)
    services.store.commit([], [], learned=[(added.id, '["sshd", "UTC+02:00"]')])
    assert "UTC+02:00" in client.get("/sources").text
    page = client.get(f"/sources/{added.id}").text
    assert "UTC+02:00" in page
    assert re.search(r'<input[^>]*checked[^>]*name="learn_timezone"|name="learn_timezone"[^>]*checked', page)
    client.post(f"/sources/{added.id}", data=form(logs))
    assert source(services).settings["learn_timezone"] is False


def test_a_source_shows_its_events_by_the_hour(client: Any, services: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    filler = Filler(services.store)
    hour, now = 3_600_000_000, now_us()
    for page in ("overview", "sources"):  # no hour ends while they are asked for
        monkeypatch.setattr(f"threatlens.web.{page}.now_us", lambda: now)
    for hours_ago, n in ((0, 1), (2, 3), (23, 2), (24, 5)):
        filler.add(*["a line"] * n, source="one", timestamp_us=now - hours_ago * hour)
    filler.add("of long ago", source="other", timestamp_us=now - 40 * hour)

    hours = services.store.hours_of_sources(now)
    assert list(hours.values()) == [[2, *[0] * 20, 3, 0, 1]]
    words = "Events by the hour of the last day: at most 3, now 1"
    assert [client.get(path).text.count(f'aria-label="{words}"') for path in ("/", "/sources")] == [1, 1]


def test_a_source_may_be_given_a_decoder_of_ones_own(client: Any, services: Any, logs: Any) -> None:
    services.own_decoders.save("name: shop.gate\npattern: gate (?P<user>[a-z]+) refused\ncategory: authentication")
    services.config.poll()
    assert '<option value="shop.gate">' in client.get("/sources/add").text
    assert client.post("/sources/add", data=form(logs, format="shop.gate")).status_code == 303
    assert source(services).settings["format"] == "shop.gate"
