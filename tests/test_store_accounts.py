"""Accounts and sessions as the store keeps them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from threatlens.clock import now_us
from threatlens.errors import ConfigError, StaleChange
from threatlens.store_accounts import COMMAND_LINE, SETUP_CODE_US, Doer, normal_name

pytestmark = pytest.mark.both_databases

HOURS = 3_600_000_000
LIMITS = {"idle_us": HOURS // 2, "absolute_us": 12 * HOURS}
ANNA = Doer("user anna", "192.0.2.1", "r1")


def user(store: Any, name: str = "anna", role: str = "admin") -> Any:
    return store.create_user(name, "a hash", role, COMMAND_LINE)


@pytest.mark.parametrize("text", ["Anna", "ANNA", "\uff41nna", "anna"])
def test_names_that_mean_the_same_are_one(store: Any, text: str) -> None:
    user(store)
    assert store.user_named(text).name == "anna"
    with pytest.raises(ConfigError, match="already"):
        user(store, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " admin",
        "admin\x00",
        "\u0430dmin",
        "\U0001f600" * 255,
        "<b>",
        "a" * 65,
        "a b",
        "-a",
        "\u202eadmin",
        "a" * 10**6,
    ],
)
def test_names_that_could_be_taken_for_others_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="a name has"):
        normal_name(text)


def test_twenty_set_ups_at_once_make_one_administrator(store: Any) -> None:
    code, made = store.new_setup_code(), []

    def set_up(number: int) -> None:
        made.append(store.set_up(code, f"admin{number}", "a hash", COMMAND_LINE, now_us()))

    threads = [threading.Thread(target=set_up, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 20
    assert len([one for one in made if one is not None]) == len(store.users()) == 1
    assert store.new_setup_code() is None


def test_a_set_up_code_holds_for_an_hour_and_the_newest_only(store: Any) -> None:
    old = store.new_setup_code()
    code = store.new_setup_code()
    now = now_us()
    assert store.is_setup_code(code, now)
    assert not store.is_setup_code(old, now)
    assert not store.is_setup_code("", now)
    assert store.set_up(code, "anna", "h", COMMAND_LINE, now + SETUP_CODE_US + 10_000_000) is None
    assert store.users() == []


def test_a_session_is_found_by_its_secret_which_is_kept_nowhere(store: Any, settings: Any) -> None:
    anna = user(store)
    secret = store.start_session(anna, ANNA, "Firefox")
    found = store.session(secret, now_us(), **LIMITS)
    assert found[0].name == "anna"
    assert store.session("x" * 43, now_us(), **LIMITS) is None
    with store.database.reading() as connection:
        kept = connection.exec_driver_sql("SELECT * FROM sessions").all()
        assert secret not in repr(kept)
    for name in ("", "-wal") if settings.uses_sqlite else ():
        with open(settings.database_path + name, "rb") as file:
            assert secret.encode() not in file.read()


def test_a_session_ends_when_unused_and_at_last_in_any_case(store: Any) -> None:
    secret = store.start_session(user(store), ANNA, "Firefox")
    start = now_us()
    assert store.session(secret, start + HOURS // 2 - 1_000_000, **LIMITS)
    for step in range(1, 25):
        found = store.session(secret, start + step * (HOURS // 2 - 10_000_000), **LIMITS)
        assert (found is not None) == (step * (HOURS // 2 - 10_000_000) <= 12 * HOURS)
    store.write_session_use(start + 13 * HOURS, **LIMITS)
    assert store.sessions_of(1) == []


def test_looking_at_a_session_is_not_using_it(store: Any) -> None:
    secret = store.start_session(user(store), ANNA, "")
    [session] = store.sessions_of(1)
    later = now_us() + HOURS // 2 - 5_000_000
    assert store.session_holds(session.id_hash, later, **LIMITS)
    assert store.session(secret, later + 10_000_000, **LIMITS) is None


@pytest.mark.parametrize("deed", ["role", "disable", "password", "remove"])
def test_a_login_that_began_before_a_change_starts_no_session_after_it(store: Any, deed: str) -> None:
    user(store, "root")
    as_it_was = user(store, "eve", "analyst")
    {
        "role": lambda: store.set_role(as_it_was.id, "viewer", ANNA),
        "disable": lambda: store.set_enabled(as_it_was.id, False, ANNA),
        "password": lambda: store.set_password(as_it_was.id, "another", ANNA),
        "remove": lambda: store.remove_user(as_it_was.id, ANNA),
    }[deed]()

    with pytest.raises(StaleChange):
        store.start_session(as_it_was, ANNA, "")

    assert store.sessions_of(as_it_was.id) == []


def test_a_password_is_another_version_even_where_the_clock_stands(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threatlens.store_accounts.now_us", lambda: 1_000)
    eve = user(store, "eve")
    first = store.set_password(eve.id, "one", ANNA)
    second = store.set_password(eve.id, "two", ANNA, since=first.password_at)

    assert eve.password_at < first.password_at < second.password_at
    with pytest.raises(StaleChange):
        store.set_password(eve.id, "three", ANNA, since=first.password_at)
    assert store.password_of(eve.id) == "two"


def test_several_changes_of_an_account_are_made_together_or_not_at_all(store: Any) -> None:
    user(store, "root")
    eve = user(store, "eve", "viewer")
    with pytest.raises(ConfigError, match="sees every source"):
        store.change_user(eve.id, ANNA, role="admin", sources=["web"], password_hash="another")
    assert store.user(eve.id) == eve
    assert store.password_of(eve.id) == "a hash"

    store.change_user(eve.id, ANNA, role="analyst", sources=["web"], enabled=False)
    changed = store.user(eve.id)
    assert (changed.role, changed.sources, changed.enabled) == ("analyst", ("web",), False)
    assert [entry.action for entry in store.audit.page(limit=3)] == [
        "user.disabled", "user.sources_changed", "user.role_changed",
    ]  # fmt: skip
    assert store.change_user(eve.id, ANNA, role="admin", sources=[]).role == "admin"


@pytest.mark.parametrize("deed", ["role", "disable", "password", "remove", "log out"])
def test_whatever_takes_rights_away_ends_the_sessions(store: Any, deed: str) -> None:
    user(store, "root")
    eve = user(store, "eve", "analyst")
    secret = store.start_session(eve, ANNA, "")
    assert store.session(secret, now_us(), **LIMITS)
    deeds = {
        "role": lambda: store.set_role(eve.id, "viewer", ANNA),
        "disable": lambda: store.set_enabled(eve.id, False, ANNA),
        "password": lambda: store.set_password(eve.id, "another", ANNA),
        "remove": lambda: store.remove_user(eve.id, ANNA),
        "log out": lambda: store.end_sessions(eve.id, ANNA),
    }
    assert deeds[deed]()
    assert store.session(secret, now_us(), **LIMITS) is None


def test_the_last_administrator_stays(store: Any) -> None:
    anna = user(store)
    for deed in (
        lambda: store.set_role(anna.id, "viewer", ANNA),
        lambda: store.set_enabled(anna.id, False, ANNA),
        lambda: store.remove_user(anna.id, ANNA),
    ):
        with pytest.raises(ConfigError, match="last administrator"):
            deed()
    assert store.user(anna.id).role == "admin"
    assert store.user(anna.id).enabled
    user(store, "ben")
    assert store.set_role(anna.id, "viewer", ANNA)


def test_a_token_ends_with_its_makers_account_and_never_may_more(store: Any) -> None:
    user(store, "root")
    anna = user(store)
    token = store.create_token("t", "admin", user_id=anna.id)
    assert store.check_token(token).role == "admin"
    store.set_role(anna.id, "analyst", ANNA)
    store.tokens()
    assert store.check_token(token).role == "analyst"
    store.set_enabled(anna.id, False, ANNA)
    store.tokens()
    assert store.check_token(token) is None
    store.remove_user(anna.id, ANNA)
    assert store.tokens() == []


def test_a_token_expires(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    token = store.create_token("t", "viewer", expires_at=now_us() + 60_000_000)
    assert store.check_token(token)
    later = now_us() + 61_000_000
    monkeypatch.setattr("threatlens.store_tokens.now_us", lambda: later)
    assert store.check_token(token) is None
    with pytest.raises(ConfigError, match="future"):
        store.create_token("u", "viewer", expires_at=1)


def test_every_change_is_written_down_without_a_secret(store: Any) -> None:
    user(store, "root")
    eve = user(store, "eve", "viewer")
    secret = store.start_session(eve, ANNA, "")
    store.set_role(eve.id, "analyst", ANNA)
    store.set_password(eve.id, "hash of a secret", ANNA)
    token = store.create_token("t", "viewer", doer=ANNA)
    store.revoke_token(1, ANNA)
    entries = store.audit.page()
    assert [entry.action for entry in entries][::-1] == [
        "user.created", "user.created", "login", "user.role_changed", "user.password_changed", "token.created",
        "token.revoked",
    ]  # fmt: skip
    assert entries[3].as_json()["detail"] == {"role": "analyst"}
    assert {entry.request_id for entry in entries[:5]} == {"r1"}
    assert not [word for word in (secret, token, "hash of a secret") if word in str(entries)]
