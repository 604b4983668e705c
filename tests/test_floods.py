"""Floods, as small as shows how they are met: all lines are stored, one incident counts them, memory has a bound."""

from __future__ import annotations

import pytest
from test_detection import RULES, failed
from test_notices import Bench

from threatlens.detectors import correlation, load_rules
from threatlens.metrics import collect

N, GROUPS = 6_000, 500


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    path.write_text(RULES)
    return load_rules([str(path)])


@pytest.fixture
def bench(store, rules, monkeypatch) -> Bench:
    found = Bench(store, rules)
    monkeypatch.setattr("threatlens.store.now_us", lambda: found.now)
    return found


def evictions(bench: Bench) -> float:
    detector = bench.processor._detector
    status = {"counts": {**bench.processor.counts.as_json(), "groups_evicted": detector.evicted}}
    families = collect(status, bench.store, version="0", database_path="", now_us=0, sockets=0)
    (family,) = [each for each in families if each.name.endswith("correlation_groups_evicted_total")]
    return family.samples[0][2]


def test_l41_identical_lines_are_all_stored_and_are_one_incident_with_their_count(bench):
    line = failed(0)
    for _ in range(N // 1_000):
        bench.read(line * 1_000)
    bench.send()

    assert sum(view.events for view in bench.store.sources()) == N
    (incident,) = bench.store.incidents()
    (member,) = bench.store.incident(incident.id).members.values()
    assert member.events >= N // 2, "a correlation is told of again when its count has doubled"
    assert len(bench.got) == 1


def test_l42_more_addresses_than_memory_may_hold_are_forgotten_the_oldest_first_and_counted(bench):
    engine = bench.processor._detector._engine
    (correlator,) = engine._correlators.values()
    assert correlator.max_groups == correlation.MAX_GROUPS
    correlator.max_groups = GROUPS
    for start in range(0, N, 1_000):
        bench.read(*(failed(0, f"198.18.{n // 256}.{n % 256}") for n in range(start, start + 1_000)))
    (correlator,) = engine._correlators.values()
    assert (len(correlator.groups), engine.evicted) == (GROUPS, N - GROUPS)
    assert evictions(bench) == N - GROUPS
    bench.read(*(failed(second, "203.0.113.9") for second in range(6)))

    assert sum(view.events for view in bench.store.sources()) == N + 6
    (incident,) = bench.store.incidents()
    assert incident.subject == ("source.ip", "203.0.113.9"), "who does more than the flood is still found"
