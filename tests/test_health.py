"""How every part is doing: what is shown, when it heals, what is remembered."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import pytest

from threatlens.doctor import Probes
from threatlens.errors import StoreUnavailable
from threatlens.event import SourceStatus
from threatlens.health import (
    RULES_PATIENCE_S,
    STEP_SHOWN_S,
    ClockWatch,
    Component,
    Facts,
    HealthMonitor,
    as_json,
    is_well,
    worst,
)
from threatlens.health_disk import ENOUGH_BYTES, LOW_BYTES, RESERVE_BYTES, DiskGuard
from threatlens.ingestion_queue import QueueStats
from threatlens.store import EventStore
from threatlens.store_health import StateChange

QUEUE = QueueStats(1, 10, 1000, 50_000, 1 << 20, waiting=False)
WELL = Facts(5.0, "", False, QUEUE, (), rules_ready=True, rule_failures=0)


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def monitor(settings: Any, store: EventStore, services: Any, hands: Hands) -> HealthMonitor:
    services.config.load_config()
    probes = Probes(free=lambda _folder: (1 << 40, 1 << 41), cannot_watch=lambda: "", can_read=lambda _path: True)
    return HealthMonitor(
        settings, store, services.config, services.rules, probes=probes, clock=ClockWatch(hands, hands),
        monotonic=hands,
    )  # fmt: skip


def states(monitor: HealthMonitor, facts: Facts = WELL, now_us: int = 1) -> dict[str, Component]:
    return {component.name: component for component in monitor.measure(facts, now_us)}


def test_a_machine_that_is_well_has_no_part_that_is_not(monitor: HealthMonitor) -> None:
    monitor.look()

    found = states(monitor)
    assert worst(found.values()) == "ok", [part for part in found.values() if part.state not in ("ok", "off")]
    assert {"engine", "queue", "database", "disk", "clock", "inotify", "open files", "decoders", "rules", "channels",
            "model", "reports", "configuration", "memory", "sources"} <= set(found)  # fmt: skip


def test_a_part_that_changed_is_shown_before_the_next_look(settings: Any, store: EventStore, services: Any) -> None:
    class Moody:
        says: Component | None = Component("detection", "ok")

        def health(self) -> list[Component]:
            if self.says is None:
                raise StoreUnavailable("busy")
            return [self.says]

    part = Moody()
    monitor = HealthMonitor(settings, store, services.config, services.rules, parts=(part,))
    monitor.ask(part)
    assert "detection" not in states(monitor)  # nothing was looked at yet
    services.config.load_config()
    monitor.look()
    assert states(monitor)["detection"].state == "ok"

    part.says = Component("detection", "degraded", "auth: no logins any more")
    monitor.ask(part)
    assert states(monitor)["detection"].reason == "auth: no logins any more"
    part.says = None
    monitor.ask(part)
    assert states(monitor)["detection"].state == "degraded"


@pytest.mark.parametrize(
    ("change", "part", "words"),
    [
        ({"unavailable": "busy"}, "database", "locked by another program"),
        ({"unavailable": "away"}, "database", "does not answer"),
        ({"disk_full": True}, "disk", "disk_full"),
        ({"rule_failures": 2}, "rules", "failed on 2 batches"),
        (
            {"statuses": (SourceStatus(1, "auth", "no_permission", remedy="sudo usermod -aG adm lena"),)},
            "sources",
            "cannot be read: auth",
        ),
        (
            {"statuses": (SourceStatus(1, "auth", "flowing", warnings=("inotify cannot start (too many)",)),)},
            "inotify",
            "cannot start",
        ),
        (
            {"statuses": (SourceStatus(1, "auth", "flowing", warnings=("too many open files; 3 wait",)),)},
            "open files",
            "too many open files",
        ),
    ],
)
def test_what_keeps_lines_away_is_shown_at_once_and_heals_by_itself(
    monitor: HealthMonitor, change: dict[str, Any], part: str, words: str
) -> None:
    monitor.look()

    found = states(monitor, dataclasses.replace(WELL, **change))
    assert found[part].state in ("degraded", "failed")
    assert words in found[part].reason
    assert worst(states(monitor).values()) == "ok"


def test_rules_that_are_still_being_loaded_are_starting_and_degraded_only_when_that_takes_too_long(
    monitor: HealthMonitor, hands: Hands
) -> None:
    monitor.look()
    loading = dataclasses.replace(WELL, rules_ready=False)

    found = states(monitor, loading)
    assert (found["rules"].state, worst(found.values())) == ("starting", "ok")
    assert is_well(as_json(found.values()))
    hands.now += RULES_PATIENCE_S
    late = states(monitor, loading)
    assert (late["rules"].state, worst(late.values())) == ("degraded", "degraded")
    assert states(monitor)["rules"].state == "ok"


def test_a_queue_is_called_full_once_reading_has_waited_for_it(monitor: HealthMonitor, hands: Hands) -> None:
    full = dataclasses.replace(WELL, queue=dataclasses.replace(QUEUE, waiting=True))
    assert states(monitor, full)["queue"].state == "ok"

    hands.now += 6
    assert states(monitor, full)["queue"].state == "degraded"
    assert states(monitor)["queue"].state == "ok"


def test_memory_near_its_limit_is_shown_and_heals(monitor: HealthMonitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threatlens.health.memory_limit", lambda: 1 << 30)
    monkeypatch.setattr("threatlens.health.memory_bytes", lambda: 1_000 << 20)
    assert states(monitor)["memory"].state == "degraded"
    assert states(monitor)["memory"].reason == "1000 MiB of 1024"
    monkeypatch.setattr("threatlens.health.memory_bytes", lambda: 300 << 20)
    assert states(monitor)["memory"].state == "ok"


def test_a_step_of_the_clock_is_shown_for_an_hour(hands: Hands) -> None:
    wall = Hands()
    watch = ClockWatch(wall, hands)
    assert watch.look().state == "ok"
    wall.now -= 86_400
    assert "backwards by 1 day" in watch.look().reason
    assert not watch.steady
    for clock in (wall, hands):
        clock.now += STEP_SHOWN_S + 1
    assert watch.look().state == "ok"
    assert watch.steady


def test_who_forgets_by_age_knows_of_a_step_before_anybody_looked(hands: Hands) -> None:
    wall = Hands()
    watch = ClockWatch(wall, hands)
    wall.now += 400 * 86_400
    assert not watch.steady
    assert "forwards by 400 days" in watch.look().reason


def test_changes_are_remembered_with_their_reason(monitor: HealthMonitor, store: EventStore) -> None:
    states(monitor, now_us=1)
    states(monitor, dataclasses.replace(WELL, unavailable="busy"), now_us=2)
    states(monitor, now_us=3)
    monitor.write_changes()
    monitor.write_changes()

    assert [(change.at_us, change.component, change.state) for change in store.changes()] == [
        (3, "database", "ok"),
        (2, "database", "failed"),
    ]
    assert "locked" in store.changes()[1].reason


def test_measurements_are_averaged_by_time(store: EventStore) -> None:
    for value in (10.0, 20.0):
        store.write_metrics({"lines_per_second": value})
    series = store.series(["lines_per_second", "nothing"], 0, 1 << 62, 1)
    assert [value for _, value in series["lines_per_second"]] == [15.0]
    assert series["nothing"] == []
    store.write_changes([StateChange(5, "disk", "failed", "full")])
    assert store.series(["lines_per_second"], 0, 1 << 62, 1) == {"lines_per_second": series["lines_per_second"]}


def guard(folder: Any, free: Callable[[], int]) -> DiskGuard:
    return DiskGuard(str(folder), free=lambda _folder: free())


def test_a_full_disk_costs_the_reserve_and_events_wait_until_there_is_space(tmp_path: Any) -> None:
    free = ENOUGH_BYTES
    keeper = guard(tmp_path, lambda: free)
    reserve = tmp_path / "reserve"
    assert not keeper.check()
    assert reserve.stat().st_size == RESERVE_BYTES
    assert os.stat(reserve).st_blocks * 512 >= RESERVE_BYTES, "it must really take the space"

    free = LOW_BYTES - 1
    assert keeper.check()
    assert os.stat(reserve).st_blocks * 512 == RESERVE_BYTES // 2, "half of it is for what cannot wait"
    free = LOW_BYTES + RESERVE_BYTES // 2
    assert keeper.check(), "what the reserve gave back is not for events"
    free = ENOUGH_BYTES
    assert not keeper.check()
    assert reserve.exists()


def test_a_database_that_cannot_grow_holds_events_before_the_next_look(tmp_path: Any) -> None:
    keeper = guard(tmp_path, lambda: ENOUGH_BYTES)
    keeper.check()
    keeper.filled()
    keeper.filled()
    assert keeper.holding
    assert (tmp_path / "reserve").stat().st_size == RESERVE_BYTES // 2


def test_what_cannot_wait_gets_the_last_half_of_the_reserve(tmp_path: Any, store: Any, monkeypatch: Any) -> None:
    keeper = guard(tmp_path, lambda: ENOUGH_BYTES)
    keeper.check()
    store.when_full = keeper.needed
    source_id = store.put_api_source("auth", "auto")
    writing = store.database.writing
    full = StoreUnavailable("the disk of the database is full", reason="disk_full")

    def fails(**_options: Any) -> Any:
        raise full

    monkeypatch.setattr(store.database, "writing", fails)
    with pytest.raises(StoreUnavailable):
        store.create(source_id, path=b"/x", device=1, inode=1, compressed=False, position=0)
    assert keeper.holding
    assert not (tmp_path / "reserve").exists()
    monkeypatch.setattr(store.database, "writing", writing)
    assert store.create(source_id, path=b"/x", device=1, inode=1, compressed=False, position=0)
    assert not keeper.check()
    assert (tmp_path / "reserve").stat().st_size == RESERVE_BYTES


def test_the_page_the_api_and_the_supervisor_say_the_same(
    viewer_client: Any, services: Any, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [{"name": "disk", "state": "failed", "reason": "disk_full: <b>", "remedy": "free space"}]
    status = {"state": "failed", "components": parts, "behind": {}, "lines_per_s": 3.5}
    monkeypatch.setattr(type(services), "engine_status", lambda _self: status)
    token = services.store.create_token("scraper", "viewer")

    page = viewer_client.get("/health")
    assert page.status_code == 200
    assert "disk_full: &lt;b&gt;" in page.text
    assert app.test_client().get("/healthz").json == {"status": "degraded"}
    assert app.test_client().get("/health").status_code == 303
    answer = app.test_client().get("/api/v1/health", headers={"Authorization": f"Bearer {token}"})
    assert (answer.json["state"], answer.json["components"]) == ("failed", parts)


def test_the_parts_of_the_page_are_kept_up_to_date(app: Any, viewer_client: Any) -> None:
    from threatlens.web import health

    assert viewer_client.get("/health?range=7d").status_code == 200
    with app.test_request_context("/health?range=1h"):
        assert set(health.panels()) == {"health-components", "health-ledger", "health-charts", "health-changes"}
