"""The schema: made, migrated and checked before anything else touches the database.

A new database is built beside its place and moved there whole, so that there is never an empty file that looks like a
lost database; an existing one is copied before a migration changes it. A file that is no database of ours is refused,
never overwritten.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3

from threatlens.durable import put_in_place
from threatlens.errors import DataFolderError
from threatlens.settings import Settings

#: The newest revision in migrations/versions; a test holds it to Alembic's own answer.
HEAD = "0025"
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "glusterfs", "ceph", "afs"}


def migrate(settings: Settings) -> str:
    """Bring the database to HEAD and return the revision it had ("" for a new one); raises DataFolderError."""
    if not settings.uses_sqlite:
        from threatlens.store_postgresql import migrate_postgresql  # its driver is for those who use it

        return migrate_postgresql(settings.database_url, HEAD)
    path = settings.database_path
    if file_system(os.path.dirname(path)) in _NETWORK:
        msg = (
            f"{path} lies on a network file system, where SQLite loses data; choose a local folder with THREATLENS_DATA"
        )
        raise DataFolderError(msg)
    with open(os.path.join(settings.data, "migrate.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = revision(path)
        if found == HEAD:
            return found
        if found is None:
            building = path + ".new"
            _remove(building)
            _upgrade(building)
            put_in_place(building, path)
            return ""
        _copy(path, f"{path}.before-{HEAD}")
        _upgrade(path)
        return found


def revision(path: str) -> str | None:
    """The schema's revision, None if there is no database yet; raises DataFolderError when it cannot be used."""
    if not os.path.exists(path):
        return None
    restore = f"restore a backup in its place, or move it away to begin anew: mv {path} {path}.broken"
    if os.path.getsize(path) == 0:
        msg = f"{path} is empty (0 bytes), which a database never is; {restore}"
        raise DataFolderError(msg)
    try:
        connection = sqlite3.connect(f"file:{_quoted(path)}?mode=rw", uri=True, timeout=10)
        try:
            connection.execute("PRAGMA schema_version").fetchone()
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            connection.execute("SELECT max(id) FROM events").fetchone()
            if not os.access(path, os.W_OK):
                msg = f"{path} cannot be written by this user; run: sudo chown $USER {path}"
                raise DataFolderError(msg)
        finally:
            connection.close()
    except sqlite3.Error as error:
        msg = f"{path} cannot be used as the database ({error}); {restore}"
        raise DataFolderError(msg) from error
    found = str(row[0]) if row else ""
    if found > HEAD:
        msg = (
            f"{path} was made by a newer ThreatLens (schema {found}, this one knows {HEAD}); install that version again"
        )
        raise DataFolderError(msg)
    return found


def server_revision(database_url: str) -> str:
    """The schema's revision of a PostgreSQL database, "" of an empty one; raises DataFolderError when it is away."""
    from threatlens.store_postgresql import revision_postgresql

    return revision_postgresql(database_url)


def has_admin(settings: Settings) -> bool:
    """Whether somebody may administer this; asked before anything else is loaded."""
    if not settings.uses_sqlite:
        from threatlens.store_postgresql import has_admin_postgresql

        return has_admin_postgresql(settings.database_url)
    connection = sqlite3.connect(settings.database_path, timeout=10)
    try:
        return connection.execute("SELECT 1 FROM users WHERE role = 'admin' AND enabled").fetchone() is not None
    finally:
        connection.close()


def no_admin_words(host: str) -> str:
    """Why we do not listen on this address yet, and what to do."""
    return (
        f"refusing to listen on {host}: there is no administrator yet, so whoever reaches the port first could become"
        " one; make an account with `python -m threatlens user create --name NAME --role admin`, or start on 127.0.0.1"
        " and open the link that is printed"
    )


def file_system(folder: str) -> str:
    """The type of the file system that holds this folder, as the kernel names it; "" if unknown."""
    real = os.path.realpath(folder)
    best, kind = "", ""
    try:
        with open("/proc/self/mounts") as mounts:
            for line in mounts:
                _, point, found, *_ = line.split(" ")
                point = point.replace("\\040", " ")
                if (real + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
                    best, kind = point, found
    except OSError:
        return ""
    return kind


def _upgrade(path: str) -> None:
    # Alembic takes a third of a second to import: only here.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import Connection, create_engine, event

    config = Config()
    config.set_main_option("script_location", os.path.join(os.path.dirname(__file__), "migrations").replace("%", "%%"))
    engine = create_engine("sqlite:///" + path)

    # One transaction for all steps: sqlite3 would commit before every CREATE, and a kill would leave half a schema.
    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # of a new file: it can become smaller again

    @event.listens_for(engine, "begin")
    def say_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()


def _copy(path: str, target: str) -> None:
    source, copy = sqlite3.connect(path), sqlite3.connect(target)
    try:
        source.backup(copy)
    finally:
        source.close()
        copy.close()


def _remove(path: str) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
