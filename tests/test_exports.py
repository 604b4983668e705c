"""Exports: what is asked for, all of it, in files that hold text and nothing that runs; NDJSON comes back as it was."""

from __future__ import annotations

import csv
import io
import json

import pytest
from builders import NOW_US, Filler, entry

from threatlens.broadcaster import EventBroadcaster
from threatlens.event import FROM_EXPORT, EventFilter
from threatlens.exports import BOM, COLUMNS, FORMS, PAGE_EVENTS, as_ecs, file_name, inert, pieces
from threatlens.ingestion_queue import RealtimeIngestionQueue
from threatlens.processor import QueueProcessor
from threatlens.sources.base import LogSourceConfig

EVERYTHING = EventFilter()
SSHD = "Nov 23 06:51:07 web1 sshd[{0}]: Failed password for invalid user =cmd|calc from 203.0.113.{1} port 4000 ssh2"
TRACE = "2026-11-23 06:51:07,123 ERROR app: it broke\nTraceback (most recent call last):\nValueError: no"


def exported(store, form: str, where: EventFilter = EVERYTHING, **more) -> bytes:
    return b"".join(pieces(store, where, form, **more))


def read_in(store, content: bytes, name: str = "again") -> int:
    """Take the lines in as those of a source of this name; how many events they became."""
    source_id = store.put_api_source(name, "auto")
    stream_id = store.create(source_id, path=b"/again", device=2, inode=source_id, compressed=False, position=0)
    processor = QueueProcessor(
        RealtimeIngestionQueue(), store, EventBroadcaster(), on_refused=lambda _: None, wall=lambda: NOW_US / 1e6
    )
    processor.set_sources([LogSourceConfig(source_id, name, "/again")], {})
    result = processor.process([entry(content, stream_id=stream_id, source_id=source_id)], lambda _: False)
    assert result is not None
    return result.events


@pytest.fixture
def mixed(filler: Filler) -> Filler:
    filler.add(*(SSHD.format(number, number % 250) for number in range(PAGE_EVENTS * 2)))
    filler.add(TRACE, source="app", log_format="python.logging", category="application")
    filler.add('{"level":"error","msg":"=1+1","user":"ann"}', source="app", log_format="json", severity=6)
    filler.add("@SUM(A1)\x00\u202e <script>", "\tat nothing at all", source="odd", log_format="unknown", severity=5)
    filler.add('192.0.2.1 - - [23/Nov/2026:06:51:07 +0000] "GET /?q=%22 HTTP/1.1" 404 5 "-" "x, ""y"""',
               source="web", log_format="nginx.access", category="web")  # fmt: skip
    return filler


def everything(store, source: str = "") -> list:
    where = EventFilter(sources=(source,)) if source else EVERYTHING
    return list(store.page(where, after=0, limit=2_000))


def test_every_form_holds_every_event_once_in_the_order_of_arrival(mixed, store):
    ids = [event.id for event in everything(store)]
    assert len(ids) == 2 * PAGE_EVENTS + 5
    assert [int(json.loads(line)["event.id"]) for line in exported(store, "ndjson").splitlines()] == ids
    assert [event["id"] for event in json.loads(exported(store, "json"))] == ids
    rows = list(csv.DictReader(io.StringIO(exported(store, "csv").decode(), newline="")))
    assert [int(row["id"]) for row in rows] == ids


@pytest.mark.parametrize(
    "where",
    [EventFilter(min_severity=5), EventFilter(sources=("app",)), EventFilter(words=("203.0.113.77",)),
     EventFilter(start_us=NOW_US + 5_000_000, end_us=NOW_US + 400_000_000)],
)  # fmt: skip
def test_an_export_holds_what_the_filter_finds(mixed, store, where):
    wanted = [event.as_json() for event in everything(store) if where.matches(event)]
    assert wanted
    assert json.loads(exported(store, "json", where)) == json.loads(json.dumps(wanted))


def test_nothing_found_is_a_whole_file_too(store):
    assert exported(store, "ndjson") == b""
    assert json.loads(exported(store, "json")) == []
    assert len(list(csv.reader(io.StringIO(exported(store, "csv").decode())))) == 1


@pytest.mark.parametrize("start", [*"=+-@\t\r\n\0", "\uff1d"])
def test_a_cell_that_would_be_calculated_begins_with_an_apostrophe(store, filler, start):
    filler.add(f"{start}HYPERLINK(1)", log_format="unknown")
    (row,) = csv.DictReader(io.StringIO(exported(store, "csv").decode(), newline=""))
    assert row["raw"] == f"'{start}HYPERLINK(1)"
    assert inert("a=1") == "a=1"
    assert inert("") == ""


def test_csv_is_that_of_rfc_4180(mixed, store):
    content = exported(store, "csv", EventFilter(sources=("app", "web")))
    assert content.endswith(b"\r\n")
    rows = list(csv.reader(io.StringIO(content.decode(), newline=""), strict=True))
    assert rows[0] == [inert(name) for name in COLUMNS]
    assert {len(row) for row in rows} == {len(COLUMNS)}
    raw = COLUMNS.index("raw")
    assert rows[1][raw] == TRACE
    assert exported(store, "csv", bom=True) == BOM + exported(store, "csv")


def test_a_file_name_is_plain():
    assert {file_name(form, NOW_US) for form in FORMS} == {
        f"threatlens-events-20261124T000000Z.{form}" for form in ("csv", "json", "ndjson")
    }


def test_an_export_that_is_read_in_again_is_the_same_events(mixed, store):
    before = everything(store)
    assert read_in(store, exported(store, "ndjson")) == len(before)
    after = everything(store, "again")
    assert [(e.format, e.timestamp_us, e.fields, e.message, e.raw) for e in after] == [
        (e.format, e.timestamp_us, e.fields, e.message, e.raw) for e in before
    ]
    assert all(event.flags & FROM_EXPORT for event in after)


def test_an_export_of_what_was_read_in_does_not_grow(mixed, store):
    first = [json.loads(line) for line in exported(store, "ndjson").splitlines()]
    read_in(store, exported(store, "ndjson"))
    again = [json.loads(line) for line in exported(store, "ndjson", EventFilter(sources=("again",))).splitlines()]
    kept = ("@timestamp", "log.format", "event.original", "message")
    assert [[each[name] for name in kept] for each in again] == [[each[name] for name in kept] for each in first]


def test_a_forged_export_says_no_more_than_its_line(store, filler):
    filler.add(SSHD.format(1, 9))
    honest = as_ecs(everything(store)[0])
    forged = {**honest, "threatlens.source": "firewall", "event.severity": 10, "threatlens.category": "malware",
              "source.ip": "192.0.2.66", "event.outcome": "success", "log.file.path": "/etc/shadow"}  # fmt: skip
    read_in(store, json.dumps(honest).encode() + b"\n", "honest")
    read_in(store, json.dumps(forged).encode() + b"\n", "forged")
    (one,), (other,) = everything(store, "honest"), everything(store, "forged")
    assert (other.source, other.path) == ("forged", one.path)
    assert (other.severity, other.category, other.fields) == (one.severity, one.category, one.fields)
    assert other.fields["source.ip"] == "203.0.113.9"


def test_a_long_line_comes_back_whole(store, filler):
    filler.add("Nov 23 06:51:07 web1 app[1]: " + "x" * 20_000, log_format="syslog.rfc3164")
    read_in(store, exported(store, "ndjson"))
    assert everything(store, "again")[0].raw == everything(store, "auth")[0].raw
