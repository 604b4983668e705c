"""The API's tokens: who may use it. Only an administrator's token sees or makes others."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from threatlens.event import rfc3339
from threatlens.store_tokens import TokenView
from threatlens.web.context import services
from threatlens.web.operations import Shape, operation
from threatlens.web.problems import ProblemError

Role = Literal["viewer", "analyst", "admin"]


class NewToken(Shape):
    """A token to make."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    role: Role


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
    """A new token with a role of at most its maker's."""
    token = services().store.create_token(body.name, body.role)
    return {"token": token, "name": body.name, "role": body.role}


@operation("DELETE", "/tokens/<int:token_id>", role="admin", summary="End a token now", status=204, problems=(404,))
def delete_token(token_id: int) -> None:
    """The token is refused from the next request on."""
    if token_id >= 2**63 or not services().store.revoke_token(token_id):
        raise ProblemError(404, "There is no token with this id.")


def _token(view: TokenView) -> dict[str, Any]:
    return {
        "id": view.id,
        "name": view.name,
        "role": view.role,
        "created_at": rfc3339(view.created_at),
        "last_used_at": rfc3339(view.last_used_at) if view.last_used_at else None,
    }
