"""What ConfigManager promises: the file over what was saved, the last good configuration, ids that stay."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace

import pytest

from threatlens.config import LogSourceConfig, MonitoringConfig, SavedSource
from threatlens.config_values import Retention
from threatlens.errors import ConfigError, StoreUnavailable

ONE = """
allowed_roots: ['{logs}']
sources:
  - {name: auth, path: '{logs}/auth.log'}
"""


def test_without_a_file_the_defaults_of_the_contract_hold(machine):
    config = machine.manager().load_config()
    assert config == MonitoringConfig()
    assert (config.allowed_roots, config.processing_batch_size, config.max_queue_size) == (("/var/log",), 2000, 50_000)
    assert (config.health_check_interval, config.retention) == (30, Retention(90, 30, 10))


def test_a_source_gets_every_setting_the_file_gives_it(machine):
    machine.write(
        """
allowed_roots: ['{logs}']
sources:
  - name: web
    path: '{logs}/web'
    format: nginx.access
    enabled: false
    start_at: end
    polling_interval: 2.5
    file_pattern: '*.log'
    recursive: true
    timezone: Europe/Berlin
    encoding: latin-1
    priority: 2
"""
    )
    (source,) = machine.manager().load_config().sources
    assert source == LogSourceConfig(
        source_id=1,
        source_name="web",
        path=str(machine.logs / "web"),
        enabled=False,
        format="nginx.access",
        start_at="end",
        polling_interval=2.5,
        file_pattern="*.log",
        recursive=True,
        timezone="Europe/Berlin",
        encoding="latin-1",
        priority=2,
        roots=(str(machine.logs),),
    )


def test_a_missing_log_file_is_no_error(machine):
    machine.write(ONE)
    manager = machine.manager()
    assert [source.source_name for source in manager.load_config().sources] == ["auth"]
    assert manager.errors == []
    assert manager.warnings == []


def test_a_source_keeps_its_id_over_a_restart(machine):
    machine.write(ONE)
    machine.book.put_source(SavedSource(0, "other", str(machine.logs / "x"), kind="api", origin="api"))
    first = machine.manager().load_config().sources
    again = machine.manager().load_config().sources
    assert first == again
    assert first[0].source_id == 2


def test_loading_twice_writes_nothing_the_second_time(machine):
    machine.write(ONE)
    machine.manager().load_config()
    changes = machine.book.changes
    machine.manager().load_config()
    assert machine.book.changes == changes


def test_a_bad_file_leaves_the_running_configuration_in_force(machine):
    machine.write(ONE)
    manager = machine.manager()
    good = manager.load_config()
    machine.write(ONE + "processing_batch_size: 0\n")
    assert manager.poll() is False
    assert manager.config == good
    (error,) = manager.errors
    assert (error.file, error.line, error.key) == (str(machine.file), 5, "processing_batch_size")
    machine.write(ONE + "processing_batch_size: 7\n")
    assert manager.poll() is True
    assert manager.config.processing_batch_size == 7
    assert manager.errors == []


def test_a_first_start_with_a_bad_file_runs_with_defaults_and_the_sources_of_the_ui(machine):
    machine.book.save(json.dumps({"allowed_roots": [str(machine.logs)]}))
    machine.book.put_source(SavedSource(0, "mine", str(machine.logs / "a.log")))
    machine.write("sources: [\n")
    manager = machine.manager()
    config = manager.load_config()
    assert [source.source_name for source in config.sources] == ["mine"]
    assert config.processing_batch_size == 2000
    assert len(manager.errors) == 1


def test_a_restart_with_a_bad_file_goes_on_with_the_sources_it_had(machine):
    machine.book.save(json.dumps({"allowed_roots": [str(machine.logs)]}))
    machine.write(ONE)
    before = machine.manager().load_config().sources
    machine.write("sources: [\n")
    assert machine.manager().load_config().sources == before


def test_every_mistake_in_a_file_is_told_in_the_order_of_its_lines(machine):
    machine.write_rest("max_queue_size: 1\nsources:\n  - {name: a, path: x}\n  - {name: b}\nsorces: 1\n")
    manager = machine.manager()
    manager.load_config()
    assert [(error.line, error.key) for error in manager.errors] == [
        (2, "max_queue_size"),
        (4, "sources.0.path"),
        (5, "sources.1"),
        (6, "sorces"),
    ]


def test_poll_is_true_once_for_each_change_and_reads_nothing_when_there_is_none(machine, monkeypatch):
    machine.write(ONE)
    manager = machine.manager()
    manager.load_config()
    assert manager.poll() is False
    machine.write(ONE + "health_check_interval: 31\n")
    assert manager.poll() is True
    monkeypatch.setattr(machine.book, "load", lambda: pytest.fail("read although nothing changed"))
    assert manager.poll() is False


def test_a_change_that_met_a_busy_database_is_taken_over_at_the_next_poll(machine, monkeypatch):
    machine.write(ONE)
    manager = machine.manager()
    manager.load_config()
    machine.write(ONE + "  - {name: web, path: '{logs}/web.log'}\n")

    def busy(_source):
        raise StoreUnavailable("busy")

    with monkeypatch.context() as patch:
        patch.setattr(machine.book, "put_source", busy)
        with pytest.raises(StoreUnavailable):
            manager.poll()
    assert manager.poll() is True
    assert [source.source_name for source in manager.get_log_sources()] == ["auth", "web"]


def test_a_file_changed_again_within_the_grain_of_its_time_is_read_again(machine):
    path = machine.write(ONE + "priority: 1\n")
    status = path.stat()
    machine.now = status.st_mtime + 0.5
    manager = machine.manager()
    manager.load_config()
    with path.open("r+b") as stream:  # same size, same inode
        stream.write((ONE + "#riority: 1\n").replace("{logs}", str(machine.logs)).encode())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert manager.poll() is True
    assert manager.errors == []


def test_a_change_by_another_process_is_seen(machine):
    here, there = machine.manager(), machine.manager()
    machine.book.save(json.dumps({"allowed_roots": [str(machine.logs)]}))
    here.load_config()
    there.load_config()
    added = there.add_log_source({"name": "app", "path": str(machine.logs / "app.log")})
    assert here.poll() is True
    assert here.get_log_sources() == [added]
    assert there.poll() is True  # who changed it is told too: another thread may be the one that polls


def test_a_source_that_left_the_file_keeps_its_row_disabled(machine):
    machine.write(ONE)
    manager = machine.manager()
    manager.load_config()
    machine.write_rest("")
    assert manager.poll() is True
    assert manager.get_log_sources() == []
    assert [(row.source_id, row.source_name, row.enabled) for row in machine.book.sources()] == [(1, "auth", False)]
    machine.write(ONE)
    manager.poll()
    assert [source.source_id for source in manager.get_log_sources()] == [1]


def test_a_source_renamed_in_the_file_keeps_its_id(machine):
    machine.write(ONE)
    manager = machine.manager()
    manager.load_config()
    machine.write(ONE.replace("auth,", "logins,"))
    manager.poll()
    assert [(source.source_id, source.source_name) for source in manager.get_log_sources()] == [(1, "logins")]
    assert len(machine.book.rows) == 1


def test_the_file_takes_over_a_source_of_the_ui_with_its_history(machine):
    machine.book.put_source(SavedSource(0, "auth", str(machine.logs / "old.log")))
    machine.write(ONE)
    manager = machine.manager()
    (source,) = manager.load_config().sources
    assert (source.source_id, source.path) == (1, str(machine.logs / "auth.log"))
    assert manager.origins == {"auth": "yaml"}


def test_what_the_ui_made_survives_a_restart(machine):
    machine.write_rest("")
    manager = machine.manager()
    manager.load_config()
    added = manager.add_log_source({"name": "app", "path": str(machine.logs / "*.log"), "polling_interval": 0.5})
    assert (added.source_id, added.polling_interval) == (1, 0.5)
    assert machine.manager().load_config().sources == (added,)


def test_a_source_is_added_from_its_dataclass_too(machine):
    machine.write_rest("")
    manager = machine.manager()
    wanted = LogSourceConfig(source_id=0, source_name="app", path=str(machine.logs / "app.log"), priority=1)
    added = manager.add_log_source(wanted)
    assert added == replace(wanted, source_id=1, roots=(str(machine.logs),))


@pytest.mark.parametrize(
    ("values", "key", "words"),
    [
        ({"name": "x", "path": "relative"}, "path", "relative"),
        ({"name": "x"}, "", "'path' is missing"),
        ({"name": "x", "path": "{logs}/a", "priority": 11}, "priority", "from 1 to 10"),
        ({"name": "x", "path": "{logs}/a", "polling_interval": float("nan")}, "polling_interval", "from 0.05 to 3600"),
        ({"name": "x", "path": "{logs}/a", "enabled": "true"}, "enabled", "true or false"),
        ({"name": "x", "path": "{logs}/a", "source_id": 7}, "source_id", "unknown key"),
        ({"name": "auth", "path": "{logs}/a"}, "name", "already a source"),
        ({"name": "upload", "path": "{logs}/a"}, "name", "already a source"),
    ],
)
def test_a_source_that_cannot_be_is_refused_with_its_key(machine, values, key, words):
    machine.write(ONE)
    machine.book.put_source(SavedSource(0, "upload", "", kind="api", origin="api"))
    manager = machine.manager()
    values = {name: v.replace("{logs}", str(machine.logs)) if isinstance(v, str) else v for name, v in values.items()}
    with pytest.raises(ConfigError, match=words) as caught:
        manager.add_log_source(values)
    assert caught.value.key == key


def test_a_source_of_the_ui_is_changed_renamed_and_removed(machine):
    machine.write_rest("")
    manager = machine.manager()
    added = manager.add_log_source({"name": "app", "path": str(machine.logs / "app.log"), "priority": 3})
    paused = manager.update_log_source("app", {"enabled": False})
    assert paused == replace(added, enabled=False)
    renamed = manager.update_log_source("app", {"name": "shop", "enabled": True})
    assert renamed == replace(added, source_name="shop")
    assert manager.get_log_sources() == [renamed]
    manager.remove_log_source("shop")
    assert manager.get_log_sources() == []
    assert machine.book.rows == {}


def test_a_source_of_the_file_can_only_be_changed_there(machine):
    machine.write(ONE)
    manager = machine.manager()
    for change in (
        lambda: manager.update_log_source("auth", {"priority": 1}),
        lambda: manager.remove_log_source("auth"),
    ):
        with pytest.raises(ConfigError, match=r"declared in threatlens\.yaml"):
            change()


def test_a_source_that_left_the_file_can_be_taken_over_or_removed_in_the_ui(machine):
    machine.write(ONE)
    manager = machine.manager()
    manager.load_config()
    machine.write_rest("")
    taken = manager.update_log_source("auth", {"enabled": True})
    assert taken.source_id == 1
    assert manager.origins == {"auth": "ui"}
    manager.remove_log_source("auth")
    assert machine.book.rows == {}


def test_an_unknown_source_cannot_be_changed(machine):
    with pytest.raises(ConfigError, match="no source named 'nix'"):
        machine.manager().remove_log_source("nix")


def test_saved_settings_survive_and_only_differences_are_saved(machine):
    manager = machine.manager()
    config = manager.load_config()
    manager.save_config(replace(config, max_queue_size=100, retention=Retention(events_days=5)))
    assert json.loads(machine.book.load())["max_queue_size"] == 100
    assert "processing_batch_size" not in json.loads(machine.book.load())
    again = machine.manager().load_config()
    assert (again.max_queue_size, again.retention) == (100, Retention(events_days=5))


def test_the_file_wins_key_by_key_and_what_it_declares_cannot_be_saved_over(machine):
    machine.book.save(json.dumps({"max_queue_size": 100, "retention": {"events_days": 5, "metrics_days": 6}}))
    machine.write("max_queue_size: 200\nretention: {events_days: 7}\n")
    manager = machine.manager()
    config = manager.load_config()
    assert (config.max_queue_size, config.retention) == (200, Retention(7, 6, 10))
    manager.save_config(replace(config, retention=Retention(7, 8, 10)))
    assert manager.config.retention == Retention(7, 8, 10)
    with pytest.raises(ConfigError) as caught:
        manager.save_config(replace(config, retention=Retention(9, 8, 10)))
    assert caught.value.key == "retention.events_days"
    with pytest.raises(ConfigError) as caught:
        manager.save_config(replace(config, max_queue_size=300))
    assert caught.value.key == "max_queue_size"


def test_channels_and_rules_of_the_file_stand_beside_saved_ones(machine):
    machine.book.save(
        json.dumps(
            {
                "channels": [{"name": "mail", "type": "email", "to": ["a@example.org"]}],
                "notification_rules": [{"name": "saved", "channels": ["hook"]}],
            }
        )
    )
    machine.write(
        """
channels:
  - {name: hook, type: webhook, url: 'https://hooks.example.org/x', secret: 'env:HOOK_SECRET'}
notification_rules:
  - {name: urgent, min_severity: 8, channels: [mail]}
"""
    )
    manager = machine.manager()
    config = manager.load_config()
    assert manager.errors == []
    assert [channel.name for channel in config.channels] == ["hook", "mail"]
    assert [rule.name for rule in config.notification_rules] == ["urgent", "saved"]
    manager.save_config(config)
    assert manager.config == config
    with pytest.raises(ConfigError) as caught:
        manager.save_config(replace(config, channels=config.channels[1:]))
    assert caught.value.key == "channels"


def test_bad_settings_cannot_be_saved(machine):
    manager = machine.manager()
    config = manager.load_config()
    with pytest.raises(ConfigError) as caught:
        manager.save_config(replace(config, processing_batch_size=0))
    assert caught.value.key == "processing_batch_size"
    assert machine.book.saved == []


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "null"])
def test_settings_that_cannot_be_read_are_an_error_and_no_obstacle(machine, text):
    machine.book.save(text)
    manager = machine.manager()
    assert manager.load_config() == MonitoringConfig()
    assert "saved in the database" in str(manager.errors[0])


def test_one_bad_saved_key_costs_only_itself(machine):
    machine.book.save(json.dumps({"max_queue_size": 100, "health_check_interval": "x"}))
    manager = machine.manager()
    assert manager.load_config() == replace(MonitoringConfig(), max_queue_size=100)
    assert [error.key for error in manager.errors] == ["health_check_interval"]


def test_a_saved_source_outside_the_roots_is_left_out_and_told(machine):
    machine.book.put_source(SavedSource(0, "home", "/home/x.log"))
    machine.write_rest("")
    manager = machine.manager()
    assert manager.load_config().sources == ()
    assert manager.errors[0].key == "sources.home.path"


def test_json_is_read_as_yaml_is(machine):
    machine.write(
        '{"max_queue_size":\t200,\n\t"channels": [{"name": "\\ud83d\\ude00", "type": "x"}]}', "threatlens.json"
    )
    error = machine.error()
    assert (error.file, error.line) == (str(machine.data / "threatlens.json"), 2)
    assert "email, slack, webhook" in error.message


def test_two_files_are_an_error_naming_both(machine):
    machine.write(ONE)
    machine.write("{}", "threatlens.json")
    assert str(machine.error()) == f"{machine.file}: and {machine.data}/threatlens.json both exist; remove one"


def test_a_file_named_yml_is_pointed_out(machine):
    machine.write(ONE, "threatlens.yml")
    manager = machine.manager()
    manager.load_config()
    assert any("threatlens.yml is not read" in warning for warning in manager.warnings)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_regular_file_is_an_error_and_blocks_nobody(machine, make):
    make(machine.file)
    assert "not a regular file" in machine.error().message


def test_errors_go_to_the_log_once(machine, caplog):
    machine.write("x: 1\n")
    manager = machine.manager()
    with caplog.at_level(logging.WARNING, "threatlens.config"):
        manager.load_config()
        manager.load_config()
    assert sum("unknown key" in record.getMessage() for record in caplog.records) == 1


def test_two_sources_of_one_path_are_a_warning(machine):
    machine.write(ONE + "  - {name: twice, path: '{logs}//auth.log'}\n")
    manager = machine.manager()
    manager.load_config()
    assert manager.errors == []
    assert any("the same path" in warning for warning in manager.warnings)


def test_a_source_may_be_given_a_decoder_of_ones_own_and_one_that_is_gone_is_told(machine):
    machine.write_rest("sources: [{name: shop, path: '{logs}/shop.log', format: shop.gate}]")
    manager = machine.manager()
    assert manager.load_config().sources == ()
    assert "'shop.gate' is not one of" in str(manager.errors[0])
    machine.own_formats = frozenset({"shop.gate"})
    assert manager.poll()
    assert [source.format for source in manager.config.sources] == ["shop.gate"]
    machine.own_formats = frozenset()
    manager.poll()
    assert "'shop.gate' is not one of" in str(manager.errors[0])
    assert [source.format for source in manager.config.sources] == ["shop.gate"], "the last good configuration"
