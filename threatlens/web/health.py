"""Is the process alive, and can it do its work: what a supervisor or a balancer asks, without a token."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from threatlens.web.auth import PUBLIC, needs
from threatlens.web.context import services

blueprint = Blueprint("health_checks", __name__)


@blueprint.get("/healthz")
@needs(PUBLIC)
def healthz() -> dict[str, str]:
    """The process answers; nothing else is looked at."""
    return {"status": "ok"}


@blueprint.get("/readyz")
@needs(PUBLIC)
def readyz() -> tuple[dict[str, Any], int]:
    """200 when work can be done, else 503 with the reasons in words."""
    reasons = services().readiness()
    return ({"status": "degraded", "reasons": reasons}, 503) if reasons else ({"status": "ok"}, 200)
