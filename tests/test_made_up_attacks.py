"""A test attack goes the way of all lines, says what it is, counts nowhere, and leaves nothing behind."""

from __future__ import annotations

import datetime as dt

import pytest
from accounts import log_in
from builders import NOW_US, entry
from test_detection import RULES, failed
from test_notices import Bench

from threatlens.demo import made_up_attack
from threatlens.detectors import load_rules
from threatlens.errors import IngestError
from threatlens.event import EventFilter
from threatlens.sources.base import TEST_ATTACK, TEST_ATTACK_TOLD
from threatlens.store_accounts import COMMAND_LINE
from threatlens.store_incidents import TEST_SUBJECT

NOW = dt.datetime.fromtimestamp(NOW_US / 1e6, dt.UTC)
DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    path.write_text(RULES.replace(", user.name: root", ""))
    return load_rules([str(path)])


class Range(Bench):
    """A processor with a source of test attacks beside the real one."""

    def fire(self, settings, *, tells=False, seed=1):
        name = TEST_ATTACK_TOLD if tells else TEST_ATTACK
        source_id = self.store.put_test_source(tells=tells)
        stream_id = self.store.create(
            source_id, path=name.encode() + bytes([seed]), device=1, inode=seed + 1, compressed=False, position=0
        )
        self.processor.set_sources(self.store.internal_sources(settings), {})
        lines = "\n".join(made_up_attack(NOW, seed)).encode() + b"\n"
        batch = entry(lines, stream_id=stream_id, source_id=source_id, source_name=name)
        self.processor.process([batch], lambda _wait_s: False)

    def arrive(self, *lines: bytes):
        start = self.store.position(self.stream_id)
        batch = entry(b"".join(lines), stream_id=self.stream_id, source_id=self.source_id, start=start)
        self.processor.process([batch], lambda _wait_s: False)

    def counted(self):
        """What statistics, reports and the pages of addresses and users know."""
        until = NOW_US + DAY_US
        return (
            self.store.incidents_by_status(), self.store.incidents_between(0, until, 9),
            self.store.incident_counts(0, until), self.store.rule_numbers(0), self.store.top_targets(0, limit=9),
            self.store.busiest_addresses(start_us=0, category="authentication", limits=(9, 9)),
            len(self.store.page(EventFilter(min_severity=7))), self.store.matches_since(0),
            self.store.novelties(), self.store.sums(),
            self.store.page(EventFilter(words=("203.0.113.35",), min_severity=5)),
        )  # fmt: skip


@pytest.fixture
def firing_range(store, rules, monkeypatch) -> Range:
    found = Range(store, rules)
    monkeypatch.setattr("threatlens.store.now_us", lambda: found.now)
    return found


def test_a_test_attack_becomes_an_incident_that_says_what_it_is(firing_range, settings):
    firing_range.fire(settings)

    (incident,) = firing_range.store.incidents()
    assert incident.is_test
    assert incident.subject[1].startswith("Test attack: 203.0.113.")
    assert incident.outcome == "success"
    assert incident.severity >= 7
    assert {kind for kind, _ in firing_range.store.incident(incident.id).entities} == {TEST_SUBJECT}
    assert {match.suppressed for match in firing_range.store.detections()} == {"test"}


def test_nothing_counts_a_test_attack_and_the_rules_remember_nothing_of_it(firing_range, settings):
    before = firing_range.counted()
    firing_range.fire(settings)
    assert firing_range.counted() == before

    address = firing_range.store.incidents()[0].subject[1].rpartition(" ")[2]
    firing_range.arrive(*(failed(second).replace(b"203.0.113.9", address.encode()) for second in range(2)))
    assert len(firing_range.store.incidents()) == 1, "two failures of the same address are no guessing"
    assert [knock[:3] for knock in firing_range.counted()[5][0]] == [(address, 2, 2)]


@pytest.mark.parametrize("tells", [False, True])
def test_people_are_told_of_it_if_that_was_asked_for(firing_range, settings, tells):
    firing_range.fire(settings, tells=tells)
    firing_range.send()

    assert bool(firing_range.got) is tells
    assert all("Test attack: 203.0.113." in message.title for message in firing_range.got)


def test_a_test_attack_is_removed_with_everything_it_left(firing_range, settings):
    firing_range.arrive(failed(1))
    before = (firing_range.counted(), len(firing_range.store.page(EventFilter())))
    firing_range.fire(settings)
    firing_range.arrive(failed(2))

    assert firing_range.store.remove_test_attacks(COMMAND_LINE) == 1

    store = firing_range.store
    assert store.incidents() == []
    assert store.detections() == []
    assert [event.source for event in store.page(EventFilter())] == ["auth", "auth"]
    assert store.counts(EventFilter()).total == before[1] + 1
    assert [source.source_name for source in store.sources()] == ["auth"]
    assert store.remove_test_attacks(COMMAND_LINE) == 0

    firing_range.fire(settings, seed=2)
    assert len(store.incidents()) == 1, "and another one may follow"


def test_what_is_real_is_never_removed_with_it_whatever_it_is_called(firing_range, settings):
    store = firing_range.store
    for kind in ("api", "cli"):
        with pytest.raises(IngestError, match="made up"):
            store.put_api_source(TEST_ATTACK, "auto") if kind == "api" else store.put_cli_source(
                TEST_ATTACK, "/x", "auto"
            )
    firing_range.arrive(failed(1))
    before = [event.raw for event in store.page(EventFilter())]
    with store.database.writing() as connection:  # as threatlens.yaml may call one
        connection.exec_driver_sql("UPDATE log_sources SET source_name = ? WHERE source_name = 'auth'", (TEST_ATTACK,))

    store.remove_test_attacks(COMMAND_LINE)

    assert [event.raw for event in store.page(EventFilter())] == before != []


def test_a_real_attack_never_joins_a_test_attack(firing_range, settings):
    firing_range.fire(settings)
    address = firing_range.store.incidents()[0].subject[1].rpartition(" ")[2]
    firing_range.arrive(*(failed(second).replace(b"203.0.113.9", address.encode()) for second in range(8)))

    real, test = firing_range.store.incidents()
    assert (real.is_test, test.is_test) == (False, True)
    firing_range.store.remove_test_attacks(COMMAND_LINE)
    assert [incident.subject for incident in firing_range.store.incidents()] == [("source.ip", address)]


def test_analysts_fire_and_remove_it_and_others_do_not(app, services):
    app.config["WTF_CSRF_ENABLED"] = False
    viewer, analyst = log_in(app, "viewer"), log_in(app, "analyst")
    assert viewer.post("/test-attack", data={"do": "fire"}).status_code == 403
    assert "Fire a test attack" not in viewer.get("/").text + viewer.get("/incidents").text
    assert "Fire a test attack" in analyst.get("/").text
    assert "Fire a test attack" in analyst.get("/incidents").text

    assert analyst.post("/test-attack", data={"do": "fire", "next": "/incidents"}).headers["Location"] == "/incidents"
    assert [(one.source_name, one.kind) for one in services.store.sources()] == [(TEST_ATTACK, "test")]
    analyst.post("/test-attack", data={"do": "remove"})
    assert services.store.sources() == []
    assert analyst.post("/test-attack", data={"do": "x"}).status_code == 400
