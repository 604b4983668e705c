"""Until when a mute lasts, where the person is who mutes."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from threatlens.mutes import LASTING, day_words, expires_us, lasting_words, until_words
from threatlens.store_mutes import Mute

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")


def us(text: str, zone: dt.tzinfo = dt.UTC) -> int:
    return round(dt.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("choice", "now", "zone", "until"),
    [
        ("morning", "2026-11-25 14:00", BERLIN, "2026-11-26 08:00"),
        ("morning", "2026-11-25 03:00", BERLIN, "2026-11-25 08:00"),
        ("morning", "2026-11-25 08:00", BERLIN, "2026-11-26 08:00"),
        ("week", "2026-11-25 14:00", BERLIN, "2026-11-30 08:00"),
        ("week", "2026-11-30 03:00", BERLIN, "2026-12-07 08:00"),
        ("week", "2026-11-29 23:59", BERLIN, "2026-11-30 08:00"),
        # Clocks go forward (23 hours) and back (25 hours) in the night between.
        ("morning", "2026-03-28 20:00", BERLIN, "2026-03-29 08:00"),
        ("morning", "2026-10-24 20:00", BERLIN, "2026-10-25 08:00"),
        ("week", "2026-10-23 12:00", NEW_YORK, "2026-10-26 08:00"),
        ("week", "2026-10-30 12:00", NEW_YORK, "2026-11-02 08:00"),
    ],
)
def test_mornings_are_at_eight_where_one_is_whatever_the_clocks_do(choice, now, zone, until):
    assert expires_us(choice, us(now, zone), zone) == us(until, zone)


def test_a_night_with_25_hours_makes_the_morning_an_hour_later_in_utc():
    spans = [expires_us("morning", us(f"2026-10-{day} 20:00", BERLIN), BERLIN) - us(f"2026-10-{day} 20:00", BERLIN)
             for day in (23, 24)]  # fmt: skip
    assert [span // 3_600_000_000 for span in spans] == [12, 13]


def test_the_same_moment_is_another_morning_elsewhere():
    now = us("2026-11-25 10:00")
    assert expires_us("morning", now, NEW_YORK) == us("2026-11-25 13:00")
    assert expires_us("morning", now, BERLIN) == us("2026-11-26 07:00")


def test_choices_say_until_when_where_one_is():
    now = us("2026-11-25 14:00", BERLIN)
    assert [lasting_words(choice, now, BERLIN) for choice in LASTING[:7]] == [
        "1 hour", "8 hours", "until tomorrow 08:00", "until Monday 08:00", "until something more severe comes",
        "until it is about another address or user", "until 10 more come",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ("2026-11-25 15:30", "15:30"),
        ("2026-11-26 08:00", "tomorrow 08:00"),
        ("2026-12-02 08:00", "Wednesday 08:00"),
        ("2026-12-03 08:00", "3 Dec 08:00"),
        ("2027-01-03 08:00", "3 Jan 2027 08:00"),
    ],
)
def test_a_time_to_come_is_said_in_few_words(time, words):
    assert day_words(us(time, BERLIN), us("2026-11-25 14:00", BERLIN), BERLIN) == words


def test_a_mute_that_counts_says_how_many_are_left():
    mute = Mute(1, "r", "", "", "", "", "", "anna", 0, 0, 1 << 60, 0, 24, "count", 25)
    assert until_words(mute, 0, BERLIN) == "until 1 more comes"
