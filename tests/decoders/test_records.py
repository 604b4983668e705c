"""The objects that `decode` prints."""

from __future__ import annotations

import json

from threatlens.decoders.records import decode_file, to_json

READ_AT_S = 1_795_435_200.0  # 2026-11-23T12:00:00Z
LINES = [
    b"Nov 23 06:51:07 web1 sshd[4211]: Failed password for root from 203.0.113.9 port 52144 ssh2\n",
    b"\n",
    b" \t\r\n",
    b"hello \xff world\r\n",
]


def records(**options):
    return list(decode_file(LINES, read_at_s=READ_AT_S, template_id=lambda message: message[:5], **options))


def test_one_object_per_line_that_is_not_blank():
    sshd, unknown = records()
    assert sshd["@timestamp"] == "2026-11-23T06:51:07+00:00"
    assert sshd["event.original"] == LINES[0].decode().rstrip()
    assert (sshd["log.format"], sshd["source.ip"], sshd["threatlens.template.id"]) == ("sshd", "203.0.113.9", "Faile")
    assert (unknown["log.format"], unknown["message"]) == ("unknown", "hello \ufffd world")
    assert "@timestamp" not in unknown
    assert unknown["threatlens.flags"] == ["time_error"]


def test_times_are_written_in_the_zone_asked_for():
    assert records(timezone="Europe/Berlin", year=2020)[0]["@timestamp"] == "2020-11-23T06:51:07+01:00"


def test_text_that_is_no_unicode_is_written_all_the_same():
    assert json.loads(to_json({"a": "x\udcff", "b": ["\ud800"]})) == {"a": "x?", "b": ["?"]}


def test_what_a_terminal_would_obey_is_written_as_escapes_of_the_same_text():
    text = "\x1b[2J \x7f \x9b31m \u202egnp.exe \u200b\u2066x\u2069 \ufeff grüße 漢 \u2014"
    line = to_json({"a": text})
    assert json.loads(line) == {"a": text}
    assert all(character.isprintable() for character in line.decode().rstrip("\n"))
    assert "grüße 漢 \u2014" in line.decode()
