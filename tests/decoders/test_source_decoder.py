"""One source's decoder: what it learns, what is fixed, what is mixed."""

from __future__ import annotations

import pytest

from threatlens.decoders import SourceDecoder, decode_stored
from threatlens.event import TIME_CLAMPED, TIME_ERROR, rfc3339

READ_AT_S = 1_795_435_200.0  # 2026-11-23T12:00:00Z
SSHD = "Nov 23 06:51:07 web1 sshd[4211]: Failed password for root from 203.0.113.9 port 52144 ssh2"
CRON = "Nov 23 06:51:07 web1 CRON[31]: (root) CMD (true)"
COMBINED = '198.51.100.4 - - [23/Nov/2026:06:51:07 +0000] "GET / HTTP/1.1" 200 612 "-" "curl/8.5"'
APACHE_ONLY = '198.51.100.4 - - [23/Nov/2026:06:51:07 +0000] "GET / HTTP/1.1" 304 - "-" "curl/8.5"'
JSON = '{"level":"info","msg":"x"}'


def formats(decoder: SourceDecoder, *lines: str) -> list[str]:
    return [decoder.decode(line, READ_AT_S).format for line in lines]


def test_a_mixed_file_is_decoded_line_by_line():
    lines = (SSHD, JSON, COMBINED, "hello", CRON, SSHD)
    assert formats(SourceDecoder(), *lines) == ["sshd", "json", "nginx.access", "unknown", "cron", "sshd"]


def test_what_was_met_last_stands_first_in_learned():
    decoder = SourceDecoder()
    formats(decoder, SSHD, CRON, JSON, "hello", SSHD)
    assert decoder.learned == ("sshd", "json", "cron")


def test_what_was_learned_is_taken_over():
    decoder = SourceDecoder(learned=("cron", "sshd", "no longer a format"))
    assert decoder.learned == ("cron", "sshd")


def test_a_source_that_changes_its_format_is_followed():
    assert formats(SourceDecoder(learned=("nginx.access",)), *[SSHD] * 3, JSON) == ["sshd"] * 3 + ["json"]


def test_a_line_that_only_apache_writes_decides_for_the_lines_after_it():
    assert formats(SourceDecoder(), COMBINED, APACHE_ONLY, COMBINED, JSON, COMBINED) == [
        "nginx.access",
        "apache.access",
        "apache.access",
        "json",
        "apache.access",
    ]


@pytest.mark.parametrize("head", ["", "Nov 23 06:51:07 web1 sshd[1]: ", "2026-11-23T06:51:07+00:00 web1 other: "])
def test_a_fixed_format_reads_with_or_without_an_envelope(head):
    decoded = SourceDecoder(format="sshd").decode(head + "Invalid user x from 203.0.113.9 port 1", READ_AT_S)
    assert (decoded.format, decoded.fields["source.ip"]) == ("sshd", "203.0.113.9")


def test_a_fixed_format_reads_nothing_else():
    assert formats(SourceDecoder(format="sshd"), CRON, JSON, COMBINED) == ["syslog.rfc3164", "unknown", "unknown"]
    assert formats(SourceDecoder(format="json"), SSHD, JSON) == ["unknown", "json"]


def test_a_fixed_envelope_still_reads_its_programs():
    assert formats(SourceDecoder(format="syslog.rfc3164"), SSHD, JSON) == ["sshd", "unknown"]


def test_a_format_or_a_zone_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="no such format: nope"):
        SourceDecoder(format="nope")
    for zone in ("Nowhere/City", "../etc/passwd", ""):
        with pytest.raises(ValueError, match="no such time zone"):
            SourceDecoder(timezone=zone)


def test_a_time_in_the_future_becomes_the_time_of_reading():
    decoded = SourceDecoder().decode("2026-11-25T06:51:07+00:00 web1 app: x", READ_AT_S)
    assert (decoded.timestamp_us, decoded.flags) == (int(READ_AT_S * 1e6), TIME_CLAMPED)


def test_a_time_of_tomorrow_morning_stands():
    decoded = SourceDecoder().decode("2026-11-24T06:51:07+00:00 web1 app: x", READ_AT_S)
    assert (rfc3339(decoded.timestamp_us), decoded.flags) == ("2026-11-24T06:51:07+00:00", 0)


def test_a_line_without_a_time_is_flagged():
    assert SourceDecoder().decode("hello", READ_AT_S) == ("unknown", None, "hello", {}, TIME_ERROR)


def test_a_stored_line_gives_its_fields_but_no_time():
    decoded = decode_stored(SSHD, "sshd")
    assert (decoded.timestamp_us, decoded.fields["source.ip"]) == (None, "203.0.113.9")


def test_a_stored_line_of_a_format_that_is_gone_is_read_as_what_it_is():
    assert decode_stored(SSHD, "gone").format == "sshd"
