"""The dead man's switch, and backups that are made by themselves."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from threatlens.backup import restore_backup
from threatlens.backup_schedule import BackupSchedule
from threatlens.config_values import BackupConfig, HeartbeatConfig, Secret
from threatlens.errors import OutboundError
from threatlens.health import is_well
from threatlens.health_heartbeat import Heartbeat
from threatlens.outbound import Answer
from threatlens.store import EventStore

URL = "https://hc.example.org/ping"


@dataclass
class Phone:
    """Counts calls; a clock beside it."""

    status: int = 200
    calls: list[str] = field(default_factory=list)
    now: float = 0.0

    def request(self, method: str, url: str) -> Answer:
        self.calls.append(f"{method} {url}")
        if not self.status:
            msg = "nobody answers"
            raise OutboundError(msg)
        return Answer(self.status, {})


def heart(phone: Phone, url: str = URL) -> Heartbeat:
    return Heartbeat(lambda: HeartbeatConfig(Secret(url) if url else None, 5), phone, monotonic=lambda: phone.now)


def state(part: Any) -> tuple[str, str]:
    (component,) = part.health()
    return component.state, component.reason


def test_the_address_is_called_every_few_minutes_while_all_is_well_and_not_otherwise() -> None:
    phone = Phone()
    switch = heart(phone)
    for second in range(0, 601, 10):
        phone.now = second
        switch.beat(well=second < 300)
    assert phone.calls == [f"GET {URL}"]
    assert switch.beat(well=True)
    assert state(switch)[0] == "ok"


def test_a_call_that_is_not_answered_is_shown_and_tried_again_sooner() -> None:
    phone = Phone(status=0)
    switch = heart(phone)
    assert not switch.beat(well=True)
    assert state(switch) == ("degraded", "the call was not answered: nobody answers")
    phone.status, phone.now = 500, 75.0
    assert not switch.beat(well=True)
    assert "answered 500" in state(switch)[1]
    phone.status, phone.now = 200, 150.0
    assert switch.beat(well=True)
    assert state(switch)[0] == "ok"


def test_without_an_address_nobody_is_called() -> None:
    phone = Phone()
    assert not heart(phone, "").beat(well=True)
    assert (phone.calls, state(heart(phone, ""))[0]) == ([], "off")


def test_being_well_means_to_see_store_and_judge() -> None:
    def part(name: str, condition: str) -> dict[str, str]:
        return {"name": name, "state": condition}

    assert is_well([part("sources", "ok"), part("channels", "degraded"), part("model", "off")])
    assert not is_well([part("sources", "degraded")])
    assert not is_well([part("disk", "failed")])
    assert not is_well([])


def schedule(settings: Any, folder: Path, clock: list[float], **changes: Any) -> BackupSchedule:
    config = BackupConfig(**{"folder": str(folder), "every_hours": 24, "keep": 2, **changes})
    return BackupSchedule(settings, lambda: config, version="1", clock=lambda: clock[0])


def test_backups_are_made_when_due_verified_and_the_oldest_go(store: EventStore, settings: Any, tmp_path: Path) -> None:
    clock, folder = [1_795_478_400.0], tmp_path / "backups"
    keeper = schedule(settings, folder, clock)
    assert keeper.make_due()
    assert not keeper.make_due(), "the next one is due tomorrow"
    for _ in range(3):
        clock[0] += 86_400
        assert keeper.make_due()
    assert [one.name for one in keeper.backups()] == [
        "threatlens-20261127T000000Z.backup",
        "threatlens-20261126T000000Z.backup",
    ]
    assert oct(os.stat(folder).st_mode & 0o777) == "0o700"
    assert state(keeper)[0] == "ok"
    store.database.engine.dispose()
    assert "threatlens.db" in restore_backup(settings, str(folder / keeper.backups()[0].name)).files


def test_a_backup_that_cannot_be_made_is_shown_and_tried_again_later(
    store: EventStore, settings: Any, tmp_path: Path
) -> None:
    clock = [1_795_478_400.0]
    (tmp_path / "file").write_text("")
    keeper = schedule(settings, tmp_path / "file" / "below", clock)
    assert not keeper.make_due()
    assert state(keeper)[0] == "degraded"
    assert store.last_id() == 0


def test_a_backup_that_is_long_overdue_is_shown(store: EventStore, settings: Any, tmp_path: Path) -> None:
    clock = [1_795_478_400.0]
    keeper = schedule(settings, tmp_path / "backups", clock)
    assert keeper.make_due()
    clock[0] += 49 * 3600
    assert state(keeper)[0] == "degraded"
    unused = BackupSchedule(settings, BackupConfig, version="1", clock=lambda: clock[0])
    assert (state(unused)[0], unused.make_due()) == ("off", False)
    assert store.last_id() == 0


def test_a_clock_that_was_a_day_ahead_and_came_back_costs_no_backup_of_before(
    store: EventStore, settings: Any, tmp_path: Path
) -> None:
    clock = [1_795_000_000.0]
    keeper = schedule(settings, tmp_path / "backups", clock, every_hours=24, keep=3)
    assert keeper.make_due()
    before = keeper.backups()[0].name
    clock[0] += 86_400
    assert keeper.make_due()
    clock[0] -= 86_400 - 60
    assert [keeper.make_due() for _ in range(3)] == [False] * 3, "the last one is a minute old"
    clock[0] += 12 * 3_600
    assert not keeper.make_due()
    assert before in [one.name for one in keeper.backups()]
    assert store.last_id() == 0
