"""Counts by the hour and by the quarter of a day say what those by the minute say, whatever is added and forgotten."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from builders import NOW_US, Filler

from threatlens.event import EventFilter
from threatlens.store_conditions import ids_of_times
from threatlens.store_database import ALL
from threatlens.store_reading import FOR_EVER, spans

pytestmark = pytest.mark.both_databases

MINUTE_US = 60_000_000
COARSE, FINE = ("hours", "hour"), ("minutes", "minute")


@pytest.mark.parametrize(
    ("first", "last", "parts"),
    [
        (None, None, [(COARSE, 0, FOR_EVER - 1, "")]),
        (61, 70, [(FINE, 61, 70, "")]),
        (60, 119, [(COARSE, 1, 1, "")]),
        (59, 121, [(COARSE, 1, 1, ""), (FINE, 59, 59, ""), (FINE, 120, 121, "")]),
        (61, 178, [(COARSE, 1, 2, ""), (FINE, 60, 60, "-"), (FINE, 179, 179, "-")]),
        (59, None, [(COARSE, 1, FOR_EVER - 1, ""), (FINE, 59, 59, "")]),
        (62, None, [(COARSE, 1, FOR_EVER - 1, ""), (FINE, 60, 61, "-")]),
        (None, 130, [(COARSE, 0, 1, ""), (FINE, 120, 130, "")]),
        (None, 30, [(COARSE, 0, 0, ""), (FINE, 31, 59, "-")]),
        (None, 29, [(FINE, 0, 29, "")]),
    ],
)
def test_a_stretch_of_time_is_whole_hours_and_what_is_added_or_taken_off_at_its_ends(
    first: Any, last: Any, parts: Any
) -> None:
    assert spans(first, last, COARSE, FINE, 60) == parts


def test_every_stretch_of_time_counts_each_of_its_units_once() -> None:
    for first in range(26):
        for last in range(first, 40):
            counted: Counter[int] = Counter()
            for table, low, high, sign in spans(first, last, COARSE, FINE, 8):
                size = 8 if table == COARSE else 1
                for unit in range(low * size, (high + 1) * size):
                    counted[unit] += -1 if sign else 1
            assert {unit for unit, n in counted.items() if n} == set(range(first, last + 1)), (first, last)
            assert set(counted.values()) <= {0, 1}


def test_every_sum_is_that_of_its_parts(services: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threatlens.store_retention.KEPT_NEWEST", 5)
    store, dice = services.store, random.Random(5)
    filler = Filler(store)
    for _ in range(40):
        filler.add(
            *["a line"] * dice.randrange(1, 5), severity=dice.randrange(1, 11), outcome=dice.randrange(3),
            source=dice.choice(["auth", "web"]), source_ip=dice.choice(["203.0.113.9", "203.0.113.8", None]),
            timestamp_us=NOW_US + dice.randrange(4 * 24 * 60) * MINUTE_US,
        )  # fmt: skip

    statements = (
        (
            "SELECT minute / 60, source_id, category_id, severity, sum(n), min(first_id), max(last_id)"
            " FROM event_minutes GROUP BY 1, 2, 3, 4"
        ),
        "SELECT * FROM event_hours ORDER BY 1, 2, 3, 4",
        (
            "SELECT slot / 36, source_ip, category_id, sum(n), sum(failures), sum(successes) FROM address_slots"
            " GROUP BY 1, 2, 3"
        ),
        "SELECT * FROM address_quarters ORDER BY 1, 2, 3",
    )

    def sums() -> list[Any]:
        with store.database.reading() as connection:
            return [sorted(connection.exec_driver_sql(statement).all()) for statement in statements]

    found = sums()
    assert found[0] == found[1]
    assert found[2] == found[3]
    store.forget_events(0, stored_before_us=None, keep_evidence=False, limit=30)
    fewer = sums()
    assert fewer[0] == fewer[1] != found[1]
    assert fewer[2] == fewer[3] != found[3]

    start, end = NOW_US + 17 * MINUTE_US, NOW_US + 53 * 60 * MINUTE_US + 5 * MINUTE_US
    events = store.page(EventFilter(start_us=start, end_us=end), limit=500)
    counts = store.counts(EventFilter(start_us=start, end_us=end, sources=("web",)))
    assert counts.total == sum(event.source == "web" for event in events) > 0
    bars = store.histogram(NOW_US, NOW_US + 4 * 24 * 60 * MINUTE_US, 20, EventFilter())
    assert sum(sum(n.values()) for _, n in bars) == len(store.page(EventFilter(), limit=500))
    assert {start % 3_600_000_000 for start, _ in bars} == {0}


def test_the_numbers_since_any_moment_are_those_of_its_events(services: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threatlens.store_retention.KEPT_NEWEST", 5)
    store, dice = services.store, random.Random(8)
    filler, stored = Filler(store), []
    for _ in range(40):
        event = {
            "source_ip": f"203.0.113.{dice.randrange(12)}",
            "category": dice.choice(["web", "other"]),
            "timestamp_us": NOW_US + dice.randrange(20 * 60) * MINUTE_US,
        }
        filler.add("a line", **event)
        stored.append(event)
    check(store, stored)
    for event in stored[:5]:
        filler.add("one more", **event)
    check(store, stored + stored[:5])
    assert store.forget_events(0, stored_before_us=None, keep_evidence=False, limit=30)[0] == 30
    check(store, stored[30:] + stored[:5])


def check(store: Any, stored: list[dict[str, Any]]) -> None:
    """What is counted since every half hour is what a plain look at all that was stored counts."""
    for start in range(NOW_US, NOW_US + 21 * 60 * MINUTE_US, 30 * MINUTE_US):
        kinds = [(each["source_ip"], each["category"]) for each in stored if each["timestamp_us"] >= start]
        everything, web = store.busiest_addresses(start_us=start, category="web", limits=(50, 50))
        assert {busy[0]: busy[1] for busy in everything} == Counter(
            address for address, _ in kinds
        )  # none with nothing
        assert {busy[0]: busy[1] for busy in web} == Counter(address for address, kind in kinds if kind == "web")
        assert store.top_addresses(start_us=start, limit=50) == everything
        assert store.counts(EventFilter(start_us=start)).by_category == Counter(kind for _, kind in kinds)


def test_a_severe_event_is_found_by_its_time_wherever_it_stands_among_others(services: Any) -> None:
    filler, store = Filler(services.store), services.store
    late = filler.add("a late one", severity=8, timestamp_us=NOW_US)
    filler.add("of now", "of now, too", severity=8, timestamp_us=NOW_US + 90 * MINUTE_US)
    old = filler.add("old", severity=9, timestamp_us=NOW_US - 90 * MINUTE_US)

    def found(start: int) -> list[int]:
        return [event.id for event in store.page(EventFilter(min_severity=7, start_us=start))]

    assert found(NOW_US - 120 * MINUTE_US) == [old, late + 2, late + 1, late]
    assert found(NOW_US) == [late + 2, late + 1, late]
    assert found(NOW_US + 1) == [late + 2, late + 1]
    assert found(NOW_US + 91 * MINUTE_US) == []


def test_the_ids_of_a_time_are_those_of_its_events(services: Any) -> None:
    store, dice = services.store, random.Random(9)
    filler, stored = Filler(store), {}
    for _ in range(40):
        at = NOW_US + dice.randrange(5 * 60) * MINUTE_US
        stored[filler.add("a line", timestamp_us=at, severity=dice.choice((1, 8)))] = at
    edges = [None, *range(NOW_US, NOW_US + 6 * 60 * MINUTE_US, 25 * MINUTE_US)]
    with store.database.reading() as connection:
        for start in edges:
            for end in edges:
                ids = [each for each, at in stored.items() if (start or 0) <= at < (end or at + 1)]
                found = ids_of_times(connection, start, end)
                assert found == ((min(ids), max(ids)) if ids else (ALL, 0)), (start, end)
                assert {event.id for event in store.page(EventFilter(start_us=start, end_us=end))} == set(ids)
