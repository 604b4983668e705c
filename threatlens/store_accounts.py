"""Accounts: people with a name, a password and a role, and the sessions of their browsers.

Everything that ends somebody's rights (log-out, another role or password, disabling, removal) removes sessions in the
same transaction, and is seen by every process within SNAPSHOT_S, as requests and open sockets look into a snapshot in
memory. A session starts only for the account as it was when the password was checked, so that no change is outrun by a
login that began before it. Every change is written to the audit log in its own transaction.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from threatlens.clock import now_us
from threatlens.errors import ConfigError, StaleChange
from threatlens.store_audit import AuditLog
from threatlens.store_database import ALL, Database
from threatlens.visible import is_plain

ROLES = ("viewer", "analyst", "admin")
SNAPSHOT_S = 0.4
SETUP_CODE_US = 3_600_000_000
#: How long an address from which somebody logged in stays one that the limit of the account does not hold for.
KNOWN_ADDRESS_US = 30 * 86_400_000_000
MAX_SESSIONS = 50  # of one account; the oldest ends
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")
_LONGEST = 255  # characters of a name that is looked at
_CHANGED = "the account was changed meanwhile"
#: What the audit log calls a change of each column.
_ACTIONS = {"role": "user.role_changed", "sources": "user.sources_changed", "password_hash": "user.password_changed"}


@dataclass(frozen=True, slots=True)
class Doer:
    """Whom the audit log names for a change."""

    name: str  # "user anna", "command line"
    address: str = ""
    request_id: str = ""

    def named(self, name: str) -> Doer:
        """The same request, by somebody who has just become known."""
        return Doer(name, self.address, self.request_id)


COMMAND_LINE = Doer("command line")


@dataclass(frozen=True, slots=True)
class User:
    """An account without its password."""

    id: int
    name: str
    role: str
    enabled: bool
    created_at: int  # microseconds since the epoch, like all below
    password_at: int  # grows with every password: the version of the account that a password was checked against
    last_login_at: int  # 0: never
    sources: tuple[str, ...] = ()  # names of all that this account may know of; empty: all


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that somebody logged in with."""

    id_hash: str  # hex SHA-256 of what its cookie holds
    user_id: int
    created_at: int
    seen_at: int
    confirmed_at: int  # when the password was last given
    address: str
    browser: str


def normal_name(text: str) -> str:
    """The name that counts; raises ConfigError. Names that look alike or differ in case only are one."""
    name = unicodedata.normalize("NFKC", text[: _LONGEST + 1]).casefold()
    if not _NAME.fullmatch(name):
        msg = "a name has 1 to 64 letters from a to z, digits and . _ @ + -, and begins with a letter or digit"
        raise ConfigError(msg, key="name")
    return name


def checked_sources(sources: Sequence[str]) -> str:
    """The names of the only sources that an account or token is for, as they are kept; raises ConfigError."""
    if len(sources) > 100 or not all(len(each) <= 100 and is_plain(each) for each in sources):
        msg = "the sources are at most 100 names of at most 100 printable characters"
        raise ConfigError(msg, key="sources")
    return json.dumps(list(dict.fromkeys(sources)))


def hash_secret(secret: str) -> str:
    """What is kept of a secret that is random and long."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


_USER = "id, name, role, enabled, created_at, password_at, last_login_at, sources"
_SESSION = "id_hash, user_id, created_at, seen_at, confirmed_at, address, browser"


class AccountBook:
    """The tables users, sessions, login_addresses and setup_codes."""

    database: Database
    audit: AuditLog

    def __init__(self) -> None:
        super().__init__()
        self._people: tuple[dict[int, User], dict[str, Session]] = ({}, {})
        self._people_read_at = -1e9
        self._people_lock = threading.Lock()
        self._session_seen: dict[str, int] = {}
        self.when_people_change: Callable[[], object] = lambda: None  # for other processes to be told

    # -- the first account

    def has_admin(self) -> bool:
        """Whether somebody may administer this."""
        with self.database.reading() as connection:
            return _admins(connection) > 0

    def new_setup_code(self) -> str | None:
        """A code that makes the first administrator, once, within the hour; None when there is an account already."""
        code = secrets.token_urlsafe(24)
        with self.database.writing() as connection:
            if connection.exec_driver_sql("SELECT 1 FROM users").first():
                return None
            connection.exec_driver_sql("DELETE FROM setup_codes")
            connection.exec_driver_sql("INSERT INTO setup_codes VALUES (?,?)", (hash_secret(code), now_us()))
        return code

    def is_setup_code(self, code: str, now: int) -> bool:
        """Whether this code would be taken now."""
        with self.database.reading() as connection:
            return _setup_code_holds(connection, code, now)

    def set_up(self, code: str, name: str, password_hash: str, doer: Doer, now: int) -> User | None:
        """The first administrator; None when the code does not hold or there is an account already."""
        name = normal_name(name)
        with self.database.writing() as connection:
            if connection.exec_driver_sql("SELECT 1 FROM users").first() or not _setup_code_holds(
                connection, code, now
            ):
                return None
            connection.exec_driver_sql("DELETE FROM setup_codes")
            user = self._insert_user(connection, name, password_hash, "admin", doer)
        self._forget_people()
        return user

    # -- accounts

    def users(self) -> list[User]:
        """All of them by name."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(f"SELECT {_USER} FROM users ORDER BY name")
            return [_user(row) for row in rows]

    def user(self, user_id: int) -> User | None:
        """The account with this id."""
        return self._user("id", user_id)

    def user_named(self, name: str) -> User | None:
        """The account of this name, however it is written."""
        try:
            return self._user("name", normal_name(name))
        except ConfigError:
            return None

    def password_of(self, user_id: int) -> str:
        """The hash of its password; "" without an account."""
        with self.database.reading() as connection:
            query = "SELECT password_hash FROM users WHERE id = ?"
            return str(connection.exec_driver_sql(query, (user_id,)).scalar() or "")

    def create_user(self, name: str, password_hash: str, role: str, doer: Doer, *, sources: Sequence[str] = ()) -> User:
        """A new account, kept to these sources, if any; raises ConfigError naming what is wrong."""
        name, role = normal_name(name), _role(role)
        try:
            with self.database.writing() as connection:
                user = self._insert_user(connection, name, password_hash, role, doer, sources)
        except IntegrityError as error:
            raise ConfigError(f"there is an account named {name!r} already", key="name") from error
        self._forget_people()
        return user

    def set_role(self, user_id: int, role: str, doer: Doer) -> User | None:
        """Another role. This and what follows: see change_user."""
        return self.change_user(user_id, doer, role=role)

    def set_sources(self, user_id: int, sources: Sequence[str], doer: Doer) -> User | None:
        """Keep an account to these sources; none: to all."""
        return self.change_user(user_id, doer, sources=sources)

    def set_enabled(self, user_id: int, enabled: bool, doer: Doer) -> User | None:
        """Let somebody in again or no longer."""
        return self.change_user(user_id, doer, enabled=enabled)

    def set_password(self, user_id: int, password_hash: str, doer: Doer, *, since: int | None = None) -> User | None:
        """Another password; since: see change_user."""
        return self.change_user(user_id, doer, password_hash=password_hash, since=since)

    def change_user(
        self,
        user_id: int,
        doer: Doer,
        *,
        role: str | None = None,
        sources: Sequence[str] | None = None,
        enabled: bool | None = None,
        password_hash: str | None = None,
        since: int | None = None,
    ) -> User | None:
        """Those that are given, all or none; the account's sessions end. The account as it is now; None: there is none.

        Raises ConfigError for what may not be, such as no administrator at all, and StaleChange unless its password is
        of `since` (password_at), if that is given: of when the present one was checked.
        """
        values: dict[str, Any] = {
            "role": None if role is None else _role(role),
            "sources": None if sources is None else checked_sources(sources),
            "enabled": enabled,
            "password_hash": password_hash,
        }
        return self._change(user_id, doer, since, {name: value for name, value in values.items() if value is not None})

    def renew_hash(self, user_id: int, password_hash: str, *, before: str) -> None:
        """The same password, kept at another cost; nothing where it is not kept as `before` any more."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE users SET password_hash = ? WHERE id = ? AND password_hash = ?",
                (password_hash, user_id, before),
            )

    def remove_user(self, user_id: int, doer: Doer) -> bool:
        """Forget an account with its sessions and tokens. Raises ConfigError for the last administrator."""
        with self.database.writing() as connection:
            before = self._row(connection, user_id)
            if before is None:
                return False
            connection.exec_driver_sql("DELETE FROM users WHERE id = ?", (user_id,))
            _keep_an_admin(connection, before)
            self._audit(connection, doer, "user.removed", before.name)
        self._forget_people()
        return True

    # -- sessions

    def start_session(self, user: User, doer: Doer, browser: str) -> str:
        """Somebody gave the right password: what the new session's cookie shall hold.

        user: the account as it was before the password was looked up. Raises StaleChange where it has another password
        or role by now, or may not log in: whatever ended its sessions meanwhile holds for this one, too.
        """
        secret, now = secrets.token_urlsafe(32), now_us()
        with self.database.writing() as connection:
            found = connection.exec_driver_sql(
                "UPDATE users SET last_login_at = ? WHERE id = ? AND password_at = ? AND role = ? AND enabled = 1",
                (now, user.id, user.password_at, user.role),
            )
            if found.rowcount != 1:
                raise StaleChange(_CHANGED)
            connection.exec_driver_sql(
                f"INSERT INTO sessions ({_SESSION}) VALUES (?,?,?,?,?,?,?)",
                (hash_secret(secret), user.id, now, now, now, doer.address, browser[:200]),
            )
            connection.exec_driver_sql(
                "DELETE FROM sessions WHERE id_hash IN"
                " (SELECT id_hash FROM sessions WHERE user_id = ? ORDER BY seen_at DESC LIMIT ? OFFSET ?)",
                (user.id, ALL, MAX_SESSIONS),
            )
            connection.exec_driver_sql(
                "INSERT INTO login_addresses VALUES (?,?,?)"
                " ON CONFLICT (user_id, address) DO UPDATE SET seen_at = excluded.seen_at",
                (user.id, doer.address, now),
            )
            self._audit(connection, doer, "login", user.name)
        self._forget_people()
        return secret

    def session(
        self, secret: str, now: int, *, idle_us: int, absolute_us: int, is_use: bool = True
    ) -> tuple[User, Session] | None:
        """Whose session this is, if it still holds; marks it as used, unless the page asks by itself."""
        found = self._holding(hash_secret(secret), now, idle_us, absolute_us)
        if found is not None and is_use:
            self._session_seen[found[1].id_hash] = now
        return found

    def session_holds(self, id_hash: str, now: int, *, idle_us: int, absolute_us: int) -> User | None:
        """Whose session this is, if it still holds; looking does not count as use."""
        found = self._holding(id_hash, now, idle_us, absolute_us)
        return None if found is None else found[0]

    def confirm_session(self, id_hash: str, now: int, doer: Doer) -> str:
        """The password was given again: the session goes on under a new secret, which is returned."""
        secret = secrets.token_urlsafe(32)
        with self.database.writing() as connection:
            found = connection.exec_driver_sql(
                "UPDATE sessions SET confirmed_at = ?, id_hash = ? WHERE id_hash = ?",
                (now, hash_secret(secret), id_hash),
            )
            if found.rowcount:  # else it has ended meanwhile, and what is returned opens nothing
                self._audit(connection, doer, "login.confirmed")
        self._forget_people()
        return secret

    def sessions_of(self, user_id: int) -> list[Session]:
        """The sessions of an account, the last used first."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(f"SELECT {_SESSION} FROM sessions WHERE user_id = ?", (user_id,)).all()
        found = [self._used(Session(*row)) for row in rows]
        return sorted(found, key=lambda session: -session.seen_at)

    def end_sessions(
        self, user_id: int, doer: Doer, *, only: str = "", but: str = "", action: str = "session.ended"
    ) -> int:
        """End the sessions of an account: all, only one, or all but one (by hash); how many."""
        with self.database.writing() as connection:
            ended = connection.exec_driver_sql(
                "DELETE FROM sessions WHERE user_id = ? AND (? = '' OR id_hash = ?) AND id_hash <> ?",
                (user_id, only, only, but),
            ).rowcount
            user = self._row(connection, user_id)
            if ended and user is not None:
                self._audit(connection, doer, action, user.name, {"sessions": ended})
        self._forget_people()
        return ended

    def write_session_use(self, now: int, *, idle_us: int, absolute_us: int) -> None:
        """Write down when sessions were last used and remove those that have run out; called now and then."""
        seen, self._session_seen = self._session_seen, {}
        with self.database.reading() as connection:
            old = connection.exec_driver_sql(
                "SELECT 1 FROM sessions WHERE seen_at < ? OR created_at < ? LIMIT 1", (now - idle_us, now - absolute_us)
            ).first()
        if not seen and old is None:
            return
        with self.database.writing() as connection:
            if seen:
                connection.exec_driver_sql(
                    "UPDATE sessions SET seen_at = ? WHERE id_hash = ?", [(at, each) for each, at in seen.items()]
                )
            connection.exec_driver_sql(
                "DELETE FROM sessions WHERE seen_at < ? OR created_at < ?", (now - idle_us, now - absolute_us)
            )
        self._forget_people()

    def is_known_address(self, user_id: int, address: str, now: int) -> bool:
        """Whether somebody logged in to this account from there lately."""
        with self.database.reading() as connection:
            query = "SELECT 1 FROM login_addresses WHERE user_id = ? AND address = ? AND seen_at > ?"
            return connection.exec_driver_sql(query, (user_id, address, now - KNOWN_ADDRESS_US)).first() is not None

    # -- inside

    def _holding(self, id_hash: str, now: int, idle_us: int, absolute_us: int) -> tuple[User, Session] | None:
        users, sessions = self._snapshot()
        session = sessions.get(id_hash)
        user = users.get(session.user_id) if session else None
        if session is None or user is None or not user.enabled:
            return None
        session = self._used(session)
        if now - session.seen_at > idle_us or now - session.created_at > absolute_us:
            return None
        return user, session

    def _snapshot(self) -> tuple[dict[int, User], dict[str, Session]]:
        if time.monotonic() - self._people_read_at > SNAPSHOT_S:
            with self._people_lock:
                began = time.monotonic()
                if began - self._people_read_at > SNAPSHOT_S:
                    with self.database.reading() as connection:
                        users = {row[0]: _user(row) for row in connection.exec_driver_sql(f"SELECT {_USER} FROM users")}
                        rows = connection.exec_driver_sql(f"SELECT {_SESSION} FROM sessions")
                        sessions = {row[0]: Session(*row) for row in rows}
                    self._people, self._people_read_at = (users, sessions), began
        return self._people

    def forget_people(self) -> None:
        """Accounts or sessions were changed: the next to ask looks into the database."""
        with self._people_lock:
            self._people_read_at = -1e9

    def _forget_people(self) -> None:
        self.forget_people()
        self.when_people_change()

    def _used(self, session: Session) -> Session:
        seen = max(session.seen_at, self._session_seen.get(session.id_hash, 0))
        return Session(session.id_hash, session.user_id, session.created_at, seen, session.confirmed_at,
                       session.address, session.browser)  # fmt: skip

    def _user(self, column: str, value: object) -> User | None:
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(f"SELECT {_USER} FROM users WHERE {column} = ?", (value,)).one_or_none()
            return None if row is None else _user(row)

    def _row(self, connection: Connection, user_id: int) -> User | None:
        row = connection.exec_driver_sql(f"SELECT {_USER} FROM users WHERE id = ?", (user_id,)).one_or_none()
        return None if row is None else _user(row)

    def _insert_user(
        self,
        connection: Connection,
        name: str,
        password_hash: str,
        role: str,
        doer: Doer,
        sources: Sequence[str] = (),
    ) -> User:
        now, kept = now_us(), checked_sources(sources)
        row = connection.exec_driver_sql(
            "INSERT INTO users (name, password_hash, role, enabled, created_at, password_at, last_login_at, sources)"
            f" VALUES (?,?,?,1,?,?,0,?) RETURNING {_USER}",
            (name, password_hash, role, now, now, kept),
        ).one()
        user = _user(row)
        _keep_admins_whole(user)
        self._audit(connection, doer, "user.created", name, {"role": role, "sources": list(user.sources)})
        return user

    def _change(self, user_id: int, doer: Doer, since: int | None, values: dict[str, Any]) -> User | None:
        with self.database.writing() as connection:
            before = self._row(connection, user_id)
            if before is None or not values:
                return before
            if since not in (None, before.password_at):
                raise StaleChange(_CHANGED)
            new = dict(values)
            if "password_hash" in new:
                new["password_at"] = max(now_us(), before.password_at + 1)
            columns = ", ".join(f"{name} = ?" for name in new)
            connection.exec_driver_sql(f"UPDATE users SET {columns} WHERE id = ?", (*new.values(), user_id))
            _keep_an_admin(connection, before)
            after = self._row(connection, user_id) or before
            _keep_admins_whole(after)
            connection.exec_driver_sql("DELETE FROM sessions WHERE user_id = ?", (user_id,))
            for name, value in values.items():
                action = _ACTIONS.get(name) or ("user.enabled" if value else "user.disabled")
                detail = {name: list(after.sources) if name == "sources" else value}
                self._audit(connection, doer, action, before.name, {} if name == "password_hash" else detail)
        self._forget_people()
        return after

    def _audit(
        self, connection: Connection, doer: Doer, action: str, target: str = "", detail: Mapping[str, Any] | None = None
    ) -> None:
        self.audit.append(
            doer.name, doer.address, action, target, detail, request_id=doer.request_id, connection=connection
        )


def _user(row: Any) -> User:
    return User(row[0], row[1], row[2], bool(row[3]), row[4], row[5], row[6], tuple(json.loads(row[7])))


def _role(role: str) -> str:
    if role not in ROLES:
        msg = f"the role must be one of {', '.join(ROLES)}, not {role[:40]!r}"
        raise ConfigError(msg, key="role")
    return role


def _admins(connection: Connection) -> int:
    query = "SELECT count(*) FROM users WHERE role = 'admin' AND enabled = 1"
    return int(connection.exec_driver_sql(query).scalar_one())


def _keep_an_admin(connection: Connection, before: User) -> None:
    """Raises ConfigError, which undoes the transaction, when this change left nobody to administer."""
    if before.role == "admin" and before.enabled and _admins(connection) == 0:
        raise ConfigError(f"{before.name} is the last administrator; make another one first", key="role")


def _keep_admins_whole(user: User) -> None:
    """Raises ConfigError, which undoes the transaction, for an administrator who would see only a part."""
    if user.role == "admin" and user.sources:
        msg = "an administrator sees every source; give another role, or take the limit away first"
        raise ConfigError(msg, key="sources")


def _setup_code_holds(connection: Connection, code: str, now: int) -> bool:
    query = "SELECT created_at FROM setup_codes WHERE code_hash = ?"
    made = connection.exec_driver_sql(query, (hash_secret(code),)).scalar()
    return made is not None and now - int(made) <= SETUP_CODE_US
