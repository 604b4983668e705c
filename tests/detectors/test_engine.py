"""The engine over batches: what it tells of, and that a kill at any moment changes nothing."""

from __future__ import annotations

import random

import pytest
from rule_texts import event

from threatlens.event import StateRow

BRUTE_FORCE = """
title: Failed login
id: 11111111-1111-4111-8111-111111111111
name: failed_login
level: informational
logsource: {category: test}
detection:
  selection:
    event.action|endswith: login
    event.outcome: failure
  condition: selection
---
title: Brute force
id: 22222222-2222-4222-8222-222222222222
level: high
tags: [attack.credential-access, attack.t1110.001]
correlation:
  type: event_count
  rules: [failed_login]
  group-by: [source.ip]
  timespan: 10m
  condition: {gte: 5}
---
title: Login after brute force
id: 33333333-3333-4333-8333-333333333333
level: critical
correlation:
  type: temporal_ordered
  rules: [22222222-2222-4222-8222-222222222222, success]
  group-by: [source.ip]
  timespan: 1h
---
title: Success
id: 44444444-4444-4444-8444-444444444444
name: success
level: informational
logsource: {category: test}
detection:
  selection: {event.outcome: success}
  condition: selection
"""


def login(ip: str, at_s: float, outcome: str = "failure", user: str = "root"):
    fields = {"event.action": "ssh_login", "event.outcome": outcome, "source.ip": ip, "user.name": user}
    return event({**fields, "host.name": "web1"}, at_s=at_s)


def test_a_match_says_who_what_and_when(engine):
    found = engine(BRUTE_FORCE).detect([login("192.0.2.1", second) for second in range(5)])

    (match,) = found.matches
    assert (match.rule_name, match.kind, match.level, match.severity) == ("Brute force", "correlation", "high", 8)
    assert (match.source_ip, match.user_name, match.host_name) == ("192.0.2.1", "root", "web1")
    assert (match.first_us, match.timestamp_us, match.count) == (0, 4_000_000, 5)
    assert match.group == (("source.ip", "192.0.2.1"),)
    assert match.tags == ("attack.credential-access", "attack.t1110.001")
    assert match.positions == (0, 1, 2, 3, 4)


def test_an_attack_that_goes_on_is_told_of_when_its_count_doubles(engine):
    found = engine(BRUTE_FORCE).detect([login("192.0.2.1", second) for second in range(100)])

    assert [(match.count, match.again) for match in found.matches] == [
        (5, False), (10, True), (20, True), (40, True), (80, True),
    ]  # fmt: skip


def test_a_correlation_can_be_about_correlations(engine):
    made = engine(BRUTE_FORCE)
    made.detect([login("192.0.2.1", second) for second in range(5)])
    found = made.detect([login("192.0.2.9", 60, "success"), login("192.0.2.1", 61, "success")])

    assert [(match.rule_name, match.source_ip) for match in found.matches] == [("Login after brute force", "192.0.2.1")]


class Store:
    """What a store does with state rows, in one transaction with the matches."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], bytes] = {}
        self.matches: list = []

    def commit(self, matches, rows) -> None:
        self.matches.extend(matches)
        for row in rows:
            if row.payload is None:
                self.rows.pop((row.rule_id, row.key), None)
            else:
                self.rows[row.rule_id, row.key] = row.payload

    def state(self) -> list[StateRow]:
        return [StateRow(rule_id, key, payload) for (rule_id, key), payload in self.rows.items()]


def story():
    rng = random.Random(5)
    events = []
    for number in range(600):
        ip = f"192.0.2.{rng.randrange(12)}"
        outcome = "success" if rng.random() < 0.05 else "failure"
        events.append(login(ip, number * 7 - rng.choice([0, 0, 0, 90]), outcome, rng.choice(["root", "anna"])))
    return events


def told(matches):
    return [(match.rule_id, match.group, match.timestamp_us, match.count, match.again) for match in matches]


@pytest.mark.parametrize(("most_inputs", "most_rows"), [(50, 300), (40_000, 300), (40_000, 4)])
def test_alerts_with_kills_equal_alerts_without(engine, monkeypatch, most_inputs, most_rows):
    monkeypatch.setattr("threatlens.detectors.journal.MIN_INPUTS", most_inputs)
    monkeypatch.setattr("threatlens.detectors.journal.MAX_ROWS", most_rows)
    events = story()
    batches = [events[at : at + 10] for at in range(0, len(events), 10)]
    quiet, killed = Store(), Store()
    calm = engine(BRUTE_FORCE)
    for batch in batches:
        found = calm.detect(batch)
        quiet.commit(found.matches, calm.changes())
    rng = random.Random(7)
    running = engine(BRUTE_FORCE)
    kills = 0
    for batch in batches:
        while rng.random() < 0.5 and kills < 30:  # killed after detecting, before the commit
            running.detect(batch)
            if rng.random() < 0.5:
                running.changes()
            kills += 1
            running = engine(BRUTE_FORCE)
            running.restore(killed.state())
        found = running.detect(batch)
        killed.commit(found.matches, running.changes())

    assert kills == 30
    assert len(quiet.matches) > 20
    assert told(killed.matches) == told(quiet.matches)


def test_how_lines_are_divided_into_batches_changes_nothing(engine):
    def found(size):
        made = engine(BRUTE_FORCE)
        events = story()
        return told(match for at in range(0, 600, size) for match in made.detect(events[at : at + size]).matches)

    assert len(found(1)) > 20
    assert found(7) == found(600) == found(1)


def test_what_was_fed_is_one_row_for_all_correlations(engine):
    made = engine(
        BRUTE_FORCE
        + BRUTE_FORCE[BRUTE_FORCE.index("---") : BRUTE_FORCE.index("---\ntitle: Login")].replace("2222-", "5555-")
    )
    made.detect([login("192.0.2.1", second) for second in range(6)])

    assert [row.rule_id for row in made.changes()] == ["journal"]


def test_a_batch_that_is_given_up_leaves_no_trace(engine):
    store = Store()
    made = engine(BRUTE_FORCE)
    found = made.detect([login("192.0.2.1", second) for second in range(4)])
    store.commit(found.matches, made.changes())

    made.detect([login("192.0.2.1", 4)])
    made.restore(store.state())

    assert [match.count for match in made.detect([login("192.0.2.1", 5)]).matches] == [5]


def test_a_rule_that_has_changed_begins_anew_and_its_old_rows_go(engine):
    store = Store()
    made = engine(BRUTE_FORCE)
    store.commit((), made.changes())
    made.detect([login("192.0.2.1", second) for second in range(4)])
    store.commit((), made.changes())
    assert store.rows

    changed = engine(BRUTE_FORCE.replace("timespan: 10m", "timespan: 20m"))
    changed.restore(store.state())
    assert not changed.detect([login("192.0.2.1", 5)]).matches
    store.commit((), changed.changes())

    assert len(store.rows) == 1


def test_spoofed_addresses_take_bounded_memory_and_hide_no_attack(engine, monkeypatch):
    monkeypatch.setattr("threatlens.detectors.engine.MAX_ALL_GROUPS", 2_000)
    made = engine(BRUTE_FORCE)
    found = []
    for number in range(0, 40_000, 100):
        batch = [login(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", n / 1_000) for n in range(number, number + 100)]
        found += made.detect([*batch, login("203.0.113.9", number / 1_000)]).matches
        made.changes()
        assert made.group_count <= 2_000

    assert made.evicted >= 37_000
    assert {match.source_ip for match in found} == {"203.0.113.9"}
    assert [match.count for match in found] == [5, 10, 20, 40, 80, 160, 320]


def test_one_correlation_keeps_the_groups_that_were_touched_last(engine):
    made = engine(BRUTE_FORCE)
    correlator = made.correlator("22222222-2222-4222-8222-222222222222")
    correlator.max_groups = 3
    made.detect([login(f"192.0.2.{number}", number) for number in (1, 2, 3, 1, 4)])

    assert [group for (group,) in correlator.groups] == ["192.0.2.3", "192.0.2.1", "192.0.2.4"]
    assert correlator.evicted == 1


def test_rules_can_be_replaced_and_correlations_that_stayed_the_same_remember(engine):
    from rule_texts import rule_set

    made = engine(BRUTE_FORCE)
    made.detect([login("192.0.2.1", second) for second in range(4)])
    made.replace(rule_set(BRUTE_FORCE.replace("title: Success", "title: Good login")), {})

    assert [match.count for match in made.detect([login("192.0.2.1", 5)]).matches] == [5]
