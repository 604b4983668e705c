"""What a line's own clock said, and what is done when it cannot be."""

from __future__ import annotations

import datetime as dt

import pytest

from threatlens.decoders import SourceDecoder
from threatlens.decoders.skew import ClockSkew
from threatlens.decoders.times import Clock
from threatlens.event import TIME_CLAMPED, TIME_ERROR, rfc3339


def at(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


def clock(read_at: str = "2026-11-23T12:00:00+00:00", timezone: str = "UTC", year: int | None = None) -> Clock:
    made = Clock(timezone, year)
    made.move(at(read_at))
    return made


def text_of(moment) -> str:
    assert moment[1] == 0
    return rfc3339(moment[0])


@pytest.mark.parametrize(
    ("time", "read_at", "expected"),
    [
        ("Dec 31 23:59:59", "2027-01-01T00:00:05+00:00", "2026-12-31T23:59:59+00:00"),
        ("Jan  1 00:00:05", "2026-12-31T23:59:59+00:00", "2027-01-01T00:00:05+00:00"),
        ("Nov 23 06:51:07", "2026-11-23T12:00:00+00:00", "2026-11-23T06:51:07+00:00"),
        ("Jun 20 06:51:07", "2027-01-15T12:00:00+00:00", "2026-06-20T06:51:07+00:00"),
        ("Feb 29 10:00:00", "2028-03-01T00:00:00+00:00", "2028-02-29T10:00:00+00:00"),
    ],
)
def test_a_time_without_a_year_is_the_latest_possible(time, read_at, expected):
    assert text_of(clock(read_at).bsd(time)) == expected


def test_a_running_clock_decides_the_year_anew():
    running = clock("2026-12-30T12:00:00+00:00")
    assert text_of(running.bsd("Jan  2 00:00:00")) == "2026-01-02T00:00:00+00:00"
    running.move(at("2027-01-02T00:00:01+00:00"))
    assert text_of(running.bsd("Jan  2 00:00:00")) == "2027-01-02T00:00:00+00:00"


def test_a_forced_year_is_taken():
    assert text_of(clock(year=2005).bsd("Dec 31 23:59:59")) == "2005-12-31T23:59:59+00:00"


@pytest.mark.parametrize(
    "time", ["Feb 29 10:00:00", "Feb 30 10:00:00", "Oct 32 10:00:00", "Xyz 10 10:00:00", "Oct 10 24:00:00"]
)
def test_a_day_that_is_none_is_an_error(time):
    assert clock().bsd(time) == (None, TIME_ERROR)


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("Jul 14 12:00:00", "2026-07-14T10:00:00+00:00"),
        ("Jan 14 12:00:00", "2026-01-14T11:00:00+00:00"),
        ("Oct 25 02:30:00", "2026-10-25T00:30:00+00:00"),  # twice: the first
        ("Mar 29 02:30:00", "2026-03-29T01:30:00+00:00"),  # never: as if the clock had not been moved
    ],
)
def test_the_sources_zone_follows_its_summer_time(time, expected):
    assert text_of(clock(timezone="Europe/Berlin").bsd(time)) == expected


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2026-11-23T06:51:07Z", "2026-11-23T06:51:07+00:00"),
        ("2026-11-23T06:51:07.123456789+14:00", "2026-11-22T16:51:07.123456+00:00"),
        ("2026-11-23 06:51:07,5", "2026-11-23T06:51:07.500000+00:00"),
        ("2026/11/23 06:51:07", "2026-11-23T06:51:07+00:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
    ],
)
def test_iso_times_and_their_neighbours(time, expected):
    assert text_of(clock().iso(time)) == expected


@pytest.mark.parametrize(
    "time", ["0000-00-00T00:00:00Z", "yesterday", "", "2026-13-01T00:00:00Z", "99999999999999999999"]
)
def test_what_is_no_iso_time_is_an_error(time):
    assert clock().iso(time) == (None, TIME_ERROR)


@pytest.mark.parametrize(("time", "expected"), [("1969-12-31T23:59:59Z", 0), ("0001-01-01T00:00:00+14:00", 0)])
def test_a_time_before_the_epoch_is_clamped(time, expected):
    assert clock().iso(time) == (expected, TIME_CLAMPED)


def test_a_time_after_2100_is_clamped():
    moment, flags = clock().iso("9999-12-31T23:59:59-14:00")
    assert (rfc3339(moment)[:4], flags) == ("2100", TIME_CLAMPED)


@pytest.mark.parametrize("number", [1795416667, 1795416667000, 1795416667000000, 1795416667000000000])
def test_an_epoch_is_told_by_its_size(number):
    assert text_of(Clock.epoch(number)) == "2026-11-23T06:51:07+00:00"


def test_an_access_log_time_has_its_own_offset():
    assert text_of(clock(timezone="Asia/Tokyo").clf("23/Nov/2026:06:51:07 -0330")) == "2026-11-23T10:21:07+00:00"


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("Mär 23 06:51:07", "2026-03-23T06:51:07+00:00"),
        ("Okt 23 06:51:07", "2026-10-23T06:51:07+00:00"),
        ("août 23 06:51:07", "2026-08-23T06:51:07+00:00"),
        ("juin 23 06:51:07", "2026-06-23T06:51:07+00:00"),
        ("juil. 23 06:51:07", "2026-07-23T06:51:07+00:00"),
        ("23 Dic 2025 06:51:07", "2025-12-23T06:51:07+00:00"),
        ("окт 23 06:51:07", "2026-10-23T06:51:07+00:00"),
        ("26-Nov-2025 06:51:07.123", "2025-11-26T06:51:07.123000+00:00"),
        ("Thu Nov 26 06:51:07 2025", "2025-11-26T06:51:07+00:00"),
        ("Nov 26, 2025 6:51:07 PM", "2025-11-26T18:51:07+00:00"),
        ("11/26/2025 12:51:07 AM", "2025-11-26T00:51:07+00:00"),
        ("26/11/2025 06:51:07", "2025-11-26T06:51:07+00:00"),
        ("26.11.2025 06:51:07", "2025-11-26T06:51:07+00:00"),
        ("251126  6:51:07", "2025-11-26T06:51:07+00:00"),
        ("20251126065107", "2025-11-26T06:51:07+00:00"),
        ("25/06/09 20:10:40", "2025-06-09T20:10:40+00:00"),
        ("11-23 06:51:07.5", "2026-11-23T06:51:07.500000+00:00"),
        ("2025-11-26T06:51:07+0200", "2025-11-26T04:51:07+00:00"),
    ],
)
def test_any_usual_way_of_writing_a_time_is_read(time, expected):
    assert text_of(clock().any(time)) == expected


@pytest.mark.parametrize("time", ["", "x", "Xyz 23 06:51:07", "99/99/9999 06:51:07", "a" * 100, "@zzzz"])
def test_what_is_no_time_in_any_way_is_an_error(time):
    assert clock().any(time)[1] == TIME_ERROR


def test_syslog_with_months_of_another_language_is_read():
    decoded = SourceDecoder().decode(
        "Mär 23 06:51:07 web1 sshd[1]: Invalid user x from 203.0.113.9 port 1", at("2026-11-23")
    )
    assert (decoded.format, rfc3339(decoded.timestamp_us)) == ("sshd", "2026-03-23T06:51:07+00:00")


def skew(*seconds: float) -> ClockSkew:
    made = ClockSkew()
    for each in seconds:
        made.observe(0, int(each * 1e6))
    return made


def test_a_clock_that_is_steadily_off_is_told_with_the_zone_that_explains_it():
    ahead = skew(*[3599.5] * 12)
    assert (ahead.ahead_us, ahead.zone_minutes) == (3_599_500_000, 60)
    assert skew(*[-19_801] * 12).zone_minutes == -330
    assert (skew(*[400] * 12).ahead_us, skew(*[400] * 12).zone_minutes) == (400_000_000, 0)


@pytest.mark.parametrize("seconds", [[-1] * 12, [-7200] * 11, [-86_400 + n * 3600 for n in range(12)], []])
def test_lines_read_at_once_few_readings_and_a_backlog_say_nothing(seconds):
    assert skew(*seconds).ahead_us == 0


def steadily(seconds_ahead: float, *, every_s: float = 60, readings: int = 12) -> ClockSkew:
    made = ClockSkew()
    for n in range(readings):
        read_at_us = int(n * every_s * 1e6)
        made.observe(read_at_us, read_at_us + int(seconds_ahead * 1e6))
    return made


def test_a_zone_is_certain_when_lines_kept_its_distance_for_ten_minutes():
    assert steadily(7200.4).certain_zone_minutes == 120
    assert steadily(-12_600.4).certain_zone_minutes == -210
    assert steadily(7200.4, every_s=50).certain_zone_minutes == 0, "not for long enough"
    assert steadily(400).certain_zone_minutes == 0, "a clock that is wrong is no zone"


def test_lines_that_are_played_back_teach_no_zone():
    standing_still = ClockSkew()
    for n in range(30):
        standing_still.observe(n * 60_000_000, 7_200_000_000)
    assert standing_still.certain_zone_minutes == 0
    assert steadily(7200, every_s=1, readings=30).certain_zone_minutes == 0


@pytest.mark.parametrize(
    ("line", "learned"),
    [
        ("Nov 23 14:00:00 web1 sshd[1]: Server listening on :: port 22.", True),
        ("2026-11-23 14:00:00,123 ERROR [main] org.example.Shop: order failed", True),
        ("2026-11-23T14:00:00+02:00 web1 sshd[1]: Server listening on :: port 22.", False),
        ("no time at all", False),
    ],
)
def test_a_zone_is_learned_for_times_that_name_none(line, learned):
    read_at_s = at("2026-11-23T12:00:00+00:00")
    decoder = SourceDecoder(learns_zone=True)
    before = decoder.decode(line, read_at_s).timestamp_us
    assert decoder.learn_zone(120, line, read_at_s) is learned
    assert (decoder.learned[-1:] == ("UTC+02:00",)) is learned
    if learned:
        assert decoder.decode(line, read_at_s).timestamp_us == before - 7_200_000_000
        again = SourceDecoder(learned=decoder.learned, learns_zone=True)
        assert again.decode(line, read_at_s).timestamp_us == before - 7_200_000_000
        fixed = SourceDecoder(learned=decoder.learned, learns_zone=False)
        assert fixed.decode(line, read_at_s).timestamp_us == before


def test_a_zone_that_is_the_machines_own_is_taken_by_name_and_follows_summer_time():
    line = "{} 14:00:00 web1 sshd[1]: Server listening on :: port 22."
    decoder = SourceDecoder(learns_zone=True)
    assert decoder.learn_zone(60, line.format("Nov 23"), at("2026-11-23T13:00:00+00:00"), "Europe/Berlin")
    assert decoder.learned[-1] == "Europe/Berlin"
    for maker in (decoder, SourceDecoder(learned=decoder.learned, learns_zone=True)):
        summer = maker.decode(line.format("Jul 23"), at("2027-07-23T12:00:00+00:00"))
        assert text_of((summer.timestamp_us, summer.flags)) == "2027-07-23T12:00:00+00:00"
    other = SourceDecoder(learns_zone=True)
    assert other.learn_zone(60, line.format("Nov 23"), at("2026-11-23T13:00:00+00:00"), "America/New_York")
    assert other.learned[-1] == "UTC+01:00"


def test_a_fixed_zone_is_learned_anew_ten_minutes_after_the_clock_went_to_summer_time():
    made = steadily(0, readings=40)
    readings = 0
    while not made.certain_zone_minutes and readings < 40:
        read_at_us = (40 + readings) * 60_000_000
        made.observe(read_at_us, read_at_us + 3_600_000_000)
        readings += 1
    assert (made.certain_zone_minutes, readings) == (60, 12)


def test_a_zone_that_was_learned_wrongly_is_unlearned():
    line = "Nov 23 14:00:00 web1 sshd[1]: Server listening on :: port 22."
    decoder = SourceDecoder(learned=("sshd", "UTC+02:00"), learns_zone=True)
    assert decoder.learn_zone(-120, line, at("2026-11-23T12:00:00+00:00"))
    assert decoder.learned[:1] == ("sshd",)
    assert "UTC+02:00" not in decoder.learned


def test_times_of_one_day_are_right_in_a_learned_zone_across_midnight():
    made = clock("2026-11-23T12:00:00+00:00", "UTC-05:30")
    texts = ("Nov 22 23:59:59", "Nov 23 00:00:00", "Nov 23 00:00:01")
    assert [text_of(made.bsd(text)) for text in texts] == [
        "2026-11-23T05:29:59+00:00",
        "2026-11-23T05:30:00+00:00",
        "2026-11-23T05:30:01+00:00",
    ]


def test_a_zone_that_a_person_has_set_is_never_replaced():
    decoder = SourceDecoder(timezone="Europe/Berlin", learned=("sshd", "UTC+05:00"), learns_zone=True)
    line = "Nov 23 14:00:00 web1 sshd[1]: Server listening on :: port 22."
    assert not decoder.learn_zone(60, line, at("2026-11-23T12:00:00+00:00"))
    assert decoder.decode(line, at("2026-11-23T14:00:00+00:00")).timestamp_us == int(
        at("2026-11-23T13:00:00+00:00") * 1e6
    )
