"""Backups that are made by themselves: when one is due, which ones are kept, how the last one went."""

from __future__ import annotations

import calendar
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from threatlens.backup import make_backup
from threatlens.config_values import BackupConfig
from threatlens.errors import BackupError
from threatlens.health import Component
from threatlens.settings import Settings

log = logging.getLogger(__name__)

_NAME = re.compile(r"threatlens-(\d{8}T\d{6}Z)\.backup")
#: Seconds between two tries while a backup cannot be made.
RETRY_S = 600.0


@dataclass(frozen=True, slots=True)
class Backup:
    """One file in the folder."""

    name: str
    made_s: float  # seconds since the epoch, from its name
    size: int


class BackupSchedule:
    """One an engine; `make_due` is for one thread."""

    def __init__(
        self,
        settings: Settings,
        config: Callable[[], BackupConfig],
        *,
        version: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._config = config
        self._version = version
        self._clock = clock
        self._failed_s = float("-inf")
        self._problem = ""

    def make_due(self) -> bool:
        """Make one if it is time; whether one was made."""
        config, now = self._config(), self._clock()
        if not config.folder or 0 <= now - self._failed_s < RETRY_S:
            return False
        # One that a clock ahead of its time made says nothing about when the last was made.
        if any(0 <= now - one.made_s < 3600 * config.every_hours for one in self.backups()):
            return False
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        path = os.path.join(config.folder, f"threatlens-{stamp}.backup")
        try:
            os.makedirs(config.folder, mode=0o700, exist_ok=True)
            size = make_backup(
                self._settings, path, version=self._version, passphrase=self._settings.backup_passphrase,
                clock=self._clock,
            )  # fmt: skip
        except (BackupError, OSError) as error:
            self._problem, self._failed_s = str(error), now
            log.warning("no backup could be made: %s", error)
            return False
        self._problem, self._failed_s = "", float("-inf")
        log.info("%s: %d bytes, verified", path, size)
        kept = [one for one in self.backups() if one.name != os.path.basename(path)]
        for old in kept[config.keep - 1 :]:
            os.unlink(os.path.join(config.folder, old.name))
        return True

    def backups(self) -> list[Backup]:
        """What is in the folder, the newest first."""
        folder = self._config().folder
        found = []
        try:
            with os.scandir(folder or os.devnull) as entries:
                for entry in entries:
                    match = _NAME.fullmatch(entry.name)
                    if match and entry.is_file(follow_symlinks=False):
                        made = calendar.timegm(time.strptime(match[1], "%Y%m%dT%H%M%SZ"))
                        found.append(Backup(entry.name, made, entry.stat().st_size))
        except OSError:
            return []
        return sorted(found, key=lambda one: one.name, reverse=True)

    def health(self) -> Iterator[Component]:
        """How old the newest is."""
        config = self._config()
        if not config.folder:
            yield Component("backup", "off", "none is made by itself")
            return
        made = self.backups()
        age_h = (self._clock() - made[0].made_s) / 3600 if made else 0
        newest = f"{len(made)} in {config.folder}, the newest {age_h:.0f} hours old" if made else "none was made yet"
        if self._problem:
            yield Component("backup", "degraded", f"{newest}; {self._problem}", f"make room in {config.folder}")
        elif made and age_h > 2 * config.every_hours:
            yield Component("backup", "degraded", newest, "look for what keeps it from being made in the log")
        else:
            yield Component("backup", "ok", newest)
