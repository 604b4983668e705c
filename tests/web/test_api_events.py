from __future__ import annotations

from typing import Any

import pytest
from builders import NOW_US, Filler
from programs import Program

from threatlens.errors import QueryTimeout, StoreUnavailable


@pytest.fixture
def filled(services: Any) -> Filler:
    filler = Filler(services.store)
    filler.add(*(f"line {number}" for number in range(1, 8)))
    filler.add("GET /admin 403", source="nginx", severity=8, category="web", log_format="nginx.access")
    filler.add('caf\u00e9 \u202e <script>alert(1)</script> "}],"x"', source="odd, name", severity=5, category="other")
    return filler


@pytest.fixture
def program(app: Any, filled: Filler) -> Program:
    return Program(app)


def ids(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [event["id"] for event in answer.json["events"]]


def follow(program: Program, **parameters: Any) -> list[list[int]]:
    """The ids of every page from the first to the last."""
    answer = program.get("/events", **parameters)
    pages = [ids(answer)]
    parameters.pop("after", None)
    while answer.json["next"]:
        answer = program.get("/events", **parameters, cursor=answer.json["next"])
        pages.append(ids(answer))
    return pages


def test_a_listing_goes_from_the_newest_to_the_oldest_page_by_page(program: Program) -> None:
    assert follow(program, limit=4) == [[9, 8, 7, 6], [5, 4, 3, 2], [1]]


def test_after_reads_forward_in_insertion_order(program: Program) -> None:
    assert follow(program, after=3, limit=3) == [[4, 5, 6], [7, 8, 9]]


def test_before_is_the_older_side(program: Program) -> None:
    assert ids(program.get("/events", before=3)) == [2, 1]


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"min_severity": 5}, [9, 8]),
        ({"max_severity": 2, "limit": 2}, [7, 6]),
        ({"category": "web"}, [8]),
        ({"category": "Web,other"}, [9, 8]),
        ({"source": "nginx"}, [8]),
        ({"q": 'source:"odd, name"'}, [9]),
        ({"q": "severity>=5 403", "category": "web"}, [8]),
        ({"q": '"line 3"'}, [3]),
        ({"q": "' 1=1-- %_ *"}, []),
        ({"start": "2026-11-24T00:00:02Z", "end": "2026-11-24T00:00:04Z"}, [4, 3]),
        ({"q": ""}, [9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ({"q": "no such words"}, []),
        ({"source": "no such source"}, []),
        ({"after": 2**62}, []),
    ],
)
def test_every_filter_finds_what_it_says(program: Program, parameters: dict[str, Any], found: list[int]) -> None:
    assert ids(program.get("/events", **parameters)) == found


def test_after_and_before_are_the_ends_of_a_range_that_is_read_forward(app: Any, services: Any) -> None:
    filler = Filler(services.store)
    filler.add(*"abcdefgh")
    program = Program(app)
    first = program.get("/events", after=2, before=7, limit=3).json
    rest = program.get("/events", after=2, before=7, limit=3, cursor=first["next"]).json
    assert [[event["id"] for event in page["events"]] for page in (first, rest)] == [[3, 4, 5], [6]]
    assert rest["next"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=-1", "limit"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=1e9", "limit"),
        ("limit=abc", "limit"),
        ("limit=%201", "limit"),
        ("limit=1_0", "limit"),
        ("limit=", "limit"),
        ("limit=5&limit=6", "limit"),
        ("min_severity=0", "min_severity"),
        ("max_severity=11", "max_severity"),
        ("after=-1", "after"),
        ("after=9223372036854775807", "after"),
        ("after=1%20OR%201=1", "after"),
        ("start=yesterday", "start"),
        ("end=2026-13-01", "end"),
        ("sort=id;drop%20table%20events", "sort"),
        ("fields=password_hash", "fields"),
        ("q=%22unterminated", "q"),
        ("q=usr:root", "q"),
        ("q=" + "x" * 2001, "q"),
        ("q=%00", "q"),
        ("q=category:web&category=other", "category"),
        ("cursor=x", "cursor"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(program: Program, query: str, field: str) -> None:
    answer = program.call("GET", f"/events?{query}")

    assert answer.status_code == 400
    assert answer.json["field"] == field
    assert answer.json["status"] == 400


def test_a_cursor_belongs_to_its_listing_and_is_signed(program: Program, app: Any) -> None:
    cursor = program.get("/events", limit=2, q="line").json["next"]
    middle = len(cursor) // 2
    other = "A" if cursor[middle] != "A" else "B"

    for parameters in (
        {"cursor": cursor},
        {"cursor": cursor, "q": "line", "min_severity": 2},
        {"cursor": cursor[:middle] + other + cursor[middle + 1 :], "q": "line"},
        {"cursor": cursor * 100, "q": "line"},
    ):
        assert program.refusal("/events", **parameters)["code"] == "invalid_cursor"
    assert ids(program.get("/events", limit=2, q="line", cursor=cursor)) == [5, 4]


def test_relative_times_do_not_move_from_page_to_page(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threatlens.web.api_events.now_us", lambda: NOW_US + 4_000_000)
    first = program.get("/events", start="-2s", limit=5)
    monkeypatch.setattr("threatlens.web.api_events.now_us", lambda: NOW_US + 3600_000_000)

    second = program.get("/events", start="-2s", limit=5, cursor=first.json["next"])

    assert (ids(first), ids(second)) == ([9, 8, 7, 6, 5], [4, 3])


def test_one_event_is_found_by_its_id(program: Program) -> None:
    event = program.get("/events/9").json

    assert event["raw"] == 'caf\u00e9 \u202e <script>alert(1)</script> "}],"x"'
    assert (event["source"], event["severity"], event["detections"]) == ("odd, name", 5, [])
    analysis = event["analysis"]
    assert (analysis["severity"], analysis["source"]) == (5, "rules")
    assert sum(factor["points"] for factor in analysis["factors"]) == 5


@pytest.mark.parametrize("path", ["/events/10", "/events/0", f"/events/{2**63}", "/events/x", "/events/-1", "/nothing"])
def test_what_is_not_there_is_a_problem_404(program: Program, path: str) -> None:
    assert program.refusal(path, 404)["code"] == "not_found"


def test_the_counters_add_up(program: Program) -> None:
    stats = program.get("/stats").json

    assert stats["total"] == 9
    assert stats["by_severity"] == {"2": 7, "5": 1, "8": 1}
    assert stats["by_source"] == {"auth": 7, "nginx": 1, "odd, name": 1}
    assert sum(stats["by_category"].values()) == 9
    assert [line["events"] + line["blank_lines"] for line in stats["ledger"]] == [7, 1, 1]
    assert stats["queue"] is None


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (QueryTimeout("slow: SELECT 1"), 400, "query_timeout"),
        (StoreUnavailable("/data/threatlens.db is locked"), 503, "service_unavailable"),
        (RuntimeError("SELECT secret FROM /data"), 500, "internal_server_error"),
        (RecursionError("deep"), 500, "internal_server_error"),
    ],
)
def test_a_failure_says_nothing_about_the_inside(
    program: Program, monkeypatch: pytest.MonkeyPatch, services: Any, error: Exception, status: int, code: str
) -> None:
    def fail(*_arguments: Any, **_more: Any) -> None:
        raise error

    monkeypatch.setattr(type(services.store), "page", fail)

    answer = program.get("/events")

    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]
    assert not any(word in answer.text for word in ("SELECT", "/data", "Traceback", "deep", "RuntimeError"))
    assert (status == 503) == ("Retry-After" in answer.headers)
