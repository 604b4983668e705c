"""Checks everything ThreatLens depends on and says what to do about what is not well.

Nothing is changed, and no check keeps another from running. The machine is asked through probes, so that every finding
can be shown without a broken machine.
"""

from __future__ import annotations

import glob
import itertools
import os
import resource
import shlex
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import inotify_simple

from threatlens.config import NO_SOURCE, ConfigManager
from threatlens.config_paths import has_wildcard
from threatlens.config_values import EmailChannel, MonitoringConfig, Secret
from threatlens.detectors import load_rules
from threatlens.discovery import may_read, permission_remedy, user_name
from threatlens.errors import ConfigError, DataFolderError
from threatlens.fanout import ping
from threatlens.settings import redis_name
from threatlens.sources.base import LogSourceConfig
from threatlens.store_check import problems_of
from threatlens.store_schema import HEAD, file_system, revision, server_revision

MAX_FILES = 2_000  # of one source that are looked at
MIN_FREE_BYTES = 512 << 20
MIN_FREE_SHARE = 0.05
SPARE_DESCRIPTORS = 256  # for sockets, the database and the like
FIRST_YEAR, LAST_YEAR = 2025, 2100
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "glusterfs", "ceph", "afs"}
_PRIVATE_FILES = ("secret.key", "threatlens.db", "threatlens.db-wal")


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    name: str
    ok: bool
    detail: str  # one sentence or less
    remedy: str = ""  # an exact command or a sentence; may stand beside ok as advice


class Deployment(Protocol):
    """Where things are: what of Settings is looked at."""

    @property
    def data(self) -> str: ...
    @property
    def uses_sqlite(self) -> bool: ...
    @property
    def database_url(self) -> str: ...
    @property
    def database_name(self) -> str: ...
    @property
    def database_path(self) -> str: ...
    @property
    def lease_path(self) -> str: ...
    @property
    def redis_url(self) -> str: ...


def _cannot_watch() -> str:
    """Why no inotify instance can be made now; empty: it can."""
    try:
        inotify_simple.INotify().close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _watch_limit() -> int | None:
    """How many folders one user may watch; None: the kernel does not tell."""
    try:
        with open("/proc/sys/fs/inotify/max_user_watches") as stream:
            return int(stream.read())
    except (OSError, ValueError):
        return None


def _free(folder: str) -> tuple[int, int]:
    """(free, total) bytes where a folder is."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(frozen=True, slots=True)
class Probes:
    """How the machine is asked."""

    user: Callable[[], str] = user_name
    user_id: Callable[[], int] = os.geteuid
    can_read: Callable[[str], bool] = may_read
    file_system: Callable[[str], str] = file_system
    revision: Callable[[str], str | None] = revision
    server_revision: Callable[[str], str] = server_revision
    database_problems: Callable[[str], list[str]] = problems_of
    cannot_watch: Callable[[], str] = _cannot_watch
    watch_limit: Callable[[], int | None] = _watch_limit
    free: Callable[[str], tuple[int, int]] = _free
    descriptor_limit: Callable[[], int] = field(default=lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    is_alive: Callable[[int], bool] = _is_alive
    ping: Callable[[str], tuple[str, str]] | None = ping  # Redis; None: it is not asked


def run_checks(deployment: Deployment, config: ConfigManager | None, *, probes: Probes | None = None) -> list[Finding]:
    """All findings, good ones too. `config` is loaded; None: it could not be, as the database cannot be used."""
    probes = probes or Probes()
    findings = [*_data_folder(deployment, probes), *_database(deployment, probes)]
    folders = files = 0
    if config is not None:
        findings += _configuration(config)
        findings += _secrets(config.config)
        for source in config.get_log_sources():
            if source.enabled:
                found = list(itertools.islice(_files_of(source), MAX_FILES))
                files += len(found)
                folders += len({os.path.dirname(path) for path in found}) or 1
                findings.append(_source(source, found, probes))
    findings += _rules(deployment)
    findings += [
        _watches(folders, probes),
        _descriptors(files, probes),
        _disk(deployment, probes),
        _clock(probes),
        _engine(deployment, probes),
        *_redis(deployment, probes),
    ]
    return findings


def _data_folder(deployment: Deployment, probes: Probes) -> Iterator[Finding]:
    name, folder = "data folder", deployment.data
    quoted = shlex.quote(folder)
    try:
        status = os.stat(folder)
    except FileNotFoundError:
        yield Finding(name, True, f"{folder} is not there yet; the first start makes it")
        return
    except OSError as error:
        yield Finding(name, False, f"{folder}: {error.strerror}", f"let {probes.user()} reach it")
        return
    before = 0
    for found in _data_folder_faults(folder, quoted, status, probes):
        before += 1
        yield found
    if not before:
        others = "; others may look into it" if status.st_mode & 0o077 else ""
        yield Finding(name, True, folder + others, f"chmod 700 {quoted}" if others else "")


def _data_folder_faults(folder: str, quoted: str, status: os.stat_result, probes: Probes) -> Iterator[Finding]:
    name = "data folder"
    if not stat.S_ISDIR(status.st_mode):
        yield Finding(name, False, f"{folder} is not a folder", "set THREATLENS_DATA to a folder")
        return
    if status.st_uid != probes.user_id():
        who = shlex.quote(probes.user())
        yield Finding(name, False, f"{folder} belongs to another user", f"sudo chown -R {who} {quoted}")
    if status.st_mode & stat.S_IWOTH:
        yield Finding(name, False, f"{folder} may be written by every user", f"chmod 700 {quoted}")
    if (kind := probes.file_system(folder)) in _NETWORK:
        remedy = "set THREATLENS_DATA to a folder on a local disk"
        yield Finding(name, False, f"{folder} lies on {kind}, where SQLite can lose data", remedy)
    for file in _PRIVATE_FILES:
        path = os.path.join(folder, file)
        if os.path.isfile(path) and os.stat(path).st_mode & 0o077:
            yield Finding(name, False, f"{path} is open to other users", f"chmod 600 {shlex.quote(path)}")


def _database(deployment: Deployment, probes: Probes) -> Iterator[Finding]:
    name, path = "database", deployment.database_name
    try:
        found = probes.revision(path) if deployment.uses_sqlite else probes.server_revision(deployment.database_url)
    except DataFolderError as error:
        yield Finding(name, False, str(error))
        return
    if found is None:
        yield Finding(name, True, f"{path} is not there yet; the first start makes it")
        return
    problems = probes.database_problems(path) if deployment.uses_sqlite else ()
    if problems:
        remedy = "stop ThreatLens and restore a backup, or restart it if only the journal mode is wrong"
        yield Finding(name, False, f"{path}: {'; '.join(problems)}", remedy)
    elif found != HEAD:
        remedy = "python -m threatlens migrate"
        yield Finding(name, False, f"{path} has schema {found or 'none'}, this version needs {HEAD}", remedy)
    else:
        yield Finding(name, True, f"{path}, schema {found}")


def _configuration(config: ConfigManager) -> Iterator[Finding]:
    name = "configuration"
    for error in config.errors:
        yield Finding(name, False, str(error), "correct it; what was in force before stays in force until then")
    for warning in config.warnings:
        if warning == NO_SOURCE:
            yield Finding(name, True, warning, "python -m threatlens sources discover")
        else:
            yield Finding(name, False, warning, "see docs/configuration.md")
    if not config.errors and not config.warnings:
        yield Finding(name, True, _counted(len(config.get_log_sources()), "source"))


def _rules(deployment: Deployment) -> Iterator[Finding]:
    """The user's own rule files; the shipped ones are tested before they are shipped."""
    folder = os.path.join(deployment.data, "rules")
    if not os.path.isdir(folder):
        return
    found = load_rules([folder])
    for problem in found.problems:
        where = os.path.relpath(problem.path, folder) + (f":{problem.line}" if problem.line else "")
        yield Finding("rules", not problem.broken, f"{where}: {problem.reason}", f"correct {shlex.quote(problem.path)}")
    if found.rules:
        yield Finding("rules", True, f"{len(found.rules)} of your own")


def _secrets(config: MonitoringConfig) -> Iterator[Finding]:
    """Secrets that stand elsewhere and are not there. Environment variables are those of this command."""
    for owner, secret in _secrets_in(config):
        try:
            secret.resolve()
        except ConfigError as error:
            yield Finding("secrets", False, f"{owner}: {error.message}", "set it where ThreatLens is started")


def _secrets_in(config: MonitoringConfig) -> Iterator[tuple[str, Secret]]:
    for channel in config.channels:
        holder = channel.smtp if isinstance(channel, EmailChannel) else channel
        for name in ("password", "url", "secret"):
            secret = getattr(holder, name, None)
            if isinstance(secret, Secret):
                yield f"channel {channel.name!r}", secret
    if config.llm.enabled and config.llm.api_key is not None:
        yield "llm", config.llm.api_key


def _files_of(source: LogSourceConfig) -> Iterator[str]:
    """The files that a source names, as far as they can be seen."""
    if os.path.isdir(source.path):
        pattern = os.path.join(glob.escape(source.path), *["**"] * source.recursive, source.file_pattern or "*")
    elif has_wildcard(source.path):
        pattern = source.path
    else:
        yield from [source.path] if os.path.lexists(source.path) else []
        return
    yield from filter(os.path.isfile, glob.iglob(pattern, recursive=True))


def _source(source: LogSourceConfig, files: list[str], probes: Probes) -> Finding:
    name = f"source {source.source_name}"
    if not files:
        parent = source.path if os.path.isdir(source.path) else os.path.dirname(source.path)
        if os.path.isdir(parent) and not probes.can_read(parent):
            return Finding(
                name, False, f"{parent} may not be read", permission_remedy(parent, probes.user(), probes.can_read)
            )
        what = "no file matches" if has_wildcard(source.path) or os.path.isdir(source.path) else "there is no file"
        return Finding(name, False, f"{what} {source.path}", "check the path; reading begins as soon as there is one")
    locked = [path for path in files if not probes.can_read(path)]
    if locked:
        detail = f"{len(locked)} of {len(files)} files may not be read, such as {locked[0]}"
        return Finding(name, False, detail, permission_remedy(locked[0], probes.user(), probes.can_read))
    return Finding(name, True, f"{len(files)} files" if len(files) > 1 else files[0])


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _watches(folders: int, probes: Probes) -> Finding:
    name = "inotify"
    if reason := probes.cannot_watch():
        remedy = (
            "echo fs.inotify.max_user_instances=1024 | sudo tee /etc/sysctl.d/60-inotify.conf && sudo sysctl --system"
        )
        return Finding(name, False, f"cannot be used ({reason}); files are polled instead", remedy)
    limit = probes.watch_limit()
    if limit is not None and limit < folders * 2:
        remedy = f"echo fs.inotify.max_user_watches={max(65536, folders * 4)}"
        remedy += " | sudo tee /etc/sysctl.d/60-inotify.conf && sudo sysctl --system"
        detail = f"{_counted(folders, 'folder')} to watch, {limit} allowed for all programs together"
        return Finding(name, False, detail, remedy)
    return Finding(name, True, f"{_counted(folders, 'folder')} of configured sources")


def _descriptors(files: int, probes: Probes) -> Finding:
    limit, need = probes.descriptor_limit(), files + SPARE_DESCRIPTORS
    if 0 <= limit < need:
        remedy = f"ulimit -n {max(4096, need * 2)}   (systemd: LimitNOFILE={max(4096, need * 2)})"
        return Finding("open files", False, f"{limit} allowed, {need} needed with these sources", remedy)
    return Finding("open files", True, f"{_counted(files, 'file')} of configured sources")


def _disk(deployment: Deployment, probes: Probes) -> Finding:
    folder = deployment.data
    while not os.path.isdir(folder) and folder != "/":
        folder = os.path.dirname(folder)
    try:
        free, total = probes.free(folder)
    except OSError as error:
        return Finding("disk", False, f"{folder}: {error.strerror}", "check the disk")
    detail = f"{free / 2**30:.1f} GiB free of {total / 2**30:.1f} in {folder}"
    if free < MIN_FREE_BYTES or free < total * MIN_FREE_SHARE:
        return Finding("disk", False, detail, "free space, or lower retention.max_database_gb")
    return Finding("disk", True, detail)


def _clock(probes: Probes) -> Finding:
    remedy = "sudo timedatectl set-ntp true"
    year = time.gmtime(probes.wall()).tm_year
    if not FIRST_YEAR <= year <= LAST_YEAR:
        return Finding("clock", False, f"it is the year {year}, says this machine", remedy)
    first = probes.monotonic()
    if probes.monotonic() < first:
        return Finding("clock", False, "the monotonic clock runs backwards", "restart the machine")
    return Finding("clock", True, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(probes.wall())))


def _engine(deployment: Deployment, probes: Probes) -> Finding:
    try:
        with open(deployment.lease_path) as stream:
            text = stream.read(32).strip()
    except OSError:
        text = ""
    if text.isascii() and text.isdigit() and probes.is_alive(int(text)):
        return Finding("engine", True, f"process {text} runs it")
    return Finding("engine", True, "not running", "script/server")


def _redis(deployment: Deployment, probes: Probes) -> Iterator[Finding]:
    if deployment.redis_url and probes.ping is not None:
        reason, remedy = probes.ping(deployment.redis_url)
        yield Finding("redis", not reason, reason or redis_name(deployment.redis_url), remedy)
