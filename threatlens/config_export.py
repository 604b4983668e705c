"""The configuration in force as text that threatlens.yaml could hold, without a single secret; and back."""

from __future__ import annotations

import re
from typing import Any

import yaml

from threatlens.config_book import source_values
from threatlens.config_file import parse, read_bytes
from threatlens.config_schema import LIMIT_KEYS, SETTING_KEYS
from threatlens.config_values import MonitoringConfig, Secret, plain

_HEAD = """\
# The configuration of ThreatLens. Secrets are not in it: where one belongs stands the name of an environment variable
# to set, such as env:THREATLENS_HOOK_SECRET.
"""


def exported(config: MonitoringConfig) -> str:
    """YAML; every secret in it is a reference."""
    document: dict[str, Any] = {}
    for key in (*LIMIT_KEYS, *SETTING_KEYS):
        value = plain(getattr(config, key), secret=_reference)
        if key == "channels":
            value = [_with_names(each, channel) for each, channel in zip(value, config.channels, strict=True)]
        if key == "llm" and config.llm.api_key and not _reference(config.llm.api_key):
            value["api_key"] = "env:THREATLENS_LLM_API_KEY"
        if key == "heartbeat" and config.heartbeat.url and not _reference(config.heartbeat.url):
            value["url"] = "env:THREATLENS_HEARTBEAT_URL"
        document[key] = value
    document["sources"] = [
        {name: value for name, value in source_values(source).items() if value is not None} for source in config.sources
    ]
    return _HEAD + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _reference(secret: Secret) -> str | None:
    return None if secret.is_clear or secret.is_lost else secret.reference


def read_export(path: str) -> dict[str, Any]:
    """What a configuration file says, as plain values. Raises ConfigError where it is not readable."""
    content, _ = read_bytes(path)
    return read_document(content, path)


def read_document(content: bytes, name: str) -> dict[str, Any]:
    """What the content of a configuration file says, as plain values. Raises ConfigError where it is not readable."""
    parse(content, name)  # refuses what a configuration may not be: tags, bombs of aliases, a key twice
    found = yaml.safe_load(content)
    return found if isinstance(found, dict) else {}


def _with_names(section: dict[str, Any], channel: Any) -> dict[str, Any]:
    """A channel with the names of variables where its secrets were."""
    for holder, values in ((channel, section), (getattr(channel, "smtp", None), section.get("smtp", {}))):
        for name in ("url", "secret", "password"):
            secret = getattr(holder, name, None)
            if isinstance(secret, Secret) and not _reference(secret):
                values[name] = f"env:THREATLENS_{re.sub(r'[^A-Z0-9]+', '_', channel.name.upper())}_{name.upper()}"
    return section
