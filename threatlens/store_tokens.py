"""API tokens: made once, shown once, kept as SHA-256 only.

A wrong token must cost nothing (a flood of them is an attack of its own): tokens are looked up in a snapshot in memory
that is read again at most twice a second. A token that a person made ends with that person's account and never may
more than they, nor know of other sources.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from threatlens.clock import now_us
from threatlens.errors import ConfigError
from threatlens.store_accounts import COMMAND_LINE, ROLES, Doer, checked_sources, hash_secret
from threatlens.store_audit import AuditLog
from threatlens.store_database import Database
from threatlens.visible import is_plain

#: What a token may be used for, of what its role may: reading, handing in lines, changing things.
SCOPES = ("read", "ingest", "write")
PREFIX = "tl_"
SNAPSHOT_S = 0.5


@dataclass(frozen=True, slots=True)
class TokenView:
    """A token without its secret."""

    id: int
    name: str
    role: str  # at most that of whoever made it
    created_at: int  # microseconds since the epoch
    last_used_at: int  # likewise; 0: never
    user_id: int | None = None  # whose it is; None: made on the command line
    prefix: str = ""  # its first characters, to tell tokens apart
    expires_at: int = 0  # microseconds since the epoch; 0: never
    scopes: tuple[str, ...] = SCOPES
    sources: tuple[str, ...] = ()  # names of the only sources it is for; empty: all


class TokenBook:
    """The table api_tokens."""

    database: Database
    audit: AuditLog
    when_people_change: Callable[[], object]

    def __init__(self) -> None:
        super().__init__()
        self._token_snapshot: dict[str, TokenView] = {}
        self._token_read_at = -1e9
        self._token_lock = threading.Lock()
        self._token_used: dict[int, int] = {}

    def create_token(
        self,
        name: str,
        role: str,
        *,
        doer: Doer = COMMAND_LINE,
        user_id: int | None = None,
        expires_at: int = 0,
        scopes: Sequence[str] = SCOPES,
        sources: Sequence[str] = (),
    ) -> str:
        """A new token, shown this once; raises ConfigError naming what is wrong."""
        if role not in ROLES:
            msg = f"the role must be one of {', '.join(ROLES)}, not {role!r}"
            raise ConfigError(msg, key="role")
        if len(name) > 100 or not is_plain(name):
            msg = "the name must have 1 to 100 printable characters"
            raise ConfigError(msg, key="name")
        if not scopes or not set(scopes) <= set(SCOPES):
            msg = f"the scopes are one or more of {', '.join(SCOPES)}"
            raise ConfigError(msg, key="scopes")
        kept = checked_sources(sources)
        now = now_us()
        if expires_at and expires_at <= now:
            msg = "the token must expire in the future"
            raise ConfigError(msg, key="expires_at")
        token = PREFIX + secrets.token_urlsafe(32)
        with self.database.writing() as connection:
            taken = connection.exec_driver_sql("SELECT 1 FROM api_tokens WHERE name = ?", (name,)).scalar()
            if taken:
                msg = f"there is a token named {name!r} already; revoke it first or choose another name"
                raise ConfigError(msg, key="name")
            connection.exec_driver_sql(
                "INSERT INTO api_tokens (name, token_hash, role, created_at, last_used_at, user_id, prefix, expires_at,"
                " scopes, sources) VALUES (?,?,?,?,0,?,?,?,?,?)",
                (name, hash_secret(token), role, now, user_id, token[:9], expires_at,
                 json.dumps([each for each in SCOPES if each in scopes]), kept),
            )  # fmt: skip
            self.audit.append(
                doer.name,
                doer.address,
                "token.created",
                name,
                {"role": role, "scopes": list(scopes), "sources": list(sources), "expires_at": expires_at},
                request_id=doer.request_id,
                connection=connection,
            )
        self._read_tokens()
        self.when_people_change()
        return token

    def check_token(self, token: str) -> TokenView | None:
        """Whose token this is; None for a wrong, expired or revoked one. Costs at most two looks at the disk a second.

        What is compared are hashes, found in a dictionary: how long that takes says nothing about the token.
        """
        if not token.startswith(PREFIX) or len(token) != len(PREFIX) + 43 or not token.isascii():
            return None
        view = self._tokens_now().get(hash_secret(token))
        if view is None or (view.expires_at and view.expires_at <= now_us()):
            return None
        self._token_used[view.id] = now_us()
        return view

    def token_now(self, token_id: int) -> TokenView | None:
        """The token of this id, if it still holds; looking does not count as use."""
        view = next((each for each in self._tokens_now().values() if each.id == token_id), None)
        return None if view is None or (view.expires_at and view.expires_at <= now_us()) else view

    def tokens(self) -> list[TokenView]:
        """All tokens by name, also those that have expired."""
        self._read_tokens()
        return sorted(self._token_snapshot.values(), key=lambda view: view.name)

    def revoke_token(self, token_id: int, doer: Doer = COMMAND_LINE) -> bool:
        """The token ends now; False: there is no such token."""
        with self.database.writing() as connection:
            gone = connection.exec_driver_sql(
                "DELETE FROM api_tokens WHERE id = ? RETURNING name", (token_id,)
            ).one_or_none()
            if gone is not None:
                self.audit.append(
                    doer.name, doer.address, "token.revoked", gone[0], request_id=doer.request_id, connection=connection
                )
        self._read_tokens()
        self.when_people_change()
        return gone is not None

    def write_token_use(self) -> None:
        """Write down when tokens were last used; called now and then, not per request."""
        used, self._token_used = self._token_used, {}
        if used:
            with self.database.writing() as connection:
                connection.exec_driver_sql(
                    "UPDATE api_tokens SET last_used_at = ? WHERE id = ?", [(at, number) for number, at in used.items()]
                )

    def forget_tokens(self) -> None:
        """They were changed elsewhere: the next to ask looks into the database."""
        with self._token_lock:
            self._token_read_at = -1e9

    def _tokens_now(self) -> dict[str, TokenView]:
        """The snapshot; who finds it old reads it again, and whoever comes meanwhile waits for that one reading."""
        if time.monotonic() - self._token_read_at > SNAPSHOT_S:
            with self._token_lock:
                if time.monotonic() - self._token_read_at > SNAPSHOT_S:
                    self._token_snapshot, self._token_read_at = self._stored_tokens(), time.monotonic()
        return self._token_snapshot

    def _read_tokens(self) -> None:
        with self._token_lock:
            self._token_snapshot, self._token_read_at = self._stored_tokens(), time.monotonic()

    def _stored_tokens(self) -> dict[str, TokenView]:
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT t.token_hash, t.id, t.name, t.role, t.created_at, t.last_used_at, t.user_id, t.prefix,"
                " t.expires_at, t.scopes, t.sources, u.role, u.enabled, u.sources"
                " FROM api_tokens t LEFT JOIN users u ON u.id = t.user_id"
            )
            found: dict[str, TokenView] = {}
            for row in rows:
                if row[6] is not None and not row[12]:  # its maker is disabled
                    continue
                scopes, own, makers = (
                    tuple(json.loads(row[9])) or SCOPES,
                    json.loads(row[10]),
                    json.loads(row[13] or "[]"),
                )
                sources = tuple(each for each in own or makers if not makers or each in makers)
                if (own or makers) and not sources:  # nothing is left that both may know of
                    continue
                role = _lower(row[3], row[11])
                found[row[0]] = TokenView(row[1], row[2], role, row[4], row[5], row[6], row[7], row[8], scopes, sources)
            return found


def _lower(role: str, makers: str | None) -> str:
    return role if makers is None else min(role, makers, key=ROLES.index)
