"""What an operator may change while ThreatLens runs: threatlens.yaml (or .json) over what was saved in the UI.

What the file declares is provisioned: it wins, and is read-only elsewhere. The file is taken whole or not at all: with
one mistake in it the last good one stays in force, and `errors` says what is wrong. Every source of files has a row
(it keeps the id that events refer to); the rows of sources that left the file stay, disabled.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import stat
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from threatlens.config_book import ConfigBook, SavedSource, row_of, row_values, source_values
from threatlens.config_file import Entry, Section, Signature, locate, node_of, parse, read_bytes, signature
from threatlens.config_paths import PathRules
from threatlens.config_schema import (
    LIMIT_KEYS,
    SETTING_KEYS,
    Reading,
    names_in,
    read_limits,
    read_rest,
    read_source,
)
from threatlens.config_values import LlmConfig, MonitoringConfig, Retention, plain
from threatlens.errors import ConfigError
from threatlens.outbound_urls import Permissions
from threatlens.sources.base import LogSourceConfig

__all__ = ["NO_SOURCE", "ConfigBook", "ConfigManager", "LogSourceConfig", "MonitoringConfig", "SavedSource"]

logger = logging.getLogger(__name__)

#: A file written this short a time ago may be written again without its time of change moving on.
_UNSETTLED_S = 2.0
#: The warning that everybody gets at first; no fault.
NO_SOURCE = "no source is enabled: nothing is read"
_SAVED = "settings saved in the database"


@dataclass(frozen=True, slots=True)
class _Declared:
    """What a good file says."""

    values: Mapping[str, Any] = field(default_factory=dict)  # by key, limits included, without sources
    sources: tuple[LogSourceConfig, ...] = ()

    @property
    def limits(self) -> dict[str, Any]:
        return {key: value for key, value in self.values.items() if key in LIMIT_KEYS}

    def names(self, source_name: str) -> bool:
        return any(source.source_name == source_name for source in self.sources)


class _FileError(Exception):
    """The configuration file is not right; it is not taken."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        super().__init__()
        self.errors = sorted(errors, key=lambda error: (error.line, error.column))


class ConfigManager:
    """Merges the file with what was saved, and tells when the result changes. Safe to use from any thread.

    `forbidden` are our own folders and files (data folder, database), which no source may read; `formats` are the
    decoder names that a source may be given. Methods that change something raise ConfigError (with the key) for what
    may not be, and StoreUnavailable when it cannot be saved now.
    """

    def __init__(
        self,
        yaml_path: str,
        *,
        forbidden: Sequence[str],
        book: ConfigBook,
        formats: frozenset[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._paths = (yaml_path, os.path.splitext(yaml_path)[0] + ".json")
        self._forbidden = tuple(os.path.realpath(path) for path in forbidden)
        self._book = book
        self._formats = formats
        self._clock = clock
        self._lock = threading.RLock()
        self._signatures: tuple[Signature, ...] = ()
        self._settled = False  # whether an unchanged signature proves an unchanged file
        self._stale = True  # whether the last reading was broken off, as the book could not be used
        self._book_version: int | None = None
        self._good: _Declared | None = None
        self._config = MonitoringConfig()
        self._origins: dict[str, str] = {}
        self._errors: list[ConfigError] = []
        self._warnings: list[str] = []
        self._revision = 0
        self._told = -1  # the revision that poll() last told of

    # --- what is in force

    @property
    def config(self) -> MonitoringConfig:
        """The configuration in force."""
        return self._config

    @property
    def revision(self) -> int:
        """A number that grows with every change of the configuration in force."""
        return self._revision

    @property
    def errors(self) -> list[ConfigError]:
        """What is wrong with the file or with what was saved; what they name is not in force."""
        return list(self._errors)

    @property
    def warnings(self) -> list[str]:
        """What works but should be looked at."""
        return list(self._warnings)

    @property
    def origins(self) -> dict[str, str]:
        """For each source in force where it was declared: yaml (read-only) or ui."""
        return dict(self._origins)

    def get_log_sources(self) -> list[LogSourceConfig]:
        """The sources of files, disabled ones too."""
        return list(self._config.sources)

    def load_config(self) -> MonitoringConfig:
        """Read everything again. A bad file raises nothing: what was good stays, and `errors` tells."""
        with self._lock:
            self._reload()
            if self._told < 0:
                self._told = self._revision
            return self._config

    def poll(self) -> bool:
        """Look whether anything changed, and take it over; cheap when nothing did.

        True if the configuration in force is not the one of the last poll (or of the first load_config).
        """
        with self._lock:
            if (
                self._stale
                or not self._settled
                or self._look() != self._signatures
                or self._book.version() != self._book_version
            ):
                self._reload()
            changed = self._revision != self._told
            self._told = self._revision
            return changed

    # --- changes from the UI and the command line

    def save_config(self, config: MonitoringConfig) -> None:
        """Save all settings but the sources (they have methods of their own) and put them in force.

        What the file declares must be unchanged in `config`; ConfigError names the first key for which it is not.
        """
        with self._lock:
            self._reload()
            saved = _undeclared(config, self._good or _Declared())
            root = Section({key: Entry(node_of(value)) for key, value in saved.items()})
            reading = self._reading("")
            self._apply_limits(reading, {**read_limits(root, reading), **_limits_of(config)})
            reading.channels = frozenset(channel.name for channel in config.channels)
            read_rest(root, reading)
            if reading.errors:
                raise reading.errors[0]
            self._book.save(json.dumps(saved, ensure_ascii=False))
            self._reload()

    def add_log_source(self, source: LogSourceConfig | Mapping[str, Any]) -> LogSourceConfig:
        """Save a new source (keys as in the file) and return it with its id."""
        with self._lock:
            self._reload()
            checked = self._checked(source_values(source))
            present = self._rows().get(checked.source_name)
            if present and not self._is_retired(present):
                raise ConfigError(f"there is already a source named {checked.source_name!r}", key="name")
            # A name that the file once declared goes on with its history.
            return self._put(replace(checked, source_id=present.source_id if present else 0))

    def update_log_source(self, name: str, changes: LogSourceConfig | Mapping[str, Any]) -> LogSourceConfig:
        """Change some keys of a source (`name` renames it, its history stays) and return it as it is now."""
        with self._lock:
            self._reload()
            present = self._editable(name)
            checked = self._checked({**row_values(present), **source_values(changes)})
            if checked.source_name != name and checked.source_name in self._rows():
                raise ConfigError(f"there is already a source named {checked.source_name!r}", key="name")
            return self._put(replace(checked, source_id=present.source_id))

    def remove_log_source(self, name: str) -> None:
        """Forget a source."""
        with self._lock:
            self._reload()
            self._book.delete_source(self._editable(name).source_id)
            self._reload()

    def _rows(self) -> dict[str, SavedSource]:
        return {row.source_name: row for row in self._book.sources()}

    def _is_retired(self, row: SavedSource) -> bool:
        """Whether the file declared this source once and does so no more."""
        return row.origin == "yaml" and self._good is not None and not self._good.names(row.source_name)

    def _editable(self, name: str) -> SavedSource:
        row = self._rows().get(name)
        if row is None or row.kind != "file":
            raise ConfigError(f"there is no source named {name!r}", key="name")
        if row.origin == "yaml" and not self._is_retired(row):
            file = os.path.basename(self._paths[0])
            raise ConfigError(f"{name!r} is declared in {file}; change it there", key="name")
        return row

    def _checked(self, values: Mapping[str, Any]) -> LogSourceConfig:
        """A source handed in; ConfigError (its key as in the file) for the first thing that is wrong with it."""
        reading = self._reading("")
        self._apply_limits(reading, _limits_of(self._config))
        source = read_source(node_of(values), "", reading)
        if source is None:
            error = reading.errors[0]
            raise ConfigError(error.message, key=error.key.lstrip("."))
        return source

    def _put(self, source: LogSourceConfig) -> LogSourceConfig:
        source = replace(source, source_id=self._book.put_source(row_of(source, "ui")))
        self._reload()
        return source

    # --- reading

    def _look(self) -> tuple[Signature, ...]:
        return tuple(signature(path) for path in self._paths)

    def _reading(self, file: str) -> Reading:
        return Reading(file=file, formats=self._formats, rules=PathRules((), self._forbidden))

    def _apply_limits(self, reading: Reading, limits: Mapping[str, Any]) -> None:
        roots = limits.get("allowed_roots") or map(os.path.realpath, _DEFAULTS.allowed_roots)
        reading.rules = PathRules(tuple(roots), self._forbidden)
        networks, ports = limits.get("allowed_private_networks", ()), limits.get("allowed_ports", ())
        reading.outbound = Permissions(tuple(networks), frozenset(ports))

    def _reload(self) -> None:
        """Read the file and what was saved, and put what is good in force."""
        self._stale = True
        self._book_version = self._book.version()
        rows = self._rows()
        errors: list[ConfigError] = []
        warnings: list[str] = []
        saved = self._saved_section(errors)
        reading = self._reading(_SAVED)
        limits = read_limits(saved, reading)
        try:
            self._good = self._read_file(saved, limits, rows, warnings)
            rows = self._provision(self._good, rows)
        except _FileError as found:
            errors += found.errors
        good = self._good or _Declared()
        limits |= good.limits
        self._apply_limits(reading, limits)
        reading.channels = frozenset(channel.name for channel in good.values.get("channels", ()))
        values = _merged({**limits, **read_rest(saved, reading)}, good.values)
        sources, self._origins = self._sources_in_force(good, rows, reading)
        config = _config_of(values, sources)
        self._put_in_force(config, errors + reading.errors, warnings + _worth_a_look(config))
        self._stale = False

    def _saved_section(self, errors: list[ConfigError]) -> Section:
        text = self._book.load()
        try:
            node = node_of(json.loads(text) if text else {})
        except ValueError:
            node = None
        if isinstance(node, Section):
            return node
        errors.append(ConfigError("are not readable and not in force", file=_SAVED))
        return Section({})

    def _read_file(
        self, saved: Section, saved_limits: Mapping[str, Any], rows: Mapping[str, SavedSource], warnings: list[str]
    ) -> _Declared:
        """What the file declares, if it is right in every point. Raises _FileError."""
        self._signatures, self._settled = self._look(), False
        try:
            path = locate(self._paths)
            content, status = read_bytes(path)
            self._settled = abs(self._clock() - status.st_mtime) > _UNSETTLED_S
            root = parse(content, path)
        except FileNotFoundError:
            self._settled = True
            warnings += _misnamed(self._paths[0])
            return _Declared()
        except ConfigError as error:
            raise _FileError([error]) from error
        reading = self._reading(path)
        reading.channels = names_in(saved, "channels")
        reading.taken = frozenset(name for name, row in rows.items() if row.kind != "file")
        limits = read_limits(root, reading)
        if reading.errors:  # without them paths and addresses cannot be judged
            raise _FileError(reading.errors)
        self._apply_limits(reading, {**saved_limits, **limits})
        values = read_rest(root, reading)
        if reading.errors:
            raise _FileError(reading.errors)
        warnings += _open_to_others(path, status, reading.clear_secrets)
        sources = values.pop("sources", ())
        return _Declared({**limits, **values}, sources)

    def _provision(self, good: _Declared, rows: Mapping[str, SavedSource]) -> dict[str, SavedSource]:
        """Give every declared source its row, and disable the rows of those that are declared no more."""
        left = dict(rows)
        for old, new in _renamed(good, rows).items():
            left[new] = left.pop(old)
        kept = {}
        for source in good.sources:
            row = left.pop(source.source_name, None)
            wanted = row_of(replace(source, source_id=row.source_id if row else 0), "yaml")
            kept[source.source_name] = self._keep(row, wanted)
        for name, row in left.items():
            kept[name] = self._keep(row, replace(row, enabled=False) if _is_provisioned(row) else row)
        return kept

    def _keep(self, row: SavedSource | None, wanted: SavedSource) -> SavedSource:
        """The row as it should be, saved if it is not so yet."""
        if row is not None and replace(row, settings="") == replace(wanted, settings=""):
            with contextlib.suppress(ValueError):
                if json.loads(row.settings) == json.loads(wanted.settings):
                    return row
        if row is not None and row.origin != wanted.origin:
            logger.info("source %r is now declared in %s", wanted.source_name, self._paths[0])
        return replace(wanted, source_id=self._book.put_source(wanted))

    def _sources_in_force(
        self, good: _Declared, rows: Mapping[str, SavedSource], reading: Reading
    ) -> tuple[tuple[LogSourceConfig, ...], dict[str, str]]:
        """All sources of files by id, and where each was declared."""
        declared = {source.source_name: source for source in good.sources}
        found = []
        origins = {}
        for row in sorted(rows.values(), key=lambda row: row.source_id):
            source: LogSourceConfig | None
            if row.source_name in declared:
                source = declared[row.source_name]
            elif row.kind != "file" or row.origin == "demo" or self._is_retired(row):
                continue
            else:
                source = read_source(node_of(row_values(row)), f"sources.{row.source_name}", reading)
            if source is not None:
                found.append(replace(source, source_id=row.source_id, roots=reading.rules.roots))
                origins[row.source_name] = row.origin
        return tuple(found), origins

    def _put_in_force(self, config: MonitoringConfig, errors: list[ConfigError], warnings: list[str]) -> None:
        for error in errors:
            if str(error) not in map(str, self._errors):
                logger.error("configuration: %s", error)
        for warning in warnings:
            if warning not in self._warnings:
                logger.warning("configuration: %s", warning)
        self._errors, self._warnings = errors, warnings
        if config != self._config or self._revision == 0:
            self._config = config
            self._revision += 1
            logger.info("configuration in force: %d sources", len(config.sources))


def _is_provisioned(row: SavedSource) -> bool:
    return row.kind == "file" and row.origin == "yaml"


def _renamed(good: _Declared, rows: Mapping[str, SavedSource]) -> dict[str, str]:
    """Old name to new name, where exactly one source left the file and exactly one came with the same path."""
    gone: dict[str, list[str]] = {}
    for name, row in rows.items():
        if _is_provisioned(row) and row.enabled and not good.names(name):
            gone.setdefault(row.path, []).append(name)
    come: dict[str, list[str]] = {}
    for source in good.sources:
        if source.source_name not in rows:
            come.setdefault(source.path, []).append(source.source_name)
    return {names[0]: come[path][0] for path, names in gone.items() if len(names) == 1 and len(come.get(path, ())) == 1}


def _limits_of(config: MonitoringConfig) -> dict[str, Any]:
    return {key: getattr(config, key) for key in LIMIT_KEYS}


def _merged(saved: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """What is declared wins: key by key in sections, name by name in lists of named things."""
    values = dict(saved)
    for key, value in declared.items():
        if isinstance(value, dict):
            values[key] = {**values.get(key, {}), **value}
        elif key in _NAMED:
            names = {item.name for item in value}
            values[key] = value + tuple(item for item in values.get(key, ()) if item.name not in names)
        else:
            values[key] = value
    return values


def _undeclared(config: MonitoringConfig, good: _Declared) -> dict[str, Any]:
    """The settings to be saved: those that the file does not declare and that are not the default."""
    saved: dict[str, Any] = {}
    for key in (*LIMIT_KEYS, *SETTING_KEYS):
        wanted, declared = plain(getattr(config, key)), plain(good.values.get(key))
        if isinstance(wanted, dict):
            changed = [f"{key}.{each}" for each, value in (declared or {}).items() if wanted.get(each) != value]
            wanted = {each: value for each, value in wanted.items() if each not in (declared or {})}
        elif key in _NAMED:
            changed = [] if all(item in wanted for item in declared or ()) else [key]
            names = {item["name"] for item in declared or ()}
            wanted = [item for item in wanted if item["name"] not in names]
        elif declared is not None:
            changed, wanted = [] if wanted == declared else [key], None
        else:
            changed = []
        if changed:
            raise ConfigError("is declared in the configuration file; change it there", key=changed[0])
        if wanted not in (None, {}, plain(getattr(_DEFAULTS, key))):
            saved[key] = wanted
    return saved


def _config_of(values: Mapping[str, Any], sources: tuple[LogSourceConfig, ...]) -> MonitoringConfig:
    sections = {"retention": Retention(**values.get("retention", {})), "llm": LlmConfig(**values.get("llm", {}))}
    return MonitoringConfig(**{**values, **sections, "sources": sources})


def _misnamed(path: str) -> list[str]:
    """Files that somebody may take for the configuration, while there is none."""
    other = os.path.splitext(path)[0] + ".yml"
    found = [f"{other} is not read; name it {os.path.basename(path)}"] if os.path.lexists(other) else []
    return [f"{path} is a symbolic link to nothing", *found] if os.path.islink(path) else found


def _open_to_others(path: str, status: os.stat_result, clear_secrets: Sequence[str]) -> list[str]:
    found = []
    if status.st_mode & stat.S_IWOTH:
        found.append(f"{path} may be changed by every user of this machine; run: chmod o-w {shlex.quote(path)}")
    if status.st_mode & stat.S_IROTH and clear_secrets:
        found.append(
            f"{path} may be read by every user of this machine and holds secrets ({', '.join(clear_secrets)}); "
            f"run: chmod 600 {shlex.quote(path)}, or write env:NAME or file:/path instead"
        )
    return found


def _worth_a_look(config: MonitoringConfig) -> list[str]:
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


_DEFAULTS = MonitoringConfig()
_NAMED = ("channels", "notification_rules")
