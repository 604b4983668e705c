"""The API against its own document: whatever schemathesis thinks of sending, the answer is one that was promised."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from builders import Filler
from flask import Flask, jsonify
from hypothesis import HealthCheck, Phase, settings
from programs import Program
from schemathesis.config import SchemathesisConfig

from threatlens.settings import PROJECT
from threatlens.web.api import OPERATIONS
from threatlens.web.openapi import document

EXAMPLES = 8  # random ones for each operation, beside those that go through its schema point by point


class Door:
    """Leads to the application of the test that runs; until there is one, to the document."""

    def __init__(self) -> None:
        self.app = Flask("document")
        self.app.add_url_rule("/openapi.json", view_func=lambda: jsonify(document(OPERATIONS, "1")))

    def __call__(self, environ: Any, start: Any) -> Iterable[bytes]:
        answer = self.app(environ, start)
        try:
            return [b"".join(answer)]
        finally:
            answer.close()  # type: ignore[attr-defined]


#: With all checks, as whoever runs schemathesis in the folder of the code has them; what is excepted stands there.
CONFIG = SchemathesisConfig.from_path(Path(PROJECT) / "schemathesis.toml")


@schemathesis.serializer("application/x-ndjson")
def lines(_context: Any, value: Any) -> bytes:
    """A text is sent as it is; anything else cannot be lines, and nothing is."""
    return value.encode("utf-8", "replace") if isinstance(value, str) else b""


@schemathesis.serializer("application/gzip")
def packed(_context: Any, value: Any) -> bytes:
    """A text is packed; anything else is sent without."""
    return gzip.compress(value.encode("utf-8", "replace")) if isinstance(value, str) else str(value).encode()


door = Door()
schema = schemathesis.openapi.from_wsgi("/openapi.json", door, config=CONFIG)


@pytest.fixture
def program(app: Any, services: Any, monkeypatch: pytest.MonkeyPatch) -> Program:
    filler = Filler(services.store)
    filler.add("one", "two", '{"n": 1}')
    services.config.load_config()
    monkeypatch.setattr(door, "app", app)
    return Program(app, "admin")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=timedelta(seconds=60),
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_document_promises(case: Any, app: Any, program: Program) -> None:
    if app.extensions["threatlens"].store.check_token(program.token) is None:  # it may have been revoked just now
        program.__init__(app, "admin")  # type: ignore[misc]
    case.call_and_validate(headers=program.headers)
