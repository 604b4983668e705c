"""Health: what a supervisor asks without a token, what Prometheus asks with one, and the page for people.

/healthz and /readyz say nothing about what is watched; the page and /metrics need a viewer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, current_app, render_template, request

from threatlens.clock import now_us
from threatlens.metrics import CONTENT_TYPE, collect, render
from threatlens.store_sources import SourceView
from threatlens.web.auth import PUBLIC, needs
from threatlens.web.context import services
from threatlens.web.overview import trust
from threatlens.web.presentation import count, size
from threatlens.web.seats import seats

blueprint = Blueprint("health", __name__)

RANGES = {"1h": (3_600, "hour"), "24h": (86_400, "day"), "7d": (604_800, "week"), "30d": (2_592_000, "month")}
#: What is charted: measurement, words, how its values are written.
CHARTS = (
    ("lines_per_second", "Lines a second", "number"),
    ("queue_lines", "Lines in the queue", "number"),
    ("behind_bytes", "Still to read", "size"),
    ("memory_bytes", "Memory", "size"),
    ("database_bytes", "Database", "size"),
    ("disk_free_bytes", "Free on its disk", "size"),
)
POINTS = 96
CHANGES = 20


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of a source's bytes."""

    view: SourceView
    dead: int  # lines that were set aside
    behind: int  # bytes still to read

    @property
    def decoded(self) -> int:
        return self.view.events - self.view.unknown

    @property
    def missing(self) -> int:
        """Lines that were read and became nothing: always 0."""
        return self.view.unaccounted - self.dead


@dataclass(frozen=True, slots=True)
class Chart:
    """One measurement over time, as a line in a box 100 high."""

    title: str
    now: str
    highest: str
    points: str  # x,y pairs of a polyline; "": nothing was measured
    since_us: int = 0  # where the chart begins, if nothing was measured before; 0: at the start of the range


@blueprint.get("/healthz")
@needs(PUBLIC)
def healthz() -> dict[str, str]:
    """The process answers: ok, or degraded where a part of it is not well."""
    state = services().engine_status().get("state", "ok")
    return {"status": "ok" if state == "ok" else "degraded"}


@blueprint.get("/readyz")
@needs(PUBLIC)
def readyz() -> tuple[dict[str, Any], int]:
    """200 when work can be done, else 503 with the reasons in words."""
    reasons = services().readiness()
    return ({"status": "degraded", "reasons": reasons}, 503) if reasons else ({"status": "ok"}, 200)


@blueprint.get("/metrics")
@needs("viewer", programs=True)
def metrics() -> Response:
    """The measurements as Prometheus reads them."""
    found = services()
    families = collect(
        found.engine_status(),
        found.store,
        version=current_app.config["THREATLENS_VERSION"],
        database_path=found.settings.database_path,
        now_us=now_us(),
        sockets=seats().taken,
        redis=found.fanout.measures() if found.fanout.used else None,
    )
    return Response(render(families), content_type=CONTENT_TYPE)


@blueprint.get("/health")
@needs("viewer")
def index() -> str:
    """How every part and every source is doing."""
    return render_template("health/index.html", trust=trust(), ranges=RANGES, **_values())


def panels() -> dict[str, str]:
    """The parts of the page that are kept up to date, by the id of their element."""
    values = _values()
    return {
        name: render_template(f"health/_{name.removeprefix('health-')}.html", **values)
        for name in ("health-components", "health-ledger", "health-charts", "health-changes")
    }


def _values() -> dict[str, object]:
    found = services()
    status = found.engine_status()
    dead, behind = found.store.dead_by_source(), status.get("behind", {})
    name = request.args.get("range", "")
    range_name = name if name in RANGES else "24h"
    return {
        "status": status,
        "components": sorted(status.get("components", ()), key=_worst_first),
        "ledger": [
            Ledger(view, dead.get(view.id, 0), behind.get(view.source_name, 0)) for view in found.store.sources()
        ],
        "charts": charts(range_name),
        "changes": found.store.changes(CHANGES),
        "range_name": range_name,
    }


def _worst_first(component: dict[str, str]) -> tuple[int, str]:
    order = ("failed", "degraded", "starting", "ok", "off")
    return order.index(component["state"]), component["name"]


def charts(range_name: str) -> list[Chart]:
    """The measurements of a range of time."""
    end = now_us()
    start = end - RANGES[range_name][0] * 1_000_000
    series = services().store.series([kind for kind, _, _ in CHARTS], start, end, POINTS)
    first = min((values[0][0] for values in series.values() if values), default=start)
    since_us = first if first - start > (end - start) // 10 else 0  # a line of minutes would be lost in a day
    start = since_us or start
    found = []
    for kind, title, unit in CHARTS:
        values = series[kind]
        highest = math.ceil(max((value for _, value in values), default=0.0))  # a third of a line is not "at most 0"
        points = " ".join(
            f"{1000 * (at - start) / max(1, end - start):.1f},{100 - 96 * value / (highest or 1):.1f}"
            for at, value in (*values, *((end, value) for _, value in values[-1:]))
        )
        now = _shown(values[-1][1], unit) if values else ""
        found.append(Chart(title, now, _shown(highest, unit), points, since_us))
    return found


def _shown(value: float, unit: str) -> str:
    return size(int(value)) if unit == "size" else count(round(value))
