"""A program that talks to the API with a token of its own."""

from __future__ import annotations

from typing import Any

from flask import Flask
from werkzeug.test import TestResponse


class Program:
    """A client with a token of this role."""

    def __init__(self, app: Flask, role: str = "viewer") -> None:
        self.app = app
        self.token = app.extensions["threatlens"].store.create_token(f"a {role}", role)
        self.headers = {"Authorization": f"Bearer {self.token}"}

    def call(self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any) -> TestResponse:
        headers = {**self.headers, **(headers or {})}
        return self.app.test_client().open("/api/v1" + path, method=method, headers=headers, **more)

    def get(self, path: str, **parameters: Any) -> TestResponse:
        return self.call("GET", path, query_string=parameters)

    def refusal(self, path: str, status: int = 400, **parameters: Any) -> dict[str, Any]:
        """The problem that this GET is answered with."""
        answer = self.get(path, **parameters)
        assert answer.status_code == status, answer.text
        assert answer.mimetype == "application/problem+json"
        return dict(answer.json)
