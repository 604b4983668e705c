"""Any text may come; none of it raises, none of it runs long, none of it moves what the server has written."""

from __future__ import annotations

import json
import math

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decoders_family import READ_AT_S, samples

from threatlens.decoders import FORMATS, SourceDecoder, decode_stored
from threatlens.decoders.base import ADDRESSES, MAX_FIELDS, VALUE_CHARS
from threatlens.decoders.json_lines import _CHECKED, _TEXTS
from threatlens.decoders.records import decode_file, to_json
from threatlens.event import DUPLICATE_KEY, FIELDS_CUT, FROM_EXPORT, PARSE_ERROR, TIME_CLAMPED, TIME_ERROR, Decoded

LINES = [line for *_, line in samples()]
#: Lines of which several may be one event.
JOINING = [
    line
    for name, *_, line in samples()
    if name in {"auditd", "cri", "json", "postgresql.csv", "erlang.report", "log4j", "python.logging"}
] + ["  at x", "Traceback (most recent call last):", "ValueError: x", 'x", y', '{"log":"\\tat x\\n","stream":"stdout"}']


def decode(line: str, **options) -> Decoded:
    return SourceDecoder(**options).decode(line, READ_AT_S)


def check(decoded: Decoded) -> None:
    assert decoded.format in FORMATS | {"unknown"}
    assert len(decoded.fields) <= MAX_FIELDS
    assert (decoded.timestamp_us is None) == bool(decoded.flags & TIME_ERROR)
    for name, value in decoded.fields.items():
        assert name not in {"id", "severity", "event_type", "@timestamp", "message", "log.format"}
        assert name != "event.original" or decoded.flags & FROM_EXPORT
        assert isinstance(value, (str, int, float, bool, list))
        foreign = name.startswith(("json.", "logfmt.", "keyvalue.", "log.syslog."))
        if name.endswith(".ip") and not foreign:
            assert ADDRESSES[value] == value
        if name.endswith(".port") and not foreign:
            assert 0 <= value <= 65535
        if isinstance(value, str):
            assert len(value) <= VALUE_CHARS
        if isinstance(value, float):
            assert math.isfinite(value)
    orjson.loads(to_json({"message": decoded.message, **decoded.fields}))


@given(st.text(st.characters(exclude_categories=()), max_size=300), st.sampled_from(["auto", *sorted(FORMATS)]))
@settings(max_examples=300, deadline=None)
def test_any_text_is_decoded(text, form):
    check(decode(text, format=form))
    decode_stored(text, form)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_any_damaged_line_is_decoded(data):
    line = data.draw(st.sampled_from(LINES))
    decoder = SourceDecoder(format=data.draw(st.sampled_from(["auto", "auto", *sorted(FORMATS)])))
    for _ in range(3):
        at = data.draw(st.integers(0, len(line)))
        until = data.draw(st.integers(at, min(len(line), at + 20)))
        piece = data.draw(st.text(max_size=8) | st.sampled_from([other[at:until] for other in LINES]))
        line = line[:at] + piece + line[until:]
        check(decoder.decode(line, READ_AT_S))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_damaged_lines_make_events_that_are_read_again_the_same(data):
    lines = data.draw(st.lists(st.sampled_from(JOINING), min_size=1, max_size=6))
    for _ in range(2):
        place = data.draw(st.integers(0, len(lines) - 1))
        at = data.draw(st.integers(0, len(lines[place])))
        piece = data.draw(st.text(st.characters(exclude_characters="\n\r", exclude_categories=("Cs",)), max_size=4))
        lines[place] = lines[place][:at] + piece + lines[place][at + data.draw(st.integers(0, 4)) :]
    for record in decode_file(lines, read_at_s=READ_AT_S, template_id=str, whole=True):
        again = decode_stored(record["event.original"], record["log.format"])
        assert again.message == record["message"] or "\n" not in record["event.original"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=20,
)


@given(
    st.dictionaries(
        st.sampled_from(["time", "msg", "log", "stream", "ts", "@timestamp", "MESSAGE", *_TEXTS, *_CHECKED])
        | st.text(max_size=8),
        json_values,
        max_size=12,
    )
)
@settings(max_examples=150, deadline=None)
def test_any_json_object_is_decoded(document):
    check(decode(json.dumps(document)))
    check(decode(json.dumps(document, ensure_ascii=False, separators=(",", ":"))))


def test_deep_json_is_an_error_of_that_line_only():
    decoded = decode('{"a":' * 10_000 + "1" + "}" * 10_000)
    assert (decoded.format, decoded.flags & PARSE_ERROR) == ("unknown", PARSE_ERROR)


def test_deep_json_that_can_be_read_is_cut():
    decoded = decode('{"a":' * 60 + "1" + "}" * 60)
    assert (decoded.format, decoded.flags & FIELDS_CUT) == ("json", FIELDS_CUT)


def test_numbers_that_do_not_fit_are_kept_as_text():
    fields = decode('{"ts":1e999,"n":NaN,"big":123456789012345678901234567890,"inf":-1e999,"ok":1.5}').fields
    assert fields["json.n"] == "NaN"
    assert fields["json.big"] == "123456789012345678901234567890"
    assert fields["json.inf"] == "-1e999"
    assert fields["json.ok"] == 1.5


@pytest.mark.parametrize(
    "line", ['{"message":"x","message":"y"}', '{"message" :"x","message":"y"}', '{"a":1,"message":"x", "message":"y"}']
)
def test_the_last_of_two_keys_wins_and_is_flagged(line):
    decoded = decode(line)
    assert (decoded.message, decoded.flags & DUPLICATE_KEY) == ("y", DUPLICATE_KEY)


def test_a_double_key_deep_inside_is_flagged():
    assert decode('{"a":[{"b":1,"b":2}],"c":{"d":{"e":1,"e":2}}}').flags & DUPLICATE_KEY


@pytest.mark.parametrize("line", ['{"a":"x\\":y","b":1}', '{"a":"x : y"}', '{"a":{"a":1},"b":[{"a":1}]}'])
def test_text_with_colons_is_no_double_key(line):
    assert not decode(line).flags & DUPLICATE_KEY


def test_foreign_keys_cannot_overwrite_ours():
    line = '{"__proto__":{"admin":true},"constructor":1,"id":"../../x","event_type":"new_event","severity":"info"}'
    fields = decode(line).fields
    assert fields["json.id"] == "../../x"
    assert fields["json.__proto__.admin"] is True
    assert {"id", "event_type", "severity"}.isdisjoint(fields)


def test_ten_thousand_keys_are_cut():
    decoded = decode("{" + ",".join(f'"k{number}":{number}' for number in range(10_000)) + "}")
    assert len(decoded.fields) <= MAX_FIELDS
    assert decoded.flags & FIELDS_CUT


def test_long_values_are_cut():
    decoded = decode('{"a":"' + "x" * 20_000 + '"}')
    assert len(decoded.fields["json.a"]) == VALUE_CHARS
    assert decoded.flags & FIELDS_CUT


def test_a_line_of_64_kib_is_whole():
    decoded = decode("A" * 65_536)
    assert (decoded.message, decoded.flags & FIELDS_CUT) == ("A" * 65_536, 0)


def test_half_a_surrogate_pair_stays_out_of_the_store():
    decoded = decode('{"a":"\\ud800","\\udfff":["\\ud800"]}')
    assert decoded.format == "json"
    assert all("\ud800" not in str(item) for item in decoded.fields.items())


@pytest.mark.parametrize("text", ["1.2.3.4.5", "0177.0.0.1", "256.1.1.1", "1.2.3", "٣.٣.٣.٣", "", "::ffff:1.2.3.4.5"])
def test_what_is_no_address_is_none(text):
    assert ADDRESSES[text] == ""


@pytest.mark.parametrize(
    ("text", "address"),
    [("::ffff:192.0.2.1", "192.0.2.1"), ("fe80::1%eth0", "fe80::1"), ("[2001:DB8::1]", "2001:db8::1")],
)
def test_an_address_is_written_in_one_way(text, address):
    assert ADDRESSES[text] == address


def test_a_byte_order_mark_hides_nothing():
    line = "\ufeffNov 23 06:51:07 web1 sshd[1]: Failed password for root from 192.0.2.1 port 22 ssh2"
    assert decode(line).fields["source.ip"] == "192.0.2.1"


def test_a_forged_second_line_is_its_own_line():
    """A line break in a name makes two lines in the file; the second is data like any other, with the file's time."""
    decoded = decode("Oct 11 00:00:00 host sshd[1]: Accepted password for root from 192.0.2.1 port 1 ssh2")
    assert decoded.fields["process.pid"] == 1


@pytest.mark.parametrize("time", ["1969-12-31T23:59:59Z", "9999-12-31T00:00:00Z"])
def test_an_impossible_year_is_clamped(time):
    decoded = decode(f"{time} web1 app: x")
    assert decoded.flags & TIME_CLAMPED
    assert decoded.timestamp_us in {0, int(READ_AT_S * 1e6)}


EVIL = [
    "Nov 23 06:51:07 web1 sshd[1]: Failed password for " + " from 192.0.2.1 port 22" * 2000,
    "Nov 23 06:51:07 web1 sshd[1]: Disconnecting invalid user " + "a 1 port 2: " * 4000,
    "Nov 23 06:51:07 web1 sudo: a : TTY=x ; PWD=" + " ; USER=x ; COMMAND=" * 2500,
    "Nov 23 06:51:07 web1 kernel: IN=" + "IN= OUT= " * 6000 + " SRC=",
    "192.0.2.1 - " + "a [01/Jan/2020:00:00:00 +0000] " * 2000,
    '192.0.2.1 - - [23/Nov/2026:06:51:07 +0000] "' + '\\"' * 30_000,
    "2026/11/23 06:51:07 [error] 1#1: *1 " + ", client: a" * 5000,
    "[Mon Nov 23 06:51:07 2026] [error] " + "(" * 60_000,
    "2026-11-23 06:51:07 " + "a " * 30_000,
    "level=" + "a=" * 30_000,
    "a" * 50_000 + "!",
    " " * 60_000 + "x",
    "<1>1 - - - - - [a" + ' b="c"' * 9000,
    "Nov 23 06:51:07 web1 su: pam_unix(su:auth): authentication failure; logname= uid= euid= tty= ruser="
    + " rhost=a" * 7000,
    "2026-11-23 06:51:07 1tF3aB-0001xY-2c <= a@example.org H=(" + "a) [192.0.2.1] " * 4000,
    "2026-11-23 06:51:07 <= a@example.org H=(" + "a) [192.0.2.1] A=" * 3500,
    "2026-11-23 06:51:07 Warning: from (" + "a) [192.0.2.1]x from H=" * 2500,
    "2026-11-23 06:51:07 SMTP protocol error " + " H=(a) [192.0.2.1]x" * 3000,
    "2026-11-23T06:51:07.000001Z 8 [Note] Aborted connection 8 to db: '" + "' user: '" * 6000 + "' host: 'a b",
    "2026-11-23T06:51:07.000001Z 8 [Note] Aborted connection 8 to db: '" + "a' user: 'b' host: 'c d" * 2500,
    "2026-11-23T06:51:07.000+0000 I ACCESS   [conn7] " + "authentication: failed for a@a" * 2000 + " on",
    "2026-11-23 06:51:07.00 Logon       Login failed for user '" + "'. Reason: x " * 5000,
    "2026-11-23 06:51:07 <= a@example.org H=a (a) [192.0.2.1]:1 I=[192.0.2.2]:25" + " X=a" * 15_000,
    "2026-11-23 06:51:07 1tF3aB-0001xY-2c ** " + "a" * 60_000,
    "Nov 23 06:51:07 web1 dovecot: lda(a" + "a " * 30_000,
    "Nov-23-26 06:51:07 a " + "[a] " * 15_000,
]


@pytest.mark.parametrize("line", EVIL, ids=range(len(EVIL)))
@pytest.mark.parametrize("form", ["auto", "nginx.access", "apache.access", "sshd", "logfmt", "generic"])
def test_lines_made_to_run_long_are_decoded(line, form):
    check(decode(line, format=form))
