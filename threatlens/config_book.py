"""Where configuration is saved, and how a source of files becomes a row and a row a source again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from threatlens.config_schema import SOURCE_KEYS
from threatlens.sources.base import LogSourceConfig


@dataclass(frozen=True, slots=True)
class SavedSource:
    """A row of log_sources, as far as configuration goes."""

    source_id: int  # 0: not saved yet
    source_name: str
    path: str
    kind: str = "file"
    origin: str = "ui"  # yaml, ui, api, cli, demo
    enabled: bool = True
    settings: str = "{}"  # JSON: the other fields of LogSourceConfig


@dataclass(frozen=True, slots=True)
class SavedVersion:
    """One saved version of the settings, without what is in it."""

    version_id: int
    saved_us: int
    author: str  # who saved it; empty: not known
    note: str  # what was done, in a few words


class ConfigBook(Protocol):
    """Where configuration is saved. Every call is one small transaction; raises StoreUnavailable when it cannot."""

    def version(self) -> int:
        """A number that is another one after every change of what load() and sources() return, whoever made it."""

    def load(self) -> str:
        """JSON: the config_data of the newest row of monitoring_config; "" if there is none."""

    def save(self, config_data: str, author: str = "", note: str = "") -> int:
        """Add a row to monitoring_config and return its id."""

    def versions(self, limit: int) -> list[SavedVersion]:
        """The newest rows of monitoring_config, newest first."""

    def version_data(self, version_id: int) -> str | None:
        """The config_data of a row; None: there is none."""

    def sources(self) -> list[SavedSource]:
        """All rows of log_sources, of every kind and origin."""

    def put_source(self, source: SavedSource) -> int:
        """Update the row of this id; with id 0 insert it, or update the one of this name. Return its id."""

    def delete_source(self, source_id: int) -> None:
        """Forget a source; no error if there is none."""


def source_values(source: LogSourceConfig | Mapping[str, Any]) -> dict[str, Any]:
    """A source as its section in a file would say it."""
    if isinstance(source, LogSourceConfig):
        return {key: getattr(source, "source_name" if key == "name" else key) for key in SOURCE_KEYS}
    return dict(source)


def row_of(source: LogSourceConfig, origin: str) -> SavedSource:
    """The row of a source of files."""
    values = source_values(source)
    name, path, enabled = (values.pop(key) for key in ("name", "path", "enabled"))
    settings = json.dumps(values, ensure_ascii=False, sort_keys=True)
    return SavedSource(source.source_id, name, path, "file", origin, enabled, settings)


def row_values(row: SavedSource) -> dict[str, Any]:
    """The reverse of row_of. Settings that are not readable count as not given."""
    try:
        settings = json.loads(row.settings)
    except ValueError:
        settings = {}
    return {**settings, "name": row.source_name, "path": row.path, "enabled": row.enabled}
