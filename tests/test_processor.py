"""What happens to a line: nothing is dropped, nothing is tried for ever, nothing is written that is not ours."""

from __future__ import annotations

import threading

import pytest
from builders import NOW_US, entry

from threatlens.broadcaster import EventBroadcaster, Place
from threatlens.errors import StoreUnavailable
from threatlens.event import BAD_ENCODING, PARSE_ERROR, TRUNCATED, UNTERMINATED, EventFilter
from threatlens.ingestion_queue import RealtimeIngestionQueue
from threatlens.own_decoders import OwnDecoders
from threatlens.processor import QueueProcessor
from threatlens.processor_batch import Prepared
from threatlens.sources.base import LogSourceConfig

SSHD = b"Nov 23 06:51:07 web1 sshd[4211]: Failed password for root from 203.0.113.9 port 52144 ssh2\n"


class Bench:
    """A processor over a real store, called as the job would."""

    def __init__(self, store):
        self.store = store
        self.queue = RealtimeIngestionQueue()
        self.ring = EventBroadcaster()
        self.refused: list[frozenset[int]] = []
        self.waits: list[float] = []
        self.give_up_after = 50
        self.processor = QueueProcessor(
            self.queue, store, self.ring, on_refused=self.refused.append, wall=lambda: NOW_US / 1e6 + 0.25
        )
        self.source_id = store.put_api_source("auth", "auto")
        self.stream_id = store.create(self.source_id, path=b"/x", device=1, inode=1, compressed=False, position=0)
        self.processor.set_sources([LogSourceConfig(self.source_id, "auth", "/x")], {})

    def stopped(self, wait_s: float) -> bool:
        self.waits.append(wait_s)
        return len(self.waits) > self.give_up_after

    def process(self, *contents: bytes, **changes):
        start = self.store.position(self.stream_id)
        entries = []
        for content in contents:
            entries.append(entry(content, stream_id=self.stream_id, source_id=self.source_id, start=start, **changes))
            start = entries[-1].end_offset
        return self.processor.process(entries, self.stopped)

    def events(self):
        return self.store.page(EventFilter(), after=0, limit=500)


@pytest.fixture
def bench(store) -> Bench:
    return Bench(store)


def test_a_line_is_decoded_rated_stored_and_announced(bench):
    result = bench.process(SSHD)
    assert (result.lines, result.events, result.dead) == (1, 1, 0)
    (event,) = bench.events()
    assert (event.format, event.category, event.source, event.severity) == ("sshd", "authentication", "auth", 4)
    assert event.fields["source.ip"] == "203.0.113.9"
    assert event.raw == SSHD.decode().rstrip("\n")
    assert event.processing_time_s == pytest.approx(0.25)
    (announced,) = bench.ring.wait(Place(0, 0), 0).events
    assert announced.as_json() == event.as_json()


def test_what_was_stored_keeps_no_bytes_for_those_who_ask_for_its_events():
    read = entry(SSHD * 2)
    prepared = Prepared([read], origins=[read, read])
    assert prepared.give_bytes_back() == 2 * len(SSHD)
    assert [(origin.content, origin.source_name) for origin in prepared.origins] == [(b"", "auth")] * 2
    assert not prepared.entries


def test_blank_lines_move_the_position_and_carry_no_event(bench):
    result = bench.process(b"\n   \t \n\n" + SSHD)
    assert (result.lines, result.events) == (4, 1)
    assert bench.store.position(bench.stream_id) == 8 + len(SSHD)
    source = bench.store.source(bench.source_id)
    assert (source.lines, source.blank_lines, source.events) == (4, 3, 1)


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"one\r\ntwo\rthree\n", ["one", "two\rthree"]),
        ("x\u2028y\u2029z\x85w\n".encode(), ["x\u2028y\u2029z\x85w"]),
        (b"abc\0def\n", ["abc\0def"]),
        (b"\xef\xbb\xbfOct 11 hello\n", ["\ufeffOct 11 hello"]),
        (b"\xff\xfe\xfa bad\n", ["\ufffd\ufffd\ufffd bad"]),
        (b"good\n\xed\xa0\x80 surrogate\nalso good\n", ["good", "\ufffd\ufffd\ufffd surrogate", "also good"]),
        (b"%s%s%n %(name)s {0.__class__} {}\n", ["%s%s%n %(name)s {0.__class__} {}"]),
    ],
)
def test_lines_are_cut_and_kept_exactly(bench, content, texts):
    bench.process(content)
    assert [event.raw for event in bench.events()] == texts


def test_bytes_that_are_not_text_come_back_exactly(bench, store):
    bench.process(b"caf\xe9\n")
    (event,) = bench.events()
    assert event.flags & BAD_ENCODING
    with store.database.reading() as connection:
        assert connection.exec_driver_sql("SELECT raw FROM events").scalar() == b"caf\xe9"


def test_another_encoding_is_read_as_such_and_kept_as_it_was(bench, store):
    line = "gr\u00fc\u00dfe\n".encode("utf-16-le")
    bench.process(line, encoding="utf-16-le", lines=1)
    assert [event.raw for event in bench.events()] == ["gr\u00fc\u00dfe"]
    with store.database.reading() as connection:
        assert connection.exec_driver_sql("SELECT raw FROM events").scalar() == line[:-2]


def test_flags_of_the_reader_reach_the_event(bench):
    bench.process(b"A" * 50 + b"\n", flags=TRUNCATED, true_bytes=10**8)
    bench.process(b"half a line", flags=UNTERMINATED, lines=1)
    cut, half = bench.events()
    assert (cut.flag_names, cut.fields.get("event.original_bytes")) == (["truncated", "time_error"], 10**8)
    assert half.flag_names == ["unterminated", "time_error"]


def test_a_decoder_that_fails_costs_nothing_but_the_fields(bench, monkeypatch, caplog):
    def fail(line, read_at_s):
        raise RecursionError

    monkeypatch.setattr(bench.processor._decoders[bench.source_id], "decode", fail)
    result = bench.process(b"poison\n")
    assert result.events == 1
    (event,) = bench.events()
    assert (event.raw, event.format) == ("poison", "unknown")
    assert event.flags & PARSE_ERROR
    assert "poison" not in caplog.text


def test_lines_that_nobody_decodes_are_grouped_by_shape(bench):
    bench.process(b"zork moved 17 gremlins\nzork moved 99 gremlins\n")
    (shape,) = bench.store.templates()
    assert (shape.n, shape.source) == (2, "auth")
    assert "<*>" in shape.text
    assert bench.store.source(bench.source_id).unknown == 2


def test_shapes_keep_their_number_when_they_grow_general_and_after_a_restart(bench, store):
    for name in (b"alpha", b"beta", b"gamma", b"delta"):
        bench.process(b"zork moved " + name + b" gremlins home\n")
    first = bench.events()[0].template_id
    wide = next(shape for shape in store.templates() if shape.text == "zork moved <*> gremlins home")
    assert (wide.id, wide.n) == (first, 2), "the first shape grew"
    again = QueueProcessor(bench.queue, store, bench.ring, on_refused=bench.refused.append)
    again.recall_shapes()
    again.set_sources([LogSourceConfig(bench.source_id, "auth", "/x")], {})
    start = store.position(bench.stream_id)
    line = entry(b"zork moved omega gremlins home\n", stream_id=bench.stream_id, source_id=bench.source_id, start=start)
    again.process([line], bench.stopped)
    wide = next(shape for shape in store.templates() if shape.text == "zork moved <*> gremlins home")
    assert (wide.id, wide.n) == (first, 3)


def test_the_lines_of_a_stack_trace_are_one_event_and_every_line_is_counted(bench, store):
    head = b"2026-11-23 06:51:07,123 - shop - ERROR - order failed\n"
    trace = b'Traceback (most recent call last):\n  File "x", line 1\nValueError: no stock\n'
    bench.process(head + trace + head)
    events = sorted(bench.events(), key=lambda event: event.id)
    assert [event.raw for event in events] == [(head + trace).decode().rstrip("\n"), head.decode().rstrip("\n")]
    assert "ValueError" in events[0].fields["error.stack_trace"]
    source = store.source(bench.source_id)
    assert (source.lines, source.events, source.joined_lines, source.blank_lines, source.unknown) == (5, 2, 3, 0, 0)


def test_a_decoder_that_somebody_makes_reads_from_the_next_batch_on(bench, store, tmp_path):
    now = iter(range(1000))
    own = OwnDecoders(str(tmp_path / "decoders"), clock=lambda: float(next(now)))
    processor = QueueProcessor(
        bench.queue, store, bench.ring, on_refused=bench.refused.append, own_decoders=own
    )  # fmt: skip
    processor.set_sources([LogSourceConfig(bench.source_id, "auth", "/x")], {})
    for _ in range(2):
        start = store.position(bench.stream_id)
        line = entry(b"gate alice refused\n", stream_id=bench.stream_id, source_id=bench.source_id, start=start)
        processor.process([line], bench.stopped)
        own.save("name: shop.gate\npattern: gate (?P<user>[a-z]+) refused")
    assert "shop.gate" in {event.format for event in bench.events()}
    assert "unknown" in {event.format for event in bench.events()}


def test_what_a_source_has_taught_is_remembered(bench):
    bench.process(SSHD)
    assert bench.store.learned()[bench.source_id]


LOKI = (
    b'{"streams":[{"stream":{"host":"web1"},"values":[["1795416667000000000","zork"],'
    b'["1795416668000000000","Nov 23 06:51:08 web1 sshd[1]: Failed password for root from 203.0.113.9 port 52 ssh2"]]},'
    b'{"stream":{"host":"web2"},"values":[["1795416669000000000","zork again"]]}]}'
)
OTLP = (
    b'{"resourceLogs":[{"resource":{"attributes":[{"key":"host.name","value":{"stringValue":"web1"}}]},"scopeLogs":'
    b'[{"logRecords":[{"timeUnixNano":"1795416667000000000","body":{"stringValue":"one"}},'
    b'{"timeUnixNano":"1795416668000000000","severityNumber":17,"body":{"stringValue":"two"}}]}]}]}'
)


def test_every_record_of_a_line_that_carries_several_becomes_an_event(bench, store):
    bench.process(SSHD + LOKI + b"\n" + OTLP + b"\n" + SSHD)
    events = sorted(bench.events(), key=lambda event: event.id)
    assert [event.format for event in events] == ["sshd", "loki", "sshd", "loki", "otlp", "otlp", "sshd"]
    assert [event.fields["host.name"] for event in events] == ["web1", "web1", "web1", "web2", "web1", "web1", "web1"]
    assert events[2].fields["source.ip"] == "203.0.113.9"
    assert [event.message for event in events[4:6]] == ["one", "two"]
    assert events[5].fields["log.level"] == "error"
    source = store.source(bench.source_id)
    assert (source.lines, source.events, source.unaccounted) == (7, 7, 0)
    assert source.bytes == len(SSHD) * 2 + len(LOKI) + len(OTLP) + 2


@pytest.mark.parametrize(
    "line",
    [b'{"streams":[{"stream":{},"values":[["1","a"],["2"]]}]}', b'{"resourceLogs":[{"scopeLogs":[{"logRecords":5}]}]}'],
)
def test_a_line_of_records_that_is_damaged_stays_one_event(bench, line):
    bench.process(line + b"\n")
    (event,) = bench.events()
    assert event.raw == line.decode()


def test_the_zone_of_a_source_is_learned_applied_and_remembered(bench, store):
    started_s = NOW_US / 1e6

    def read(processor, minute):
        read_at_s = started_s + 60 * minute
        hour, rest = divmod(330 + minute, 60)
        line = f"Nov 24 {hour:02}:{rest:02}:00 web1 sshd[1]: Server listening on :: port 22.\n"
        start = store.position(bench.stream_id)
        one = entry(
            line.encode(), stream_id=bench.stream_id, source_id=bench.source_id, start=start, timestamp=read_at_s
        )
        processor.process([one], bench.stopped)
        return (bench.events()[-1].timestamp_us - NOW_US) // 60_000_000 - minute

    off = [read(bench.processor, minute) for minute in range(14)]
    assert off == [330] * 12 + [0] * 2, "certain after twelve readings in eleven minutes"
    assert store.source(bench.source_id).learned_zone == "UTC+05:30"
    assert "UTC+05:30" not in store.source(bench.source_id).learned
    again = QueueProcessor(bench.queue, store, bench.ring, on_refused=bench.refused.append)
    again.set_sources([LogSourceConfig(bench.source_id, "auth", "/x")], store.learned())
    assert read(again, 20) == 0
    again.set_sources([LogSourceConfig(bench.source_id, "auth", "/x", learn_timezone=False)], store.learned())
    assert read(again, 21) == 330
    assert store.source(bench.source_id).learned_zone == ""


def unavailable_for(store, monkeypatch, times: int) -> None:
    commit = store.commit
    left = iter(range(times))

    def moody(*args, **kwargs):
        if next(left, None) is not None:
            raise StoreUnavailable("locked", reason="busy")
        return commit(*args, **kwargs)

    monkeypatch.setattr(store, "commit", moody)


def test_a_database_that_is_away_makes_the_batch_wait_longer_and_longer(bench, store, monkeypatch):
    unavailable_for(store, monkeypatch, 8)
    result = bench.process(SSHD)
    assert result.events == 1
    waits = [wait for wait in bench.waits if wait]
    assert waits == sorted(waits)
    assert len(waits) == 8
    assert max(waits) == 1.0
    assert bench.processor.state.retries == 8
    assert bench.processor.state.unavailable == ""
    assert len(bench.events()) == 1


def test_a_word_that_is_new_waits_for_a_database_that_is_away(bench, store, monkeypatch):
    name_id, away = store.name_id, iter(range(3))

    def number(kind, name):
        if next(away, None) is not None:
            raise StoreUnavailable("starting up", reason="away")
        return name_id(kind, name)

    monkeypatch.setattr(store, "name_id", number)
    assert bench.process(SSHD).events == 1
    assert len([wait for wait in bench.waits if wait]) == 3
    assert bench.refused == [], "nothing has to be read again from a file that may be gone"
    assert bench.processor.state.unavailable == ""


def test_a_batch_whose_answer_was_lost_is_announced_once_and_not_read_again(bench, store, monkeypatch):
    commit = store.commit

    def lose_the_answer(*batch, **more):
        commit(*batch, **more)
        monkeypatch.undo()
        raise StoreUnavailable("the connection was lost", reason="away")

    monkeypatch.setattr(store, "commit", lose_the_answer)
    assert bench.process(SSHD, SSHD).events == 2
    assert (bench.refused, len(bench.events())) == ([], 2)
    assert [event.id for event in bench.ring.wait(Place(0, 0), 0).events] == [1, 2]


def test_stopping_ends_the_waiting_and_stores_nothing(bench, store, monkeypatch):
    unavailable_for(store, monkeypatch, 10**9)
    bench.give_up_after = 3
    assert bench.process(SSHD) is None
    assert bench.processor.state.unavailable == "busy"
    assert bench.store.position(bench.stream_id) == 0


def test_a_batch_that_is_not_ours_is_given_up_and_the_reader_told(bench):
    bench.process(SSHD)
    stale = entry(SSHD, stream_id=bench.stream_id, source_id=bench.source_id, start=0)
    bench.queue.put(stale)
    assert bench.processor.process([stale], bench.stopped) is None
    assert bench.refused == [frozenset({bench.stream_id})]
    assert bench.queue.stats().entries == 0
    assert len(bench.events()) == 1


def test_the_rest_of_a_batch_survives_a_refused_stream(bench):
    bench.process(SSHD)
    other = bench.store.create(bench.source_id, path=b"/y", device=1, inode=2, compressed=False, position=0)
    stale = entry(SSHD, stream_id=bench.stream_id, source_id=bench.source_id, start=0)
    fresh = entry(b"fresh line\n", stream_id=other, source_id=bench.source_id, start=0)
    result = bench.processor.process([stale, fresh], bench.stopped)
    assert result.events == 1
    assert [event.raw for event in bench.events()][1:] == ["fresh line"]


def poison(store, text: str) -> None:
    """The database refuses every line that holds this."""
    with store.database.writing() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER poison BEFORE INSERT ON events WHEN instr(new.raw, '" + text + "') > 0"
            " BEGIN SELECT raise(ABORT, 'this line is poison'); END"
        )


def test_a_line_that_cannot_be_stored_is_buried_and_the_others_live(bench, store):
    poison(store, "cyanide")
    result = bench.process(b"one\ncyanide here\nthree\n")
    assert (result.events, result.dead, result.lines) == (2, 1, 3)
    assert [event.raw for event in bench.events()] == ["one", "three"]
    (letter,) = store.dead_letters()
    assert (letter.raw, letter.error) == ("cyanide here", "this line is poison")
    assert bench.store.position(bench.stream_id) == len(b"one\ncyanide here\nthree\n")


def test_a_dead_letter_is_tried_again_only_when_asked(bench, store):
    poison(store, "cyanide")
    bench.process(b"cyanide here\n")
    assert bench.processor.replay() == 0
    (letter,) = store.dead_letters()
    store.request_replay(letter.id)
    assert bench.processor.replay() == 0
    assert store.dead_letters()[0].replayed_at == 0
    with store.database.writing() as connection:
        connection.exec_driver_sql("DROP TRIGGER poison")
    store.request_replay(letter.id)
    assert bench.processor.replay() == 1
    assert [event.raw for event in bench.events()] == ["cyanide here"]
    assert store.dead_letters()[0].event_id == 1
    assert bench.processor.replay() == 0


def test_batches_of_several_runs_keep_the_order_within_a_stream(bench):
    bench.process(b"1\n2\n", b"3\n", b"4\n5\n")
    assert [event.raw for event in bench.events()] == list("12345")


def test_what_is_ready_behind_a_backlog_is_one_transaction(bench, store):
    first = entry(b"1\n2\n", stream_id=bench.stream_id, source_id=bench.source_id, start=0)
    second = entry(b"3\n", stream_id=bench.stream_id, source_id=bench.source_id, start=4)
    for one in (first, second):
        bench.processor._prepared.put(bench.processor._prepare([one]))
    bench.give_up_after = 1
    bench.processor.finish(bench.stopped)
    assert bench.processor.state.batches == 1
    assert [event.raw for event in bench.events()] == ["1", "2", "3"]
    assert [event.id for event in bench.ring.wait(Place(0, 0), 0).events] == [1, 2, 3]
    assert store.position(bench.stream_id) == 6


def test_both_steps_run_by_themselves_until_they_are_stopped(bench, store):
    line = entry(SSHD, stream_id=bench.stream_id, source_id=bench.source_id, start=0)
    bench.queue.put(line)
    stop = threading.Event()
    steps = [
        threading.Thread(target=step, args=(stop.wait,)) for step in (bench.processor.prepare, bench.processor.finish)
    ]
    for step in steps:
        step.start()
    announced = bench.ring.wait(Place(0, 0), 60).events
    stop.set()
    for step in steps:
        step.join(60)
        assert not step.is_alive()
    assert [event.id for event in announced] == [1]
    assert store.position(bench.stream_id) == len(SSHD)
