"""An incident is told once, with everything that made it, whenever we are killed."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from builders import NOW_US, entry
from test_detection import GUESSING, ROOT, RULES, accepted, failed

from threatlens.broadcaster import EventBroadcaster
from threatlens.channels import Delivery
from threatlens.config_values import MonitoringConfig, NotificationRule, WebhookChannel
from threatlens.detection import Decisions, Detector
from threatlens.detectors import DetectionEngine, load_rules, load_tables
from threatlens.ingestion_queue import RealtimeIngestionQueue
from threatlens.notices import of_incident
from threatlens.notifications import NotificationManager
from threatlens.processor import QueueProcessor
from threatlens.sources.base import LogSourceConfig
from threatlens.store_accounts import Doer
from threatlens.store_mutes import Mute

ANNA = Doer("user anna", "192.0.2.1")


class Killed(BaseException):
    """What SIGKILL does, where it can be seen."""


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    path.write_text(RULES.replace(", user.name: root", ""))  # anybody's
    return load_rules([str(path)])


class Bench:
    """Lines become incidents and messages; kill() leaves the database, and nothing else."""

    def __init__(self, store, rules) -> None:
        self.store, self.rules, self.now = store, rules, NOW_US
        self.got: list[object] = []
        self.may_die = lambda: None
        self.decisions = Decisions({}, (), ())
        self.config = MonitoringConfig(
            channels=(WebhookChannel("hook", "https://example.org/", max_per_minute=600),),
            notification_rules=(NotificationRule("all", ("hook",), min_severity=5),),
        )
        self.source_id = store.put_api_source("auth", "auto")
        self.stream_id = store.create(self.source_id, path=b"/x", device=1, inode=1, compressed=False, position=0)
        self.kill()

    def kill(self) -> None:
        self.manager = NotificationManager(
            self.store, lambda: self.config, None, EventBroadcaster(), clock_us=lambda: self.now, jitter=lambda: 0.5,
            build=lambda channel, _client: self._receiver(channel.name),
        )  # fmt: skip
        detector = Detector(self.store, DetectionEngine(self.rules, load_tables()), wall=lambda: NOW_US / 1e6)
        detector.decide(self.decisions)
        self.processor = QueueProcessor(
            RealtimeIngestionQueue(), self.store, EventBroadcaster(), on_refused=lambda _: None, detector=detector,
            notifications=self.manager, wall=lambda: NOW_US / 1e6,
        )  # fmt: skip
        self.processor.set_sources([LogSourceConfig(self.source_id, "auth", "/x")], {})

    def _receiver(self, channel: str):
        bench = self

        class Receiver:
            name = channel

            def send(self, message, room):
                bench.may_die()
                bench.got.append(message)
                bench.may_die()
                return Delivery(("< 200",))

        return Receiver()

    def read(self, *lines: bytes) -> None:
        start = self.store.position(self.stream_id)
        content = b"".join(lines)
        self.processor.process(
            [entry(content, stream_id=self.stream_id, source_id=self.source_id, start=start)], lambda _: False
        )

    def send(self) -> None:
        while any(self.manager.deliver(name) for name in self.manager.channels_with_work()):
            pass


@pytest.fixture
def bench(store, rules, monkeypatch) -> Bench:
    found = Bench(store, rules)
    monkeypatch.setattr("threatlens.store.now_us", lambda: found.now)
    return found


def test_an_incident_speaks_for_the_events_that_made_it(bench):
    bench.read(*(failed(second) for second in range(6)))
    bench.send()

    (message,) = bench.got
    (incident,) = bench.store.incidents(statuses=("open",), limit=10)
    assert message.kind == "incident"
    assert message.thread == f"incident-{incident.id}"
    assert message.title.startswith("203.0.113.9 guessed passwords")
    facts = dict(message.facts)
    assert (facts["from"], facts["found by"], facts["log source"]) == ("203.0.113.9", "Password guessing", "auth")
    assert message.data["incident_id"] == incident.id
    assert b"Failed password".decode() in message.samples[0]


def test_what_goes_on_is_told_after_the_cooldown_and_a_success_at_once(bench):
    bench.read(*(failed(second) for second in range(6)))
    bench.send()
    bench.now += 60_000_000
    bench.read(accepted(10))
    bench.send()

    assert len(bench.got) == 2
    assert bench.got[1].severity >= bench.got[0].severity
    assert bench.got[1].lead.startswith("It succeeded")
    assert "usermod --lock" in bench.got[1].todo[0], "and what to do about it"
    assert len({message.thread for message in bench.got}) == 1


@pytest.mark.parametrize(
    ("status", "line", "told"),
    [
        ("acknowledged", failed, 0),
        ("acknowledged", accepted, 1),
        ("false_positive", failed, 0),
        ("open", failed, 1),
    ],
)
def test_who_knows_of_it_is_told_again_only_when_something_succeeds(bench, status, line, told):
    bench.read(*(failed(second) for second in range(6)))
    bench.send()
    (incident,) = bench.store.incidents(statuses=("open",), limit=10)
    if status != "open":
        bench.store.change_incident(incident.id, incident.version, ANNA, kind=status, status=status)
    bench.now += 3_600_000_000
    bench.read(*(line(60 + second) for second in range(60 if line is failed else 1)))
    bench.send()

    assert len(bench.got) - 1 == told


def test_what_was_muted_tells_nothing_by_its_events_either(bench):
    mute = Mute(1, ROOT, "", "", "", "", "known", "anna", 0, NOW_US, NOW_US + 10**12, 0, 0)
    bench.decisions = Decisions({}, (mute,), ())
    bench.kill()
    bench.read(accepted(1))
    bench.send()

    assert bench.got == []


def test_a_rule_may_ask_for_a_detection_rule(bench):
    bench.config = MonitoringConfig(
        channels=bench.config.channels,
        notification_rules=(NotificationRule("guessing", ("hook",), rules=(GUESSING,)),),
    )
    bench.read(accepted(1, "203.0.113.77"))
    bench.send()
    assert bench.got == []
    bench.read(*(failed(second) for second in range(6)))
    bench.send()
    assert [message.kind for message in bench.got] == ["incident"]


def test_it_can_be_said_who_would_get_an_incident(bench):
    bench.read(*(failed(second) for second in range(6)))
    (listed,) = bench.store.incidents(statuses=("open",), limit=10)
    incident = bench.store.incident(listed.id)

    assert bench.manager.recipients(of_incident(incident, "authentication", "auth", timestamp_us=NOW_US)) == [
        ("all", "hook", "")
    ]


@pytest.mark.parametrize("seed", range(3))
def test_500_incidents_are_each_announced_under_one_key_through_30_kills(bench, monkeypatch, seed):
    chance = random.Random(seed)
    addresses = [f"203.0.{number // 250}.{number % 250}" for number in range(500)]
    kills = 0

    def may_die() -> None:
        nonlocal kills
        if kills < 30 and chance.random() < 0.03:
            kills += 1
            raise Killed

    for place in ("put_payload", "mark_sent"):
        method = getattr(bench.store, place)

        def dying(*args, _method=method, **more):
            may_die()
            result = _method(*args, **more)
            may_die()
            return result

        monkeypatch.setattr(bench.store, place, dying)

    from threatlens import store as store_module

    write = store_module.write_occurrences

    def write_and_die(*args):
        may_die()
        write(*args)
        may_die()

    monkeypatch.setattr(store_module, "write_occurrences", write_and_die)
    bench.may_die = may_die
    done = 0
    while done < len(addresses) or bench.manager.channels_with_work():
        bench.now += 61_000_000
        try:
            if done < len(addresses):
                bench.read(
                    *(accepted(number % 60, addresses[number], f"u{number}") for number in range(done, done + 5))
                )
                done += 5
            bench.send()
        except Killed:
            bench.kill()
            stored = bench.store.position(bench.stream_id)
            total = 0
            for done in range(0, len(addresses) + 1, 5):
                if total == stored:
                    break
                total += sum(
                    len(accepted(number % 60, addresses[number], f"u{number}")) for number in range(done, done + 5)
                )

    assert kills == 30
    keys: dict[str, set[str]] = {}
    for message in bench.got:
        keys.setdefault(dict(message.facts)["from"], set()).add(message.key)
    assert set(keys) == set(addresses)
    assert {len(of_one) for of_one in keys.values()} == {1}
    repeated = [n for n in Counter(message.key for message in bench.got).values() if n > 1]
    assert len(repeated) <= 30  # killed between the sending and its note; receivers know the key
    history = bench.store.notifications(limit=1_000)
    assert len(history) == 500
    assert {row.status for row in history} == {"sent"}
