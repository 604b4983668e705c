"""Deployment settings: where things are and what to bind, read once from the environment.

What an operator may change while ThreatLens runs is configuration (config.py), not a setting.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from threatlens.durable import put_in_place, sync_folder
from threatlens.errors import DataFolderError, SettingsError

#: The project's own folder: where wsgi.py, templates/ and static/ are.
PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOOPBACK = ("127.0.0.1", "::1", "localhost")
#: The SQLite file in the data folder.
DATABASE = "threatlens.db"
#: What may follow the question mark of Redis' URL: files of TLS.
REDIS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
UNIX = "unix:"  # how the path of a socket begins, where a host is named


@dataclass(frozen=True, slots=True)
class Settings:
    """How this process is deployed."""

    data: str  # absolute path of the data folder
    database_url: str = field(repr=False)  # SQLAlchemy URL
    secret_key: str = field(default="", repr=False)  # older keys may follow, blanks between; empty: secret.key
    host: str = "127.0.0.1"  # or unix:/path, a socket for a proxy on this machine
    port: int = 8000
    demo: bool = False
    ws_max_connections: int = 200  # WebSockets of one process
    threads: int = 0  # of the web server; 0: sockets + 16
    log_level: str = "INFO"
    trusted_hosts: tuple[str, ...] = ()  # names that a reverse proxy serves us under, beside the loopback ones
    public_url: str = ""  # where people reach us, for links in messages; "": the address it listens on
    trusted_proxies: tuple[str, ...] = ()  # addresses whose X-Forwarded-For is believed
    session_idle_s: int = 1_800  # a session ends after so long without a request
    session_max_s: int = 43_200  # and after so long in any case
    argon2_memory_kib: int = 65_536  # what hashing a password costs
    argon2_time: int = 3
    backup_passphrase: str = field(default="", repr=False)  # of backups that are made by themselves; "": none
    redis_url: str = field(default="", repr=False)  # through which processes tell each other what is new; "": none

    @property
    def yaml_path(self) -> str:
        return os.path.join(self.data, "threatlens.yaml")

    @property
    def key_path(self) -> str:
        """The installation's key, if THREATLENS_SECRET_KEY does not hold it."""
        return os.path.join(self.data, "secret.key")

    @property
    def spool(self) -> str:
        """Where handed-in data waits, durable, until it is stored."""
        return os.path.join(self.data, "spool")

    @property
    def decoders_folder(self) -> str:
        """The decoders that people have made."""
        return os.path.join(self.data, "decoders")

    @property
    def reports_folder(self) -> str:
        return os.path.join(self.data, "reports")

    @property
    def demo_folder(self) -> str:
        return os.path.join(self.data, "demo")

    @property
    def lease_path(self) -> str:
        return os.path.join(self.data, "engine.lock")

    @property
    def status_path(self) -> str:
        """What the engine says about itself, for other processes; rewritten every second, never fsynced."""
        return os.path.join(self.data, "engine.json")

    @property
    def losses_path(self) -> str:
        """Which files lost lines, until that is an incident."""
        return os.path.join(self.data, "losses.noticed")

    @property
    def salvage_folder(self) -> str:
        """Copies of deleted files that hold lines which are not stored yet."""
        return os.path.join(self.data, "salvage")

    @property
    def arrivals_path(self) -> str:
        """Which messages arrived and are not noted in the database yet; never fsynced."""
        return os.path.join(self.data, "notifications.arrived")

    @property
    def uses_sqlite(self) -> bool:
        """Whether the database is a file of our own, and not one of PostgreSQL's."""
        return self.database_url.startswith("sqlite:")

    @property
    def database_name(self) -> str:
        """The database as it may be shown: without a password."""
        if self.uses_sqlite:
            return self.database_path
        parts = urlsplit(self.database_url)
        user = f"{parts.username}@" if parts.username else ""
        return f"postgresql://{user}{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def database_path(self) -> str:
        """The SQLite file; with PostgreSQL, where it would be."""
        return self.database_url.removeprefix("sqlite:///") if self.uses_sqlite else os.path.join(self.data, DATABASE)

    @property
    def own_files(self) -> tuple[str, ...]:
        """What no source may read: our own data."""
        return (self.data, self.database_path)

    @property
    def web_threads(self) -> int:
        """Every open WebSocket holds a thread for as long as it lives, so pages need some beyond the cap."""
        return self.threads or self.ws_max_connections + 16

    @property
    def session_limits(self) -> dict[str, int]:
        """How long a session lasts, in microseconds."""
        return {"idle_us": self.session_idle_s * 1_000_000, "absolute_us": self.session_max_s * 1_000_000}

    @property
    def hosts(self) -> list[str]:
        """Names that a request may be sent to; any other one is a page of somebody else (DNS rebinding)."""
        own = [] if self.socket_path else [f"[{self.host}]" if ":" in self.host else self.host]
        return ["localhost", "127.0.0.1", "[::1]", *own, *self.trusted_hosts]

    @property
    def base_url(self) -> str:
        """Where links in messages lead."""
        if self.public_url or self.socket_path:
            return self.public_url or f"http://{(*self.trusted_hosts, 'localhost')[0]}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return bool(self.socket_path) or self.host in LOOPBACK or self.host.startswith("127.")

    @property
    def socket_path(self) -> str:
        """The socket to listen on instead of an address; "": none."""
        return self.host.removeprefix(UNIX) if self.host.startswith(UNIX) else ""

    @property
    def bind(self) -> str:
        """Where gunicorn listens."""
        if self.socket_path:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def proxies(self) -> tuple[str, ...]:
        """Whose word about the client is taken; whoever may open our socket is the proxy that it is for."""
        return (*self.trusted_proxies, "unix") if self.socket_path else self.trusted_proxies


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from environment variables; raises SettingsError naming the variable that cannot be used."""
    data = os.path.abspath(environ.get("THREATLENS_DATA") or os.path.join(PROJECT, "instance"))
    database_url = environ.get("THREATLENS_DATABASE_URL") or "sqlite:///" + os.path.join(data, DATABASE)
    if not database_url.startswith(("sqlite:////", "postgresql://")):
        msg = (
            "THREATLENS_DATABASE_URL must be sqlite:////absolute/path or postgresql://user@host/database, not"
            f" {database_url.split('@')[-1]!r}"
        )
        raise SettingsError(msg)
    redis_url = environ.get("THREATLENS_REDIS_URL", "")
    if redis_url and (wrong := redis_fault(redis_url)):
        msg = (
            "THREATLENS_REDIS_URL must be redis://[user:password@]host[:port][/database], rediss://... (TLS) or"
            f" unix:///path: {wrong}"
        )
        raise SettingsError(msg)
    host = environ.get("HOST") or "127.0.0.1"
    if host.startswith(UNIX) and not (host.startswith("unix:/") and len(os.fsencode(host)) <= 112):
        msg = f"HOST must be an address, or unix: and an absolute path of at most 107 bytes, not {host!r}"
        raise SettingsError(msg)
    level = environ.get("THREATLENS_LOG_LEVEL", "INFO").upper()
    if level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        msg = f"THREATLENS_LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR, not {level!r}"
        raise SettingsError(msg)
    return Settings(
        data=data,
        database_url=database_url,
        secret_key=environ.get("THREATLENS_SECRET_KEY", ""),
        host=host,
        port=_number(environ, "PORT", 8000, 1, 65535),
        demo=environ.get("THREATLENS_DEMO", "") == "1",
        ws_max_connections=_number(environ, "THREATLENS_WS_MAX_CONNECTIONS", 200, 1, 5000),
        threads=_number(environ, "THREATLENS_THREADS", 0, 0, 6000),
        log_level=level,
        trusted_hosts=tuple(filter(None, re.split(r"[\s,]+", environ.get("THREATLENS_TRUSTED_HOSTS", "")))),
        public_url=environ.get("THREATLENS_PUBLIC_URL", "").rstrip("/"),
        trusted_proxies=tuple(filter(None, re.split(r"[\s,]+", environ.get("THREATLENS_TRUSTED_PROXIES", "")))),
        session_idle_s=_number(environ, "THREATLENS_SESSION_IDLE_S", 1_800, 60, 86_400),
        session_max_s=_number(environ, "THREATLENS_SESSION_MAX_S", 43_200, 60, 31_536_000),
        argon2_memory_kib=_number(environ, "THREATLENS_ARGON2_MEMORY_KIB", 65_536, 8, 4_194_304),
        argon2_time=_number(environ, "THREATLENS_ARGON2_TIME", 3, 1, 100),
        backup_passphrase=environ.get("THREATLENS_BACKUP_PASSPHRASE", ""),
        redis_url=redis_url,
    )


def redis_fault(url: str) -> str:
    """What is wrong with the URL of a Redis server, in words that hold none of its password; "": nothing."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "its port is not a number"
    if parts.scheme not in ("redis", "rediss", "unix"):
        return "it begins with none of these"
    if parts.scheme == "unix":
        return "" if parts.path.startswith("/") and not parts.query else "an absolute path must follow, nothing else"
    if not parts.hostname:
        return "it names no host"
    if port == 0 or not (parts.path.strip("/") or "0").isdecimal():
        return "port and database are numbers"
    unknown = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} - set(REDIS_OPTIONS)
    if unknown or (parts.query and parts.scheme == "redis"):
        return f"the options are those of TLS: {', '.join(REDIS_OPTIONS)}"
    return ""


def redis_name(url: str) -> str:
    """The URL without its user, password and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _number(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        msg = f"{name} must be a whole number from {low} to {high}, not {text!r}"
        raise SettingsError(msg)
    return int(text)


def prepare_data_folder(settings: Settings) -> None:
    """Make the data folder and what belongs in it (0700, secret.key 0600); raises DataFolderError."""
    os.umask(0o077)
    try:
        for folder in (settings.data, settings.spool):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        if os.stat(settings.data).st_mode & 0o002:
            msg = f"the data folder {settings.data} may be written by everybody; run: chmod o-w {settings.data}"
            raise DataFolderError(msg)
        if not os.access(settings.data, os.W_OK | os.X_OK):
            msg = (
                f"the data folder {settings.data} cannot be written by this user; run: sudo chown $USER {settings.data}"
            )
            raise DataFolderError(msg)
        if not os.path.exists(settings.key_path):
            _write_secret(settings.key_path)
    except OSError as error:
        msg = f"the data folder {settings.data} cannot be used: {error.strerror}"
        raise DataFolderError(msg) from error


def _write_secret(path: str) -> None:
    """A fresh key, whole or not at all, also when two processes start at once."""
    temporary = _written(path, [new_secret_key()])
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)
    sync_folder(os.path.dirname(path))


def _written(path: str, keys: Sequence[str]) -> str:
    """The keys, durable, in a new file beside `path`."""
    temporary = f"{path}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(keys))
        file.flush()
        os.fsync(file.fileno())
    return temporary


def secret_keys(settings: Settings) -> list[str]:
    """The installation's keys, the one in use first; more than one only while they are being changed."""
    if settings.secret_key:
        return settings.secret_key.split()
    try:
        with open(settings.key_path) as file:
            keys = file.read().split()
    except OSError as error:
        msg = f"{settings.key_path} cannot be read: {error.strerror}"
        raise DataFolderError(msg) from error
    if not keys:
        msg = f"{settings.key_path} is empty; bring back the key that was in it, or remove the file for a new one"
        raise DataFolderError(msg)
    return keys


def secret_key(settings: Settings) -> str:
    """The key that signs cookies and cursors."""
    return secret_keys(settings)[0]


def new_secret_key() -> str:
    """256 random bits."""
    return secrets.token_hex(32)


def write_secret_keys(settings: Settings, keys: Sequence[str]) -> None:
    """Replace what is in secret.key, in one step. Raises OSError."""
    temporary = _written(settings.key_path, keys)
    put_in_place(temporary, settings.key_path)
