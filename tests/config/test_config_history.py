"""What is made in the UI: secrets sealed, every version kept, compared without secrets, brought back."""

from __future__ import annotations

import json

import pytest
import yaml

from threatlens.config_export import exported, read_export
from threatlens.config_values import Secret
from threatlens.errors import ConfigError

HOOK = {"name": "hook", "type": "webhook", "url": "https://hooks.example.org/x", "secret": "CANARY-hook"}
CHAT = {"name": "chat", "type": "slack", "url": "https://chat.example.org/CANARY-chat"}
MAIL = {
    "name": "mail",
    "type": "email",
    "to": ["ops@example.org"],
    "smtp": {"host": "mail.example.org", "username": "tl", "password": "CANARY-mail"},
}
LLM = {"enabled": True, "base_url": "https://llm.example.org/v1", "model": "m", "api_key": "CANARY-llm"}


@pytest.fixture
def manager(machine):
    manager = machine.manager()
    manager.load_config()
    for channel in (HOOK, CHAT, MAIL):
        manager.put_named("channels", channel, author="anna")
    manager.change_settings({"llm": LLM}, author="anna")
    return manager


def channel(manager, name):
    return next(each for each in manager.config.channels if each.name == name)


def test_secrets_work_and_stand_nowhere_in_the_clear(machine, manager):
    assert channel(manager, "hook").secret.resolve() == "CANARY-hook"
    assert channel(manager, "chat").url.resolve().endswith("CANARY-chat")
    assert channel(manager, "mail").smtp.password.resolve() == "CANARY-mail"
    assert manager.config.llm.api_key.resolve() == "CANARY-llm"
    assert "CANARY" not in "".join(machine.book.saved)
    assert "CANARY" not in repr(manager.config)
    assert machine.manager().load_config() == manager.config


def test_a_secret_that_is_left_out_stays(manager):
    manager.put_named("channels", {"url": "https://hooks.example.org/y", "secret": ""}, name="hook")
    manager.change_settings({"llm": {"model": "n"}})

    assert channel(manager, "hook").url.endswith("/y")
    assert channel(manager, "hook").secret.resolve() == "CANARY-hook"
    assert manager.config.llm.api_key.resolve() == "CANARY-llm"


@pytest.mark.parametrize(
    "change", [{"smtp": {"host": "evil.example"}}, {"smtp": {"port": 2525}}, {"smtp": {"tls": "tls", "password": ""}}]
)
def test_a_password_is_not_sent_to_a_server_that_it_was_not_entered_for(manager, change):
    with pytest.raises(ConfigError, match="entered again") as caught:
        manager.put_named("channels", change, name="mail")

    assert caught.value.key == "smtp.password"
    with pytest.raises(ConfigError, match="entered again"):
        manager.change_settings({"llm": {"base_url": "https://evil.example/v1"}})
    again = {"smtp": {"host": "new.example.org", "password": "CANARY-new"}}
    assert manager.put_named("channels", again, name="mail").smtp.password.resolve() == "CANARY-new"


@pytest.mark.parametrize("reference", ["env:THREATLENS_SECRET_KEY", "file:/etc/shadow"])
def test_files_and_variables_of_the_machine_are_not_for_the_ui(manager, reference):
    with pytest.raises(ConfigError, match=r"threatlens\.yaml only"):
        manager.put_named("channels", {**HOOK, "name": "other", "secret": reference})
    with pytest.raises(ConfigError, match=r"threatlens\.yaml only"):
        manager.change_settings({"llm": {"api_key": reference}})


def test_what_the_file_declares_cannot_be_changed_here(machine):
    machine.write("channels: [{name: hook, type: webhook, url: 'https://a.example/'}]\nllm: {model: m}\n")
    manager = machine.manager()
    manager.load_config()

    for attempt in (
        lambda: manager.put_named("channels", HOOK),
        lambda: manager.put_named("channels", {"url": "https://b.example/"}, name="hook"),
        lambda: manager.remove_named("channels", "hook"),
        lambda: manager.change_settings({"llm": {"model": "n"}}),
    ):
        with pytest.raises(ConfigError, match="declared"):
            attempt()
    manager.change_settings({"llm": {"provider": "other"}})
    assert manager.config.llm.provider == "other"


def test_a_channel_that_a_rule_names_cannot_be_removed(manager):
    manager.put_named("notification_rules", {"name": "urgent", "channels": ["hook"]})

    with pytest.raises(ConfigError, match="no channel is named 'hook'"):
        manager.remove_named("channels", "hook")
    manager.remove_named("notification_rules", "urgent")
    manager.remove_named("channels", "hook")
    assert [each.name for each in manager.config.channels] == ["chat", "mail"]


def test_mistakes_and_unknown_names_change_nothing(machine, manager):
    saved = len(machine.book.saved)

    for attempt in (
        lambda: manager.put_named("channels", {**HOOK, "name": "bad", "url": "http://127.0.0.1/"}),
        lambda: manager.put_named("channels", HOOK),
        lambda: manager.put_named("channels", {"url": "https://a.example/"}, name="nobody"),
        lambda: manager.remove_named("channels", "nobody"),
        lambda: manager.change_settings({"llm": {"enabled": "maybe"}}),
        lambda: manager.change_settings({"nonsense": 1}),
    ):
        with pytest.raises(ConfigError):
            attempt()
    assert len(machine.book.saved) == saved


def test_without_its_key_a_secret_is_lost_and_everything_else_is_in_force(machine, manager):
    machine.keys[:] = ["another key"]
    again = machine.manager()
    again.load_config()

    assert [each.name for each in again.config.channels] == ["hook", "chat", "mail"]
    assert sum("enter it again" in error.message for error in again.errors) == 4
    with pytest.raises(ConfigError, match="enter it again"):
        channel(again, "hook").secret.resolve()
    assert "sealed" not in exported(again.config)
    again.remove_named("channels", "chat")
    again.put_named("channels", {"secret": "CANARY-again"}, name="hook")
    assert channel(again, "hook").secret.resolve() == "CANARY-again"


def test_every_version_says_who_saved_it_and_what_changed(machine, manager):
    manager.put_named(
        "channels", {"secret": "CANARY-2", "url": "https://hooks.example.org/2"}, name="hook", author="bob"
    )
    (last, before, *_) = manager.history()

    changes = manager.compare(before.version_id, last.version_id)

    assert (last.author, last.note) == ("bob", "hook changed")
    assert [(change.key, change.before, change.after) for change in changes] == [
        ("channels.hook.secret", "(a secret)", "(another secret)"),
        ("channels.hook.url", "https://hooks.example.org/x", "https://hooks.example.org/2"),
    ]
    assert manager.compare(last.version_id, last.version_id) == []
    assert "CANARY" not in repr(manager.compare(0, last.version_id))


def test_sources_are_part_of_the_history(machine, manager):
    machine.write("allowed_roots: ['{logs}']\n")
    manager.add_log_source({"name": "auth", "path": f"{machine.logs}/auth.log"}, author="anna")
    there = manager.history()[0].version_id
    manager.update_log_source("auth", {"timezone": "Europe/Berlin"}, author="bob")
    manager.remove_log_source("auth", author="bob")

    assert [version.note for version in manager.history(3)] == [
        "source auth removed", "source auth changed", "source auth added",
    ]  # fmt: skip
    assert [change.key for change in manager.compare(there, there + 1)] == ["sources.auth.timezone"]
    manager.roll_back(there, author="carol")
    assert [(each.source_name, each.timezone) for each in manager.config.sources] == [("auth", "UTC")]
    assert manager.history()[0].note == f"as in version {there}"


def test_rolling_back_brings_back_secrets_too(manager):
    before, config = manager.history()[0].version_id, manager.config
    manager.put_named("channels", {"secret": "CANARY-2"}, name="hook")
    manager.remove_named("channels", "mail")
    manager.change_settings({"llm": None})

    manager.roll_back(before)

    assert manager.config == config
    with pytest.raises(ConfigError, match="no saved version"):
        manager.roll_back(999)


def test_an_export_is_a_configuration_file_without_secrets(machine, manager, tmp_path):
    text = exported(manager.config)
    path = tmp_path / "export.yaml"
    path.write_text(text)

    found = yaml.safe_load(text)
    assert "CANARY" not in text
    assert found["channels"][0]["secret"] == "env:THREATLENS_HOOK_SECRET"
    assert found["channels"][1]["url"] == "env:THREATLENS_CHAT_URL"
    assert found["channels"][2]["smtp"]["password"] == "env:THREATLENS_MAIL_PASSWORD"
    assert found["llm"]["api_key"] == "env:THREATLENS_LLM_API_KEY"

    machine.book.saved.clear()
    other = machine.manager()
    other.load_config()
    other.import_settings(read_export(str(path)), author="command line")
    assert [each.name for each in other.config.channels] == ["hook", "chat", "mail"]
    assert channel(other, "hook").secret == Secret("env:THREATLENS_HOOK_SECRET")
    assert other.errors == []


def test_an_import_with_a_mistake_changes_nothing(machine, manager):
    saved = len(machine.book.saved)

    with pytest.raises(ConfigError):
        manager.import_settings({"max_queue_size": 500, "channels": [{"name": "x", "type": "pigeon"}]})
    assert len(machine.book.saved) == saved


def test_a_version_that_is_not_readable_is_said(machine, manager):
    machine.book.save("{")

    with pytest.raises(ConfigError, match="not readable"):
        manager.compare(0, len(machine.book.saved))
    assert json.loads(machine.book.saved[0])
