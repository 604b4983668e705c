"""What goes, what stays, and that everything that counts events agrees afterwards."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from builders import NOW_US, Filler

from threatlens import store_retention
from threatlens.config_values import Retention
from threatlens.detection import write_findings
from threatlens.event import EventFilter, RuleMatch
from threatlens.incidents import Finding
from threatlens.retention import DAY_US, RetentionKeeper
from threatlens.store import EventStore
from threatlens.store_accounts import Doer
from threatlens.store_database import EDGES

KEPT = 20


@pytest.fixture(autouse=True)
def few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_retention, "KEPT_NEWEST", KEPT)


def keeper(store: EventStore, settings: Any, **changes: Any) -> RetentionKeeper:
    limits = Retention(**{"events_days": 1, "max_database_gb": 100.0, **changes})
    folder = os.path.dirname(settings.database_path)
    return RetentionKeeper(store, lambda: limits, folder, now_us=lambda: NOW_US + 2 * DAY_US, free=lambda _f: 1 << 50)


def never(_seconds: float) -> bool:
    return False


def count(settings: Any, statement: str) -> int:
    with closing(sqlite3.connect(settings.database_path)) as connection:
        return int(connection.execute(statement).fetchone()[0] or 0)


def fill(filler: Filler, n: int) -> None:
    for number in range(0, n, 50):
        lines = [f"Failed password number{number + each} wördlich from 203.0.113.9" for each in range(50)]
        filler.add(*lines, outcome=2, source_ip="203.0.113.9")


def test_old_events_go_and_every_index_and_sum_agrees(store: EventStore, settings: Any, filler: Filler) -> None:
    fill(filler, 700)

    assert keeper(store, settings).work(never, 60) == 700 - KEPT
    assert store.counts(EventFilter()).total == KEPT
    assert count(settings, "SELECT count(*) FROM events") == KEPT
    assert count(settings, "SELECT sum(n) FROM event_minutes") == KEPT
    assert count(settings, "SELECT sum(failures) FROM address_slots") == KEPT
    assert [event.id for event in store.page(EventFilter(words=("number3",)), limit=10)] == []
    found = store.page(EventFilter(words=("number699",)), limit=10)
    assert [event.raw.split()[2] for event in found] == ["number699"]
    assert count(settings, "SELECT count(*) FROM events_fts WHERE events_fts MATCH 'number3'") == 0
    assert count(settings, "SELECT count(*) FROM events_fts WHERE events_fts MATCH 'password'") == KEPT


def test_ids_go_on_and_nothing_new_is_ever_forgotten(store: EventStore, settings: Any, filler: Filler) -> None:
    fill(filler, 100)
    keeper(store, settings).work(never, 60)

    assert filler.add("one more") == 101
    young = RetentionKeeper(store, Retention, os.path.dirname(settings.database_path), now_us=lambda: NOW_US + DAY_US)
    assert young.work(never, 60) == 0


def test_a_clock_that_was_moved_forgets_nothing(store: EventStore, settings: Any, filler: Filler) -> None:
    fill(filler, 100)
    folder = os.path.dirname(settings.database_path)
    moved = RetentionKeeper(
        store, lambda: Retention(events_days=1), folder, steady=lambda: False, now_us=lambda: NOW_US + 9_999 * DAY_US
    )
    assert moved.work(never, 60) == 0


def test_the_evidence_of_an_open_incident_outlives_its_age(store: EventStore, settings: Any, filler: Filler) -> None:
    fill(filler, 100)
    with closing(sqlite3.connect(settings.database_path)) as connection, connection:
        connection.execute(
            "INSERT INTO incidents (id, status, title, severity, outcome, subject_kind, subject, first_us, last_us, n,"
            " assignee, previous_id, closed_us, created_at, updated_at, version)"
            " VALUES (1, 'open', 't', 8, 'attempt', 'source.ip', 'x', 1, 1, 1, '', 0, 0, 1, 1, 1)"
        )
        connection.execute(
            "INSERT INTO detections (id, rule_id, rule_name, level, severity, kind, timestamp, first_us, n, group_by,"
            " tags, event_id, source_id, incident_id, suppressed)"
            " VALUES (1, 'r', 'r', 'high', 8, 'rule', 1, 1, 1, '[]', '[]', 7, 1, 1, '')"
        )
    keeper(store, settings).work(never, 60)
    assert store.event(7) is not None
    assert store.event(8) is None

    with closing(sqlite3.connect(settings.database_path)) as connection, connection:
        connection.execute("UPDATE incidents SET status = 'closed'")
    keeper(store, settings).work(never, 60)
    assert store.event(7) is None
    assert count(settings, "SELECT count(*) FROM detections") == 0


def test_a_database_that_is_too_large_loses_its_oldest_and_its_file_shrinks(
    store: EventStore, settings: Any, filler: Filler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threatlens.retention.SLACK_BYTES", 0)
    for number in range(40):
        filler.add(*[f"event {number} {each} " + "x" * 2_000 for each in range(50)])
    store.database.engine.dispose()
    before = os.path.getsize(settings.database_path)
    limit = 3_000_000
    assert before > limit

    tidy = keeper(store, settings, events_days=100, max_database_gb=limit / 1e9)
    assert "oldest go before" in next(iter(tidy.health())).reason
    assert tidy.work(never, 60) > 500
    assert store.extent().used_bytes <= limit
    with closing(sqlite3.connect(settings.database_path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert os.path.getsize(settings.database_path) < limit * 1.2
    assert store.event(2_000) is not None, "the newest stays"


def test_a_step_returns_all_the_pages_that_it_is_asked_for(store: EventStore, settings: Any, filler: Filler) -> None:
    filler.add(*[f"event {number} " + "x" * 2_000 for number in range(200)])
    with closing(sqlite3.connect(settings.database_path)) as connection, connection:
        connection.execute("DELETE FROM events WHERE id < 150")
    free = store.extent().free_bytes

    assert store.return_space(20) == free - 20 * 4_096


def test_the_ends_of_the_events_are_found_without_looking_at_all_of_them(settings: Any, store: EventStore) -> None:
    with closing(sqlite3.connect(settings.database_path)) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {EDGES}")]
    assert [step for step in plan if "events" in step] == ["SEARCH events"] * 2


def test_the_work_is_done_in_steps_that_end_when_asked(store: EventStore, settings: Any, filler: Filler) -> None:
    fill(filler, 1_200)
    tidy = keeper(store, settings)
    assert tidy.work(lambda _s: True, 60) == store_retention.STEP_EVENTS
    assert tidy.work(never, 60) == 1_200 - KEPT - store_retention.STEP_EVENTS


def test_old_measurements_go_and_what_is_usual_stays(store: EventStore, settings: Any) -> None:
    with closing(sqlite3.connect(settings.database_path)) as connection, connection:
        connection.executemany(
            "INSERT INTO processing_metrics (metric_type, metric_value, timestamp, metadata) VALUES (?, 1, ?, '{}')",
            [("lines_per_second", NOW_US - 100 * DAY_US), ("baseline.1", NOW_US - 100 * DAY_US),
             ("lines_per_second", NOW_US + DAY_US), ("state.disk", NOW_US + DAY_US),
             ("queue_lines", NOW_US - 5 * DAY_US + 60_000_000), ("queue_lines", NOW_US - 5 * DAY_US)],
        )  # fmt: skip
    keeper(store, settings).work(never, 60)
    with closing(sqlite3.connect(settings.database_path)) as connection:
        left = connection.execute("SELECT metric_type FROM processing_metrics ORDER BY id").fetchall()
    assert [row[0] for row in left] == ["baseline.1", "lines_per_second", "state.disk", "queue_lines"]


def test_the_disk_that_is_smaller_than_the_limit_is_told_before_it_is_full(store: EventStore, settings: Any) -> None:
    small = RetentionKeeper(
        store, Retention, os.path.dirname(settings.database_path), now_us=lambda: NOW_US, free=lambda _folder: 1 << 30
    )
    assert "is full before that limit" in next(iter(small.health())).reason


def test_what_is_taken_out_of_the_index_is_what_was_put_in(store: EventStore, settings: Any, filler: Filler) -> None:
    users = ("root", "Zoë Müller", "a b", "x" * 9_000, "***")
    for user, address in zip(users, ("203.0.113.9", "2001:db8::9", "::1", "203.0.113.8", "203.0.113.7"), strict=True):
        filler.add("\ufefffirst " + "y" * 8_190, "and another", user_name=user, source_ip=address)
    fill(filler, 100)

    assert keeper(store, settings).work(never, 60) == 10 + 100 - KEPT
    with closing(sqlite3.connect(settings.database_path)) as connection:
        connection.execute("CREATE VIRTUAL TABLE vocabulary USING fts5vocab(events_fts, 'row')")
        left = dict(connection.execute("SELECT term, doc FROM vocabulary"))
    assert {word: n for word, n in left.items() if n > KEPT or ("number" not in word and n != KEPT)} == {}
    assert count(settings, "SELECT count(*) FROM user_totals") == 0


def incident(store: EventStore, address: str, at_us: int) -> int:
    """An attempt of this address, stored as a batch stores it; the incident's number."""
    match = RuleMatch(
        "r1", "Password guessing", "high", 8, "rule", at_us, at_us, 1, (), address, None, None,
        ("attack.credential-access", "attack.t1110.001"), (),
    )  # fmt: skip
    with store.database.writing() as connection:
        _, (made,) = write_findings(connection, [(Finding(match, 1, 1, 1, "failure", "authentication"), (1,))])
    return made.id


def test_incidents_that_somebody_is_done_with_go_with_all_that_is_about_them(
    store: EventStore, settings: Any, filler: Filler
) -> None:
    fill(filler, 50)
    addresses = ("closed", "untouched", "commented", "taken", "recent", "newest")
    ids = {name: incident(store, f"203.0.113.{at}", NOW_US) for at, name in enumerate(addresses)}
    doer = Doer("user anna")
    store.add_comment(ids["commented"], doer, "I look into it.")
    store.change_incident(ids["closed"], 1, doer, kind="closed", status="closed")
    with store.database.writing() as connection:
        connection.exec_driver_sql("UPDATE incidents SET outcome = 'success' WHERE id = ?", (ids["taken"],))
        connection.exec_driver_sql("UPDATE incidents SET updated_at = ?", (NOW_US,))
        connection.exec_driver_sql("UPDATE incidents SET last_us = ? WHERE id = ?", (NOW_US + DAY_US, ids["recent"]))
        connection.exec_driver_sql("UPDATE incidents SET previous_id = ? WHERE id = ?", (ids["closed"], ids["newest"]))

    kept = keeper(store, settings, incidents_days=2)
    kept.work(never, 60)
    assert len(store.incidents()) == 6, "two days are not over"
    later = keeper(store, settings, incidents_days=1)
    later.work(never, 60)
    assert later.state.incidents == 2
    left = {one.id: one for one in store.incidents()}
    assert set(left) == {ids[name] for name in ("commented", "taken", "recent", "newest")}
    assert left[ids["newest"]].previous_id == 0
    for table in ("incident_members", "incident_entities", "incident_notes"):
        assert (
            count(settings, f"SELECT count(*) FROM {table} WHERE incident_id IN {ids['closed'], ids['untouched']}") == 0
        )
    assert count(settings, "SELECT count(*) FROM detections WHERE incident_id = 0") == 2
    assert incident(store, "203.0.113.99", NOW_US) > ids["newest"]
