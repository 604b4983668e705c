"""A secret is found nowhere but sealed in its column, and its key can be changed."""

from __future__ import annotations

import dataclasses
import gzip
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from accounts import log_in
from click.testing import CliRunner

from threatlens import config_values, create_app
from threatlens.backup import make_backup
from threatlens.cli import main
from threatlens.config_export import exported
from threatlens.errors import ConfigError
from threatlens.health_heartbeat import Heartbeat
from threatlens.outbound import OutboundClient
from threatlens.outbound_urls import Permissions
from threatlens.settings import Settings, new_secret_key, secret_keys, write_secret_keys
from threatlens.store_secrets import COLUMNS, reseal
from threatlens.vault import Vault, is_sealed

CANARY = "CANARY-7d1f"
CHANNELS: list[dict[str, Any]] = [
    {"name": "hook", "type": "webhook", "url": "https://hooks.example.org/x", "secret": f"{CANARY}-hook"},
    {"name": "chat", "type": "slack", "url": f"https://chat.example.org/{CANARY}-chat"},
    {
        "name": "mail",
        "type": "email",
        "to": ["ops@example.org"],
        "smtp": {"host": "mail.example.org", "username": "tl", "password": f"{CANARY}-mail"},
    },
    {"name": "phone", "type": "apprise", "url": f"ntfy://ntfy.example.org/{CANARY}-phone"},
]
HEARTBEAT = {"url": f"https://hc.example.org/ping/{CANARY}-heartbeat", "minutes": 5}
LLM = {"enabled": True, "base_url": "https://llm.example.org/v1", "model": "m", "api_key": f"{CANARY}-llm"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a secret in what the environment says, too; nobody listens at that port."""
    redis = f"redis://tl:{CANARY}-redis@127.0.0.1:1/0"
    return dataclasses.replace(settings, redis_url=redis, backup_passphrase=f"{CANARY}-backup")


def test_whatever_the_environment_says_is_shown_only_where_it_cannot_be_a_secret(settings: Settings) -> None:
    """A new setting that is text is hidden, or belongs into this list."""
    texts = [field.name for field in dataclasses.fields(Settings) if isinstance(getattr(settings, field.name), str)]
    full = dataclasses.replace(settings, **{name: f"{CANARY} {name} " for name in texts})

    assert {name for name in texts if f"{CANARY} {name} " in repr(full)} == {"data", "host", "log_level", "public_url"}


@pytest.fixture
def planted(services: Any) -> Any:
    """An installation with a secret in every place that takes one."""
    services.config.load_config()
    for channel in CHANNELS:
        services.config.put_named("channels", channel, author="anna")
    services.config.change_settings({"llm": LLM, "heartbeat": HEARTBEAT}, author="anna")
    return services


def secrets_of(config: Any) -> list[str]:
    hook, chat, mail, phone = config.channels
    found = [hook.secret, chat.url, mail.smtp.password, phone.url, config.llm.api_key, config.heartbeat.url]
    return [each.resolve() for each in found]


def test_a_secret_is_nowhere_in_the_data_folder(planted: Any, settings: Settings) -> None:
    files = [path for path in Path(settings.data).rglob("*") if path.is_file()]

    assert all(CANARY in secret for secret in secrets_of(planted.config.config))
    assert any(b"sealed:1:" in path.read_bytes() for path in files)
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_a_secret_is_in_no_page_answer_export_log_or_error(
    planted: Any, app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    token = planted.store.create_token("t", "admin")
    client = log_in(app)
    texts = [exported(planted.config.config), repr(planted.config.config), repr(planted.settings)]
    texts.append(repr(planted.config.compare(0, planted.config.history()[0].version_id)))
    for rule in app.url_map.iter_rules():
        if "GET" in rule.methods and not rule.arguments and not rule.rule.startswith("/ws/"):
            texts.append(client.get(rule.rule).get_data(as_text=True))
            texts.append(client.get(rule.rule, headers={"Authorization": f"Bearer {token}"}).get_data(as_text=True))
    for channel in CHANNELS:  # every one of them is wrong in some way now
        with pytest.raises(ConfigError) as caught:
            planted.config.put_named("channels", {**channel, "name": " x", "to": [CANARY[:0]], "nonsense": 1})
        texts.append(str(caught.value))
    texts += [record.getMessage() for record in caplog.records]

    assert len(texts) > 30
    assert [text for text in texts if CANARY in text or "sealed:1:" in text] == []


def test_every_field_that_takes_a_secret_has_one_planted_in_it(planted: Any) -> None:
    """A new kind of channel, or a new secret of a section, belongs into CHANNELS, LLM or HEARTBEAT above."""

    def fields(value: Any, name: str) -> set[str]:
        if not dataclasses.is_dataclass(value):
            return set()
        found = set()
        for field in dataclasses.fields(value):
            here = f"{name}.{field.name}"
            if "Secret" in str(field.type):
                secret = getattr(value, field.name)
                found.add(here if secret is not None and CANARY in secret.resolve() else f"nothing in {here}")
            found |= fields(getattr(value, field.name), here)
        return found

    config = planted.config.config
    sections = [*config.channels, *(getattr(config, field.name) for field in dataclasses.fields(config))]
    holding = {name for each in sections for name in fields(each, type(each).__name__)}

    assert not [name for name in holding if name.startswith("nothing")]
    assert {type(each) for each in config.channels} == set(get_args(config_values.Channel))
    assert len(holding) >= 5


def test_a_secret_is_in_no_backup_export_or_health(planted: Any, app: Any, settings: Settings, tmp_path: Path) -> None:
    """Backups hold the database as it is, so sealed; and health, which tells why a call failed, tells no address."""
    path = str(tmp_path / "copy.tl")
    make_backup(settings, path, version="1")
    beat = planted.config.config.heartbeat
    nearby = OutboundClient(Permissions, resolve=lambda _host, _port: ["127.0.0.1"])
    heartbeat = Heartbeat(lambda: beat, nearby)
    assert not heartbeat.beat(well=True)

    assert CANARY.encode() not in gzip.decompress(Path(path).read_bytes())
    assert "not answered" in repr(list(heartbeat.health()))
    assert CANARY not in repr(list(heartbeat.health())) + repr(beat)


def test_every_column_that_holds_a_sealed_secret_is_known(planted: Any) -> None:
    known = {(table, column) for table, column, _ in COLUMNS}
    with planted.store.database.reading() as connection:
        names = connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE '%VIRTUAL%'"
        )
        tables = names.scalars().all()
        holding = set()
        for table in tables:
            for row in connection.exec_driver_sql(f"SELECT * FROM {table}").mappings():
                holding |= {(table, column) for column, value in row.items() if "sealed:1:" in str(value)}

    assert holding == {("monitoring_config", "config_data")}
    assert holding <= known


def keys_in_use(services: Any) -> set[str]:
    with services.store.database.reading() as connection:
        text = "".join(connection.exec_driver_sql("SELECT config_data FROM monitoring_config").scalars())
    return set(re.findall(r"sealed:1:([0-9a-f]{8}):", text))


def test_rotation_seals_every_version_anew_and_forgets_the_old_key(
    planted: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREATLENS_DATA", settings.data)
    before, secrets, (old,) = keys_in_use(planted), secrets_of(planted.config.config), secret_keys(settings)

    result = CliRunner().invoke(main, ["secrets", "rotate"])

    assert result.exit_code == 0, result.output
    assert re.match(r"\d+ secrets are sealed with the new key$", result.output.strip())
    assert len(keys_in_use(planted)) == 1
    assert not keys_in_use(planted) & before
    assert old not in Path(settings.key_path).read_text()
    planted.config.load_config()  # the running process sees the new key without a restart
    assert secrets_of(planted.config.config) == secrets
    assert planted.config.errors == []
    planted.config.roll_back(1)
    assert planted.config.config.channels[0].secret.resolve() == f"{CANARY}-hook"


@pytest.mark.parametrize("step", ["both keys written", "sealed anew"])
def test_a_rotation_that_was_cut_off_loses_nothing_and_can_be_repeated(
    planted: Any, settings: Settings, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREATLENS_DATA", settings.data)
    secrets = secrets_of(planted.config.config)
    keys = [new_secret_key(), *secret_keys(settings)]
    write_secret_keys(settings, keys)
    if step == "sealed anew":
        reseal(planted.store.database, Vault(lambda: keys))

    planted.config.load_config()
    assert secrets_of(planted.config.config) == secrets

    assert CliRunner().invoke(main, ["secrets", "rotate"]).exit_code == 0
    assert len(secret_keys(settings)) == 1
    planted.config.load_config()
    assert secrets_of(planted.config.config) == secrets


def test_a_key_in_the_environment_is_changed_by_naming_both(
    planted: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREATLENS_DATA", settings.data)
    monkeypatch.setenv("THREATLENS_SECRET_KEY", f"{'n' * 64} {secret_keys(settings)[0]}")

    result = CliRunner().invoke(main, ["secrets", "rotate"])

    assert "can be taken out of THREATLENS_SECRET_KEY" in result.output
    monkeypatch.setenv("THREATLENS_SECRET_KEY", "n" * 64)
    app = create_app()
    config = app.extensions["threatlens"].config.load_config()
    assert len(secrets_of(config)) == 6
    app.extensions["threatlens"].store.database.engine.dispose()


def test_secrets_whose_key_is_gone_are_counted_and_left_as_they_are(planted: Any, settings: Settings) -> None:
    database = planted.store.database

    changed, lost = reseal(database, Vault(lambda: ["another key"]))

    assert changed == 0
    assert lost > 4
    with database.reading() as connection:
        text = connection.exec_driver_sql("SELECT config_data FROM monitoring_config ORDER BY id DESC").scalar()
    assert is_sealed(re.search(r'"api_key": "([^"]+)"', text)[1])


def test_history_export_and_import_on_the_command_line(
    planted: Any, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREATLENS_DATA", settings.data)
    listed = CliRunner().invoke(main, ["config", "history"])
    text = CliRunner().invoke(main, ["config", "export"])
    path = tmp_path / "export.yaml"
    path.write_text(text.output)
    monkeypatch.setenv("THREATLENS_DATA", str(tmp_path / "other"))
    brought = CliRunner().invoke(main, ["config", "import", str(path)])
    again = CliRunner().invoke(main, ["config", "export"])

    assert "anna\tllm, heartbeat changed" in listed.output.splitlines()[0]
    assert CANARY not in text.output
    assert brought.exit_code == 0, brought.output
    assert yaml.safe_load(again.output) == yaml.safe_load(text.output)
