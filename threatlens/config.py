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
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from threatlens.config_book import ConfigBook, SavedSource, SavedVersion, row_of, row_values, source_values
from threatlens.config_file import Entry, Section, Signature, locate, node_of, parse, read_bytes, signature
from threatlens.config_history import Change, SavedSettings, kept_secrets, without_references
from threatlens.config_kinds import Reading
from threatlens.config_merge import (
    DEFAULTS,
    NO_SOURCE,
    Declared,
    FileError,
    config_of,
    is_provisioned,
    keys_of,
    limits_of,
    merged,
    misnamed,
    open_to_others,
    refuse_declared,
    renamed,
    undeclared,
    with_imported,
    worth_a_look,
)
from threatlens.config_paths import PathRules
from threatlens.config_schema import names_in, read_limits, read_rest, read_source
from threatlens.config_values import Channel, MonitoringConfig, NotificationRule
from threatlens.errors import ConfigError
from threatlens.outbound_urls import Permissions
from threatlens.sources.base import LogSourceConfig
from threatlens.vault import Vault

__all__ = ["NO_SOURCE", "ConfigBook", "ConfigManager", "LogSourceConfig", "MonitoringConfig", "SavedSource"]
__all__ += ["SavedVersion"]

logger = logging.getLogger(__name__)

#: A file written this short a time ago may be written again without its time of change moving on.
_UNSETTLED_S = 2.0
_SAVED = "settings saved in the database"


class ConfigManager:
    """Merges the file with what was saved, and tells when the result changes. Safe to use from any thread.

    `forbidden` are our own folders and files (data folder, database), which no source may read; `formats` tells the
    names of decoders, people's own among them. Methods that change something raise ConfigError (with the key) for what
    may not be, and StoreUnavailable when it cannot be saved now.
    """

    def __init__(
        self,
        yaml_path: str,
        *,
        forbidden: Sequence[str],
        book: ConfigBook,
        formats: Callable[[], frozenset[str]],
        vault: Vault,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._paths = (yaml_path, os.path.splitext(yaml_path)[0] + ".json")
        self._forbidden = tuple(os.path.realpath(path) for path in forbidden)
        self._book = book
        self._formats, self._formats_read = formats, frozenset[str]()
        self._settings = SavedSettings(book, vault)
        self._clock = clock
        self._lock = threading.RLock()
        self._signatures: tuple[Signature, ...] = ()
        self._settled = False  # whether an unchanged signature proves an unchanged file
        self._stale = True  # whether the last reading was broken off, as the book could not be used
        self._book_version: int | None = None
        self._good: Declared | None = None
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

    @property
    def declared_keys(self) -> frozenset[str]:
        """The keys that the file says something about, dotted within sections."""
        return keys_of((self._good or Declared()).values)

    def declared(self, kind: str) -> frozenset[str]:
        """The names of the "channels" or "notification_rules" that the file declares, read-only elsewhere."""
        return frozenset(item.name for item in (self._good or Declared()).values.get(kind, ()))

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
                or self._formats() != self._formats_read
            ):
                self._reload()
            changed = self._revision != self._told
            self._told = self._revision
            return changed

    # --- changes from the UI and the command line

    def save_config(self, config: MonitoringConfig, *, author: str = "", note: str = "") -> None:
        """Save all settings but the sources (they have methods of their own) and put them in force.

        What the file declares must be unchanged in `config`; ConfigError names the first key for which it is not.
        """
        with self._lock:
            self._reload()
            self._save(undeclared(config, self._good or Declared()), author, note, references=True)

    def change_settings(self, changes: Mapping[str, Any], *, author: str = "") -> None:
        """Save some settings, written as in the file; of a section only the keys that are named. None: the default.

        A secret that is left out stays. env: and file: are refused here: they are for whoever may edit the file.
        """
        with self._lock:
            self._reload()
            saved = self._settings.readable()
            for key, value in changes.items():
                refuse_declared((self._good or Declared()).values.get(key), key, value)
                saved[key] = kept_secrets(saved.get(key) or {}, dict(value)) if isinstance(value, Mapping) else value
            self._save(saved, author, f"{', '.join(changes)} changed")

    def put_named(
        self, kind: str, values: Mapping[str, Any], *, name: str | None = None, author: str = ""
    ) -> Channel | NotificationRule:
        """Save a new channel or notification rule, or with `name` change some keys of that one; it is returned.

        `kind` is "channels" or "notification_rules", `values` are written as in the file. A secret that is left out
        or empty stays; it must be entered again when it would now be sent to another server.
        """
        with self._lock:
            self._reload()
            saved = self._settings.readable()
            items: list[Any] = saved.setdefault(kind, [])
            wanted = dict(values)
            if name is not None:
                present = self._named(kind, items, name)
                wanted = kept_secrets(present, wanted)
                items[items.index(present)] = wanted
            else:
                items.append(wanted)
            label = str(wanted.get("name", ""))
            if any(item.name == label for item in (self._good or Declared()).values.get(kind, ())):
                raise ConfigError(f"{label!r} is declared in {os.path.basename(self._paths[0])}", key="name")
            self._save(saved, author, f"{label} {'added' if name is None else 'changed'}")
            found: tuple[Channel | NotificationRule, ...] = getattr(self._config, kind)
            return next(item for item in found if item.name == label)

    def import_settings(self, values: Mapping[str, Any], *, author: str = "", references: bool = True) -> None:
        """Save what a file says. ConfigError for the first mistake; then nothing changed.

        Things with names are added, or take the place of those saved under their names; what threatlens.yaml declares
        stays as it says. Without `references` a secret that is one stays as it is saved.
        """
        with self._lock:
            self._reload()
            saved = self._settings.readable()
            values = values if references else without_references(values, saved)
            declared = (self._good or Declared()).values
            sources = [self._checked(source) for source in values.get("sources") or ()]
            for key, value in values.items():
                if key != "sources":
                    saved[key] = with_imported(key, saved.get(key), value, declared.get(key))
            self._save(saved, author, "imported", references=references)
            rows = self._rows()
            for source in sources:
                row = rows.get(source.source_name)
                if row is None or (row.kind == "file" and row.origin == "ui"):
                    self._put(replace(source, source_id=row.source_id if row else 0), author, "imported")

    def remove_named(self, kind: str, name: str, *, author: str = "") -> None:
        """Forget a channel or a notification rule. ConfigError while a rule still names the channel."""
        with self._lock:
            self._reload()
            saved = self._settings.readable()
            items: list[Any] = saved.setdefault(kind, [])
            items.remove(self._named(kind, items, name))
            self._save(saved, author, f"{name} removed")

    # --- history

    def history(self, limit: int = 100) -> list[SavedVersion]:
        """The newest saved versions, the one in force first."""
        return self._settings.versions(limit)

    def compare(self, older: int, newer: int) -> list[Change]:
        """What changed from one saved version (0: none) to another, without secrets. ConfigError if there is none."""
        return self._settings.compare(older, newer)

    def roll_back(self, version_id: int, *, author: str = "") -> None:
        """Make a saved version, with its sources, the newest one. ConfigError for what may not be any more."""
        with self._lock:
            self._reload()
            version = self._settings.version(version_id)
            wanted = [self._checked(values) for values in version.pop("sources", ())]
            rows = self._rows()
            here = {name: row for name, row in rows.items() if row.kind == "file" and row.origin == "ui"}
            for source in wanted:
                row = rows.get(source.source_name)
                if row is None or row.source_name in here:
                    self._book.put_source(row_of(replace(source, source_id=row.source_id if row else 0), "ui"))
            for name in here.keys() - {source.source_name for source in wanted}:
                self._book.delete_source(here[name].source_id)
            self._save(version, author, f"as in version {version_id}", references=True)

    # --- what is saved

    def _save(self, saved: Mapping[str, Any], author: str, note: str, *, references: bool = False) -> None:
        """Seal, save and put in force. ConfigError for the first mistake that was not there before."""
        saved = {key: value for key, value in saved.items() if value is not None}
        before = {error.message for error in self._read_saved(self._settings.readable(), references=True).errors}
        reading = self._read_saved(saved, references=references)
        for error in reading.errors:
            if error.message not in before:
                raise error
        self._settings.add(saved, reading.open_secrets, author, note)
        self._reload()

    def _read_saved(self, saved: Mapping[str, Any], *, references: bool) -> Reading:
        root = Section({key: Entry(node_of(value)) for key, value in saved.items()})
        good = self._good or Declared()
        reading = self._reading("")
        reading.references = references
        reading.unseal = self._settings.unseal
        self._apply_limits(reading, {**read_limits(root, reading), **good.limits})
        reading.channels = frozenset(channel.name for channel in good.values.get("channels", ()))
        read_rest(root, reading)
        return reading

    def _named(self, kind: str, items: Sequence[Any], name: str) -> dict[str, Any]:
        for item in items:
            if isinstance(item, dict) and item.get("name") == name:
                return item
        if any(item.name == name for item in (self._good or Declared()).values.get(kind, ())):
            file = os.path.basename(self._paths[0])
            raise ConfigError(f"{name!r} is declared in {file}; change it there", key="name")
        raise ConfigError(f"there is no {name!r}", key="name")

    def add_log_source(self, source: LogSourceConfig | Mapping[str, Any], *, author: str = "") -> LogSourceConfig:
        """Save a new source (keys as in the file) and return it with its id."""
        with self._lock:
            self._reload()
            checked = self._checked(source_values(source))
            present = self._rows().get(checked.source_name)
            if present and not self._is_retired(present):
                raise ConfigError(f"there is already a source named {checked.source_name!r}", key="name")
            # A name that the file once declared goes on with its history.
            checked = replace(checked, source_id=present.source_id if present else 0)
            return self._put(checked, author, f"source {checked.source_name} added")

    def update_log_source(
        self, name: str, changes: LogSourceConfig | Mapping[str, Any], *, author: str = ""
    ) -> LogSourceConfig:
        """Change some keys of a source (`name` renames it, its history stays) and return it as it is now."""
        with self._lock:
            self._reload()
            present = self._editable(name)
            checked = self._checked({**row_values(present), **source_values(changes)})
            if checked.source_name != name and checked.source_name in self._rows():
                raise ConfigError(f"there is already a source named {checked.source_name!r}", key="name")
            return self._put(replace(checked, source_id=present.source_id), author, f"source {name} changed")

    def remove_log_source(self, name: str, *, author: str = "") -> None:
        """Forget a source."""
        with self._lock:
            self._reload()
            self._book.delete_source(self._editable(name).source_id)
            self._settings.add(self._settings.readable(), (), author, f"source {name} removed")
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
        self._apply_limits(reading, limits_of(self._config))
        source = read_source(node_of(values), "", reading)
        if source is None:
            error = reading.errors[0]
            raise ConfigError(error.message, key=error.key.lstrip("."))
        return source

    def _put(self, source: LogSourceConfig, author: str, note: str) -> LogSourceConfig:
        source = replace(source, source_id=self._book.put_source(row_of(source, "ui")))
        self._settings.add(self._settings.readable(), (), author, note)
        self._reload()
        return source

    # --- reading

    def _look(self) -> tuple[Signature, ...]:
        return tuple(signature(path) for path in self._paths)

    def _reading(self, file: str) -> Reading:
        return Reading(file=file, formats=self._formats_read, rules=PathRules((), self._forbidden))

    def _apply_limits(self, reading: Reading, limits: Mapping[str, Any]) -> None:
        roots = limits.get("allowed_roots") or map(os.path.realpath, DEFAULTS.allowed_roots)
        reading.rules = PathRules(tuple(roots), self._forbidden)
        networks, ports = limits.get("allowed_private_networks", ()), limits.get("allowed_ports", ())
        reading.outbound = Permissions(tuple(networks), frozenset(ports))

    def _reload(self) -> None:
        """Read the file and what was saved, and put what is good in force."""
        self._stale = True
        self._book_version = self._book.version()
        self._formats_read = self._formats()
        rows = self._rows()
        errors: list[ConfigError] = []
        warnings: list[str] = []
        saved = self._saved_section(errors)
        reading = self._reading(_SAVED)
        reading.unseal, reading.dangling = self._settings.unseal, reading.lost
        limits = read_limits(saved, reading)
        try:
            self._good = self._read_file(saved, limits, rows, warnings)
            rows = self._provision(self._good, rows)
        except FileError as found:
            errors += found.errors
        good = self._good or Declared()
        limits |= good.limits
        self._apply_limits(reading, limits)
        reading.channels = frozenset(channel.name for channel in good.values.get("channels", ()))
        values = merged({**limits, **read_rest(saved, reading)}, good.values)
        sources, self._origins = self._sources_in_force(good, rows, reading)
        config = config_of(values, sources)
        self._put_in_force(config, errors + reading.errors + reading.lost, warnings + worth_a_look(config))
        self._stale = False

    def _saved_section(self, errors: list[ConfigError]) -> Section:
        try:
            return Section({key: Entry(node_of(value)) for key, value in self._settings.read().items()})
        except ValueError:
            errors.append(ConfigError("are not readable and not in force", file=_SAVED))
            return Section({})

    def _read_file(
        self, saved: Section, saved_limits: Mapping[str, Any], rows: Mapping[str, SavedSource], warnings: list[str]
    ) -> Declared:
        """What the file declares, if it is right in every point. Raises FileError."""
        self._signatures, self._settled = self._look(), False
        try:
            path = locate(self._paths)
            content, status = read_bytes(path)
            self._settled = abs(self._clock() - status.st_mtime) > _UNSETTLED_S
            root = parse(content, path)
        except FileNotFoundError:
            self._settled = True
            warnings += misnamed(self._paths[0])
            return Declared()
        except ConfigError as error:
            raise FileError([error]) from error
        reading = self._reading(path)
        reading.channels = names_in(saved, "channels")
        reading.taken = frozenset(name for name, row in rows.items() if row.kind != "file")
        limits = read_limits(root, reading)
        if reading.errors:  # without them paths and addresses cannot be judged
            raise FileError(reading.errors)
        self._apply_limits(reading, {**saved_limits, **limits})
        values = read_rest(root, reading)
        if reading.errors:
            raise FileError(reading.errors)
        warnings += open_to_others(path, status, reading.clear_secrets)
        sources = values.pop("sources", ())
        return Declared({**limits, **values}, sources)

    def _provision(self, good: Declared, rows: Mapping[str, SavedSource]) -> dict[str, SavedSource]:
        """Give every declared source its row, and disable the rows of those that are declared no more."""
        left = dict(rows)
        for old, new in renamed(good, rows).items():
            left[new] = left.pop(old)
        kept = {}
        for source in good.sources:
            row = left.pop(source.source_name, None)
            wanted = row_of(replace(source, source_id=row.source_id if row else 0), "yaml")
            kept[source.source_name] = self._keep(row, wanted)
        for name, row in left.items():
            kept[name] = self._keep(row, replace(row, enabled=False) if is_provisioned(row) else row)
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
        self, good: Declared, rows: Mapping[str, SavedSource], reading: Reading
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
                logger.log(logging.INFO if warning == NO_SOURCE else logging.WARNING, "configuration: %s", warning)
        self._errors, self._warnings = errors, warnings
        if config != self._config or self._revision == 0:
            self._config = config
            self._revision += 1
            logger.info("configuration in force: %d sources", len(config.sources))
