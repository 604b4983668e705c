"""Who is asking: bearer tokens and what their roles may do.

A wrong token costs a comparison of shapes and a look into a snapshot in memory, never the disk, so a flood of them
starves nobody.
"""

from __future__ import annotations

import re

from flask import request

from threatlens.store_accounts import ROLES
from threatlens.store_tokens import TokenView
from threatlens.web.context import services
from threatlens.web.problems import ProblemError

_BEARER = re.compile(r"[Bb]earer (tl_[A-Za-z0-9_-]{43})")


def bearer_token() -> str | None:
    """The token that the request carries, if it has the shape of one."""
    match = _BEARER.fullmatch(request.headers.get("Authorization", ""))
    return match[1] if match else None


def authenticate() -> TokenView:
    """Whose token the request carries; raises ProblemError (401)."""
    token = bearer_token()
    view = services().store.check_token(token) if token else None
    if view is None:
        raise ProblemError(
            401,
            "A valid token is needed: Authorization: Bearer tl_...",
            headers={"WWW-Authenticate": 'Bearer realm="ThreatLens"'},
        )
    return view


def may(view: TokenView, role: str) -> bool:
    """Whether somebody with this token may do what `role` may; roles include those below them."""
    return view.role in ROLES and ROLES.index(view.role) >= ROLES.index(role)
