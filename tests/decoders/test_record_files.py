"""Files whose records are no lines come out as one line per record; everything else as its lines."""

from __future__ import annotations

import io
import json

import pytest

from threatlens.decoders import SourceDecoder
from threatlens.decoders.record_files import LOOKED_AT, kind_of, records
from threatlens.errors import RecordsError


def read(content: bytes, path: str = "-") -> list[bytes]:
    stream = io.BytesIO(content)
    return [record.rstrip(b"\r\n") for record in records(stream.read(LOOKED_AT), stream, path)]


@pytest.mark.parametrize(
    "content", [b"", b"a", b"a\nb", b"a\n\nb\n", b"x" * 5000 + b"\ny\n", b"[Mon Nov 23] x\n", b"{}\n{}\n"]
)
def test_lines_stay_lines(content):
    assert read(content) == content.split(b"\n")[: len(content.splitlines())]


def test_the_objects_of_an_array_and_objects_that_are_spread_out_are_records():
    objects = [{"msg": "a", "n": 1}, {"msg": "ü"}]
    for text in (
        json.dumps(objects),
        json.dumps(objects, indent=2),
        "\n".join(json.dumps(o, indent=1) for o in objects),
    ):
        assert [json.loads(record) for record in read(text.encode())] == objects


def test_json_that_does_not_end_is_lines():
    assert read(b'[\n{"a": 1},\n{"b":') == [b"[", b'{"a": 1},', b'{"b":']


def test_events_of_xml_are_records_however_they_are_laid_out():
    event = "<Event xmlns='x'>\n  <System><EventID>4625</EventID><Channel>Security</Channel></System>\n</Event>"
    found = read(f"<?xml version='1.0'?>\n<Events>\n{event}\n{event}</Events>".encode())
    assert len(found) == 2
    decoded = SourceDecoder().decode(found[0].decode(), 0.0)
    assert (decoded.format, decoded.fields["event.code"]) == ("windows.xml", "4625")


def test_entries_of_the_journals_export_are_records_with_their_binary_fields():
    text = "two\nlines of Ünïcode".encode()
    entry = (
        b"__CURSOR=s=1\n__REALTIME_TIMESTAMP=1795416667123456\n_HOSTNAME=web1\nSYSLOG_IDENTIFIER=app\nMESSAGE\n"
        + len(text).to_bytes(8, "little") + text + b"\n\n"
    )  # fmt: skip
    found = read(entry * 200)
    assert len(found) == 200
    decoded = SourceDecoder().decode(found[-1].decode(), 2e9)
    assert (decoded.message, decoded.fields["host.name"]) == (text.decode(), "web1")
    assert decoded.timestamp_us == 1795416667123456


def test_utf_16_is_text():
    assert read("ä b\nc\n".encode("utf-16")) == ["ä b".encode(), b"c"]


def test_a_damaged_event_log_is_told(tmp_path):
    file = tmp_path / "x.evtx"
    file.write_bytes(b"ElfFile\x00" + b"\xff" * 5000)
    assert kind_of(file.read_bytes()) == "evtx"
    with pytest.raises(RecordsError, match="event log"):
        read(file.read_bytes(), str(file))
    with pytest.raises(RecordsError, match="must be a file"):
        read(file.read_bytes(), "-")


def test_a_length_that_cannot_be_is_told():
    with pytest.raises(RecordsError, match="impossible length"):
        read(b"__CURSOR=x\nMESSAGE\n" + b"\xff" * 8)
