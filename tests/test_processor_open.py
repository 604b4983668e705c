"""An event of several lines is one event, wherever reading, batches and crashes cut it; other lines never wait."""

from __future__ import annotations

import itertools

import pytest

from threatlens.broadcaster import EventBroadcaster
from threatlens.event import UNTERMINATED, EventFilter
from threatlens.ingestion_queue import RealtimeIngestionQueue
from threatlens.own_decoders import OwnDecoders
from threatlens.processor import QueueProcessor
from threatlens.processor_open import OpenEvents
from threatlens.sources.base import LogSourceConfig
from threatlens.sources.file import LogFileMonitor

TRACE = [
    "2026-11-23 06:51:07,123 ERROR [main] org.example.Shop: order failed\n",
    "java.lang.IllegalStateException: no stock\n",
    "\tat org.example.Shop.order(Shop.java:17)\n",
    "\n",
    "Caused by: java.io.IOException: closed\n",
    "\t... 3 more\n",
]
NEXT = "2026-11-23 06:51:08,000 INFO [main] org.example.Shop: on it goes\n"
LINES = [NEXT, *TRACE, NEXT, NEXT, *TRACE]
SSHD = "Nov 23 06:51:07 web1 sshd[4211]: Failed password for root from 203.0.113.9 port 52144 ssh2\n"

AUDIT = [
    'type=SYSCALL msg=audit(1795416667.123:90): syscall=59 success=yes pid=121 uid=33 comm="sh" exe="/usr/bin/dash"\n',
    'type=SYSCALL msg=audit(1795416667.123:91): syscall=59 success=no pid=122 uid=33 comm="id" exe="/usr/bin/id"\n',
    'type=EXECVE msg=audit(1795416667.123:90): argc=2 a0="sh" a1=6964203E202F746D702F78\n',
    "type=PROCTITLE msg=audit(1795416667.123:91): proctitle=6964\n",
    "type=PROCTITLE msg=audit(1795416667.123:90): proctitle=7368\n",
    "type=USER_LOGIN msg=audit(1795416667.123:92): pid=1 msg='op=login acct=\"root\" addr=203.0.113.9 res=failed'\n",
]
CRI = [
    "2026-11-23T06:51:07.200000000Z stderr F unhandled Exception in worker 7\n",
    "2026-11-23T06:51:07.200000000Z stderr F Traceback (most recent call last):\n",
    '2026-11-23T06:51:07.200000000Z stderr F   File "/srv/shop.py", line 17, in order\n',
    "2026-11-23T06:51:08.200000000Z stderr P Nov 23 06:51:07 web1 sshd[4211]: Failed password for ro\n",
    "2026-11-23T06:51:08.200000000Z stderr P ot from 203.0.1\n",
    "2026-11-23T06:51:08.200000000Z stderr F 13.9 port 52144 ssh2\n",
]
CSV = [
    (
        '2026-11-23 06:51:07.123 UTC,"app","shop",1,"203.0.113.9:52144",a.b,3,"SELECT",2026-11-23 06:51:07 UTC,3/12,0,'
        'ERROR,42P01,"no ""x""",,,,,,"select *\n'
    ),
    "Nov 23 06:51:07 web1 sshd[1]: Accepted password for root from 192.0.2.1 port 22 ssh2\n",
    'where 1",15,,"psql","client backend",,0\n',
]
ERLANG = [
    "=INFO REPORT==== 2026-11-23 06:51:07 ===\n",
    "I(<0.370.0>:ejabberd_c2s:633) : (x) Failed authentication for bob@example.org from IP 203.0.113.9 (y)\n",
]
#: Lines that say to what they belong, and how many line breaks the events that they make hold.
KINDS = {"audit": (AUDIT, [2, 1, 0]), "cri": (CRI, [2, 2]), "csv": (2 * CSV, [2, 2]), "erlang": (2 * ERLANG, [1, 1])}


class Line:
    """A file, read and processed as the engine would, with clocks that only the test moves; it can be killed."""

    numbers = itertools.count(1)

    def __init__(self, store, folder, **changes):
        self.store = store
        self.path = folder / f"app{next(self.numbers)}.log"
        self.path.touch()
        self.now = 1000.0
        source_id = store.put_api_source(self.path.name, "auto")
        self.config = LogSourceConfig(source_id, self.path.name, str(self.path), **{"roots": (str(folder),), **changes})
        self.entries = []
        self.start()

    def start(self):
        """As after a kill: what is not committed is gone."""
        self.entries.clear()
        self.monitor = LogFileMonitor(
            emit=self._emit, book=self.store, clock=lambda: self.now, use_inotify=False, open_lines=OpenEvents()
        )
        self.monitor.set_sources([self.config])
        self.processor = QueueProcessor(
            RealtimeIngestionQueue(), self.store, EventBroadcaster(), on_refused=lambda streams: None
        )
        self.processor.set_sources([self.config], {})

    def _emit(self, entry):
        self.entries.append(entry)
        return True

    def write(self, *lines):
        with self.path.open("a") as file:
            file.write("".join(lines))

    def process(self, batch=1000):
        while self.entries:
            self.processor.process(self.entries[:batch], lambda wait_s: False)
            del self.entries[:batch]

    def settle(self):
        """Time goes by until nothing waits."""
        for _ in range(3):
            self.now += 1.0
            self.monitor.scan()
        self.process()

    def read(self, *lines):
        """Write, read and process; what is stored by then."""
        self.write(*lines)
        self.monitor.scan()
        self.process()
        return self.events()

    def events(self):
        found = self.store.page(EventFilter(sources=(self.path.name,)), after=0, limit=500)
        return [(event.raw, event.message, event.timestamp_us, event.fields) for event in found]


@pytest.fixture
def line(store, tmp_path):
    made = []

    def make(**changes):
        made.append(Line(store, tmp_path, **changes))
        return made[-1]

    yield make
    for one in made:
        one.monitor.close()


@pytest.fixture
def whole(line):
    """The events of LINES, read in one piece."""
    one = line()
    one.read(*LINES)
    one.settle()
    found = one.events()
    assert [raw.count("\n") for raw, *_ in found] == [0, 4, 0, 0, 4]
    assert "Caused by" in found[1][3]["error.stack_trace"]
    return found


@pytest.mark.parametrize("batch", [1, 2, 1000])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_however_a_file_is_cut_into_reads_and_batches_the_events_are_the_same(line, whole, size, batch):
    one = line()
    for start in range(0, len(LINES), size):
        one.write(*LINES[start : start + size])
        one.monitor.scan()
    one.process(batch)
    one.settle()
    assert one.events() == whole


def test_a_kill_behind_any_line_changes_no_event(line, whole, store):
    for cut in range(1, len(LINES)):
        one = line()
        one.read(*LINES[:cut])
        one.write(LINES[cut])
        one.monitor.scan()  # read, but killed before it is stored
        one.monitor.close()
        one.start()
        one.read(*LINES[cut + 1 :])
        one.settle()
        assert one.events() == whole, cut
        source = store.source(one.config.source_id)
        assert (source.lines, source.events, source.joined_lines, source.blank_lines) == (len(LINES), 5, 8, 2)
        assert source.unaccounted == 0


@pytest.mark.parametrize(("lines", "breaks"), KINDS.values(), ids=KINDS)
def test_parts_that_say_where_they_belong_are_one_event_wherever_reading_stops_or_is_killed(line, lines, breaks):
    at_once = line()
    at_once.read(*lines)
    at_once.settle()
    expected = at_once.events()
    assert [raw.count("\n") for raw, *_ in expected] == breaks
    assert all("source.ip" in fields or "process.pid" in fields or breaks == [2, 2] for *_, fields in expected)
    for cut in range(1, len(lines)):
        one = line()
        one.read(*lines[:cut])
        one.monitor.close()
        one.start()
        one.read(*lines[cut:])
        one.settle()
        assert one.events() == expected, cut


def test_a_line_in_pieces_is_whole_before_it_joins(line, whole):
    text = "".join(LINES)
    one = line()
    for start in range(0, len(text), 37):
        one.read(text[start : start + 37])
    one.settle()
    assert one.events() == whole


def test_the_last_event_of_a_file_is_shown_after_half_a_second_without_more(line):
    one = line()
    assert one.read(*TRACE) == []
    one.now += 0.4
    assert one.read("\tat org.example.Late.line(Late.java:1)\n") == [], "it grew: it waits again"
    one.now += 0.4
    assert one.read() == []
    one.now += 0.2
    assert [raw.count("\n") for raw, *_ in one.read()] == [5]


def test_an_event_that_grows_for_ever_is_shown_after_two_seconds(line):
    one = line()
    one.read(TRACE[0])
    shown = next(n for n in range(1, 50) if (setattr(one, "now", one.now + 0.3), one.read("\tat x\n"))[1])
    assert 0.3 * (shown - 1) <= 2.0 <= 0.3 * (shown + 1)


def test_a_line_of_a_format_that_never_goes_on_does_not_wait_and_takes_nothing_in(line):
    one = line()
    assert len(one.read(SSHD)) == 1
    assert [raw for raw, *_ in one.read("\tno part of it\n")][1:] == ["\tno part of it"]


def test_what_waits_is_stored_though_the_file_is_emptied(line):
    one = line()
    assert one.read(*TRACE) == []
    one.path.write_text("")
    assert [raw.count("\n") for raw, *_ in one.read(NEXT)] == [4]
    one.settle()
    assert len(one.events()) == 2


def test_a_complete_file_waits_for_nothing_and_its_unfinished_last_line_still_joins(line, store):
    one = line(whole_files=True)
    (found,) = one.read(*TRACE[:2], TRACE[2].rstrip("\n"))
    assert found[0].count("\n") == 2
    assert store.page(EventFilter(sources=(one.path.name,)), limit=1)[0].flags & UNTERMINATED


def test_a_trace_of_many_pages_is_cut_into_events_the_same_way_each_time(line):
    lines = [TRACE[0], *(f"\tat org.example.Deep.call(Deep.java:{n}) {'x' * 200}\n" for n in range(600)), NEXT]
    at_once = line()
    at_once.read(*lines)
    at_once.settle()
    in_pieces = line()
    for start in range(0, len(lines), 100):
        in_pieces.read(*lines[start : start + 100])
    in_pieces.settle()
    assert [raw for raw, *_ in in_pieces.events()] == [raw for raw, *_ in at_once.events()]
    assert sum(raw.count("\n") + 1 for raw, *_ in at_once.events()) == len(lines)


def test_a_decoder_that_fails_holds_nothing_back(monkeypatch):
    def fail(self, line, read_at_s):
        raise RecursionError

    monkeypatch.setattr("threatlens.processor_open.SourceDecoder.decode", fail)
    assert OpenEvents()(LogSourceConfig(1, "app", "/x"), [NEXT.strip()], 0.0) == 0


def test_events_of_decoders_of_ones_own_go_on_too(tmp_path):
    own = OwnDecoders(str(tmp_path / "decoders"), clock=itertools.count().__next__)
    config = LogSourceConfig(1, "app", "/x")
    line = "gate <2026-11-23 06:51:07> alice refused"
    ask = OpenEvents(own)
    assert ask(config, ["  why: no key", line], 1_795_435_200.0) == 0
    own.save("name: shop.gate\npattern: gate <(?P<time>[^>]+)> (?P<user>[a-z]+) refused")
    assert ask(config, ["  why: no key", line], 1_795_435_200.0) == 2
