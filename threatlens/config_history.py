"""What was saved, version by version: with sealed secrets, side by side, and what stays when some keys are changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from threatlens.config_book import ConfigBook, SavedVersion, row_values
from threatlens.errors import ConfigError, SecretError
from threatlens.vault import Vault, is_sealed

#: What secrets of the configuration are sealed for.
PURPOSE = "configuration"
#: Secrets, and the keys that say where they would be sent.
_SENT_TO = {"password": ("host", "port", "tls"), "api_key": ("base_url",)}
_SECRETS = frozenset({"secret", "password", "api_key"})
_HIDDEN = "(a secret)"
_ABSENT = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One key that is not the same in two versions."""

    key: str  # dotted, things in lists by their names
    before: str  # empty: not there
    after: str


class SavedSettings:
    """The versions of what was configured in the UI and on the command line; the newest is in force.

    A version also records the sources as they were, for the history; in force are their own rows.
    """

    def __init__(self, book: ConfigBook, vault: Vault) -> None:
        self._book = book
        self._vault = vault

    def read(self) -> dict[str, Any]:
        """The newest version, secrets sealed, without its record of sources. ValueError if it is not readable."""
        text = self._book.load()
        found = json.loads(text) if text else {}
        if not isinstance(found, dict):
            raise ValueError(text)  # noqa: TRY004 - like text that is no JSON
        found.pop("sources", None)
        return found

    def readable(self) -> dict[str, Any]:
        """What read() returns; where it is not readable there is nothing to keep."""
        try:
            return self.read()
        except ValueError:
            return {}

    def add(self, settings: Mapping[str, Any], secrets: Iterable[str], author: str, note: str) -> None:
        """Save one more version. `secrets` are the keys (dotted) where a secret stands that is not sealed yet."""
        sources = [row_values(row) for row in self._book.sources() if row.kind == "file" and row.origin == "ui"]
        saved = {**settings, **({"sources": sources} if sources else {})}
        saved = json.loads(json.dumps(saved, ensure_ascii=False))
        for key in secrets:
            _replace_at(saved, key.split("."), lambda secret: self._vault.seal(secret, PURPOSE))
        self._book.save(json.dumps(saved, ensure_ascii=False), author, note)

    def unseal(self, sealed: str) -> str:
        """A secret; raises SecretError."""
        return self._vault.open(sealed, PURPOSE)

    def versions(self, limit: int) -> list[SavedVersion]:
        """The newest versions, newest first."""
        return self._book.versions(limit)

    def version(self, version_id: int) -> dict[str, Any]:
        """What a version says, its sources included; 0 is the beginning. Raises ConfigError if there is none."""
        text = self._book.version_data(version_id) if version_id else "{}"
        if text is None:
            raise ConfigError(f"there is no saved version {version_id}")
        try:
            found = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"version {version_id} is not readable") from error
        return found if isinstance(found, dict) else {}

    def compare(self, older: int, newer: int) -> list[Change]:
        """What changed from one version to another. Raises ConfigError."""
        return differences(self.version(older), self.version(newer), self.unseal)


def _replace_at(tree: Any, path: list[str], change: Callable[[str], str]) -> None:
    """Replace the text that stands at a path of keys and indexes."""
    *way, last = path
    for step in way:
        tree = tree[int(step)] if isinstance(tree, list) else tree[step]
    tree[last] = change(tree[last])


def differences(older: Mapping[str, Any], newer: Mapping[str, Any], unseal: Callable[[str], str]) -> list[Change]:
    """What changed between two saved versions, by key. Secrets are compared, never shown."""
    before, after = _flat(older), _flat(newer)
    found = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key, _ABSENT), after.get(key, _ABSENT)
        if is_sealed(old) and is_sealed(new):
            if _opened(old, unseal) != _opened(new, unseal):
                found.append(Change(key, _HIDDEN, "(another secret)"))
        elif old != new:
            found.append(Change(key, *(_HIDDEN if is_sealed(text) else text for text in (old, new))))
    return found


def _opened(sealed: str, unseal: Callable[[str], str]) -> str:
    try:
        return unseal(sealed)
    except SecretError:
        return sealed


def _flat(value: Any, key: str = "") -> dict[str, str]:
    """Every single value by its dotted key; lists of plain values are one value."""
    if isinstance(value, Mapping):
        parts: list[tuple[str, Any]] = list(value.items())
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        parts = [(str(item.get("name", index)), item) for index, item in enumerate(value)]
    elif isinstance(value, list):
        return {key: ", ".join(map(str, value))}
    else:
        return {key: str(value).lower() if isinstance(value, bool) else str(value)}
    found: dict[str, str] = {}
    for name, item in parts:
        found |= _flat(item, f"{key}.{name}" if key else name)
    return found


def kept_secrets(present: Mapping[str, Any], changes: dict[str, Any], key: str = "") -> dict[str, Any]:
    """A section with some keys changed. Secrets that are left out or empty stay, unless they would go elsewhere now.

    Raises ConfigError for those: whoever may change a server's name need not know the password sent to it.
    """
    if "type" in changes and changes["type"] != present.get("type", changes["type"]):
        return changes
    # The address of a heartbeat, which has no type, is a secret as that of a chat is.
    secrets = _SECRETS | ({"url"} if present.get("type", "slack") in ("slack", "apprise") else frozenset())
    wanted = dict(present)
    for name, value in changes.items():
        where = f"{key}.{name}" if key else name
        if isinstance(value, Mapping):
            old = present.get(name)
            wanted[name] = kept_secrets(old if isinstance(old, Mapping) else {}, dict(value), where)
        elif value is None:
            wanted.pop(name, None)
        elif not (name in secrets and value == ""):
            wanted[name] = value
    for secret, places in _SENT_TO.items():
        stays = secret in present and wanted.get(secret) == present[secret]
        if stays and any(wanted.get(place) != present.get(place) for place in places):
            raise ConfigError(
                "must be entered again, as it would be sent to another server", key=f"{key}.{secret}" if key else secret
            )
    return wanted


def without_references(values: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says, without the secrets that only name a variable or a file; those saved take their place.

    Raises ConfigError for a saved secret that would be sent to another server now.
    """
    found = dict(values)
    channels = values.get("channels")
    if isinstance(channels, list):
        here = {each.get("name"): each for each in saved.get("channels") or () if isinstance(each, Mapping)}
        found["channels"] = [
            _own_secrets(each, here.get(each.get("name"))) if isinstance(each, Mapping) else each for each in channels
        ]
    for key in ("llm", "heartbeat"):
        if isinstance(values.get(key), Mapping):
            found[key] = _own_secrets(values[key], saved.get(key))
    return found


def _own_secrets(section: Mapping[str, Any], saved: Any) -> dict[str, Any]:
    present = saved if isinstance(saved, Mapping) else {}
    kept = kept_secrets(present, _unreferred(section))
    for name, value in list(kept.items()):
        if isinstance(value, dict) and isinstance(section.get(name), Mapping):
            kept[name] = {each: item for each, item in value.items() if each in section[name]}
    return {name: value for name, value in kept.items() if name in section}


def _unreferred(section: Mapping[str, Any]) -> dict[str, Any]:
    """The section without secrets by reference; an empty text leaves what is saved."""
    found: dict[str, Any] = {}
    for name, value in section.items():
        if isinstance(value, Mapping):
            found[name] = _unreferred(value)
        elif not (name in _SECRETS | {"url"} and isinstance(value, str) and value.startswith(("env:", "file:"))):
            found[name] = value
    return found
