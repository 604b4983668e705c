"""What on this machine could be watched.

Well-known places first, as globs where a program writes several files of one kind, then any *.log that changed lately.
The search is bounded in time, depth and number, opens only regular files below the roots, and never fails: what it
may not read is reported with the command that changes that.
"""

from __future__ import annotations

import fnmatch
import grp
import os
import pwd
import re
import shlex
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from threatlens.event import Decoded, Fields

MAX_FOUND = 60
MAX_DEPTH = 4  # folders below a root
MAX_ENTRIES = 20_000  # looked at in all
MAX_SECONDS = 2.0
RECENT_S = 7 * 86_400
TAIL_BYTES = 65_536
SAMPLE_LINES = 20  # of the end, among which one that a decoder knows is preferred
SAMPLE_CHARS = 2_000

#: Source name and place below a root, in the order in which people look for them.
_PLACES: tuple[tuple[str, str], ...] = (
    ("auth", "auth.log"),
    ("secure", "secure"),
    ("syslog", "syslog"),
    ("messages", "messages"),
    ("kernel", "kern.log"),
    ("audit", "audit/audit.log"),
    ("ufw", "ufw.log"),
    ("fail2ban", "fail2ban.log"),
    ("nginx-access", "nginx/*access*.log"),
    ("nginx-error", "nginx/*error*.log"),
    ("apache-access", "apache2/*access*.log"),
    ("apache-error", "apache2/*error*.log"),
    ("httpd-access", "httpd/*access*log"),
    ("httpd-error", "httpd/*error*log"),
    ("caddy", "caddy/*.log"),
    ("haproxy", "haproxy.log"),
    ("squid", "squid/access.log"),
    ("mail", "mail.log"),
    ("maillog", "maillog"),
    ("exim", "exim4/mainlog"),
    ("ftp", "vsftpd.log"),
    ("mysql", "mysql/*.log"),
    ("mariadb", "mariadb/*.log"),
    ("postgresql", "postgresql/*.log"),
    ("redis", "redis/*.log"),
    ("samba", "samba/log.*"),
    ("openvpn", "openvpn/*.log"),
    ("pihole", "pihole/*.log"),
    ("cron", "cron.log"),
    ("daemon", "daemon.log"),
    ("dpkg", "dpkg.log"),
    ("apt", "apt/history.log"),
    ("dnf", "dnf.log"),
)
_SYSTEM_LOGS = frozenset({"auth", "secure", "syslog", "messages"})
_DOCKER = "/var/lib/docker/containers"
_JOURNALS = ("/var/log/journal", "/run/log/journal")
#: Binary files of /var/log, and what shows them.
_BINARY = {"wtmp": "last", "btmp": "sudo lastb", "lastlog": "lastlog", "faillog": "faillog"}
_SYSTEM_FOLDERS = frozenset({"/proc", "/sys", "/dev", "/run", "/tmp", "/boot"})  # noqa: S108 - not searched

_ROTATED = re.compile(
    r"(\.(\d{1,4}|old|bak)|[-.]\d{4}-?\d{2}-?\d{2}([-_.T]?\d+)?)(\.(gz|bz2|xz|zst|zip))?$|\.(gz|bz2|xz|zst|zip)$"
)
_DATED = re.compile(r"\d{4}-?\d{2}-?\d{2}([-_T]\d{2,6})?")


@dataclass(frozen=True, slots=True)
class Discovered:
    """One thing that could be watched, or that somebody may look for and why it cannot be."""

    name: str  # proposed name of the source
    path: str  # a file or a glob
    kind: str  # file, glob; never readable: binary, journal, outside (of the allowed roots)
    readable: bool  # every file of it
    size: int = 0  # bytes, all its files without the rotated ones
    format: str = ""  # of the sample; empty: no sample
    sample: str = ""  # a whole line near the end, as it stands there (untrusted); empty: no line yet
    fields: Fields = field(default_factory=dict)  # of the sample
    remedy: str = ""  # an exact command or a sentence; empty: nothing is missing


def discover(
    roots: Sequence[str],
    *,
    decode: Callable[[str], Decoded],
    forbidden: Sequence[str] = (),
    run_as: str | None = None,
    can_read: Callable[[str], bool] | None = None,
    now: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    journals: Sequence[str] = _JOURNALS,
    docker: str = _DOCKER,
) -> list[Discovered]:
    """What could be watched below the roots, well-known logs first. Never raises on what it finds.

    `decode` reads one line; `run_as` is the user for whom remedies are written (default: who runs this); `can_read`
    tells whether a file may be read (default: tried); `now` is in seconds since the epoch, `clock` bounds the time.
    """
    search = _Search(
        roots=tuple(dict.fromkeys(map(os.path.realpath, roots))),
        forbidden=tuple(map(os.path.realpath, forbidden)),
        user=run_as or user_name(),
        can_read=can_read or may_read,
        decode=decode,
        now=time.time() if now is None else now,
        clock=clock,
        until=clock() + MAX_SECONDS,
    )
    found = [*search.well_known(), *search.containers(docker)]
    has_system_log = any(each.name.split("-")[0] in _SYSTEM_LOGS for each in found)
    found += search.recent()
    if not has_system_log:
        found += search.journal(journals)
    return [*found[:MAX_FOUND], *search.binary()]


def permission_remedy(path: str, user: str, can_read: Callable[[str], bool] | None = None) -> str:
    """The command that lets a user read a file, or a folder and all in it: join the group that may, else an ACL."""
    can_read = can_read or may_read
    who = shlex.quote(user)
    folder = next((each for each in _folders_to(path) if os.path.isdir(each) and not can_read(each)), "")
    obstacle = folder or path
    try:
        status = os.stat(obstacle)
    except OSError:
        return f"sudo setfacl -m u:{who}:r {shlex.quote(path)}"
    group = _group_name(status.st_gid)
    needed = stat.S_IRGRP | stat.S_IXGRP if stat.S_ISDIR(status.st_mode) else stat.S_IRGRP
    if status.st_gid != 0 and group and status.st_mode & needed == needed:
        return f"sudo usermod -aG {shlex.quote(group)} {who}   # then log in again, or restart the service"
    if stat.S_ISDIR(status.st_mode):
        return f"sudo setfacl -R -m u:{who}:rX {shlex.quote(obstacle)}"
    return f"sudo setfacl -m u:{who}:r {shlex.quote(path)}"


def is_rotated(name: str) -> bool:
    """Whether a file name is that of a rotated log: its living sibling is the one to watch."""
    return bool(_ROTATED.search(name))


@dataclass(slots=True)
class _Search:
    """One search: what it may look at and what it has seen."""

    roots: tuple[str, ...]
    forbidden: tuple[str, ...]
    user: str
    can_read: Callable[[str], bool]
    decode: Callable[[str], Decoded]
    now: float
    clock: Callable[[], float]
    until: float
    entries: int = 0
    seen: set[str] | None = None  # real paths that something found covers
    names: set[str] | None = None

    def well_known(self) -> Iterator[Discovered]:
        for folder in self._log_folders():
            for name, place in _PLACES:
                pattern = os.path.join(folder, place)
                files = self._matching(pattern)
                if files:
                    yield self._found(name, pattern, files)
                elif os.path.isdir(parent := os.path.dirname(pattern)) and not self.can_read(parent):
                    yield self._locked(name, pattern, parent)

    def recent(self) -> Iterator[Discovered]:
        """Any other *.log that changed lately; files whose names differ in a date are one glob."""
        groups: dict[str, list[str]] = {}
        for root in self.roots:
            for path in self._walk(root, MAX_DEPTH):
                folder, name = os.path.split(path)
                groups.setdefault(os.path.join(folder, _DATED.sub("*", name)), []).append(path)
        for pattern, files in sorted(groups.items()):
            name = os.path.splitext(os.path.basename(pattern))[0].replace("*", "").strip("-_. ") or "log"
            yield self._found(name, pattern if "*" in pattern else files[0], files)

    def containers(self, folder: str) -> Iterator[Discovered]:
        """What Docker's json-file driver writes."""
        pattern = os.path.join(folder, "*", "*-json.log")
        if not os.path.isdir(folder):
            return
        if not self._allowed(os.path.realpath(folder)):
            remedy = f"add {folder} to allowed_roots, and let {self.user} read it"
            yield Discovered(self._name("docker"), pattern, "outside", readable=False, remedy=remedy)
        elif files := self._matching(pattern):
            yield self._found("docker", pattern, files)

    def journal(self, folders: Sequence[str]) -> Iterator[Discovered]:
        """A machine whose system log is in the journal only."""
        path = next(filter(os.path.isdir, folders), "")
        if not path:
            return
        remedy = (
            "The system log of this machine is in the systemd journal only, which is not a file of lines. "
            f"To have it as /var/log/auth.log or /var/log/secure too: {_install_rsyslog()}"
        )
        yield Discovered(self._name("journal"), path, "journal", readable=False, remedy=remedy)

    def binary(self) -> Iterator[Discovered]:
        """What lies beside logs and is none."""
        for folder in self._log_folders():
            for name, command in _BINARY.items():
                path = os.path.join(folder, name)
                if os.path.isfile(path):
                    remedy = f"Binary records, not lines of text; to look at them: {command}"
                    yield Discovered(name, path, "binary", readable=False, size=_size(path), remedy=remedy)

    def _log_folders(self) -> Iterable[str]:
        usual = [each for each in ("/var/log",) if each not in self.roots and self._allowed(each)]
        return [*self.roots, *usual]

    def _allowed(self, real: str) -> bool:
        return any(_within(real, root) for root in self.roots) and not any(_within(real, own) for own in self.forbidden)

    def _matching(self, pattern: str) -> list[str]:
        """The regular files of a place that nothing else covers yet; only its last parts may have wildcards."""
        found = [""]
        for part in pattern.split("/")[1:]:
            if "*" in part:
                found = [f"{folder}/{name}" for folder in found for name in self._listing(folder) if _fits(name, part)]
            else:
                found = [f"{folder}/{part}" for folder in found]
        return [path for path in found if self._is_candidate(path)]

    def _listing(self, folder: str) -> list[str]:
        if self.entries > MAX_ENTRIES or self.clock() > self.until:
            return []
        try:
            names = sorted(os.listdir(folder))[:MAX_ENTRIES]
        except OSError:
            return []
        self.entries += len(names)
        return [name for name in names if _is_text(name)]

    def _is_candidate(self, path: str) -> bool:
        real = os.path.realpath(path)
        self.seen = self.seen or set()
        if real in self.seen or is_rotated(os.path.basename(path)) or not self._allowed(real):
            return False
        try:
            return stat.S_ISREG(os.stat(real).st_mode)
        except OSError:
            return False

    def _walk(self, folder: str, depth: int) -> Iterator[str]:
        """Every *.log below a folder that changed lately."""
        for name in self._listing(folder):
            path = os.path.join(folder, name)
            if name.startswith("."):
                continue
            try:
                status = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode):
                if depth > 1 and path not in _SYSTEM_FOLDERS and self._allowed(path):
                    yield from self._walk(path, depth - 1)
            elif name.endswith(".log") and self.now - status.st_mtime < RECENT_S and self._is_candidate(path):
                yield path

    def _found(self, name: str, path: str, files: list[str]) -> Discovered:
        self.seen = (self.seen or set()) | {os.path.realpath(each) for each in files}
        locked = [each for each in files if not self.can_read(each)]
        size = sum(map(_size, files))
        kind = "glob" if "*" in path else "file"
        name = self._name(name)
        if locked:
            remedy = permission_remedy(locked[0], self.user, self.can_read)
            return Discovered(name, path, kind, readable=False, size=size, remedy=remedy)
        newest = max(files, key=_mtime)
        lines = last_lines(newest)
        if lines is None:
            remedy = f"{newest} is not text"
            return Discovered(name, path, "binary", readable=False, size=size, remedy=remedy)
        if not lines:
            return Discovered(name, path, kind, readable=True, size=size)
        decoded = [(line, self.decode(line)) for line in lines[:SAMPLE_LINES]]
        line, best = next((pair for pair in decoded if pair[1].format != "unknown"), decoded[0])
        return Discovered(name, path, kind, True, size, best.format, line[:SAMPLE_CHARS], best.fields)

    def _locked(self, name: str, pattern: str, parent: str) -> Discovered:
        kind = "glob" if "*" in pattern else "file"
        remedy = permission_remedy(parent, self.user, self.can_read)
        return Discovered(self._name(name), pattern, kind, readable=False, remedy=remedy)

    def _name(self, wanted: str) -> str:
        """A name that nothing found has yet."""
        self.names = self.names or set()
        name, number = wanted, 1
        while name in self.names:
            number += 1
            name = f"{wanted}-{number}"
        self.names.add(name)
        return name


def last_lines(path: str) -> list[str] | None:
    """The last whole lines of a file that are not blank, newest first; None: it is not text, or cannot be read."""
    try:
        descriptor = os.open(os.path.realpath(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        start = max(0, status.st_size - TAIL_BYTES)
        data = os.pread(descriptor, TAIL_BYTES, start)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    if b"\0" in data:
        return None
    whole = data[: data.rfind(b"\n") + 1].split(b"\n")
    lines = [line.decode("utf-8", "replace").rstrip("\r") for line in (whole[1:] if start else whole)]
    return [line for line in reversed(lines) if line.strip()]


def may_read(path: str) -> bool:
    """Whether this process may read a file, or list a folder and pass it."""
    return os.access(path, os.R_OK | os.X_OK if os.path.isdir(path) else os.R_OK, effective_ids=True)


def _fits(name: str, pattern: str) -> bool:
    return not name.startswith(".") and fnmatch.fnmatchcase(name, pattern)


def _within(path: str, folder: str) -> bool:
    return folder in ("/", path) or path.startswith(folder + "/")


def _is_text(name: str) -> bool:
    """Whether a file name is UTF-8: a configuration cannot hold another."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _mtime(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def user_name() -> str:
    """The name of the user who runs this process, its number if it has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


def _folders_to(path: str) -> list[str]:
    """The folders on the way to a file, from the top; a folder is on its own way."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(2, len(parts) + 1)]


def _install_rsyslog() -> str:
    for tool, command in (
        ("/usr/bin/apt-get", "sudo apt install rsyslog"),
        ("/usr/bin/dnf", "sudo dnf install rsyslog && sudo systemctl enable --now rsyslog"),
        ("/usr/bin/zypper", "sudo zypper install rsyslog"),
        ("/usr/bin/pacman", "sudo pacman -S rsyslog && sudo systemctl enable --now rsyslog"),
    ):
        if os.path.exists(tool):
            return command
    return "install rsyslog"
