"""Why a line was read as it was: envelope, decoder, and the word where the others gave up."""

from __future__ import annotations

import pytest

from threatlens.decoders import DECODERS, SourceDecoder, explain
from threatlens.decoders.records import decode_file

READ_AT_S = 1_795_435_200.0
SSHD = "Nov 23 06:51:07 web1 sshd[4211]: Failed password for root from 203.0.113.9 port 52144 ssh2"


def why(line: str):
    return explain(line, READ_AT_S, SourceDecoder().decode(line, READ_AT_S).format)


def test_the_envelope_and_the_program_are_named():
    found = why(SSHD)
    assert (found.envelopes, found.program) == (("syslog.rfc3164",), "sshd")


def test_envelopes_are_named_from_the_outside_in():
    line = '2026-11-23T06:51:07.123456789Z stdout F {"log":"ready","stream":"stdout"}'
    assert why(line).envelopes[0] == "cri"


def test_a_decoder_that_gave_up_names_the_word_where_it_did():
    line = '192.0.2.1 - - [23/Nov/2026:06:51:07 +0000] "GET / HTTP/1.1" twohundred 612 "-" "curl"'
    found = {each.format: each for each in why(line).attempts}
    assert found["nginx.access"].word == "twohundred"
    assert found["nginx.access"].read == line.index("twohundred")


def test_a_message_of_a_known_program_that_fits_no_row_names_the_word():
    line = "Nov 23 06:51:07 web1 sshd[4211]: Failed password for root near 203.0.113.9"
    assert SourceDecoder().decode(line, READ_AT_S).format == "sshd"


def test_a_decoder_that_is_asked_later_is_told_as_such():
    line = '198.51.100.4 - - [23/Nov/2026:06:51:07 +0000] "GET / HTTP/1.1" 200 612 "-" "curl/8.5"'
    assert next(each for each in why(line).attempts if each.format == "apache.access").late


def test_every_line_can_be_explained():
    for line in ("", " ", "x", "{", '{"a":', "a" * 10_000, "\x00", SSHD[:40], "[" * 500):
        for member in DECODERS[:3]:
            assert len(explain(line, READ_AT_S, member.name).attempts) <= 5


def test_decode_says_where_the_fields_stand():
    (record,) = decode_file([SSHD], read_at_s=READ_AT_S, template_id=str, why=True)
    told = record["threatlens.explain"]
    assert (told["envelopes"], told["decoder"]) == (["syslog.rfc3164"], "sshd")
    start, end = told["spans"]["source.ip"]
    assert SSHD[start:end] == "203.0.113.9"


@pytest.mark.parametrize("line", ["worker 7 has taken item 12", "2026-11-23 lines of nobody"])
def test_an_unknown_line_has_nearest_formats(line):
    assert why(line).attempts
