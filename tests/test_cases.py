"""What somebody hands in to look into it is a case: the rules are asked about it, and nothing outside of it moves."""

from __future__ import annotations

import pytest
from builders import GUESSING_RULES, NOW_US, entry, mmdb

from threatlens.analyzers.novelty import Novelty
from threatlens.broadcaster import EventBroadcaster, Place
from threatlens.decoders import decode_stored
from threatlens.detection import Detector
from threatlens.detectors import DetectionEngine, RuleSet, load_rules, load_tables
from threatlens.detectors.geo import GeoFolder
from threatlens.event import EventFilter
from threatlens.ingestion_queue import RealtimeIngestionQueue
from threatlens.processor import QueueProcessor
from threatlens.query import parse_query
from threatlens.sources.base import CASE_PREFIX


def failed(second: int) -> bytes:
    return (
        f"2026-11-23T06:00:{second:02}+00:00 web1 sshd[42]: Failed password for root from 203.0.113.9 port 5214 ssh2\n"
    ).encode()


@pytest.fixture(scope="module")
def rules(tmp_path_factory) -> RuleSet:
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    path.write_text(GUESSING_RULES)
    return load_rules([str(path)])


class Bench:
    """A live source and two cases over one processor; restart() leaves the database and nothing else."""

    def __init__(self, store, settings, rules):
        self.store, self.settings, self.rules = store, settings, rules
        self.streams = {}
        for name in ("auth", CASE_PREFIX + "one", CASE_PREFIX + "two"):
            source_id = store.put_api_source(name, "auto")
            stream = store.create(source_id, path=name.encode(), device=1, inode=1, compressed=False, position=0)
            self.streams[name] = (source_id, stream)
        self.restart()

    def restart(self):
        self.ring = EventBroadcaster()
        self.novelty = Novelty()
        detector = Detector(self.store, DetectionEngine(self.rules, load_tables()), novelty=self.novelty)
        self.processor = QueueProcessor(
            RealtimeIngestionQueue(), self.store, self.ring, on_refused=lambda _: None, detector=detector,
            wall=lambda: NOW_US / 1e6,
        )  # fmt: skip
        self.processor.set_sources(self.store.internal_sources(self.settings), {})

    def process(self, **lines: bytes):
        """One batch; live, one, two: the lines of each."""
        entries = []
        for name, content in lines.items():
            source = "auth" if name == "live" else CASE_PREFIX + name
            source_id, stream_id = self.streams[source]
            start = self.store.position(stream_id)
            entries.append(entry(content, stream_id=stream_id, source_id=source_id, start=start))
        return self.processor.process(entries, lambda _wait_s: False)


@pytest.fixture
def bench(store, settings, rules) -> Bench:
    return Bench(store, settings, rules)


def test_matches_of_a_case_stay_in_it(bench):
    bench.process(one=b"".join(map(failed, range(6))))

    (match,) = bench.store.detections()
    assert (match.suppressed, match.incident_id, match.n) == ("case", 0, 5)
    events = bench.store.page(EventFilter(), after=0)
    assert [event.severity for event in events] == [4, 4, 4, 4, 7, 4], "the event shows what it is"
    assert bench.store.incidents() == []
    assert bench.store.top_targets(0, limit=5) == []
    assert bench.store.rule_numbers(0) == {}
    assert not bench.ring.wait(Place(0, 0), 0).updates
    assert bench.store.novelties() == []


def test_what_matches_are_about_is_counted_by_user_and_host(bench):
    bench.process(live=b"".join(map(failed, range(11))))

    users_and_hosts = bench.store.top_targets(0, limit=5)

    assert len(bench.store.detections()) == 2
    assert users_and_hosts == [("host", "web1", 2), ("user", "root", 2)]
    assert bench.store.top_targets(0, limit=1) == users_and_hosts[:1]
    assert bench.store.top_targets(NOW_US + 120_000_000, limit=5) == []


def test_the_memory_of_a_case_is_its_own(bench):
    bench.process(one=failed(0) + failed(1), live=failed(2) + failed(3))
    bench.process(two=failed(4) + failed(5))
    bench.restart()
    bench.process(live=failed(6), one=failed(7) + failed(8), two=failed(9))
    assert bench.store.detections() == [], "ten failures, but nowhere five"

    bench.process(one=failed(10), live=failed(11))
    (match,) = bench.store.detections()
    assert (match.suppressed, match.n, match.timestamp_us % 60_000_000) == ("case", 5, 10_000_000)
    event = bench.store.event(match.event_id)
    assert event.source == CASE_PREFIX + "one"

    bench.process(live=failed(12))
    live = [match for match in bench.store.detections() if not match.suppressed]
    assert [(match.n, bool(match.incident_id)) for match in live] == [(5, True)]


def test_only_what_was_handed_in_can_be_a_case(bench):
    assert {config.source_name: config.case for config in bench.store.internal_sources(bench.settings)} == {
        "auth": False, CASE_PREFIX + "one": True, CASE_PREFIX + "two": True,
    }  # fmt: skip


def test_stored_events_are_placed_by_the_files_of_the_folder(bench, tmp_path):
    clock = [0.0]
    folder = GeoFolder(str(tmp_path / "geo"), monotonic=lambda: clock[0])
    bench.store.rereader = lambda: lambda raw, name: folder.enrich(decode_stored(raw, name))
    bench.process(live=failed(0) + failed(1).replace(b"203.", b"198."))

    def found(query: str) -> list[object]:
        page = bench.store.page(parse_query(query, now_us=NOW_US))
        return [(event.fields["source.ip"], event.fields.get("source.geo.country_iso_code")) for event in page]

    assert found("has:source.geo") == []
    (tmp_path / "geo").mkdir()
    (tmp_path / "geo" / "country.mmdb").write_bytes(mmdb(203, {"country": {"iso_code": "SE"}}))
    (tmp_path / "geo" / "broken.mmdb").write_bytes(b"x" * 50)
    assert found("has:source.geo") == [], "the folder is looked at every few seconds"
    clock[0] += 6
    assert found("has:source.geo") == found("source.geo.country_iso_code:se") == [("203.0.113.9", "SE")]
    assert "broken.mmdb" in folder.error
