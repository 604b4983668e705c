"""Operations: a route of the API declared once, for the check of what comes in and for the OpenAPI document alike.

An operation says its method, path, role, parameters, body and answer. What it does not name is refused, so the document
cannot promise less or more than the code does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Response, g, request
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from threatlens.web.auth import Access, Actor, actor
from threatlens.web.gate import refuse
from threatlens.web.problems import ProblemError, request_id
from threatlens.web.strict_json import dumps, loads

MAX_BODY_BYTES = 256 * 1024  # of a JSON document; ingested data has a limit of its own

View = Callable[..., Any]


def _digits(value: object) -> object:
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) <= 19):
        msg = "must be a whole number"
        raise ValueError(msg)
    return value


#: For a whole number in a query string, behind its bounds: digits and nothing else.
DIGITS = BeforeValidator(_digits)


class Shape(BaseModel):
    """The base of every parameter set, body and answer: nothing beside what is named."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Problem(Shape):
    """What went wrong, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    field: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One route and everything that may go in and come out."""

    method: str
    path: str  # below /api/v1, in Flask's notation
    role: str  # the least role that may call it
    summary: str
    view: View
    status: int  # of success
    query: type[Shape] | None
    body: type[BaseModel] | None
    media: Mapping[str, Any] | None  # content types of a body that the view reads itself, with their schemas
    answer: type[BaseModel] | None  # None: no content, or a file
    file: str  # content types, with ", " between, of an answer that is a file; "": it is none
    problems: tuple[int, ...]  # beside those that any operation may have
    scope: str  # what a token must be for
    confined: bool  # it keeps to the sources of a token that is for some only

    @property
    def access(self) -> Access:
        return Access(self.role, programs=True)

    @property
    def name(self) -> str:
        return self.view.__name__

    def _check(self, who: Actor) -> None:
        """Raises ProblemError (403) for who may not call it."""
        if who.may(self.role) and self.scope in who.scopes and (self.confined or not who.sources):
            return
        refuse(who)
        if not who.may(self.role):
            raise ProblemError(403, f"This needs a token with the role {self.role}.")
        if self.scope not in who.scopes:
            raise ProblemError(403, f"This token is not for this; it needs the scope {self.scope}.")
        raise ProblemError(403, "This token is for some sources only, and this shows more.")

    def __call__(self, **path: Any) -> Response:
        """Serve one request whose token the gate in api.py has checked: may it, what is asked, the answer."""
        self._check(actor())
        arguments = dict(path)
        parameters = _parameters(self.query)
        if parameters is not None:
            arguments["query"] = parameters
        if self.body is not None:
            arguments["body"] = _body(self.body)
        data = self.view(**arguments)
        if self.file:
            response: Response = data
        elif data is None:
            response = Response(status=self.status)
        else:
            response = Response(dumps(data), self.status)
            response.mimetype = "application/json"
        if "location" in g:
            response.headers["Location"] = g.location
        response.headers["X-Request-Id"] = request_id()
        response.headers["Cache-Control"] = "no-store"
        return response


def operation(
    method: str,
    path: str,
    *,
    role: str,
    summary: str,
    status: int = 200,
    query: type[Shape] | None = None,
    body: type[BaseModel] | None = None,
    media: Mapping[str, Any] | None = None,
    answer: type[BaseModel] | None = None,
    file: str = "",
    problems: tuple[int, ...] = (),
    scope: str = "",
    confined: bool = False,
) -> Callable[[View], Operation]:
    """Declare a view: it is called with the path's variables, `query` and `body`, and returns what becomes JSON."""

    def declare(view: View) -> Operation:
        return Operation(
            method,
            path,
            role,
            summary,
            view,
            status,
            query,
            body,
            media,
            answer,
            file,
            problems,
            scope or ("read" if method == "GET" else "write"),
            confined,
        )

    return declare


def created_at(url: str) -> None:
    """Where the thing that this request made can be found: the Location of the answer."""
    g.location = url


def _parameters(shape: type[Shape] | None) -> Shape | None:
    """The query string as this shape; raises ProblemError (400) naming the first parameter at fault."""
    given = request.args
    known = shape.model_fields if shape else {}
    for name, values in given.lists():
        if name not in known:
            hint = f"; known are {', '.join(known)}" if known else ""
            raise ProblemError(400, f"There is no parameter of this name{hint}.", code="unknown_parameter",
                               field=name[:100])  # fmt: skip
        if len(values) > 1:
            raise ProblemError(400, f"{name} is given twice.", code="duplicate_parameter", field=name)
    if shape is None:
        return None
    try:
        return shape.model_validate(given.to_dict())
    except ValidationError as error:
        name, sentence = _first(error.errors())
        raise ProblemError(400, f"{name}: {sentence}", code="invalid_parameter", field=name) from error


def _body(shape: type[BaseModel]) -> BaseModel:
    """The JSON body as this shape; raises ProblemError (415, 400 for what is not JSON, 422 for what it says)."""
    if request.mimetype != "application/json":
        raise ProblemError(415, "The body must be application/json.")
    request.max_content_length = MAX_BODY_BYTES
    value = loads(request.get_data(cache=False))
    if not isinstance(value, dict):
        raise ProblemError(400, "The body must be a JSON object.", field="body")
    try:
        return shape.model_validate(_whole(value), strict=True)
    except ValidationError as error:
        name, sentence = _first(error.errors())
        raise ProblemError(422, f"{name}: {sentence}", code="invalid_value", field=name) from error


def _whole(value: Any) -> Any:
    """The same with whole numbers as such: 2.0 is one in JSON Schema, as JSON knows one kind of number only."""
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _first(errors: list[ErrorDetails]) -> tuple[str, str]:
    """The first thing wrong: (where, a sentence)."""
    where = ".".join(str(part) for part in errors[0]["loc"])[:100]
    sentence = errors[0]["msg"].removeprefix("Value error, ")
    return where, sentence[:1].lower() + sentence[1:] + "."
