"""The configuration in the browser: limits, versions, the way back, a copy and its return."""

from __future__ import annotations

import io
from typing import Any

import pytest
from accounts import log_in

from threatlens.config_values import Secret

PAGE = "/settings/configuration"
HOOK = {"name": "hook", "type": "webhook", "url": "https://hooks.example.org/a", "secret": "s3cret-canary"}


@pytest.fixture
def client(app: Any, services: Any) -> Any:
    app.config["WTF_CSRF_ENABLED"] = False
    services.config.load_config()
    return log_in(app, "admin", "anna")


def form(**changes: Any) -> dict[str, Any]:
    return {
        "events_days": "90", "incidents_days": "365", "metrics_days": "30", "max_database_gb": "10", "daily": "y",
        "timezone": "",
        "keep_days": "400", "processing_batch_size": "2000", "max_queue_size": "50000", "health_check_interval": "30",
        "allowed_private_networks": "", "enabled": "y", "valid_hours": "72", "mute_hours": "24", "minutes": "5",
        **changes,
    }  # fmt: skip


def upload(client: Any, text: str) -> Any:
    return client.post(f"{PAGE}/import", data={"file": (io.BytesIO(text.encode()), "threatlens.yaml")})


def test_the_address_of_a_dead_mans_switch_is_set_kept_and_taken_away_and_never_shown(
    client: Any, services: Any
) -> None:
    assert "nobody notices when ThreatLens stops" in client.get(PAGE).text
    client.post(PAGE, data=form(url="https://hc.example.org/5d3f", minutes="10"))
    client.post(PAGE, data=form(url="", minutes="15"))

    heartbeat = services.config.config.heartbeat
    assert (heartbeat.url.resolve(), heartbeat.minutes) == ("https://hc.example.org/5d3f", 15)
    page = client.get(PAGE).text
    assert "Somebody is called while all is well" in page
    assert "5d3f" not in page
    assert "field-error" in client.post(PAGE, data=form(url="nonsense")).text

    client.post(PAGE, data=form(silenced="y", minutes="15"))
    assert services.config.config.heartbeat.url is None


def test_limits_are_changed_by_name_and_only_where_they_were_changed(client: Any, services: Any) -> None:
    answer = client.post(
        PAGE, data=form(events_days="14", weekly="y", allowed_private_networks="10.0.0.0/8\n\nfd00::/8")
    )
    assert answer.status_code == 303
    config = services.config.config
    assert (config.retention.events_days, config.reports.weekly, config.reports.daily) == (14, True, True)
    assert [str(each) for each in config.allowed_private_networks] == ["10.0.0.0/8", "fd00::/8"]
    [version] = services.config.history()
    assert (version.author, version.note) == ("user anna", "retention, reports, allowed_private_networks changed")
    changed = {each.key for each in services.config.compare(0, version.version_id)}
    assert changed == {"retention.events_days", "reports.weekly", "allowed_private_networks"}
    assert "10.0.0.0/8" in client.get(PAGE).text
    [entry] = services.store.audit.page(action="config.changed")
    assert (entry.actor, entry.target) == ("user anna", "retention, reports, allowed_private_networks")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"events_days": "0"}, "from 1 to 36500"),
        ({"events_days": "many"}, "Not a valid integer value"),
        ({"max_queue_size": "-1"}, "from 100 to"),
        ({"max_database_gb": "NaN"}, "Must be a number"),
        ({"allowed_private_networks": "8.8.8.0/24"}, "not a private network"),
        ({"allowed_private_networks": "<b>"}, "&lt;b&gt;"),
        ({"timezone": "Mars/Olympus"}, "not the name of a time zone"),
        ({"channels": "nobody"}, "No channel is named"),
    ],
)
def test_a_mistake_is_told_beside_its_field_and_changes_nothing(
    client: Any, services: Any, changes: dict[str, str], words: str
) -> None:
    before = services.config.config
    answer = client.post(PAGE, data=form(**changes))
    assert answer.status_code == 400
    assert words in answer.text
    assert 'class="field-error"' in answer.text
    assert services.config.config == before
    assert services.config.history() == []


def test_what_the_file_declares_is_shown_and_stays(client: Any, services: Any) -> None:
    with open(services.settings.yaml_path, "w") as file:
        file.write("retention: {events_days: 7}\nmax_queue_size: 5000\n")
    services.config.poll()
    assert client.get(PAGE).text.count("Declared in threatlens.yaml") == 2
    # A browser does not send a disabled field; whoever sends one all the same changes nothing by it.
    assert client.post(PAGE, data=form(events_days="9", metrics_days="12", max_queue_size="100")).status_code == 303
    config = services.config.config
    assert (config.retention.events_days, config.retention.metrics_days, config.max_queue_size) == (7, 12, 5000)


def test_two_versions_are_compared_and_an_older_one_comes_back(client: Any, services: Any) -> None:
    client.post(PAGE, data=form(events_days="14"))
    client.post(PAGE, data=form(events_days="21", health_check_interval="60"))
    services.config.put_named("channels", HOOK, author="user ben")
    third, second, first = [each.version_id for each in services.config.history()]
    page = client.get(f"{PAGE}/{second}").text
    assert "<del>" in page
    assert "health_check_interval" in page
    assert "channels.hook" not in page.split("Go back to this version")[0]
    assert "channels.hook.url" in client.get(f"{PAGE}/{third}?with={first}").text
    assert "s3cret-canary" not in client.get(f"{PAGE}/{third}?with=0").text
    assert "user ben" in client.get(PAGE).text
    assert client.post(f"{PAGE}/{first}/restore").status_code == 303
    assert services.config.config.retention.events_days == 14
    assert services.config.config.channels == ()
    assert services.config.history()[0].author == "user anna"
    assert [entry.target for entry in services.store.audit.page(action="config.restored")] == [f"version {first}"]
    for path in (f"{PAGE}/999", f"{PAGE}/{first}?with=999"):
        assert client.get(path).status_code == 404
    assert client.post(f"{PAGE}/999/restore").status_code == 303
    assert "there is no saved version 999" in client.get(PAGE).text


def test_a_copy_holds_no_secret_and_its_return_keeps_those_that_are_here(client: Any, services: Any) -> None:
    services.config.put_named("channels", HOOK)
    text = client.get(f"{PAGE}.yaml").text
    assert "s3cret-canary" not in text
    assert "env:THREATLENS_HOOK_SECRET" in text
    assert upload(client, text.replace("events_days: 90", "events_days: 33")).status_code == 303
    [channel] = services.config.config.channels
    assert (channel.secret, services.config.config.retention.events_days) == (Secret("s3cret-canary"), 33)
    assert services.config.history()[0].note == "imported"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is nothing in it"),
        ("retention: {events_days: 0}", "from 1 to 36500"),
        ("nonsense: 1", "unknown key"),
        ("a: !!python/object/apply:os.system [id]", "tags are not allowed"),
        ("channels: [{name: x, type: slack, url: 'env:THREATLENS_SECRET_KEY'}]", "&#39;url&#39; is missing"),
        ("channels: [{name: hook, type: webhook, url: 'https://h.example/', secret: 'file:/etc/passwd'}, 7]", "keys"),
        ("llm: [1]", "must be keys"),
        ("- 1", "the file"),
    ],
)
def test_a_file_with_a_mistake_changes_nothing(client: Any, services: Any, text: str, words: str) -> None:
    before = services.config.config
    answer = upload(client, text)
    assert answer.status_code == 400
    assert words in answer.text
    assert services.config.config == before


def test_a_secret_of_the_machine_cannot_be_fetched_by_an_import(client: Any, services: Any, tmp_path: Any) -> None:
    key = tmp_path / "key"
    key.write_text("the-key")
    answer = upload(
        client, f"channels: [{{name: new, type: webhook, url: 'https://h.example/', secret: 'file:{key}'}}]"
    )
    assert answer.status_code == 303
    [channel] = services.config.config.channels
    assert channel.secret is None


def test_the_source_forms_say_who_changed_what(client: Any, services: Any, tmp_path: Any) -> None:
    with open(services.settings.yaml_path, "w") as file:
        file.write(f"allowed_roots: ['{tmp_path}']\n")
    services.config.poll()
    (tmp_path / "a.log").write_text("x\n")
    data = {"name": "a", "path": str(tmp_path / "a.log"), "format": "auto", "start_at": "beginning", "enabled": "y"}
    assert client.post("/sources/add", data=data).status_code == 303
    [source] = services.store.sources()
    client.post(f"/sources/{source.id}", data={**data, "priority": "2"})
    client.post("/sources/switch", data={"pause": source.id})
    client.post(f"/sources/{source.id}/remove")
    assert [each.author for each in services.config.history()] == ["user anna"] * 4
