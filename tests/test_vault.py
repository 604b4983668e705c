"""Secrets at rest, and the keys that seal them."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from threatlens.errors import DataFolderError, SecretError
from threatlens.settings import Settings, new_secret_key, prepare_data_folder, secret_keys, write_secret_keys
from threatlens.vault import PREFIX, Vault, derived, is_sealed


def test_what_was_sealed_opens_and_does_not_show() -> None:
    vault = Vault(lambda: ["a key"])

    sealed = vault.seal("CANARY \u00e9\0", "channels")

    assert vault.open(sealed, "channels") == "CANARY \u00e9\0"
    assert is_sealed(sealed)
    assert sealed.isascii()
    assert "CANARY" not in sealed
    assert b"CANARY" not in base64.urlsafe_b64decode(sealed.rpartition(":")[2])


def test_the_same_secret_never_looks_the_same() -> None:
    vault = Vault(lambda: ["a key"])

    assert vault.seal("x", "channels") != vault.seal("x", "channels")


def test_a_secret_moved_to_another_purpose_does_not_open() -> None:
    vault = Vault(lambda: ["a key"])

    with pytest.raises(SecretError, match="damaged"):
        vault.open(vault.seal("x", "channels"), "totp")


@pytest.mark.parametrize("position", range(0, 60, 4))
def test_a_changed_bit_is_seen(position: int) -> None:
    vault = Vault(lambda: ["a key"])
    head, _, text = vault.seal("secret text of some length", "channels").rpartition(":")
    box = bytearray(base64.urlsafe_b64decode(text))
    box[position % len(box)] ^= 1

    with pytest.raises(SecretError):
        vault.open(f"{head}:{base64.urlsafe_b64encode(box).decode()}", "channels")


@pytest.mark.parametrize("text", ["", PREFIX, "plain", PREFIX + "00000000:AAAA", PREFIX + "zz", "sealed:2:x:y"])
def test_what_nobody_sealed_does_not_open(text: str) -> None:
    with pytest.raises(SecretError) as caught:
        Vault(lambda: ["a key"]).open(text, "channels")
    assert "AAAA" not in str(caught.value)


def test_while_keys_are_changed_both_open_and_the_first_seals() -> None:
    old = Vault(lambda: ["old"]).seal("x", "channels")
    both = Vault(lambda: ["new", "old"])

    assert both.open(old, "channels") == "x"
    assert not both.is_current(old)
    assert both.is_current(both.seal("x", "channels"))
    with pytest.raises(SecretError, match="enter it again"):
        Vault(lambda: ["new"]).open(old, "channels")


def test_purposes_have_keys_of_their_own() -> None:
    assert len({derived("a", "channels"), derived("a", "totp"), derived("b", "channels")}) == 3


def test_keys_are_derived_as_rfc_5869_has_it() -> None:
    of_the_library = HKDF(hashes.SHA256(), 32, b"threatlens", b"channels").derive(b"a key")

    assert derived("a key", "channels") == of_the_library


def test_the_key_is_made_once_and_readable_by_nobody_else(settings: Settings) -> None:
    prepare_data_folder(settings)
    keys = secret_keys(settings)
    prepare_data_folder(settings)

    assert secret_keys(settings) == keys
    assert len(bytes.fromhex(keys[0])) == 32


def test_keys_are_replaced_in_one_step(settings: Settings) -> None:
    prepare_data_folder(settings)
    keys = [new_secret_key(), *secret_keys(settings)]

    write_secret_keys(settings, keys)

    assert secret_keys(settings) == keys


def test_the_environment_may_hold_several_keys_and_never_shows_them(settings: Settings) -> None:
    changed = replace(settings, secret_key="CANARY-new CANARY-old")

    assert secret_keys(changed) == ["CANARY-new", "CANARY-old"]
    assert "CANARY" not in repr(changed)


def test_an_empty_key_file_is_an_error_that_says_what_to_do(settings: Settings) -> None:
    prepare_data_folder(settings)
    write_secret_keys(settings, [])

    with pytest.raises(DataFolderError, match="bring back the key"):
        secret_keys(settings)
