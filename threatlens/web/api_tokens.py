"""The API's tokens: who may use it. Only an administrator's token sees or makes others."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from threatlens.clock import now_us
from threatlens.event import rfc3339
from threatlens.store_tokens import SCOPES, TokenView
from threatlens.web.api_values import PlainText
from threatlens.web.auth import actor, doer
from threatlens.web.context import services
from threatlens.web.operations import Shape, operation
from threatlens.web.problems import ProblemError

Role = Literal["viewer", "analyst", "admin"]
Scope = Literal["read", "ingest", "write"]
SourceName = PlainText
DAY_US = 86_400_000_000


class NewToken(Shape):
    """A token to make."""

    name: PlainText
    role: Role
    days: Annotated[int | None, Field(ge=1, le=3650, description="how long it lasts; null: until it is revoked")] = None
    scopes: Annotated[list[Scope] | None, Field(min_length=1, max_length=3, description="null: all")] = None
    sources: Annotated[
        list[SourceName] | None, Field(max_length=100, description="the only ones it is for; null: all")
    ] = None


class MadeToken(Shape):
    """A token just made; its secret is never shown again."""

    token: str
    name: str
    role: Role


class TokenShape(Shape):
    """A token without its secret."""

    id: int
    name: str
    role: Role
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    expires_at: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]
    scopes: list[Scope]
    sources: list[str]
    prefix: Annotated[str, Field(description="its first characters")]
    last_used_at: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]


class TokenList(Shape):
    """All valid tokens."""

    tokens: list[TokenShape]


@operation("GET", "/tokens", role="admin", summary="All valid tokens, without their secrets", answer=TokenList)
def list_tokens() -> dict[str, Any]:
    """By name."""
    return {"tokens": [_token(view) for view in services().store.tokens()]}


@operation("POST", "/tokens", role="admin", summary="Make a token; it is shown this once", status=201, body=NewToken,
           answer=MadeToken)  # fmt: skip
def create_token(body: NewToken) -> dict[str, Any]:
    """A new token that may no more, and lasts no longer, than the one that makes it."""
    maker = actor().token
    scopes = body.scopes or (SCOPES if maker is None else maker.scopes)
    last = maker.expires_at if maker is not None else 0
    if maker is not None and not set(scopes) <= set(maker.scopes):
        raise ProblemError(403, f"This token is for {', '.join(maker.scopes)} only.", code="forbidden", field="scopes")
    expires_at = now_us() + body.days * DAY_US if body.days else last
    if last and expires_at > last:
        raise ProblemError(403, "This token ends before that.", code="forbidden", field="days")
    token = services().store.create_token(
        body.name,
        body.role,
        doer=doer(),
        user_id=maker.user_id if maker is not None else None,
        expires_at=expires_at,
        scopes=scopes,
        sources=body.sources or (),
    )
    return {"token": token, "name": body.name, "role": body.role}


@operation("DELETE", "/tokens/<int:token_id>", role="admin", summary="End a token now", status=204, problems=(404,))
def delete_token(token_id: int) -> None:
    """The token is refused from the next request on."""
    if token_id >= 2**63 or not services().store.revoke_token(token_id, doer()):
        raise ProblemError(404, "There is no token with this id.")


def _token(view: TokenView) -> dict[str, Any]:
    return {
        "id": view.id,
        "name": view.name,
        "role": view.role,
        "created_at": rfc3339(view.created_at),
        "expires_at": rfc3339(view.expires_at) if view.expires_at else None,
        "scopes": list(view.scopes),
        "sources": list(view.sources),
        "prefix": view.prefix,
        "last_used_at": rfc3339(view.last_used_at) if view.last_used_at else None,
    }
