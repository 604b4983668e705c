"""Which files a source means, and opening them safely.

A path is resolved first and then walked again component by component without following links, so a link swapped
between the check and the open leads nowhere. Names are text with surrogate escapes (``os.fsdecode``); ``display``
makes them printable.
"""

from __future__ import annotations

import errno
import fnmatch
import grp
import os
import pwd
import re
import shlex
import stat
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from threatlens.errors import SourceError
from threatlens.sources.base import LogSourceConfig

#: Never read, whatever the roots are: what lies there is not a log.
SYSTEM_FOLDERS = ("/proc", "/sys", "/dev")
_MAGIC = re.compile(r"[*?[]")
_ROTATION = re.compile(r"(?:[-._]\d+)+|\.(?:gz|old|bak|orig|save|tmp)(?![^.])|~")
_ROTATED = re.compile(r"\.(?:\d+|gz|old|bak|orig)$|[-._]\d{6,}|~$")
_NUMBERED = re.compile(r"[-._](\d+)(?:\.[a-z]+)?(?:\.gz)?$")
_DATE_DIGITS = 6  # a number this long in a name is a date, and grows
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
_WALK = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


def display(path: str) -> str:
    """A path as printable text: bytes that are not text and control characters escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_inside(path: str, folder: str) -> bool:
    """Whether a path is this folder or lies in it (both resolved)."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def family(name: str) -> str:
    """What a file name keeps through rotation: app.log, app.log.1.gz and app.log-20260101 are one family."""
    return _ROTATION.sub("", name)


def looks_rotated(name: str) -> bool:
    """Whether a file name is one that rotation gives."""
    return bool(_ROTATED.search(name))


def is_newer(name: str, than: str) -> bool | None:
    """Whether one rotated name is of a later generation than another of its family; None: names do not tell."""
    first, second = _NUMBERED.search(name), _NUMBERED.search(than)
    if first is None or second is None:
        return None
    a, b = first.group(1), second.group(1)
    if len(a) >= _DATE_DIGITS and len(b) >= _DATE_DIGITS:
        return int(a) > int(b)
    return int(a) < int(b) if len(a) < _DATE_DIGITS and len(b) < _DATE_DIGITS else None


class Listing(NamedTuple):
    """One folder in which a source looks for files."""

    folder: str  # as configured
    pattern: str  # a name or an fnmatch pattern
    literal: bool

    def matches(self, name: str) -> bool:
        """Whether a file of this name belongs to the source. Hidden files only where the pattern says so."""
        if self.literal:
            return name == self.pattern
        if name.startswith(".") and not self.pattern.startswith("."):
            return False
        return _compiled(self.pattern).match(name) is not None

    def names(self, folder: str) -> list[str]:
        """The names in this folder, which ours leads to, that belong to the source."""
        if self.literal:
            return [self.pattern]
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if self.matches(e.name))


def original_first(file: tuple[str, str, os.stat_result]) -> tuple[bool, int]:
    """Files under their own name before rotated ones, which may be copies of them; then the oldest first."""
    return looks_rotated(os.path.basename(file[0])), file[2].st_mtime_ns


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))


def listings(config: LogSourceConfig) -> list[Listing]:
    """The folders a source looks into. Those that are missing are listed when named without a wildcard."""
    path = os.path.normpath(config.path)
    if os.path.isdir(path):
        pattern = config.file_pattern or "*"
        folders = _walk(path) if config.recursive else iter((path,))
        return [Listing(folder, pattern, False) for folder in folders]
    folder, name = os.path.split(path)
    if not _MAGIC.search(path) or os.path.lexists(path):
        return [Listing(folder, name, True)]
    return [Listing(found, name, not _MAGIC.search(name)) for found in _expand(folder)]


def _expand(folder: str) -> Iterator[str]:
    if not _MAGIC.search(folder):
        yield folder
        return
    parent, name = os.path.split(folder)
    for found in _expand(parent):
        if name == "**":
            yield from _walk(found)
        elif _MAGIC.search(name):
            listing = Listing(found, name, False)
            yield from (os.path.join(found, sub) for sub in _folders_in(found, links=True) if listing.matches(sub))
        elif os.path.isdir(os.path.join(found, name)):
            yield os.path.join(found, name)


def _walk(folder: str) -> Iterator[str]:
    yield folder
    for sub in _folders_in(folder, links=False):
        if not sub.startswith("."):
            yield from _walk(os.path.join(folder, sub))


def _folders_in(folder: str, *, links: bool) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir(follow_symlinks=links))
    except OSError:
        return []


class Fence:
    """What a source may open: regular files inside its roots, outside the forbidden folders."""

    def __init__(self, roots: tuple[str, ...], forbidden: tuple[str, ...]) -> None:
        self.roots = roots
        self.forbidden = (*SYSTEM_FOLDERS, *forbidden)

    def root_of(self, real: str) -> str:
        """The root that this resolved path lies in; raises SourceError (refused) if it may not be read."""
        roots = [root for root in self.roots if is_inside(real, root)]
        if not roots:
            allowed = ", ".join(display(root) for root in self.roots) or "none"
            raise SourceError(
                f"{display(real)} is outside the allowed roots ({allowed})",
                state="refused",
                remedy="Add its folder to allowed_roots in threatlens.yaml, or remove the source.",
            )
        root = max(roots, key=len)
        for folder in self.forbidden:
            # A root strictly inside a forbidden folder names it on purpose (the product's own spool).
            if is_inside(real, folder) and (root == folder or not is_inside(root, folder)):
                raise SourceError(
                    f"{display(real)} lies in {display(folder)}, which is never read as a log",
                    state="refused",
                    remedy="Point the source at another file.",
                )
        return root

    def open(self, real: str) -> int:
        """A descriptor of the regular file at this resolved path; raises SourceError or OSError."""
        root = self.root_of(real)
        folder = os.path.dirname(real) if real == root else root
        names = os.path.relpath(real, folder).split("/")
        at = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names[:-1]:
                below = os.open(name, _WALK, dir_fd=at)
                os.close(at)
                at = below
            require_regular(os.stat(names[-1], dir_fd=at, follow_symlinks=False), real)
            fd = os.open(names[-1], _OPEN, dir_fd=at)
        finally:
            os.close(at)
        try:
            require_regular(os.fstat(fd), real)
        except SourceError:
            os.close(fd)
            raise
        return fd


def require_regular(status: os.stat_result, path: str) -> None:
    """Raise SourceError unless this is a regular file; opening anything else may block or do harm."""
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return
    kind = next((word for test, word in _KINDS if test(mode)), "special file")
    raise SourceError(
        f"{display(path)} is not a regular file but a {kind}",
        state="refused",
        remedy="Point the source at a regular file.",
    )


_KINDS = (
    (stat.S_ISDIR, "directory"),
    (stat.S_ISFIFO, "FIFO"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "character device"),
    (stat.S_ISBLK, "block device"),
    (stat.S_ISLNK, "symbolic link that changed while it was opened"),
)


def explain(error: OSError, path: str) -> SourceError:
    """What an operating system error on this path means for its source, with what to do about it."""
    shown = display(path)
    number = error.errno
    if number in (errno.EACCES, errno.EPERM):
        return SourceError(f"no permission to read {shown}", state="no_permission", remedy=_permission_remedy(path))
    if number in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
        return SourceError(f"{shown} does not exist", state="missing", remedy="")
    if number == errno.ELOOP:
        return SourceError(f"{shown} is a loop of symbolic links", state="error", remedy="Repair the link.")
    if number == errno.ENAMETOOLONG:
        return SourceError("the path is too long for this system", state="error", remedy="Shorten the path.")
    return SourceError(f"{shown} could not be read: {error.strerror or error}", state="error", remedy="")


def _permission_remedy(path: str) -> str:
    """The command that gives this process the missing permission."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    try:
        status = os.stat(path)
    except OSError:
        folder = os.path.dirname(path)
        while folder != "/" and not os.access(os.path.dirname(folder), os.X_OK):
            folder = os.path.dirname(folder)
        return f"sudo setfacl -m u:{user}:rx {shlex.quote(folder)}"
    if status.st_mode & stat.S_IRGRP and status.st_gid not in {os.getegid(), *os.getgroups()}:
        try:
            return f"sudo usermod -aG {grp.getgrgid(status.st_gid).gr_name} {user}"
        except KeyError:
            pass
    return f"sudo setfacl -m u:{user}:r {shlex.quote(path)}"
