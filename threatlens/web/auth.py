"""Who is asking, and what they may do: sessions of browsers, bearer tokens of programs, the roles of both.

Every route says who may use it (needs); what says nothing is open to nobody. A wrong token costs a comparison of shapes
and a look into a snapshot in memory, never the disk, so a flood of them starves nobody.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import current_app, g, request, session

from threatlens.clock import now_us
from threatlens.event import EventFilter
from threatlens.store_accounts import ROLES, Doer, Session, User
from threatlens.store_tokens import SCOPES, TokenView
from threatlens.web.context import services
from threatlens.web.problems import ProblemError, request_id

BEARER = re.compile(r"[Bb]earer (tl_[A-Za-z0-9_-]{43})")
#: What needs no role at all.
PUBLIC = "public"

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use a route."""

    role: str  # the least role, or PUBLIC
    fresh: bool = False  # the password must have been given lately
    programs: bool = False  # a bearer token will do
    confined: bool = False  # it shows nothing of sources that whoever asks may not know of


@dataclass(frozen=True, slots=True)
class Actor:
    """Who is asking."""

    name: str  # "user anna", "token shipper": as the audit log has it
    role: str
    user: User | None = None
    session: Session | None = None
    token: TokenView | None = None

    @property
    def scopes(self) -> tuple[str, ...]:
        return SCOPES if self.token is None else self.token.scopes

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the only sources it may know of; empty: all."""
        held = self.token or self.user
        return () if held is None else held.sources

    def may(self, role: str) -> bool:
        """Whether this role is in its own; roles include those below them."""
        return role in ROLES and ROLES.index(self.role) >= ROLES.index(role)


def needs(role: str, *, fresh: bool = False, programs: bool = False, confined: bool = False) -> Callable[[View], View]:
    """Declare who may use a route: the least role, or PUBLIC; fresh: only who gave their password lately.

    Who is kept to some sources is refused where it is not confined.
    """

    def declare(view: View) -> View:
        view.access = Access(role, fresh, programs, confined)  # type: ignore[attr-defined]
        return view

    return declare


def access_of(view: Callable[..., Any] | None) -> Access | None:
    """What a route declares; None: nothing, so that it is open to nobody."""
    found = getattr(view, "access", None)
    return found if isinstance(found, Access) else None


def bearer_token() -> str | None:
    """The token that the request carries, if it has the shape of one."""
    match = BEARER.fullmatch(request.headers.get("Authorization", ""))
    return match[1] if match else None


def authenticate() -> Actor:
    """Whose token the request carries; raises ProblemError (401)."""
    token = bearer_token()
    view = services().store.check_token(token) if token else None
    if view is None:
        raise wrong_token()
    return token_actor(view)


def wrong_token() -> ProblemError:
    """What is said to a program without a token that holds."""
    challenge = {"WWW-Authenticate": 'Bearer realm="ThreatLens"'}
    return ProblemError(401, "A valid token is needed: Authorization: Bearer tl_...", headers=challenge)


def token_actor(view: TokenView) -> Actor:
    """Somebody with this token."""
    return Actor(f"token {view.name}", view.role, token=view)


def browser_actor() -> Actor | None:
    """Whose session the request's cookie names, if it holds."""
    secret = session.get("id")
    if not isinstance(secret, str):
        return None
    settings = services().settings
    is_use = "X-By-Itself" not in request.headers  # a page that counts anew keeps nobody logged in
    found = services().store.session(secret, now_us(), is_use=is_use, **settings.session_limits)
    return None if found is None else Actor(f"user {found[0].name}", found[0].role, found[0], found[1])


def still_there(actor: Actor) -> Actor | None:
    """The same somebody as of now; None when their session or token has ended."""
    store = services().store
    if actor.session is not None:
        user = store.session_holds(actor.session.id_hash, now_us(), **services().settings.session_limits)
        return None if user is None else Actor(actor.name, user.role, user, actor.session)
    view = store.token_now(actor.token.id) if actor.token is not None else None
    return None if view is None else token_actor(view)


def actor() -> Actor:
    """Who is asking, on a route that needs a role."""
    found = current()
    if found is None:
        raise ProblemError(401, "Log in first.")
    return found


def current() -> Actor | None:
    """Who is asking; None on a public route, or before the gate."""
    found = g.get("actor")
    return found if isinstance(found, Actor) else None


def doer() -> Doer:
    """Whom the audit log names for what this request does; whoever asks writes an entry of their own."""
    who = current()
    g.recorded = True
    return Doer("nobody" if who is None else who.name, client_address(), request_id())


def within(where: EventFilter, sources: tuple[str, ...]) -> EventFilter:
    """The filter, kept to these sources; empty: to none in particular. Raises ProblemError (403) for any other."""
    if not sources:
        return where
    if not set(where.sources) <= set(sources):
        raise ProblemError(403, "This token is for other sources.", code="forbidden", field="source")
    return where if where.sources else dataclasses.replace(where, sources=sources)


def may_know(source: str) -> bool:
    """Whether whoever asks may know of this source."""
    only = actor().sources
    return not only or source in only


def is_open(endpoint: str) -> bool:
    """Whether a page shows anything to whoever asks, if they are kept to some sources."""
    access = access_of(current_app.view_functions.get(endpoint))
    return not actor().sources or (access is not None and access.confined)


def kept_within(where: EventFilter) -> EventFilter:
    """The filter, kept to the sources that whoever asks may know of; what it asks for besides is not found."""
    return where.kept_to(actor().sources)


def record(action: str, target: str = "", detail: Mapping[str, Any] | None = None) -> None:
    """Write what this request does to the audit log. detail holds no secret."""
    who = doer()
    services().store.audit.append(who.name, who.address, action, target, detail, request_id=who.request_id)


def client_address() -> str:
    """Where the request comes from: the peer, or what a proxy that is trusted says about it."""
    return address_of(request.environ, services().settings.proxies)


def address_of(environ: Mapping[str, Any], trusted: tuple[str, ...]) -> str:
    """Likewise, of a request that is not in the app yet."""
    peer = environ.get("REMOTE_ADDR") or "unix"
    hops = [hop.strip() for hop in environ.get("HTTP_X_FORWARDED_FOR", "").split(",") if hop.strip()]
    while peer in trusted and hops:
        peer = hops.pop()
    try:
        return str(ipaddress.ip_address(peer))
    except ValueError:
        return "unix" if peer == "unix" else "unknown"
