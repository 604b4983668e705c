"""The API's accounts and audit log, for administrators' tokens."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from threatlens.event import rfc3339
from threatlens.passwords import check_password
from threatlens.store_accounts import User
from threatlens.web.api_tokens import SourceName
from threatlens.web.api_values import AccountName
from threatlens.web.auth import doer
from threatlens.web.context import services
from threatlens.web.operations import DIGITS, Shape, created_at, operation
from threatlens.web.problems import ProblemError

Role = Literal["viewer", "analyst", "admin"]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Sources = Annotated[list[SourceName], Field(max_length=100)]
LAST_ID = 2**62
MAX_ENTRIES = 500


class NewUser(Shape):
    """An account to make."""

    name: AccountName
    role: Role
    password: Annotated[str, Field(min_length=12, max_length=128)]
    sources: Annotated[Sources | None, Field(description="the only ones it may see; null: all")] = None


class UserChange(Shape):
    """What shall be another; what is left out stays."""

    role: Role | None = None
    enabled: bool | None = None
    password: Annotated[str | None, Field(min_length=12, max_length=128)] = None
    sources: Annotated[Sources | None, Field(description="the only ones it may see; []: all")] = None


class UserShape(Shape):
    """An account without its password."""

    id: int
    name: str
    role: Role
    enabled: bool
    sources: Annotated[list[str], Field(description="the only ones it may see; []: all")]
    created_at: Moment
    last_login_at: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]


class UserList(Shape):
    """All accounts."""

    users: list[UserShape]


@operation("GET", "/users", role="admin", summary="All accounts", answer=UserList)
def list_users() -> dict[str, Any]:
    """By name."""
    return {"users": [_user(each) for each in services().store.users()]}


@operation("GET", "/users/<int:user_id>", role="admin", summary="One account", answer=UserShape, problems=(404,))
def get_user(user_id: int) -> dict[str, Any]:
    """The account with this id."""
    return _user(_found(user_id))


@operation("POST", "/users", role="admin", summary="Make an account", status=201, body=NewUser, answer=UserShape)
def create_user(body: NewUser) -> dict[str, Any]:
    """Whose name may not be taken by another, however it is written."""
    check_password(body.password, [body.name])
    kept = services().passwords.hash(body.password)
    made = services().store.create_user(body.name, kept, body.role, doer(), sources=body.sources or ())
    created_at(f"/api/v1/users/{made.id}")
    return _user(made)


@operation("PATCH", "/users/<int:user_id>", role="admin", summary="Change an account", body=UserChange,
           answer=UserShape, problems=(404,))  # fmt: skip
def change_user(user_id: int, body: UserChange) -> dict[str, Any]:
    """All of it or nothing; its sessions end. The last administrator stays one."""
    found, kept = _found(user_id), None
    if body.password is not None:
        check_password(body.password, [found.name])
        kept = services().passwords.hash(body.password)
    services().store.change_user(
        user_id, doer(), role=body.role, sources=body.sources, enabled=body.enabled, password_hash=kept
    )
    return _user(_found(user_id))


@operation("DELETE", "/users/<int:user_id>", role="admin", summary="Remove an account with its sessions and tokens",
           status=204, problems=(404, 409))  # fmt: skip
def delete_user(user_id: int) -> None:
    """What it did stays in the audit log."""
    services().store.remove_user(_found(user_id).id, doer())


class AuditQuery(Shape):
    """Which entries, and how many."""

    before: Annotated[int | None, Field(ge=1, le=LAST_ID, description="ids below this"), DIGITS] = None
    limit: Annotated[int, Field(ge=1, le=MAX_ENTRIES), DIGITS] = 100
    action: Annotated[str, Field(max_length=100, description="this one, or the part before a full stop")] = ""
    actor: Annotated[str, Field(max_length=200, description="as in an entry: user anna, token shipper")] = ""


class AuditShape(Shape):
    """One entry; its hash covers it and the hash of the one before."""

    id: int
    timestamp: Moment
    actor: str
    address: str
    action: str
    target: str
    detail: dict[str, Any]
    request_id: str
    hash: str


class AuditPage(Shape):
    """Entries, newest first."""

    entries: list[AuditShape]
    next: Annotated[int | None, Field(description="`before` of the next page; null: this is the last")]


@operation("GET", "/audit", role="admin", summary="Who did what, newest first", query=AuditQuery, answer=AuditPage)
def list_audit(query: AuditQuery) -> dict[str, Any]:
    """One page."""
    found = services().store.audit.page(
        before=query.before, limit=query.limit + 1, action=query.action, actor=query.actor
    )
    more = len(found) > query.limit
    found = found[: query.limit]
    return {"entries": [each.as_json() for each in found], "next": found[-1].id if more else None}


def _found(user_id: int) -> User:
    user = services().store.user(user_id) if user_id <= LAST_ID else None
    if user is None:
        raise ProblemError(404, "There is no account with this id.")
    return user


def _user(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "name": user.name,
        "role": user.role,
        "enabled": user.enabled,
        "sources": list(user.sources),
        "created_at": rfc3339(user.created_at),
        "last_login_at": rfc3339(user.last_login_at) if user.last_login_at else None,
    }
