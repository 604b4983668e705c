"""API tokens: made once, shown once, kept as SHA-256 only.

A wrong token must cost nothing (a flood of them is an attack of its own): tokens are looked up in a snapshot in memory
that is read again at most once a second.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from dataclasses import dataclass

from threatlens.errors import ConfigError
from threatlens.models import now_us
from threatlens.store_database import Database

ROLES = ("viewer", "analyst", "admin")
PREFIX = "tl_"
SNAPSHOT_S = 1.0


@dataclass(frozen=True, slots=True)
class TokenView:
    """A token without its secret."""

    id: int
    name: str
    role: str
    created_at: int  # microseconds since the epoch
    last_used_at: int  # likewise; 0: never


class TokenBook:
    """The table api_tokens."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self._token_snapshot: dict[str, TokenView] = {}
        self._token_read_at = -1e9
        self._token_lock = threading.Lock()
        self._token_used: dict[int, int] = {}

    def create_token(self, name: str, role: str) -> str:
        """A new token, shown this once; raises ConfigError naming what is wrong."""
        if role not in ROLES:
            msg = f"the role must be one of {', '.join(ROLES)}, not {role!r}"
            raise ConfigError(msg, key="role")
        if not name or len(name) > 100 or not name.isprintable():
            msg = "the name must have 1 to 100 printable characters"
            raise ConfigError(msg, key="name")
        token = PREFIX + secrets.token_urlsafe(32)
        with self.database.writing() as connection:
            taken = connection.exec_driver_sql("SELECT 1 FROM api_tokens WHERE name = ?", (name,)).scalar()
            if taken:
                msg = f"there is a token named {name!r} already; revoke it first or choose another name"
                raise ConfigError(msg, key="name")
            connection.exec_driver_sql(
                "INSERT INTO api_tokens (name, token_hash, role, created_at, last_used_at) VALUES (?,?,?,?,0)",
                (name, _hash(token), role, now_us()),
            )
        self._token_read_at = -1e9
        return token

    def check_token(self, token: str) -> TokenView | None:
        """Whose token this is; None for a wrong or revoked one. Costs no disk access beyond one look a second."""
        if not token.startswith(PREFIX) or len(token) != len(PREFIX) + 43 or not token.isascii():
            return None
        if time.monotonic() - self._token_read_at > SNAPSHOT_S:
            self._read_tokens()
        view = self._token_snapshot.get(_hash(token))
        if view is not None:
            self._token_used[view.id] = now_us()
        return view

    def tokens(self) -> list[TokenView]:
        """All valid tokens by name."""
        self._read_tokens()
        return sorted(self._token_snapshot.values(), key=lambda view: view.name)

    def revoke_token(self, token_id: int) -> bool:
        """The token ends now; False: there is no such token."""
        with self.database.writing() as connection:
            gone = connection.exec_driver_sql("DELETE FROM api_tokens WHERE id = ?", (token_id,)).rowcount == 1
        self._read_tokens()
        return gone

    def write_token_use(self) -> None:
        """Write down when tokens were last used; called now and then, not per request."""
        used, self._token_used = self._token_used, {}
        if used:
            with self.database.writing() as connection:
                connection.exec_driver_sql(
                    "UPDATE api_tokens SET last_used_at = ? WHERE id = ?", [(at, number) for number, at in used.items()]
                )

    def _read_tokens(self) -> None:
        with self._token_lock, self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT token_hash, id, name, role, created_at, last_used_at FROM api_tokens"
            )
            self._token_snapshot = {row[0]: TokenView(*row[1:]) for row in rows}
            self._token_read_at = time.monotonic()


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
