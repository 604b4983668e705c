"""Settings come from the environment and say what is wrong with it."""

from __future__ import annotations

import os
import stat

import pytest

from threatlens.errors import DataFolderError, SettingsError
from threatlens.settings import load_settings, prepare_data_folder, redis_name, secret_key


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "abc"), ("PORT", "0"), ("PORT", "65536"), ("PORT", "-1"), ("PORT", "８０"),
        ("THREATLENS_DATABASE_URL", "mysql://x"), ("THREATLENS_DATABASE_URL", "sqlite:///relative.db"),
        ("THREATLENS_LOG_LEVEL", "LOUD"), ("THREATLENS_REDIS_URL", "http://x"), ("THREATLENS_REDIS_URL", "redis://"),
        ("THREATLENS_REDIS_URL", "redis://x:a"), ("THREATLENS_REDIS_URL", "redis://x/db"),
        ("THREATLENS_REDIS_URL", "rediss://x?ssl_cert_reqs=none"), ("THREATLENS_REDIS_URL", "unix://x"),
        ("HOST", "unix:web.sock"),
        ("HOST", "unix:/" + "x" * 107), ("THREATLENS_WS_MAX_CONNECTIONS", "0"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_used_is_named(name, value):
    with pytest.raises(SettingsError, match=name):
        load_settings({name: value})


def test_a_database_url_with_a_password_is_not_repeated():
    with pytest.raises(SettingsError) as error:
        load_settings({"THREATLENS_DATABASE_URL": "mysql://me:hunter2@db/x"})
    assert "hunter2" not in str(error.value)


def test_the_url_of_redis_is_repeated_without_its_password():
    good = "rediss://:hunter2@cache.example.org:6380/1?ssl_ca_certs=/etc/ca.pem"
    settings = load_settings({"THREATLENS_REDIS_URL": good})
    assert redis_name(settings.redis_url) == "rediss://cache.example.org:6380/1"
    assert "hunter2" not in repr(settings)
    with pytest.raises(SettingsError) as error:
        load_settings({"THREATLENS_REDIS_URL": good.replace("rediss:", "tcp:")})
    assert "hunter2" not in str(error.value)


def test_everything_has_a_default():
    settings = load_settings({})
    assert (settings.host, settings.port, settings.is_loopback) == ("127.0.0.1", 8000, True)
    assert settings.data.endswith("instance")


def test_it_listens_on_a_socket_for_a_proxy():
    settings = load_settings({"HOST": "unix:/run/threatlens/web.sock", "THREATLENS_TRUSTED_HOSTS": "logs.example.org"})
    assert (settings.bind, settings.is_loopback) == ("unix:/run/threatlens/web.sock", True)
    assert settings.hosts == ["localhost", "127.0.0.1", "[::1]", "logs.example.org"]
    assert settings.base_url == "http://logs.example.org"
    assert settings.proxies == ("unix",)
    assert load_settings({}).proxies == ()
    assert load_settings({"HOST": "::1"}).bind == "[::1]:8000"


def test_the_data_folder_is_for_its_owner_alone(settings):
    prepare_data_folder(settings)
    assert stat.S_IMODE(os.stat(settings.data).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(os.path.join(settings.data, "secret.key")).st_mode) == 0o600


def test_the_secret_key_is_made_once(settings):
    prepare_data_folder(settings)
    first = secret_key(settings)
    prepare_data_folder(settings)
    assert secret_key(settings) == first
    assert len(first) == 64
    assert [name for name in os.listdir(settings.data) if name.startswith("secret")] == ["secret.key"]


def test_a_folder_that_everybody_may_write_is_refused(settings):
    os.makedirs(settings.data)
    os.chmod(settings.data, 0o777)
    with pytest.raises(DataFolderError, match="chmod o-w"):
        prepare_data_folder(settings)


def test_a_data_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(DataFolderError, match=str(tmp_path / "data")):
        prepare_data_folder(load_settings({"THREATLENS_DATA": str(tmp_path / "data")}))
