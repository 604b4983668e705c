"""What rules find is stored with the lines it comes from, exactly once, whatever happens on the way."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from builders import GUESSING_RULES, NOW_US, entry

from threatlens.analyzers.novelty import Novelty
from threatlens.broadcaster import EventBroadcaster, Place
from threatlens.clock import now_us
from threatlens.detection import Decisions, Detector, fits
from threatlens.detectors import DetectionEngine, RuleSet, load_rules, load_tables
from threatlens.errors import StoreUnavailable
from threatlens.event import Decoded, EventFilter
from threatlens.ingestion_queue import RealtimeIngestionQueue
from threatlens.processor import QueueProcessor
from threatlens.sources.base import LogSourceConfig
from threatlens.store_accounts import Doer
from threatlens.store_detections import RuleException
from threatlens.store_mutes import Mute

RULES = (
    GUESSING_RULES
    + """---
title: Root logged in
id: 00000000-0000-4000-8000-000000000003
level: high
tags: [attack.initial-access, attack.t1078]
logsource: {product: linux, service: sshd}
detection:
  login: {event.action: ssh_login, event.outcome: success, user.name: root}
  condition: login
"""
)
GUESSING, ROOT = "00000000-0000-4000-8000-000000000002", "00000000-0000-4000-8000-000000000003"


def failed(second: int, ip: str = "203.0.113.9") -> bytes:
    return (
        f"2026-11-23T06:{second // 60:02}:{second % 60:02}+00:00 web1 sshd[42]: "
        f"Failed password for root from {ip} port 52144 ssh2\n"
    ).encode()


def accepted(second: int, ip: str = "203.0.113.9", user: str = "root") -> bytes:
    return failed(second, ip).replace(b"Failed", b"Accepted").replace(b"root", user.encode())


@pytest.fixture(scope="session")
def rules(tmp_path_factory) -> RuleSet:
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    path.write_text(RULES)
    loaded = load_rules([str(path)])
    assert not loaded.problems
    return loaded


class Bench:
    """A processor with rules over a real store. kill() is what SIGKILL leaves: the database, and nothing else."""

    def __init__(self, store, rules):
        self.store = store
        self.rules = rules
        self.source_id = store.put_api_source("auth", "auto")
        self.stream_id = store.create(self.source_id, path=b"/x", device=1, inode=1, compressed=False, position=0)
        self.decisions = Decisions({}, (), ())
        self.kill()

    def kill(self):
        self.ring = EventBroadcaster()
        self.detector = Detector(self.store, DetectionEngine(self.rules, load_tables()))
        self.detector.decide(self.decisions)
        self.refused = []
        self.processor = QueueProcessor(
            RealtimeIngestionQueue(),
            self.store,
            self.ring,
            on_refused=self.refused.append,
            detector=self.detector,
            wall=lambda: NOW_US / 1e6,
        )
        self.processor.set_sources([LogSourceConfig(self.source_id, "auth", "/x")], {})

    def decide(self, *args):
        self.decisions = Decisions(*args)
        self.detector.decide(self.decisions)

    def entry(self, content: bytes):
        start = self.store.position(self.stream_id)
        return entry(content, stream_id=self.stream_id, source_id=self.source_id, start=start)

    def process(self, *lines: bytes):
        return self.processor.process([self.entry(b"".join(lines))], lambda _wait_s: False)

    def alerts(self):
        """Everything that is told, without the numbers that a restart may change."""
        told = sorted(
            (d.rule_id, d.timestamp_us, d.first_us, d.n, d.source_ip, d.event_id, d.incident_id, d.suppressed)
            for d in self.store.detections(limit=10_000)
        )
        incidents = []
        for one in self.store.incidents(limit=1_000):
            whole = self.store.incident(one.id)
            members = sorted(
                (m.rule_id, m.outcome, m.n, m.events, m.first_us, m.last_us) for m in whole.members.values()
            )
            incidents.append(
                (one.id, one.title, one.severity, one.outcome, one.n, members, sorted(whole.entities.items()))
            )
        return told, incidents


@pytest.fixture
def bench(store, rules) -> Bench:
    return Bench(store, rules)


def test_matches_are_stored_with_their_events_and_raise_their_severity(bench):
    bench.process(*map(failed, range(6)), accepted(10))
    events = bench.store.page(EventFilter(), after=0)
    assert [event.severity for event in events] == [4, 4, 4, 4, 7, 4, 9]
    assert [d["rule.id"] for d in events[6].detections] == [ROOT]
    assert [d["rule.id"] for d in events[0].detections] == [GUESSING], "the first event of a count is linked too"
    (guessing,) = bench.store.detections(rule_id=GUESSING)
    assert (guessing.n, guessing.event_id, guessing.source_ip) == (5, 5, "203.0.113.9")
    announced = bench.ring.wait(Place(0, 0), 0).events
    assert [event.as_json() for event in announced] == [event.as_json() for event in events]


def test_the_counters_of_the_list_know_the_raised_severity(bench):
    bench.process(accepted(10))
    assert bench.store.counts(EventFilter()).by_severity == {9: 1}


def test_programs_are_told_of_detections_and_incidents(bench):
    bench.process(accepted(10))
    told = [(update.event_type, update.priority) for update in bench.ring.wait(Place(0, 0), 0).updates]
    assert told == [("detection", 8), ("incident", 9)]


def test_an_attack_and_its_success_are_one_incident(bench):
    bench.process(*map(failed, range(6)))
    (attempt,) = bench.store.incidents()
    assert (attempt.outcome, attempt.severity, attempt.title) == ("attempt", 7, "guessed passwords")
    bench.process(accepted(10))
    (incident,) = bench.store.incidents()
    assert (incident.id, incident.outcome, incident.severity) == (attempt.id, "success", 9)
    assert incident.title == "guessed passwords and got in as root"
    assert bench.store.incident(incident.id).entities[("user.name", "root")][1] == 1


LINES = [
    accepted(second, f"203.0.113.{second % 3}") if second % 17 == 16 else failed(second, f"203.0.113.{second % 3}")
    for second in range(200)
]


def undisturbed(store, rules):
    bench = Bench(store, rules)
    for at in range(0, len(LINES), 7):
        bench.process(*LINES[at : at + 7])
    return bench.alerts()


class Killed(BaseException):
    """The process is gone."""


def test_alerts_with_thirty_kills_equal_alerts_without(settings, store, rules, tmp_path, monkeypatch):
    from threatlens.settings import load_settings, prepare_data_folder
    from threatlens.store import EventStore
    from threatlens.store_database import connect
    from threatlens.store_schema import migrate

    calm = load_settings({"THREATLENS_DATA": str(tmp_path / "calm")})
    prepare_data_folder(calm)
    migrate(calm)
    expected = undisturbed(EventStore(connect(calm.database_url)), rules)
    assert len(expected[0]) > 20

    rng = random.Random(7)
    bench = Bench(store, rules)
    kills = 0
    places = itertools.cycle(("look", "write", "committed", "after"))
    at = 0
    while at < len(LINES):
        batch = LINES[at : at + 7]
        if kills < 30 and rng.random() < 0.8:
            kill_at = next(places)
            real = getattr(bench.detector, kill_at, None)

            def kill(*args, real=real, kill_at=kill_at):
                if kill_at != "after":
                    real(*args)  # the deed is done, then the process dies
                raise Killed

            where = bench.detector if kill_at != "after" else bench.processor
            monkeypatch.setattr(where, kill_at if kill_at != "after" else "_announce", kill)
            before = store.position(bench.stream_id)
            with pytest.raises(Killed):
                bench.process(*batch)
            kills += 1
            bench.kill()
            stored = store.position(bench.stream_id) > before
            assert stored == (kill_at in ("committed", "after")), "all of a batch or nothing"
            at += len(batch) if stored else 0
        else:
            bench.process(*batch)
            at += len(batch)
    assert kills == 30
    assert bench.alerts() == expected


def test_a_batch_that_is_given_up_leaves_no_count_behind(bench, monkeypatch):
    bench.process(*map(failed, range(4)))
    commit, left = bench.store.commit, iter(range(3))

    def moody(*args, **kwargs):
        if next(left, None) is not None:
            raise StoreUnavailable("locked")
        return commit(*args, **kwargs)

    monkeypatch.setattr(bench.store, "commit", moody)
    stops = iter([False, False, True])
    assert bench.processor.process([bench.entry(failed(5))], lambda _wait_s: next(stops, True)) is None
    monkeypatch.setattr(bench.store, "commit", commit)
    bench.process(failed(400, "203.0.113.10"))
    assert not bench.store.detections(), "four failures and one that was never stored are not five"


def test_a_batch_that_is_tried_again_counts_once(bench, monkeypatch):
    commit, left = bench.store.commit, iter(range(3))

    def moody(*args, **kwargs):
        if next(left, None) is not None:
            raise StoreUnavailable("locked")
        return commit(*args, **kwargs)

    monkeypatch.setattr(bench.store, "commit", moody)
    bench.process(*map(failed, range(4)))
    assert not bench.store.detections()
    bench.process(failed(5))
    assert len(bench.store.detections()) == 1


def test_a_batch_that_is_not_ours_leaves_no_count_behind(bench):
    bench.process(*map(failed, range(4)))
    stale = entry(failed(1), stream_id=bench.stream_id, source_id=bench.source_id, start=0)
    assert bench.processor.process([stale], lambda _wait_s: False) is None
    bench.process(failed(400))
    assert not bench.store.detections()


def test_rules_that_fail_cost_no_line(bench, monkeypatch, caplog):
    def fail(_events):
        raise ZeroDivisionError

    monkeypatch.setattr(bench.detector._engine, "detect", fail)
    assert bench.process(accepted(1)).events == 1
    assert bench.detector.failures == 1
    assert "stored without them" in caplog.text


def test_other_rules_are_taken_over_and_counts_go_on(bench, rules):
    bench.process(*map(failed, range(4)))
    bench.detector.offer(DetectionEngine(rules, load_tables()))
    bench.process(failed(5))
    assert len(bench.store.detections(rule_id=GUESSING)) == 1


def mute(**scope) -> Mute:
    values = {"rule_id": "", "source_ip": "", "user_name": "", "source": "", "host_name": "", **scope}
    return Mute(1, **values, reason="", author="anna", incident_id=0, created_at=0, expires_us=now_us() * 2,
                ended_us=0, hits=0)  # fmt: skip


@pytest.mark.parametrize(
    "scope",
    [
        {"rule_id": ROOT},
        {"source_ip": "203.0.113.0/24"},
        {"user_name": "root"},
        {"source": "auth"},
        {"host_name": "web1"},
    ],
)
def test_what_is_muted_is_stored_and_raises_nothing(bench, scope):
    kept = mute(**scope)
    mute_id = bench.store.add_mute(kept, Doer("user anna"))
    bench.decide({}, [kept], ())
    bench.process(accepted(1))
    (event,) = bench.store.page(EventFilter(), after=0)
    assert event.severity == 2
    (detection,) = bench.store.detections()
    assert (detection.suppressed, detection.incident_id) == (f"mute:{mute_id}", 0)
    assert not bench.store.incidents()
    assert bench.store.mutes()[0].hits == 1


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"rule_id": ROOT, "user_name": "anna"},
        {"source_ip": "198.51.100.0/24"},
        {"source": "web"},
        {"source_ip": "junk"},
    ],
)
def test_a_mute_hides_only_what_all_of_its_scope_fits(bench, scope):
    bench.decide({}, [mute(**scope)], ())
    bench.process(accepted(1))
    assert len(bench.store.incidents()) == 1


def waiting(bench, condition: str, n: int = 0, known: tuple[str, ...] = (), **scope) -> int:
    """A mute that waits, in force; its id. It was made from an incident of the same user without an address."""
    kept = replace(mute(**scope), condition=condition, condition_n=n, known=known)
    mute_id = bench.store.add_mute(kept, Doer("user anna"))
    bench.decide({}, bench.store.mutes(now=now_us()), ())
    return mute_id


def quiet(bench) -> list[str]:
    return [one.suppressed for one in reversed(bench.store.detections(limit=99))]


def ended(bench, mute_id: int) -> str:
    return next(one.ended_by for one in bench.store.mutes() if one.id == mute_id and one.ended_us)


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "a batch each"])
def test_of_so_many_further_matches_the_last_ends_the_mute_and_is_told(bench, together):
    mute_id = waiting(bench, "count", 3, rule_id=ROOT)
    lines = [accepted(second) for second in (1, 2, 3, 4)]
    for batch in [lines] if together else [[line] for line in lines]:
        bench.process(*batch)
    assert quiet(bench) == [f"mute:{mute_id}"] * 2 + [""] * 2
    assert ended(bench, mute_id) == "It happened 3 more times."
    assert next(one.hits for one in bench.store.mutes()) == 2
    assert [event.severity for event in bench.store.page(EventFilter(), after=0)][:3] == [2, 2, 9]
    assert bench.store.counts(EventFilter()).by_severity == {2: 2, 9: 2}
    assert [entry.action for entry in bench.store.audit.page(action="mute.ended")] == ["mute.ended"]


@pytest.mark.parametrize("line", [accepted(2, ip="198.51.100.7"), accepted(2, ip="203.0.113.10")])
def test_a_mute_that_waits_for_somebody_else_ends_with_them(bench, line):
    mute_id = waiting(bench, "other", known=("source.ip=203.0.113.9", "user.name=root"), rule_id=ROOT)
    bench.process(accepted(1), line, accepted(3))
    assert quiet(bench) == [f"mute:{mute_id}", "", ""]
    assert ended(bench, mute_id).startswith("Another address came: ")


def test_a_mute_that_waits_for_something_worse_ends_with_it_and_with_a_success(bench):
    success = waiting(bench, "severity", 8, source_ip="203.0.113.0/24")
    bench.process(*map(failed, range(6)), accepted(10))
    assert quiet(bench) == [f"mute:{success}", ""], "both are of severity 8, and the login is a success"
    assert ended(bench, success) == "Something succeeded: Root logged in."
    worse = waiting(bench, "severity", 7, ("success",), source_ip="203.0.113.0/24")
    bench.process(accepted(20))
    assert ended(bench, worse) == "Something more severe came: Root logged in."


def test_a_match_that_ends_one_mute_may_be_kept_quiet_by_another(bench):
    first = waiting(bench, "severity", 10, ("success",), user_name="root")
    second = waiting(bench, "count", 1, rule_id=ROOT)
    bench.process(accepted(1))
    assert quiet(bench) == [f"mute:{first}"]
    assert ended(bench, second)


def test_what_was_given_up_ends_no_mute(bench, monkeypatch):
    mute_id = waiting(bench, "count", 1, rule_id=ROOT)
    write = bench.detector.write

    def fail(*args):
        write(*args)
        monkeypatch.setattr(bench.detector, "write", write)
        raise StoreUnavailable("disk full", reason="full")

    monkeypatch.setattr(bench.detector, "write", fail)
    bench.process(accepted(1))
    assert quiet(bench) == [""]
    assert len(bench.store.audit.page(action="mute.ended")) == 1, f"mute {mute_id} ended once"


def test_a_mute_that_a_person_ends_keeps_nothing_quiet_that_is_stored_later(bench):
    mute_id = waiting(bench, "severity", 10, ("success",), rule_id=ROOT)
    bench.store.end_mutes([mute_id], Doer("user anna"))
    bench.process(accepted(1))
    assert quiet(bench) == [""]


def test_a_mute_ends_by_itself(bench):
    bench.decide({}, [mute(rule_id=ROOT)._replace(expires_us=1) if hasattr(Mute, "_replace") else
                      Mute(1, ROOT, "", "", "", "", "", "anna", 0, 0, 1, 0, 0)], ())  # fmt: skip
    bench.process(accepted(1))
    assert len(bench.store.incidents()) == 1


def test_a_rule_that_is_observed_counts_and_raises_nothing(bench):
    bench.decide({ROOT: "observe"}, (), ())
    bench.process(accepted(1))
    assert [d.suppressed for d in bench.store.detections()] == ["observe"]
    assert not bench.store.incidents()
    assert bench.store.rule_numbers(0)[ROOT].hits == 1


def test_an_exception_names_the_events_that_a_rule_leaves_out(bench):
    bench.decide({}, (), [RuleException(3, ROOT, {"source.ip": "203.0.113.*"}, "", "anna", 0)])
    bench.process(accepted(1), accepted(2, "198.51.100.7"))
    assert [d.suppressed for d in bench.store.detections()] == ["", "exception:3"]


@pytest.mark.parametrize(
    ("conditions", "wanted"),
    [
        ({"user.name": "ROOT"}, True),
        ({"user.name": "r??t", "source.ip": "203.*"}, True),
        ({"user.name": "root", "source.ip": "198.*"}, False),
        ({"group": "wheel"}, True),
        ({"absent": "*"}, False),
        ({"message": "*[x]*"}, True),
        ({}, False),
    ],
)
def test_conditions_fit_fields(conditions, wanted):
    fields = {"user.name": "root", "source.ip": "203.0.113.9", "group": ["adm", "wheel"]}
    assert fits(conditions, Decoded("sshd", None, "a [x] b", fields)) is wanted


# -- what was never seen before

DAY = 86_400_000_000


def login(user: str = "anna", host: str = "web1", ip: str = "192.0.2.5") -> Decoded:
    return Decoded(
        "sshd", None, "", {"event.category": "authentication", "event.outcome": "success", "user.name": user,
                           "host.name": host, "source.ip": ip},
    )  # fmt: skip


def learned(novelty: Novelty, days: int = 30) -> int:
    at = NOW_US + 9 * 3600 * 1_000_000
    for day in range(days):
        assert not novelty.look(login(), at + day * DAY, 0, "auth", 0), "nothing is new while it is learned"
    return at + days * DAY


def test_new_users_networks_and_hours_are_told_once():
    novelty = Novelty()
    at = learned(novelty)
    assert [m.rule_name for m in novelty.look(login(user="eve"), at, 0, "auth", 0)] == [
        "First login of a user on a host"
    ]
    assert [m.rule_name for m in novelty.look(login(ip="198.51.100.7"), at, 0, "auth", 0)] == [
        "Login from a new network"
    ]
    night = at + 14 * 3600 * 1_000_000
    assert [m.rule_name for m in novelty.look(login(), night, 0, "auth", 0)] == ["Login at an unusual hour"]
    for again in (login(user="eve"), login(ip="198.51.100.9"), login()):
        assert not novelty.look(again, night, 0, "auth", 0)


def test_a_country_is_new_where_files_tell_of_countries():
    def from_country(code: str) -> Decoded:
        decoded = login()
        decoded.fields["source.geo.country_iso_code"] = code
        return decoded

    novelty = Novelty()
    at = NOW_US
    for day in range(10):
        assert not novelty.look(from_country("SE"), at + day * DAY, 0, "auth", 0)
    (new,) = novelty.look(from_country("NZ"), at + 10 * DAY, 0, "auth", 0)
    assert (new.rule_id, new.rule_name) == ("threatlens-first-country-of-user", "Login from a new country")
    assert not novelty.look(from_country("NZ"), at + 11 * DAY, 0, "auth", 0)


def test_a_failed_login_teaches_nothing():
    novelty = Novelty()
    at = learned(novelty)
    failure = login(user="eve")
    failure.fields["event.outcome"] = "failure"
    assert not novelty.look(failure, at, 0, "auth", 0)
    assert novelty.look(login(user="eve"), at, 0, "auth", 0)


def test_what_is_learned_survives_and_is_bounded():
    novelty = Novelty(max_known=10)
    at = learned(novelty)
    for number in range(1_000):
        novelty.look(login(user=f"u{number}"), at + number, 0, "auth", 0)
    assert len(novelty.changes()) <= 10
    novelty = Novelty()
    at = learned(novelty)
    again = Novelty()
    again.restore(novelty.changes())
    assert [m.kind for m in again.look(login(user="eve"), at, 0, "auth", 0)] == ["novelty"]
