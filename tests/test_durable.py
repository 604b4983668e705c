"""What was saved has its name after a power cut: the folder is synced after the file got its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from threatlens.durable import put_in_place
from threatlens.own_decoders import OwnDecoders
from threatlens.rule_library import RuleLibrary
from threatlens.settings import new_secret_key, write_secret_keys

DECODER = "name: shop.gate\npattern: gate (?P<user>[a-z]+) refused\ncategory: authentication\n"
RULE = """title: A door
id: 7c2f0c5e-4a57-4f4c-9d7f-0d8c6d1f0009
level: low
logsource: {product: linux}
detection: {sel: {message|contains: door}, condition: sel}
"""


def own_decoder(settings: Any, _store: Any) -> str:
    OwnDecoders(settings.decoders_folder).save(DECODER)
    return os.path.join(settings.decoders_folder, "shop.gate.yml")


def own_rule(settings: Any, store: Any) -> str:
    library = RuleLibrary(settings, store, roots=[os.path.join(settings.data, "rules")])
    library.save("door.yml", RULE)
    return os.path.join(library.folder, "door.yml")


def key(settings: Any, _store: Any) -> str:
    write_secret_keys(settings, [new_secret_key()])
    return str(settings.key_path)


def any_file(settings: Any, _store: Any) -> str:
    path = os.path.join(settings.data, "one")
    with open(path + ".part", "w") as file:
        os.fsync(file.fileno())
    put_in_place(path + ".part", path)
    return path


@pytest.mark.parametrize("save", [any_file, key, own_decoder, own_rule])
def test_a_file_gets_its_name_once_it_is_whole_and_then_the_name_is_synced(
    settings: Any, store: Any, monkeypatch: pytest.MonkeyPatch, save: Callable[[Any, Any], str]
) -> None:
    done: list[tuple[str, str]] = []
    sync, replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        done.append(("synced", os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    def name(source: str, target: str) -> None:
        done.append(("named", target))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", name)
    path = save(settings, store)

    place = done.index(("named", path))
    assert done[place - 1][1].startswith(path), "what is in it was synced before"
    assert done[place + 1] == ("synced", os.path.dirname(path))
