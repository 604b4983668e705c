"""The OpenAPI 3.1 document, made from the operations themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from threatlens.web.event_filter import MAX_ID
from threatlens.web.operations import Operation, Problem, Shape

_VARIABLE = re.compile(r"<(?:(int):)?(\w+)>")
_REFERENCE = "#/components/schemas/{model}"


def document(operations: Iterable[Operation], version: str) -> dict[str, Any]:
    """The document of these operations."""
    operations = list(operations)
    shapes: list[type[BaseModel]] = [Problem]
    for operation in operations:
        shapes += [shape for shape in (operation.body, operation.answer) if shape is not None]
    _, definitions = models_json_schema(
        [(shape, "validation") for shape in dict.fromkeys(shapes)], ref_template=_REFERENCE
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = "/api/v1" + _VARIABLE.sub(r"{\2}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ThreatLens", "version": version},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "tl_ and 43 characters"}},
            "schemas": definitions["$defs"],
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"{(operation.view.__doc__ or '').strip()} Needs the role {operation.role}.",
        "parameters": [*_path_parameters(operation.path), *_query_parameters(operation.query)],
        "responses": _responses(operation),
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(operation.body)}}}
    if operation.media is not None:
        content = {kind: {"schema": schema} for kind, schema in operation.media.items()}
        packed = "Content-Encoding: gzip is unpacked."
        described["requestBody"] = {"required": True, "description": packed, "content": content}
        described["parameters"] += [
            _header(
                "Idempotency-Key",
                "the same key again is the same ingestion",
                {"minLength": 1, "maxLength": 200, "pattern": "^[!-~]([ -~]*[!-~])?$"},
            ),
        ]
    return described


def _responses(operation: Operation) -> dict[str, Any]:
    success: dict[str, Any] = {"description": HTTPStatus(operation.status).phrase}
    if operation.answer is not None:
        success["content"] = {"application/json": {"schema": _ref(operation.answer)}}
    if operation.file:
        binary = {"type": "string", "format": "binary"}
        success["content"] = {
            kind: {"schema": {"type": "array"} if kind == "application/json" else binary}
            for kind in operation.file.split(", ")
        }
    of_body = {409, 413, 415, 422} if operation.body else ()
    refusals = {400, 401, 403, 405, 429, 500, 503, *operation.problems, *of_body}
    problem = {"application/problem+json": {"schema": _ref(Problem)}}
    return {str(operation.status): success} | {
        str(status): {"description": HTTPStatus(status).phrase, "content": problem} for status in sorted(refusals)
    }


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer", "minimum": 0, "maximum": MAX_ID}
            if kind
            else {"type": "string", "minLength": 1, "maxLength": 200},
        }
        for kind, name in _VARIABLE.findall(path)
    ]


def _query_parameters(shape: type[Shape] | None) -> list[dict[str, Any]]:
    if shape is None:
        return []
    schema = shape.model_json_schema(ref_template=_REFERENCE)
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "description": part.pop("description", ""),
            "schema": part,
        }
        for name, part in schema["properties"].items()
    ]


def _header(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string", **schema},
    }


def _ref(shape: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=shape.__name__)}
