"""The document is what the code does: every route is in it, and real answers are as it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from builders import Filler
from jsonschema.validators import Draft202012Validator
from programs import Program

from threatlens.query import parse_query
from threatlens.web.api import OPERATIONS

GUIDE = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.fixture
def admin(app: Any, services: Any) -> Program:
    filler = Filler(services.store)
    filler.add("one", "two", "three")
    filler.add('{"n": 123456789012345678901234567890, "tags": ["a"]}', source="app", log_format="json")
    return Program(app, "admin")


@pytest.fixture
def document(admin: Program) -> dict[str, Any]:
    return dict(admin.get("/openapi.json").json)


def check(document: dict[str, Any], answer: Any, method: str, path: str) -> None:
    """Raise ValidationError unless this answer is one that the document names for the operation."""
    responses = document["paths"][path][method]["responses"]
    response = responses[str(answer.status_code)]
    if answer.status_code == 204:
        assert "content" not in response
        assert answer.data == b""
        return
    schema = response["content"][answer.mimetype]["schema"]
    jsonschema.validate(
        answer.json, {**schema, "components": document["components"]}, Draft202012Validator,
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )  # fmt: skip


def test_every_route_is_in_the_document_and_nothing_else(app: Any, document: dict[str, Any]) -> None:
    routes = {
        (re.sub(r"<(?:int:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/")
        for method in (rule.methods or set()) - {"HEAD"}
    }

    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == routes


def test_the_document_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert document["security"] == [{"token": []}]
    names = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len(names) == len(set(names)) == len(OPERATIONS)


def test_every_schema_is_one_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)

    references = set(re.findall(r"'\$ref': '([^']*)'", str(document)))

    assert references == {f"#/components/schemas/{name}" for name in schemas}
    parameters = [p for methods in document["paths"].values() for each in methods.values() for p in each["parameters"]]
    for parameter in parameters:
        Draft202012Validator.check_schema(parameter["schema"])


def test_every_variable_of_a_path_is_a_parameter(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))


def test_the_parameters_of_events_are_those_that_are_taken(document: dict[str, Any]) -> None:
    parameters = {each["name"]: each for each in document["paths"]["/api/v1/events"]["get"]["parameters"]}

    assert set(parameters) == {"q", "min_severity", "max_severity", "category", "source", "start", "end", "after",
                               "before", "cursor", "limit"}  # fmt: skip
    assert parameters["limit"]["schema"] == {"default": 100, "maximum": 500, "minimum": 1, "title": "Limit",
                                             "type": "integer"}  # fmt: skip


def test_real_answers_are_as_the_document_says(admin: Program, document: dict[str, Any], services: Any) -> None:
    services.store.put_api_source("empty", "auto")
    calls: list[tuple[str, str, str, dict[str, Any], int]] = [
        ("get", "/events", "/events", {"query_string": {"limit": 2}}, 200),
        ("get", "/events", "/events", {"query_string": {"limit": 0}}, 400),
        ("get", "/events/{event_id}", "/events/4", {}, 200),
        ("get", "/events/{event_id}", "/events/99", {}, 404),
        ("get", "/stats", "/stats", {}, 200),
        ("get", "/sources", "/sources", {}, 200),
        ("get", "/sources/{source_id}", "/sources/1", {}, 200),
        ("post", "/sources", "/sources", {"json": {"name": "s", "path": "/var/log/s.log"}}, 201),
        ("post", "/sources", "/sources", {"json": {"name": "s"}}, 422),
        ("post", "/sources", "/sources", {"data": "x"}, 415),
        ("patch", "/sources/{source_id}", "/sources/4", {"json": {"enabled": False}}, 200),
        ("delete", "/sources/{source_id}", "/sources/4", {}, 204),
        ("post", "/ingest", "/ingest", {"data": "a\nb\n", "headers": {"Idempotency-Key": "k"}}, 202),
        ("post", "/ingest", "/ingest", {"data": "a", "content_type": "image/png"}, 415),
        ("get", "/ingest/{ingestion_id}", "/ingest/none", {}, 404),
        ("post", "/tokens", "/tokens", {"json": {"name": "t", "role": "viewer"}}, 201),
        ("get", "/tokens", "/tokens", {}, 200),
        ("delete", "/tokens/{token_id}", "/tokens/99", {}, 404),
        ("delete", "/tokens/{token_id}", "/tokens/2", {}, 204),
        ("post", "/users", "/users", {"json": {"name": "ben", "role": "viewer", "password": "x" * 12}}, 409),
        (
            "post",
            "/users",
            "/users",
            {"json": {"name": "ben", "role": "viewer", "password": "lamp in the grass"}},
            201,
        ),
        ("get", "/users", "/users", {}, 200),
        ("get", "/users/{user_id}", "/users/1", {}, 200),
        ("patch", "/users/{user_id}", "/users/1", {"json": {"enabled": False}}, 200),
        ("patch", "/users/{user_id}", "/users/1", {"json": {"id": 2}}, 422),
        ("delete", "/users/{user_id}", "/users/1", {}, 204),
        ("delete", "/users/{user_id}", "/users/1", {}, 404),
        ("get", "/audit", "/audit", {"query_string": {"limit": 2}}, 200),
        ("get", "/openapi.json", "/openapi.json", {"headers": {"Authorization": ""}}, 401),
    ]
    for method, path, url, more, status in calls:
        answer = admin.call(method.upper(), url, **more)
        assert answer.status_code == status, (method, url, answer.text)
        check(document, answer, method, "/api/v1" + path)

    made = admin.call("POST", "/ingest", data="a\nb\n", headers={"Idempotency-Key": "k"}).json["ingestion_id"]
    check(document, admin.get(f"/ingest/{made}"), "get", "/api/v1/ingest/{ingestion_id}")


def test_an_answer_that_is_not_as_the_document_says_is_noticed(admin: Program, document: dict[str, Any]) -> None:
    answer = admin.get("/stats")
    document["components"]["schemas"]["StatsShape"]["properties"].pop("total")

    with pytest.raises(jsonschema.ValidationError):
        check(document, answer, "get", "/api/v1/stats")


def test_the_guide_names_every_operation_with_its_role() -> None:
    rows = [line.split("|") for line in GUIDE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    named = {(call, cells[-2].strip()) for cells in rows for call in re.findall(r"`([A-Z]+ /[^`]*)`", cells[1])}
    declared = {(f"{each.method} " + re.sub(r"<(?:int:)?(\w+)>", r"{\1}", each.path), each.role) for each in OPERATIONS}

    assert named == declared


def test_every_query_in_the_guide_is_one() -> None:
    section = GUIDE.read_text(encoding="utf-8").split("## The query language")[1].split("\n## ")[0]
    queries = [
        query.replace("\\\\", "\\")
        for line in section.splitlines()
        if line.startswith("| `")
        for query in re.findall(r"`([^`]+)`", line.split("|")[1])
    ]

    assert len(queries) >= 10
    for query in queries:
        parse_query(query, now_us=0)
