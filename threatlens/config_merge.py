"""How what the file declares and what was saved become one configuration, and what of it is to be saved."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from threatlens.config_book import SavedSource
from threatlens.config_schema import LIMIT_KEYS, SETTING_KEYS
from threatlens.config_values import (
    AnswerConfig,
    BackupConfig,
    HeartbeatConfig,
    LlmConfig,
    MonitoringConfig,
    ReportConfig,
    Retention,
    plain,
)
from threatlens.errors import ConfigError
from threatlens.sources.base import LogSourceConfig

#: The warning that everybody gets at first; no fault.
NO_SOURCE = "no source is enabled in the configuration"
DEFAULTS = MonitoringConfig()
NAMED = ("channels", "notification_rules", "threat_lists")


@dataclass(frozen=True, slots=True)
class Declared:
    """What a good file says."""

    values: Mapping[str, Any] = field(default_factory=dict)  # by key, limits included, without sources
    sources: tuple[LogSourceConfig, ...] = ()

    @property
    def limits(self) -> dict[str, Any]:
        return {key: value for key, value in self.values.items() if key in LIMIT_KEYS}

    def names(self, source_name: str) -> bool:
        return any(source.source_name == source_name for source in self.sources)


class FileError(Exception):
    """The configuration file is not right; it is not taken."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        super().__init__()
        self.errors = sorted(errors, key=lambda error: (error.line, error.column))


def is_provisioned(row: SavedSource) -> bool:
    return row.kind == "file" and row.origin == "yaml"


def renamed(good: Declared, rows: Mapping[str, SavedSource]) -> dict[str, str]:
    """Old name to new name, where exactly one source left the file and exactly one came with the same path."""
    gone: dict[str, list[str]] = {}
    for name, row in rows.items():
        if is_provisioned(row) and row.enabled and not good.names(name):
            gone.setdefault(row.path, []).append(name)
    come: dict[str, list[str]] = {}
    for source in good.sources:
        if source.source_name not in rows:
            come.setdefault(source.path, []).append(source.source_name)
    return {names[0]: come[path][0] for path, names in gone.items() if len(names) == 1 and len(come.get(path, ())) == 1}


def keys_of(values: Mapping[str, Any]) -> frozenset[str]:
    """All keys, dotted within sections."""
    return frozenset(
        f"{key}.{each}" if each else key
        for key, value in values.items()
        for each in (value if isinstance(value, dict) else ("",))
    )


def limits_of(config: MonitoringConfig) -> dict[str, Any]:
    return {key: getattr(config, key) for key in LIMIT_KEYS}


def merged(saved: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """What is declared wins: key by key in sections, name by name in lists of named things."""
    values = dict(saved)
    for key, value in declared.items():
        if isinstance(value, dict):
            values[key] = {**values.get(key, {}), **value}
        elif key in NAMED:
            names = {item.name for item in value}
            values[key] = value + tuple(item for item in values.get(key, ()) if item.name not in names)
        else:
            values[key] = value
    return values


def undeclared(config: MonitoringConfig, good: Declared) -> dict[str, Any]:
    """The settings to be saved: those that the file does not declare and that are not the default."""
    saved: dict[str, Any] = {}
    for key in (*LIMIT_KEYS, *SETTING_KEYS):
        wanted, declared = plain(getattr(config, key)), plain(good.values.get(key))
        if isinstance(wanted, dict):
            changed = [f"{key}.{each}" for each, value in (declared or {}).items() if wanted.get(each) != value]
            wanted = {each: value for each, value in wanted.items() if each not in (declared or {})}
        elif key in NAMED:
            changed = [] if all(item in wanted for item in declared or ()) else [key]
            names = {item["name"] for item in declared or ()}
            wanted = [item for item in wanted if item["name"] not in names]
        elif declared is not None:
            changed, wanted = [] if wanted == declared else [key], None
        else:
            changed = []
        if changed:
            raise ConfigError("is declared in the configuration file; change it there", key=changed[0])
        if wanted not in (None, {}, plain(getattr(DEFAULTS, key))):
            saved[key] = wanted
    return saved


def refuse_declared(declared: Any, key: str, value: Any) -> None:
    """Raise ConfigError where the file says something about what is to be changed."""
    if declared is None or (isinstance(declared, dict) and not set(declared) & set(value or ())):
        return
    raise ConfigError("is declared in the configuration file; change it there", key=key)


def with_imported(key: str, saved: Any, value: Any, declared: Any) -> Any:
    """What is saved under a key once a file was imported; what is declared is not saved a second time."""
    if key in NAMED and isinstance(value, list):
        names = {item.get("name") for item in value if isinstance(item, dict)}
        here = {item.name for item in declared or ()}
        kept = [item for item in saved or () if item.get("name") not in names]
        return kept + [item for item in value if not (isinstance(item, dict) and item.get("name") in here)]
    if isinstance(value, dict):
        return {each: item for each, item in value.items() if each not in (declared or {})}
    return value if declared is None else saved


def config_of(values: Mapping[str, Any], sources: tuple[LogSourceConfig, ...]) -> MonitoringConfig:
    kinds = {
        "retention": Retention,
        "answers": AnswerConfig,
        "reports": ReportConfig,
        "llm": LlmConfig,
        "heartbeat": HeartbeatConfig,
        "backup": BackupConfig,
    }
    sections = {name: kind(**values.get(name, {})) for name, kind in kinds.items()}
    return MonitoringConfig(**{**values, **sections, "sources": sources})


def misnamed(path: str) -> list[str]:
    """Files that somebody may take for the configuration, while there is none."""
    other = os.path.splitext(path)[0] + ".yml"
    found = [f"{other} is not read; name it {os.path.basename(path)}"] if os.path.lexists(other) else []
    return [f"{path} is a symbolic link to nothing", *found] if os.path.islink(path) else found


def open_to_others(path: str, status: os.stat_result, clear_secrets: Sequence[str]) -> list[str]:
    found = []
    if status.st_mode & stat.S_IWOTH:
        found.append(f"{path} may be changed by every user of this machine; run: chmod o-w {shlex.quote(path)}")
    if status.st_mode & stat.S_IROTH and clear_secrets:
        found.append(
            f"{path} may be read by every user of this machine and holds secrets ({', '.join(clear_secrets)}); "
            f"run: chmod 600 {shlex.quote(path)}, or write env:NAME or file:/path instead"
        )
    return found


def worth_a_look(config: MonitoringConfig) -> list[str]:
    found = []
    if not any(source.enabled for source in config.sources):
        found.append(NO_SOURCE)
    if "/" in config.allowed_roots:
        found.append("allowed_roots holds '/': every file that ThreatLens may read can become a source")
    by_path: dict[str, str] = {}
    for source in config.sources:
        if source.enabled and source.path in by_path:
            found.append(
                f"sources {by_path[source.path]!r} and {source.source_name!r} name the same path {source.path}"
            )
        by_path[source.path] = source.source_name
    return found
