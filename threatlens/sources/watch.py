"""Waking up when something changes: inotify on folders, and a descriptor by which other threads wake the monitor.

It is a hint only: whatever it misses, the next look by polling finds. Where it cannot work, ``problem`` says why.
"""

from __future__ import annotations

import os
import select
from typing import NamedTuple

from inotify_simple import INotify, flags

_MASK = (
    flags.CREATE
    | flags.MODIFY
    | flags.ATTRIB
    | flags.MOVED_FROM
    | flags.MOVED_TO
    | flags.DELETE
    | flags.DELETE_SELF
    | flags.MOVE_SELF
    | flags.ONLYDIR
)
_GONE = flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT | flags.IGNORED
_KINDS = (
    (flags.CREATE, "created"),
    (flags.MOVED_TO, "moved_to"),
    (flags.MOVED_FROM, "moved_from"),
    (flags.DELETE, "deleted"),
    (flags.ATTRIB, "attributes"),
    (flags.MODIFY, "modified"),
)


class FileChangeEvent(NamedTuple):
    """Something happened to a file in a watched folder."""

    folder: str  # resolved; "" when events were lost and everything must be looked at
    name: str  # "" for the folder itself
    kind: str  # created, modified, attributes, moved_from, moved_to, deleted, gone (the folder), lost
    cookie: int = 0  # joins moved_from and moved_to
    is_folder: bool = False


class Watcher:
    """Watches folders, as far as the system lets it."""

    def __init__(self, *, use_inotify: bool = True) -> None:
        self.problem = ""  # why some changes are found by polling only; empty: none
        self._folders: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._inotify: INotify | None = None
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        if not use_inotify:
            self.problem = "inotify is switched off; changes are found by polling"
            return
        try:
            self._inotify = INotify()
        except OSError as error:
            self.problem = f"inotify cannot start ({error.strerror}); changes are found by polling"
            return
        self._poll.register(self._inotify.fileno(), select.POLLIN)

    def close(self) -> None:
        """Give the descriptors back."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1

    def wake(self) -> None:
        """Let `wait` return at once; may be called from any thread."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def watches(self, folder: str) -> bool:
        """Whether changes in this folder are reported."""
        return folder in self._folders

    def add(self, folder: str) -> bool:
        """Watch a folder (resolved path); False if that cannot be."""
        if folder in self._folders:
            return True
        if self._inotify is None:
            return False
        try:
            number = self._inotify.add_watch(os.fsencode(folder), _MASK)
        except OSError as error:
            if os.path.isdir(folder):
                self.problem = f"a folder cannot be watched ({error.strerror}); changes there are found by polling"
            return False
        previous = self._names.get(number)
        if previous is not None:  # the same folder under its former name
            self._folders.pop(previous, None)
        self._folders[folder] = number
        self._names[number] = folder
        return True

    def keep_only(self, folders: set[str]) -> None:
        """Stop watching all other folders."""
        for folder in [f for f in self._folders if f not in folders]:
            number = self._folders.pop(folder)
            self._names.pop(number, None)
            if self._inotify is not None:
                try:
                    self._inotify.rm_watch(number)
                except OSError:  # the system has dropped it already
                    continue

    def wait(self, timeout_s: float) -> None:
        """Return when something happened, somebody called `wake`, or the time is over."""
        for fd, _ in self._poll.poll(max(0, round(timeout_s * 1000))):
            if fd == self._wake:
                os.eventfd_read(self._wake)

    def events(self) -> list[FileChangeEvent]:
        """What happened since the last call; never waits."""
        if self._inotify is None:
            return []
        found = []
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:
                found.append(FileChangeEvent("", "", "lost"))
                continue
            folder = self._names.get(event.wd)
            if folder is None:
                continue
            if event.mask & _GONE:
                if event.mask & (flags.IGNORED | flags.MOVE_SELF | flags.UNMOUNT):
                    self._forget(event.wd)
                found.append(FileChangeEvent(folder, "", "gone"))
                continue
            kind = next(word for bit, word in _KINDS if event.mask & bit)
            is_folder = bool(event.mask & flags.ISDIR)
            found.append(FileChangeEvent(folder, event.name, kind, event.cookie, is_folder))
        return found

    def _forget(self, number: int) -> None:
        folder = self._names.pop(number, None)
        if folder is not None:
            self._folders.pop(folder, None)
