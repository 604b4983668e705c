"""Which paths a source may name.

Nothing is expanded: a path means what it says, or it is an error that says why. What is checked here is the
configuration, so that a mistake is told at once; the reader of files checks again at every open.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from threatlens.errors import ConfigError

MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
MAX_WILDCARDS = 16  # in one path
SYSTEM_FOLDERS = ("/proc", "/sys", "/dev")

_WILDCARD = re.compile(r"[*?[]")
_SETS = re.compile(r"\[!?\]?[^\]]*\]")  # as in [a-z], [!x] and []]
_VARIABLE = re.compile(r"\$(\w|\{)")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


@dataclass(frozen=True, slots=True)
class PathRules:
    """Where sources may lie."""

    roots: tuple[str, ...]  # real paths; nothing outside is opened
    forbidden: tuple[str, ...]  # real paths of our own folders and files; nothing in them is a source

    def check(self, path: str, *, recursive: bool = False) -> str:
        """The path of a file, folder or glob in its normal form. Raises ConfigError with the reason."""
        path = absolute(path, also=f"; sources lie in {_listed(self.roots)}")
        parts = path.split("/")[1:]
        _check_glob(parts)
        fixed = fixed_prefix(path)
        real = os.path.realpath(fixed)
        for folder in SYSTEM_FOLDERS:
            if is_within(real, folder) or is_within(fixed, folder):
                raise ConfigError(f"{path} lies in {folder}, where no logs are; sources lie in {_listed(self.roots)}")
        if not any(is_within(real, root) for root in self.roots):
            where = f"{path} (really {real})" if real != fixed else path
            raise ConfigError(f"{where} lies outside allowed_roots: {_listed(self.roots)}")
        for own in self.forbidden:
            if is_within(real, own) or _reaches(real, path, own, recursive=recursive):
                raise ConfigError(f"{path} would read ThreatLens's own data in {own}; name the log files themselves")
        if "**" in parts and real == "/":
            raise ConfigError(f"{path} searches the whole file system; '**' may stand only below a folder")
        return path


def absolute(path: str, *, also: str = "") -> str:
    """The path without doubled slashes; ConfigError when it is none, or one that would have to be expanded."""
    if not path:
        raise ConfigError("must not be empty")
    if "\0" in path:
        raise ConfigError("must not hold a NUL character")
    if path.startswith("~"):
        raise ConfigError(f"{_short(path)}: '~' is not expanded; write the whole path{also}")
    if _VARIABLE.search(path):
        raise ConfigError(f"{_short(path)}: variables are not expanded; write the whole path ([$] for a real $){also}")
    if _DRIVE.match(path):
        raise ConfigError(f"{_short(path)} is a Windows path; ThreatLens reads files of the machine it runs on{also}")
    if not path.startswith("/"):
        raise ConfigError(f"{_short(path)} is relative; write the whole path, from '/' on{also}")
    if ".." in path.split("/"):
        raise ConfigError(f"{_short(path)}: '..' is not allowed; write the path it leads to{also}")
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise ConfigError(f"{_short(path)} is longer than {MAX_PATH_BYTES} bytes")
    if any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in path.split("/")):
        raise ConfigError(f"{_short(path)}: a name in it is longer than {MAX_NAME_BYTES} bytes")
    return "/" + os.path.normpath(path).lstrip("/")


def check_root(path: str, *, whole_file_system: bool) -> str:
    """The real path of an allowed root. Raises ConfigError."""
    path = absolute(path)
    if has_wildcard(path):
        raise ConfigError(f"{path}: a root is a folder, not a glob")
    real = os.path.realpath(path)
    for folder in SYSTEM_FOLDERS:
        if is_within(real, folder):
            raise ConfigError(f"{path} cannot be a root: no logs are in {folder}")
    if real == "/" and not whole_file_system:
        raise ConfigError(
            "'/' would allow every file of this machine; name folders, or also set allow_root_filesystem: true"
        )
    return real


def check_file_pattern(pattern: str) -> str:
    """A pattern for names in a folder. Raises ConfigError."""
    if not pattern or "/" in pattern or "\0" in pattern:
        raise ConfigError("must be a pattern for file names, such as *.log, without '/'")
    if len(os.fsencode(pattern)) > MAX_NAME_BYTES:
        raise ConfigError(f"is longer than {MAX_NAME_BYTES} bytes")
    if "**" in pattern:
        raise ConfigError("'**' belongs into path, not here; use recursive: true")
    _check_glob([pattern])
    return pattern


def has_wildcard(path: str) -> bool:
    """Whether the path is a glob."""
    return bool(_WILDCARD.search(path))


def fixed_prefix(path: str) -> str:
    """The part of an absolute path before its first component with a wildcard; the whole path if it has none."""
    parts = path.split("/")
    for index, part in enumerate(parts):
        if has_wildcard(part):
            return "/".join(parts[:index]) or "/"
    return path


def is_within(path: str, folder: str) -> bool:
    """Whether a path is the folder itself or lies below it; both absolute and normal."""
    return folder in ("/", path) or path.startswith(folder + "/")


def _check_glob(parts: Sequence[str]) -> None:
    for part in parts:
        if "**" in part and part != "**":
            raise ConfigError(f"{_short(part)}: '**' must stand alone between two slashes")
        if "[" in _SETS.sub("", part):
            raise ConfigError(f"{_short(part)}: '[' is never closed; write [[] for the character itself")
    if parts.count("**") > 1:
        raise ConfigError("'**' may stand in a path once")
    if sum(len(_WILDCARD.findall(part)) for part in parts) > MAX_WILDCARDS:
        raise ConfigError(f"has more than {MAX_WILDCARDS} wildcards")


def _reaches(real: str, path: str, own: str, *, recursive: bool) -> bool:
    """Whether a folder or a glob (its fixed part really at `real`) may come to a file of our own."""
    parts = path.split("/")[1:]
    if recursive or "**" in parts:
        return is_within(own, real)
    if not has_wildcard(path):
        return os.path.dirname(own) == real and not os.path.isdir(own)
    rest = parts[len(fixed_prefix(path).rstrip("/").split("/")) - 1 :]
    pattern = [part for part in real.split("/")[1:] if part] + rest
    names = own.split("/")[1:]
    deep_enough = len(pattern) > len(names) if os.path.isdir(own) else len(pattern) == len(names)
    return deep_enough and all(map(fnmatch.fnmatchcase, names, pattern))


def _listed(roots: Sequence[str]) -> str:
    return ", ".join(roots) or "no folder"


def _short(text: str) -> str:
    """Text for a message: quoted, control characters escaped, not longer than most paths."""
    return repr(text if len(text) <= 160 else text[:157] + "...")
