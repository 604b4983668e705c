"""Problems: how the API says no (RFC 9457, application/problem+json).

An answer names what the client must change and carries the id under which the server's own log has the rest; it never
holds a stack, a path or a statement.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from http import HTTPStatus

from flask import Response, g, request
from werkzeug.exceptions import HTTPException

from threatlens.errors import (
    ConfigError,
    IngestError,
    QueryError,
    QueryTimeout,
    StaleChange,
    StoreUnavailable,
    ThreatLensError,
)
from threatlens.web.strict_json import dumps

#: The content type of a problem.
PROBLEM_TYPE = "application/problem+json"

logger = logging.getLogger(__name__)


class ProblemError(ThreatLensError):
    """A request is answered with a problem. The client must act."""

    def __init__(
        self, status: int, detail: str, *, code: str = "", field: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code or HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")
        self.field = field  # the parameter or key at fault
        self.headers = dict(headers or {})


def request_id() -> str:
    """The random name of the current request, in every answer's X-Request-Id and in our own log."""
    if "request_id" not in g:
        g.request_id = new_request_id()
    return str(g.request_id)


def new_request_id() -> str:
    """A random name for one request."""
    return secrets.token_hex(8)


def problem_text(problem: ProblemError, request_id: str) -> bytes:
    """The problem as JSON."""
    document: dict[str, object] = {
        "type": f"urn:threatlens:problem:{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": str(problem),
        "code": problem.code,
        "request_id": request_id,
    }
    if problem.field:
        document["field"] = problem.field
    return dumps(document)


def answer_problem(error: Exception) -> Response:
    """The answer for whatever went wrong while a program's request was served."""
    problem = _problem(error)
    response = Response(problem_text(problem, request_id()), problem.status, mimetype=PROBLEM_TYPE)
    response.headers.update(problem.headers)
    response.headers["X-Request-Id"] = request_id()
    response.headers["Cache-Control"] = "no-store"
    return response


def _problem(error: Exception) -> ProblemError:
    match error:
        case ProblemError():
            return error
        case QueryError():
            code = "invalid_body" if error.field == "body" else "invalid_parameter"
            return ProblemError(400, str(error), code=code, field=error.field)
        case QueryTimeout():
            return ProblemError(400, "The query took too long; ask for less.", code="query_timeout")
        case ConfigError():
            # It is written as the document says, and does not go with what is here: a taken name, a refused path.
            return ProblemError(409, error.message, code="invalid_configuration", field=error.key)
        case StaleChange():
            return ProblemError(409, f"{str(error)[:1].upper()}{str(error)[1:]}.")
        case IngestError():
            wait = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
            return ProblemError(error.status, str(error), headers=wait)
        case StoreUnavailable():
            return ProblemError(503, "The database cannot be used now; try again.", headers={"Retry-After": "2"})
        case HTTPException():
            return _of_http(error)
    logger.error("request %s %s failed (%s)", request.method, request.path, request_id(), exc_info=error)
    return ProblemError(500, "Something went wrong here; the log has the details under this request id.")


def _of_http(error: HTTPException) -> ProblemError:
    status = error.code or 500
    detail = {
        400: "The request cannot be understood.",
        404: "There is nothing here.",
        405: "This method is not possible here.",
        413: "The body is too large.",
    }.get(status, HTTPStatus(status).phrase + ".")
    headers = {name: value for name, value in error.get_headers() if name in {"Allow", "Retry-After", "Location"}}
    return ProblemError(status, detail, headers=headers)
