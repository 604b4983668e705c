"""Decoders that people make: what a draft keeps and names, what is refused, what RE2 is for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from threatlens.decoders import DECODERS, SourceDecoder
from threatlens.decoders.drafting import draft, member_of, parse
from threatlens.decoders.source import Registry
from threatlens.errors import DecoderError
from threatlens.event import rfc3339

READ_AT_S = 1_795_435_200.0
LINES = [
    "shop gate: user=alice from 203.0.113.9 port 4711 was refused (code 7)",
    "shop gate: user=bob from 2001:db8::1 port 17 was refused (code 12)",
]


def decode(own, line: str):
    return SourceDecoder(registry=Registry([*DECODERS, member_of(own)])).decode(line, READ_AT_S)


def test_a_draft_reads_the_lines_it_was_drafted_from_and_others_like_them():
    own = draft(LINES, "shop.gate")
    for line in (*LINES, "shop gate: user=eve from 198.51.100.4 port 1 was refused (code 99)"):
        assert decode(own, line).format == "shop.gate"
    assert decode(own, "shop gate: user=eve was let in").format == "unknown"


def test_what_varies_is_named_by_its_looks_and_by_what_stands_in_front():
    fields = decode(draft(LINES, "shop.gate"), LINES[0]).fields
    assert (fields["user.name"], fields["source.ip"], fields["source.port"]) == ("alice", "203.0.113.9", 4711)
    assert fields["labels.code"] == "7"


def test_a_time_is_the_events_time_and_a_level_its_level():
    lines = [f"[shop] 2026-11-23 06:51:0{number} warn: shelf {number} is empty" for number in (7, 9)]
    decoded = decode(draft(lines, "shop.shelf"), lines[0])
    assert decoded.format == "shop.shelf"
    assert rfc3339(decoded.timestamp_us) == "2026-11-23T06:51:07+00:00"
    assert decoded.fields["log.level"] == "warning"


def test_lines_that_part_keep_their_rest_as_the_message():
    decoded = decode(draft(["gate opens: quickly (again)", "gate opens: with a, creak"], "gate"), "gate opens: x y z")
    assert decoded.format == "gate"


def test_a_file_survives_its_own_writing():
    own = draft(LINES, "shop.gate")
    assert parse(own.as_yaml()) == own


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "not YAML"),
        ("- a", "a name and a pattern"),
        ("name: x\npattern: (a", "the pattern is none"),
        ("name: x\npattern: (a)", "needs a name"),
        ("name: x\npattern: (?P<nofield>a)", "nofield"),
        ("name: x\npattern: (?=a)b", "the pattern is none"),
        ("name: Not Good\npattern: a", "taken or no name"),
        ("name: unknown\npattern: a", "taken or no name"),
        ("name: sshd\npattern: a", "taken or no name"),
        ("name: x\npattern: a\nsamples: [b]", "does not fit its own sample"),
        ("name: x\npattern: a\nsamples: b", "list of lines"),
        ("name: x\npattern: a\nevil: b", "no key 'evil'"),
        ("name: x\npattern: 7", "must be text"),
        ("name: x\npattern: a\noutcome: perhaps", "outcome"),
        ("name: !!python/object/apply:os.system [id]\npattern: a", "not YAML"),
        ("name: x\npattern: " + "a" * 5000, "longer than"),
        ("x: " + "y" * 70_000, "too large"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text, words):
    with pytest.raises(DecoderError, match=words):
        parse(text, frozenset({"sshd"}))


def test_a_pattern_that_would_run_for_ever_elsewhere_is_quick():
    own = parse("name: evil\npattern: (?:(?:a+)+)+b")
    assert decode(own, "a" * 50_000).format == "unknown"


def test_a_decoder_for_a_program_reads_its_messages():
    own = parse("name: shop\nprogram: shopd\npattern: sold (?P<count>[0-9]+) to (?P<user>\\w+)")
    decoded = decode(own, "Nov 23 06:51:07 web1 shopd[1]: sold 7 to alice")
    assert (decoded.format, decoded.fields["user.name"], decoded.fields["event.count"]) == ("shop", "alice", 7)


def test_the_house_reads_first():
    own = parse("name: mine\npattern: (?P<message>.*)")
    line = "Nov 23 06:51:07 web1 sshd[4211]: Failed password for root from 203.0.113.9 port 52144 ssh2"
    assert decode(own, line).format == "sshd"
    assert decode(own, "anything").format == "mine"


@given(st.lists(st.text(st.characters(exclude_characters="\n"), min_size=1, max_size=60), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_draft_of_any_lines_is_a_decoder_that_reads_the_first(lines):
    if not any(line.strip() for line in lines):
        with pytest.raises(DecoderError):
            draft(lines)
        return
    own = draft(lines)
    assert parse(own.as_yaml()).pattern == own.pattern


def test_no_lines_no_draft():
    with pytest.raises(DecoderError, match="at least one"):
        draft([" "])


MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 30))


@pytest.mark.parametrize(
    "text",
    [
        MERGED,
        "name: a\npattern: b\nabout: " + "9" * 5_000,
        "name: a\npattern: b\nabout: 2026-99-99",
        "name: a\npattern: b\nabout: " + "[" * 20_000,
        "name: a\npattern: b\nabout: !!python/object/apply:os.system [id]",
        "? {name: a}\n: b",
    ],
)
def test_a_file_that_would_grow_or_is_no_yaml_is_refused_at_once(text):
    with pytest.raises(DecoderError):
        parse(text)
