"""Far more or far fewer lines than at this hour of the week in earlier weeks are told, once, and only when known."""

from __future__ import annotations

import pytest
from builders import NOW_US, Filler

from threatlens.analyzers.volume import HIGH, HOUR_US, LOW, WEEK_HOURS, anomaly, usual
from threatlens.raising import Raiser
from threatlens.sources.base import CASE_PREFIX
from threatlens.volumes import VolumeWatch

WEEK_US = WEEK_HOURS * HOUR_US
HOUR = NOW_US // HOUR_US * HOUR_US


class Bench:
    """A store with hours of lines, and a watch whose clock is moved by hand."""

    def __init__(self, store):
        self.store = store
        self.filler = Filler(store)
        self.now = HOUR
        self.restart()

    def restart(self):
        self.watch = VolumeWatch(self.store, Raiser(self.store, clock_us=lambda: self.now), clock_us=lambda: self.now)

    def hour(self, n: int, at_us: int, source: str = "nginx"):
        if n:
            self.filler.add(*["GET / 200"] * n, source=source, timestamp_us=at_us + 60_000_000)

    def weeks(self, *numbers: int, source: str = "nginx"):
        """So many lines in this hour of earlier weeks, last week first."""
        for week, n in enumerate(numbers, 1):
            self.hour(n, HOUR - week * WEEK_US, source)

    def told(self, after_s: float) -> list[tuple[str, int]]:
        self.now = HOUR + int(after_s * 1e6)
        self.watch.look()
        return [(found.rule_id, found.first_us) for found in self.store.detections()]


@pytest.fixture
def bench(store):
    return Bench(store)


def test_a_flood_is_told_while_it_lasts_once_and_after_a_restart_not_again(bench):
    bench.weeks(100, 110, 90, 105)
    bench.hour(250, HOUR)
    assert bench.told(900) == [], "two and a half times as many happens"
    bench.hour(400, HOUR)
    assert bench.told(1_000) == [(HIGH, HOUR)]
    (match,) = bench.store.detections()
    assert match.rule_name == "Far more lines than usual: 650 lines, 102 are usual"
    assert (match.kind, match.level, match.n) == ("novelty", "medium", 1)
    (incident,) = bench.store.incidents()
    assert (incident.subject, incident.outcome, incident.severity) == (("log.source", "nginx"), "attempt", 6)

    bench.hour(400, HOUR)
    assert len(bench.told(1_100)) == 1
    bench.restart()
    assert len(bench.told(1_200)) == 1


def test_silence_is_told_when_the_hour_is_over(bench):
    bench.weeks(1_000, 1_100, 900, 1_050)
    bench.hour(20, HOUR)
    assert bench.told(3_500) == [], "the rest may come"
    assert bench.told(3_700) == [], "and lines come late"
    assert bench.told(4_300) == [(LOW, HOUR)]


def test_nothing_is_told_while_it_is_learned_and_it_says_until_when(bench):
    bench.weeks(100, 100)
    bench.hour(5_000, HOUR)
    assert bench.told(900) == []
    (learning,) = bench.watch.learning()
    assert learning.source == "nginx"
    assert learning.until_us > bench.now

    bench.weeks(0, 0, 100)
    assert bench.told(1_000) == [], "what is usual in an hour is read once"
    bench.restart()
    assert bench.told(1_000) == [(HIGH, HOUR)]


def test_cases_have_no_usual_hour(bench):
    source = CASE_PREFIX + "one"
    bench.weeks(100, 100, 100, source=source)
    bench.hour(5_000, HOUR, source)
    assert bench.told(900) == []


@pytest.mark.parametrize(
    ("earlier", "n", "over", "wanted"),
    [
        ([100, 100, 100], 100, True, ""),
        ([100, 100, 100], 1_000, False, HIGH),
        ([100, 100, 100_000, 110, 90], 1_000, False, HIGH),  # one odd week moves nothing
        ([100, 900, 100, 900, 500], 1_500, False, ""),  # it varies that much
        ([2, 0, 1], 100, False, ""),  # too few lines to say anything
        ([2, 0, 1], 400, False, HIGH),
        ([1_000, 1_000, 1_000], 0, False, ""),
        ([1_000, 1_000, 1_000], 0, True, LOW),
        ([50, 50, 50], 0, True, ""),
    ],
)
def test_what_is_far_from_usual(earlier, n, over, wanted):
    known = usual(earlier)
    assert known is not None
    assert anomaly(n, [known], over=over) == wanted


def test_the_hour_that_daylight_saving_moves_is_no_news():
    busy, calm = usual([5_000] * 4), usual([100] * 4)
    assert anomaly(5_000, [calm], over=True) == HIGH
    assert anomaly(5_000, [calm, busy], over=True) == ""
    assert anomaly(100, [busy, calm], over=True) == ""
    assert usual([5_000, 5_000]) is None
