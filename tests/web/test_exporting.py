"""Exports over HTTP: for exactly the filter in the URL, written down, and ended when the reader goes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from builders import Filler
from programs import Program

from threatlens.web.exporting import MAX_AT_ONCE, MAX_OF_ONE


@pytest.fixture
def filled(services: Any) -> Filler:
    filler = Filler(services.store)
    filler.add(*(f"line {number}" for number in range(600)))
    filler.add("GET /admin 403", source="nginx", severity=8, category="web", log_format="nginx.access")
    return filler


def test_the_page_exports_its_view(viewer_client: Any, filled: Filler, services: Any) -> None:
    page = viewer_client.get("/events?min_severity=5")
    assert "/events/export?min_severity=5&amp;format=ndjson" in page.text
    answer = viewer_client.get("/events/export?min_severity=5&format=ndjson")
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=threatlens-events-")
    assert [json.loads(line)["event.original"] for line in answer.text.splitlines()] == ["GET /admin 403"]
    entry = services.store.audit.page(limit=1)[0]
    assert (entry.action, entry.target) == ("events.export", "ndjson")
    assert "min_severity=5" in str(entry.detail)


@pytest.mark.parametrize("query", ["", "format=xls", "format=csv&q=%28", "format=csv&min_severity=99"])
def test_what_cannot_be_read_exports_nothing(viewer_client: Any, filled: Filler, query: str) -> None:
    assert viewer_client.get(f"/events/export?{query}").status_code == 400


def test_nobody_exports_without_logging_in(app: Any, filled: Filler) -> None:
    assert app.test_client().get("/events/export?format=csv").status_code != 200


def test_a_program_exports_too(app: Any, filled: Filler) -> None:
    program = Program(app)
    answer = program.get("/events/export", format="json", source="nginx")
    assert [event["raw"] for event in answer.json] == ["GET /admin 403"]
    assert program.refusal("/events/export", format="xml")["field"] == "format"
    assert program.refusal("/events/export", format="csv", limit=5)["code"] == "unknown_parameter"


def test_readers_that_go_away_give_their_places_back(
    viewer_client: Any, analyst_client: Any, admin_client: Any, filled: Filler
) -> None:
    for _ in range(3):
        held = [viewer_client.get("/events/export?format=csv", buffered=False) for _ in range(MAX_OF_ONE)]
        assert viewer_client.get("/events/export?format=csv").status_code == 429, "one person cannot take all"
        held += [analyst_client.get("/events/export?format=csv", buffered=False) for _ in range(MAX_OF_ONE)]
        assert {answer.status_code for answer in held} == {200}
        assert len(held) == MAX_AT_ONCE
        assert admin_client.get("/events/export?format=csv").status_code == 429
        next(iter(held[0].response))  # one is in the middle, the others have not begun
        for answer in held:
            answer.close()
    assert viewer_client.get("/events/export?format=csv").status_code == 200


def test_an_export_under_way_is_followed_and_cancelled_by_who_asked_for_it(
    app: Any, viewer_client: Any, analyst_client: Any, filled: Filler
) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    held = viewer_client.get("/events/export?format=ndjson", buffered=False)
    body = iter(held.response)
    next(body)
    page = viewer_client.get("/events/exports").text
    assert "ndjson: 250 events" in page
    assert 'value="42"' in page  # 250 of 601
    assert "hx-trigger" in page
    cancel = re.search(r'action="([^"]+)"', page)[1]  # type: ignore[index]

    assert "ndjson" not in analyst_client.get("/events/exports").text
    assert analyst_client.post(cancel).status_code == 404
    assert viewer_client.post(cancel).status_code == 303
    assert "is ending" in viewer_client.get("/events/exports").text

    with pytest.raises(ConnectionResetError, match="cancelled"):
        list(body)
    held.close()
    after = viewer_client.get("/events/exports").text
    assert "ndjson" not in after
    assert "hx-trigger" not in after
