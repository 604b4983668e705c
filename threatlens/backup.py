"""Backup and restore: one file with the database, threatlens.yaml and the user's rules. The secret key is not in it.

The file is a gzipped tar: manifest.json first, which names every other member with its size and hash. Positions in the
log files are in the database, so after a restore everything written since is read again, once.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from threatlens.backup_seal import MAGIC, OpeningReader, SealingWriter
from threatlens.durable import sync_folder
from threatlens.errors import BackupError
from threatlens.settings import Settings
from threatlens.store_backup import check_database, copy_database, holds_secrets, settle

FORMAT = 1
DATABASE = "threatlens.db"
#: What else of the data folder belongs into a backup: files and whole folders.
CONFIGURATION = ("threatlens.yaml", "threatlens.json", "rules")
_MANIFEST = "manifest.json"
_MAX_MANIFEST = 4 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did."""

    files: tuple[str, ...]
    kept_in: str  # the folder with what was replaced; empty: nothing was
    needs_key: bool  # secrets are in it that only their secret.key opens


def make_backup(
    settings: Settings,
    path: str,
    *,
    version: str,
    passphrase: str = "",
    clock: Callable[[], float] = time.time,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write a backup to `path` (0600), verified before it gets that name; its size in bytes. Raises BackupError.

    What stood at `path` is an error: a backup is never overwritten.
    """
    _is_ours(settings)
    if os.path.lexists(path):
        msg = f"{path} exists already; choose another name"
        raise BackupError(msg)
    folder = os.path.dirname(os.path.abspath(path))
    try:
        with tempfile.TemporaryDirectory(prefix=".threatlens-backup-", dir=folder) as working:
            copy, partial = os.path.join(working, DATABASE), os.path.join(working, "backup")
            copy_database(settings.database_path, copy, progress)
            revision = check_database(copy)
            members = {DATABASE: copy, **_configuration(settings.data)}
            manifest = {
                "format": FORMAT,
                "version": version,
                "schema": revision,
                "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock())),
                "files": {name: _fingerprint(file) for name, file in members.items()},
            }
            _write(partial, manifest, members, passphrase)
            for _, content in _members(partial, passphrase):  # all of it is read back, hashes and all
                for _ in content:
                    pass
            os.link(partial, path)
            sync_folder(os.path.dirname(path))
            return os.path.getsize(path)
    except (OSError, zlib.error) as error:
        msg = f"the backup cannot be written: {getattr(error, 'strerror', None) or error}"
        raise BackupError(msg) from error


def restore_backup(
    settings: Settings, path: str, *, passphrase: str = "", clock: Callable[[], float] = time.time
) -> Restored:
    """Put what is in a backup in the place of what is here, which is kept in a folder beside it. Raises BackupError.

    All of the backup is read and verified first; until then nothing changes. ThreatLens must not be running.
    """
    _is_ours(settings)
    with _stopped(settings), tempfile.TemporaryDirectory(prefix=".restore-", dir=settings.data) as working:
        try:
            names = [_unpack(working, name, content) for name, content in _members(path, passphrase)]
        except OSError as error:
            msg = f"{path} cannot be read: {error.strerror or error}"
            raise BackupError(msg) from error
        if DATABASE not in names:
            msg = f"{path} holds no database"
            raise BackupError(msg)
        check_database(os.path.join(working, DATABASE))
        needs_key = holds_secrets(os.path.join(working, DATABASE))
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(clock()))
        kept = os.path.join(settings.data, f"before-restore-{stamp}")
        try:
            replaced = _replace(settings, working, kept)
        except OSError as error:
            msg = f"the data folder cannot be written: {error.strerror}; what was in it is in {kept}"
            raise BackupError(msg) from error
        return Restored(tuple(names), kept if replaced else "", needs_key)


def _is_ours(settings: Settings) -> None:
    """Raises BackupError where another program holds the database."""
    if not settings.uses_sqlite:
        msg = (
            "the database is PostgreSQL's: save it with `pg_dump --format=custom`, put it back with"
            f" `pg_restore --clean`, and save {settings.data} beside it, where the key of its secrets is"
        )
        raise BackupError(msg)


def _configuration(data: str) -> dict[str, str]:
    """The members of the data folder that are configuration: name in the backup to path. No symbolic links."""
    found = {}
    for name in CONFIGURATION:
        top = os.path.join(data, name)
        if os.path.isfile(top) and not os.path.islink(top):
            found[name] = top
        for folder, _, files in os.walk(top):
            for file in files:
                full = os.path.join(folder, file)
                if os.path.isfile(full) and not os.path.islink(full):
                    found[os.path.relpath(full, data)] = full
    return found


def _write(path: str, manifest: dict[str, Any], members: dict[str, str], passphrase: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        sealing = SealingWriter(file, passphrase) if passphrase else None
        target: Any = sealing or file
        with (
            gzip.GzipFile(filename="", mode="wb", compresslevel=3, fileobj=target, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|") as tar,
        ):
            text = json.dumps(manifest, indent=1).encode()
            tar.addfile(_member(_MANIFEST, len(text)), io.BytesIO(text))
            for name, full in members.items():
                with open(full, "rb") as content:
                    tar.addfile(_member(name, manifest["files"][name]["size"]), content)
        if sealing:
            sealing.finish()
        file.flush()
        os.fsync(file.fileno())


def _member(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info


def _fingerprint(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {"size": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _members(path: str, passphrase: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Every member but the manifest, with its content in pieces: read them all, then its hash was right.

    Raises BackupError, OSError.
    """
    with open(path, "rb") as file, _reading_plainly(path):
        source: Any = file
        if file.read(len(MAGIC)) == MAGIC:
            if not passphrase:
                msg = f"{path} is encrypted; give its passphrase"
                raise BackupError(msg)
            source = io.BufferedReader(OpeningReader(file, passphrase), _CHUNK)
        else:
            file.seek(0)
        with gzip.GzipFile(fileobj=source, mode="rb") as packed, tarfile.open(fileobj=packed, mode="r|") as tar:
            wanted = _manifest(tar)
            while (info := tar.next()) is not None:
                expected = wanted.pop(info.name, None)
                content = tar.extractfile(info) if info.isreg() else None
                if expected is None or content is None or info.size != expected["size"]:
                    msg = f"{path} holds what its manifest does not name"
                    raise BackupError(msg)
                yield info.name, _verified(content, expected["sha256"], path)
            if wanted:
                msg = f"{path} is cut off"
                raise BackupError(msg)
            while packed.read(_CHUNK):  # the checksum of gzip is at its very end
                pass


@contextlib.contextmanager
def _reading_plainly(path: str) -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        msg = f"{path} is cut off"
        raise BackupError(msg) from error
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, ValueError, KeyError, TypeError) as error:
        msg = f"{path} is not a backup of ThreatLens, or it is damaged"
        raise BackupError(msg) from error


def _manifest(tar: tarfile.TarFile) -> dict[str, Any]:
    info = tar.next()
    content = tar.extractfile(info) if info and info.name == _MANIFEST and info.size <= _MAX_MANIFEST else None
    if content is None:
        raise ValueError(_MANIFEST)
    manifest = json.loads(content.read())
    if manifest["format"] != FORMAT:
        msg = f"its format is {manifest['format']}, this ThreatLens reads {FORMAT}"
        raise BackupError(msg)
    files = manifest["files"]
    for name in files:
        parts = name.split("/")
        known = name == DATABASE or parts[0] in CONFIGURATION
        if not known or any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise ValueError(name)
    return dict(files)


def _verified(content: IO[bytes], sha256: str, path: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    with _reading_plainly(path):
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            yield chunk
    if digest.hexdigest() != sha256:
        msg = f"{path} is damaged: a file in it is not what the manifest says"
        raise BackupError(msg)


def _unpack(folder: str, name: str, content: Iterator[bytes]) -> str:
    target = os.path.join(folder, name)
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    with open(target, "xb") as file:
        file.writelines(content)
        file.flush()
        os.fsync(file.fileno())
    return name


@contextlib.contextmanager
def _stopped(settings: Settings) -> Iterator[None]:
    """While this is open no engine can start. Raises BackupError when one runs."""
    with open(settings.lease_path, "a+") as lease:
        try:
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = "ThreatLens is running on this data folder; stop it, then restore"
            raise BackupError(msg) from error
        yield


def _replace(settings: Settings, working: str, kept: str) -> bool:
    """Move what is here into `kept` and the new in its place; whether anything was here."""
    here = [name for name in CONFIGURATION if os.path.lexists(os.path.join(settings.data, name))]
    replaced = False
    if os.path.exists(settings.database_path):
        settle(settings.database_path)
        os.makedirs(kept, mode=0o700)
        replaced = True
        os.link(settings.database_path, os.path.join(kept, DATABASE))
    for name in here:
        os.makedirs(kept, mode=0o700, exist_ok=True)
        replaced = True
        os.rename(os.path.join(settings.data, name), os.path.join(kept, name))
    for name in CONFIGURATION:
        if os.path.lexists(os.path.join(working, name)):
            os.rename(os.path.join(working, name), os.path.join(settings.data, name))
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(settings.database_path + suffix)
    shutil.move(os.path.join(working, DATABASE), settings.database_path)
    sync_folder(settings.data)
    return replaced
