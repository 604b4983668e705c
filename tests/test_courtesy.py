"""Who works through lines stands aside for a page, and never for ever."""

from __future__ import annotations

import pytest

from threatlens.courtesy import ASIDE_S, LONGEST_S, VISIT_S, WORK_S, Courtesy


class Time:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept_s = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.slept_s += seconds


def test_without_a_guest_nobody_waits() -> None:
    time = Time()
    courtesy = Courtesy(lambda: time.now_s, time.sleep)
    courtesy.worker()()
    courtesy.come()
    courtesy.go()
    courtesy.worker()()
    assert time.slept_s == 0


def test_a_worker_stands_aside_until_the_guest_is_gone() -> None:
    time = Time()
    courtesy = Courtesy(lambda: time.now_s, lambda seconds: (time.sleep(seconds), courtesy.go())[0])
    courtesy.come()
    courtesy.worker()()
    assert 0 < time.slept_s < ASIDE_S


def test_guests_without_end_leave_a_worker_its_share() -> None:
    time = Time()
    courtesy = Courtesy(lambda: time.now_s, time.sleep)
    give_way = courtesy.worker()
    worked_s = 0.0
    while time.now_s < 110:
        courtesy.come()
        give_way()
        time.now_s += 0.001
        worked_s += 0.001
    assert worked_s / 10 == pytest.approx(WORK_S / (WORK_S + ASIDE_S), abs=0.05)


def test_a_download_is_given_way_to_at_its_beginning_only() -> None:
    time = Time()
    courtesy = Courtesy(lambda: time.now_s, time.sleep)
    give_way = courtesy.worker()
    courtesy.come()
    for _ in range(5_000):
        give_way()
        time.now_s += 0.001
    assert time.slept_s <= LONGEST_S + ASIDE_S


def test_somebody_who_has_just_looked_is_expected_again() -> None:
    time = Time()
    courtesy = Courtesy(lambda: time.now_s, time.sleep)
    assert not courtesy.is_visited
    courtesy.come()
    time.now_s += 60
    assert courtesy.is_visited
    courtesy.go()
    assert not courtesy.is_visited
    courtesy.come()
    courtesy.go()
    assert courtesy.is_visited
    time.now_s += VISIT_S
    assert not courtesy.is_visited
