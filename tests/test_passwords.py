"""Which passwords are taken, and how they are kept."""

from __future__ import annotations

import pytest

from threatlens.errors import ConfigError
from threatlens.passwords import Passwords, check_password


@pytest.mark.parametrize(
    "password",
    ["correct horse battery staple",
     "\U0001f600\U0001f680 zwei Tannen im Regen", "a\x00b c\x07 d-mud-lamp",
     "  spaces around it ok  ",
     "uN1x-lamp-forest", "violet lamp " * 10 + "12345678"],
)  # fmt: skip
def test_any_characters_make_a_password_and_none_is_cut(password: str) -> None:
    check_password(password, ["anna"])
    keeper = Passwords(8, 1)
    kept = keeper.hash(password)
    assert kept.startswith("$argon2id$")
    assert keeper.matches(kept, password)
    assert not keeper.matches(kept, password[:-1])
    assert not keeper.matches(kept, password + " ")


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short", "at least 12"),
        ("x" * 129, "at most 128"),
        ("passwordpassword", "first that an attacker"),
        ("123456789012", "first that an attacker"),
        ("qwertyuiopas", "first that an attacker"),
        ("aaaaaaaaaaaaaaaa", "first that an attacker"),
        ("threatlens2026", "first that an attacker"),
        ("logs.example.org", "first that an attacker"),
        ("wilhelmina-anna", "first that an attacker"),
        ("half a \ud800 character", "half a character"),
    ],
)
def test_a_password_that_is_guessed_soon_is_refused(password: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as refusal:
        check_password(password, ["logs.example.org", "wilhelmina-anna"])
    assert password not in str(refusal.value)


def test_the_longest_password_that_is_taken_is_kept_whole() -> None:
    password = ("correct horse battery staple, " * 5)[:128]
    check_password(password)
    keeper = Passwords(8, 1)
    assert keeper.matches(keeper.hash(password), password)
    assert not keeper.matches(keeper.hash(password), password + "x")


def test_nobody_has_no_password() -> None:
    assert not Passwords(8, 1).matches(None, "nobody has this password")


def test_hashes_of_another_cost_are_renewed() -> None:
    kept = Passwords(8, 1).hash("x" * 12)
    assert Passwords(16, 1).is_outdated(kept)
    assert not Passwords(8, 1).is_outdated(kept)
