"""Counts by the hour and by the day say what those by the minute say, whatever is added and forgotten."""

from __future__ import annotations

import random
from typing import Any

import pytest
from builders import NOW_US, Filler

from threatlens.event import EventFilter
from threatlens.store_reading import FOR_EVER, spans

pytestmark = pytest.mark.both_databases

MINUTE_US = 60_000_000
COARSE, FINE = ("hours", "hour"), ("minutes", "minute")


@pytest.mark.parametrize(
    ("first", "last", "parts"),
    [
        (None, None, [(COARSE, 0, FOR_EVER - 1)]),
        (61, 70, [(FINE, 61, 70)]),
        (60, 119, [(COARSE, 1, 1)]),
        (59, 121, [(COARSE, 1, 1), (FINE, 59, 59), (FINE, 120, 121)]),
        (59, None, [(COARSE, 1, FOR_EVER - 1), (FINE, 59, 59)]),
        (None, 130, [(COARSE, 0, 1), (FINE, 120, 130)]),
        (None, 30, [(FINE, 0, 30)]),
    ],
)
def test_a_stretch_of_time_is_whole_hours_and_its_ends(first: Any, last: Any, parts: Any) -> None:
    assert spans(first, last, COARSE, FINE, 60) == parts


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
        "SELECT minute / 60, source_id, category_id, severity, sum(n) FROM event_minutes GROUP BY 1, 2, 3, 4",
        "SELECT * FROM event_hours ORDER BY 1, 2, 3, 4",
        (
            "SELECT slot / 144, source_ip, category_id, sum(n), sum(failures), sum(successes) FROM address_slots"
            " GROUP BY 1, 2, 3"
        ),
        "SELECT * FROM address_days ORDER BY 1, 2, 3",
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
