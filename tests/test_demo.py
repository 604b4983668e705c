"""The demonstration's story and the files it goes through."""

from __future__ import annotations

import datetime as dt
import ipaddress
import itertools
import re
from collections import Counter
from pathlib import Path

import pytest

from threatlens import demo

START = dt.datetime(2026, 2, 28, 23, 59, 30, tzinfo=dt.UTC)
DOCUMENTATION = [
    ipaddress.ip_network(net) for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
]


def told(seconds: float, *, seed: int = 1, speed: float = 1.0) -> list[tuple[float, str, str]]:
    """The story's first seconds: (time since the start, file, line)."""
    lines: list[tuple[float, str, str]] = []
    at_s = 0.0
    for delay_s, file_name, line in demo.story(START, seed, speed=speed):
        at_s += delay_s
        if at_s > seconds:
            return lines
        lines.append((at_s, file_name, line))
    raise AssertionError("the story ended")


def first(pattern: str, seconds: float = 300.0) -> float:
    return next(at_s for at_s, _, line in told(seconds) if re.search(pattern, line))


def test_the_first_minute_is_worth_watching() -> None:
    lines = told(60)
    per_second = Counter(int(at_s) for at_s, _, _ in lines)

    assert 180 <= len(lines) <= 900, "3 to 15 lines a second"
    assert max(per_second.values()) >= 10, "with bursts"
    assert all(sum(per_second[second + i] for i in range(5)) >= 5 for second in range(55)), "and no silence"
    assert first("UFW BLOCK") < 10
    assert first("Failed password") < 20
    assert 40 < first("Accepted password for deploy from 203.0.113.9") < 60


def test_the_attack_goes_from_scan_to_persistence_in_that_order() -> None:
    acts = [
        r"UFW BLOCK\] IN=eth0",
        r'"GET /\.env HTTP/1.1" 404',
        "Failed password for (invalid user )?.* from 203.0.113.9",
        "Accepted password for deploy from 203.0.113.9",
        "deploy : .*COMMAND=/bin/bash",
        "new user: name=svc-backup",
        "deploy : .*authorized_keys",
        r"crontab\[\d+\]: \(root\) REPLACE",
        rf"OUT=eth0 .*DST={demo.LAIR}",
        "Accepted publickey for svc-backup",
    ]
    times = [first(act) for act in acts]

    assert times == sorted(times)


def test_the_guessing_grows() -> None:
    guesses = [at_s for at_s, _, line in told(60) if "Failed password" in line]
    middle = (guesses[0] + guesses[-1]) / 2

    assert sum(at_s > middle for at_s in guesses) > 1.5 * sum(at_s <= middle for at_s in guesses)


def test_after_the_attack_comes_calm_and_then_another_attacker() -> None:
    lines = told(2 * demo.CYCLE_S)
    late = [line for at_s, _, line in lines if 230 < at_s < demo.CYCLE_S]
    second = [line for at_s, _, line in lines if at_s > demo.CYCLE_S]

    assert not [line for line in late if "Failed password" in line or "UFW" in line]
    assert [line for line in second if f"Accepted password for deploy from {demo.ATTACKERS[1]}" in line]


def test_the_same_seed_tells_the_same_story_and_another_a_different_one() -> None:
    assert told(30) == told(30)
    assert told(30, seed=2) != told(30)


def test_every_line_carries_the_time_it_is_written() -> None:
    for at_s, file_name, line in told(90):
        if file_name == demo.WEB:
            found = re.search(r"\[(.+?)\]", line)
            assert found
            when = dt.datetime.strptime(found[1], "%d/%b/%Y:%H:%M:%S %z")
        else:
            when = dt.datetime.fromisoformat(line.split(" ")[0])
        assert abs((when - START).total_seconds() - at_s) <= 1.0


def test_a_faster_story_is_the_same_story_in_less_time() -> None:
    slow, fast = told(60), told(30, speed=2.0)

    assert [name for _, name, _ in slow] == [name for _, name, _ in fast]
    assert fast[-1][0] == pytest.approx(slow[-1][0] / 2)


def test_every_address_is_reserved_for_documentation() -> None:
    found = set()
    for _, _, line in told(3 * demo.CYCLE_S):
        found.update(re.findall(r"(?<![\w./:])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])|2001:[0-9a-f:]+", line))

    browser_versions = {name for name in found if name in "".join(demo.BROWSERS)}
    outside = [
        ip for ip in found - browser_versions if not any(ipaddress.ip_address(ip) in net for net in DOCUMENTATION)
    ]
    assert len(found) > 100
    assert not outside


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self, *, stop_after_s: float) -> None:
        self.time_s = 1000.0
        self.stop_at_s = self.time_s + stop_after_s
        self.waits = 0

    def __call__(self) -> float:
        return self.time_s

    def now(self) -> dt.datetime:
        return START + dt.timedelta(seconds=self.time_s - 1000.0)

    def wait(self, seconds: float) -> bool:
        self.waits += 1
        self.time_s += seconds
        return self.time_s >= self.stop_at_s


def writer(folder: Path, clock: Clock) -> demo.DemoWriter:
    return demo.DemoWriter(str(folder / "demo"), clock=clock, now=clock.now)


def lines_of(folder: Path, name: str) -> list[str]:
    return (folder / "demo" / name).read_text().splitlines()


def test_the_files_are_there_before_anybody_looks_for_them(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    demo.DemoWriter(str(folder)).begin()
    assert {path.name for path in folder.iterdir()} == set(demo.DEMO_SOURCES.values())
    (folder / demo.AUTH).write_text("a line\n")
    demo.DemoWriter(str(folder)).begin()
    assert (folder / demo.AUTH).read_text() == "a line\n"


def test_the_files_hold_the_story(tmp_path: Path) -> None:
    clock = Clock(stop_after_s=30.0)

    writer(tmp_path, clock).run(clock.wait)

    for name in demo.DEMO_SOURCES.values():
        assert lines_of(tmp_path, name) == [line for at_s, file_name, line in told(29.999) if file_name == name]


def test_a_second_run_goes_on_in_the_same_files(tmp_path: Path) -> None:
    for _ in range(2):
        clock = Clock(stop_after_s=10.0)
        writer(tmp_path, clock).run(clock.wait)

    assert len(lines_of(tmp_path, demo.WEB)) == 2 * len([1 for _, name, _ in told(9.999) if name == demo.WEB])


def test_files_turn_over_so_that_the_disk_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "ROTATE_BYTES", 2_000)
    clock = Clock(stop_after_s=120.0)

    writer(tmp_path, clock).run(clock.wait)

    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert names <= {*demo.DEMO_SOURCES.values(), *(f"{name}.1" for name in demo.DEMO_SOURCES.values())}
    assert f"{demo.AUTH}.1" in names
    assert all(path.stat().st_size < 2_500 for path in (tmp_path / "demo").iterdir())


def test_after_a_sleep_the_story_starts_anew_instead_of_rushing(tmp_path: Path) -> None:
    clock = Clock(stop_after_s=3700.0)
    slept = itertools.count()

    def wait(seconds: float) -> bool:
        if next(slept) == 40:
            clock.time_s += 3600.0
        return clock.wait(seconds)

    writer(tmp_path, clock).run(wait)

    lines = lines_of(tmp_path, demo.AUTH)
    times = [dt.datetime.fromisoformat(line.split(" ")[0]) for line in lines]
    gaps = [(then - before).total_seconds() for before, then in itertools.pairwise(times)]
    assert len([gap for gap in gaps if gap > 3000]) == 1
    assert len(lines) < len(told(200)), "the hour asleep was not made up for"
