"""What is usual for a source, and what is raised when it is not: detection that is lost, sources that fall silent."""

from __future__ import annotations

import dataclasses
import itertools
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from builders import NOW_US
from test_processor import Bench

from threatlens.analyzers.attack import DETECTION_LOST, SOURCE_SILENT
from threatlens.decoders import DECODERS, SourceDecoder, sshd
from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.drafting import member_of, parse
from threatlens.decoders.source import Registry
from threatlens.event import EventFilter, SourceStatus
from threatlens.habits import MISSING_MINUTES, Rhythm, SourceHabits
from threatlens.habits_keeper import HabitKeeper
from threatlens.own_alerts import OwnAlert, OwnAlerts
from threatlens.processor import QueueProcessor
from threatlens.store_accounts import Doer
from threatlens.store_notifications import Occurrence

SOMEBODY = Doer("lena", "192.0.2.7", "r-1")
HOUR, DAY, WEEK = 3_600, 86_400, 7 * 86_400
MONDAY = 1_795_392_000.0  # 2026-11-23, 00:00 UTC


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = NOW_US / 1e6

    def __call__(self) -> float:
        return self.now


class Registered:
    """Own decoders, as the processor uses them."""

    def __init__(self, registry: Registry) -> None:
        self.of = registry

    def registry(self) -> Registry:
        return self.of


class Told:
    """A notification manager that tells everything to one channel."""

    def plan(self, happenings: Any) -> list[Occurrence]:
        return [
            Occurrence(
                "ops",
                "all",
                each.kind,
                each.thread,
                each.severity,
                each.title,
                NOW_US,
                NOW_US,
                incident_id=each.incident_id,
            )
            for each in happenings
        ]


class Watched(Bench):
    """A processor that learns, with the decoders of `registry`."""

    def __init__(self, store: Any, registry: Registry) -> None:
        super().__init__(store)
        self.hands = Hands()
        self.keeper = HabitKeeper(
            store, OwnAlerts(store, Told(), self.ring, clock_us=lambda: int(self.hands.now * 1e6)),  # type: ignore[arg-type]
            wall=self.hands, monotonic=self.hands,
        )  # fmt: skip
        self.registered = Registered(registry)
        self.processor = QueueProcessor(
            self.queue, store, self.ring, on_refused=self.refused.append, habits=self.keeper,
            own_decoders=self.registered, wall=self.hands,  # type: ignore[arg-type]
        )  # fmt: skip
        self.processor.set_sources(list(self._configs()), {})

    def _configs(self) -> Iterator[Any]:
        from threatlens.sources.base import LogSourceConfig

        yield LogSourceConfig(self.source_id, "auth", "/x")

    def look(self, **changes: Any) -> None:
        self.keeper.work([SourceStatus(self.source_id, "auth", "flowing", **changes)], storing=True)

    def feed(self, lines: Iterator[str], n: int) -> None:
        self.process(*[f"{line}\n".encode() for line in itertools.islice(lines, n)])
        self.look()

    def incidents(self) -> list[Any]:
        return [self.store.incident(each.id) for each in self.store.incidents(limit=10)]


def before_openssh_9_8() -> Registry:
    """The decoders as they were when every line of OpenSSH came from "sshd"."""
    old = dataclasses.replace(sshd.DECODER, programs=("sshd",))
    return Registry([old if member is sshd.DECODER else member for member in DECODERS])


def auth_log(program: str = "sshd", *, failed: str = "Failed password for {} from {} port {} ssh2") -> Iterator[str]:
    """The lines of a machine that is guessed at, with logins, sudo and cron between."""
    dice = random.Random(program)
    for number in itertools.count():
        head = f"Nov 23 {number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02} web1"
        sent = f"{head} {program}[{4000 + number % 900}]:"
        address, port = f"203.0.113.{dice.randrange(1, 250)}", dice.randrange(32_000, 60_000)
        kind = dice.choices(("failed", "closed", "invalid", "in", "cron"), (40, 25, 15, 8, 12))[0]
        if kind == "failed":
            yield f"{sent} {failed.format(dice.choice(('root', 'admin')), address, port)}"
        elif kind == "closed":
            yield f"{sent} Connection closed by authenticating user root {address} port {port} [preauth]"
        elif kind == "invalid":
            yield f"{sent} Invalid user test from {address} port {port}"
        elif kind == "in":
            yield f"{sent} Accepted publickey for alice from 192.0.2.21 port {port} ssh2: ED25519 SHA256:abc"
        else:
            yield f"{head} CRON[{number}]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)"


@pytest.fixture
def bench(store: Any) -> Watched:
    return Watched(store, Registry(DECODERS))


def test_a_program_that_is_renamed_as_openssh_9_8_did_opens_an_incident_within_a_minute(store: Any) -> None:
    bench = Watched(store, before_openssh_9_8())
    bench.feed(auth_log(), 600)
    assert not bench.incidents()

    for lines in [auth_log("sshd-session")]:
        for _ in range(6):  # a minute of two lines a second, with a look every ten seconds
            bench.feed(lines, 20)
            bench.hands.now += 10
    (incident,) = bench.incidents()

    assert (incident.subject, incident.severity) == (("log.source", "auth"), 8), "nobody attempted anything"
    assert list(incident.members) == [(DETECTION_LOST, "attempt")]
    note = store.incident_notes(incident.id)[0].text
    assert "ssh_login failure" in note
    assert "Failed password for <*> from <*> port <*>" in note
    (lost,) = store.baselines()[bench.source_id]["lost"].values()
    draft = parse(lost["draft"])
    assert draft.program == "sshd-session"
    assert next(iter(bench.keeper.health())).state == "degraded"
    with store.database.reading() as connection:
        told = connection.exec_driver_sql("SELECT channel, incident_id, title FROM notification_history").all()
    assert told == [("ops", incident.id, "auth is not understood any more")]


def test_the_drafted_decoder_reads_the_new_lines_and_the_incident_is_told_so(bench: Watched, store: Any) -> None:
    bench.feed(auth_log(), 600)
    changed = auth_log(failed="Denied {} (method password, peer {}, sport {})")
    for _ in range(6):
        bench.feed(changed, 20)
    (incident,) = bench.incidents()
    draft = parse(next(iter(store.baselines()[bench.source_id]["lost"].values()))["draft"])

    bench.registered.of = Registry([*DECODERS, member_of(draft)])
    bench.feed(changed, 20)

    event = next(each for each in store.page(EventFilter(), limit=50) if each.format == draft.name)
    fields = SourceDecoder(registry=bench.registered.of).decode(event.raw, bench.hands.now).fields
    assert (fields["event.outcome"], fields["event.action"]) == ("failure", "ssh_login")
    assert str(fields["source.ip"]).startswith("203.0.113.")
    assert "ssh_login failure is read again" in store.incident_notes(incident.id)[-1].text
    assert next(iter(bench.keeper.health())).state == "ok"
    assert len(bench.incidents()) == 1


@pytest.mark.parametrize("refused", [2, 5])
def test_what_is_drafted_reads_what_was_lost_and_not_its_opposite(bench: Watched, store: Any, refused: int) -> None:
    """Whichever of them came more often."""
    bench.feed(auth_log(), 600)
    told = {
        True: "auth bad: password user={} peer={}:{} proto=ssh2",
        False: "auth ok: publickey user={} peer={}:{} p=2",
    }
    lines = [
        "Nov 23 00:11:00 web1 sshd-auth[71]: "
        + told[n % 7 < refused].format(("root", "anna", "bob")[n % 3], f"203.0.113.{n}", 40_000 + n)
        for n in range(120)
    ]
    for _ in range(6):
        bench.feed(iter(lines), 20)
        lines = lines[20:]
    (lost,) = [each for each in store.baselines()[bench.source_id]["lost"].values() if "failure" in each["kind"]]
    draft = parse(lost["draft"])
    member = member_of(draft)
    assert isinstance(member, MessageDecoder)
    fields: dict[str, Any] = {}
    assert member.read("auth bad: password user=carl peer=203.0.113.9:41000 proto=ssh2", fields)
    assert (fields["event.outcome"], fields["user.name"], fields["source.ip"]) == ("failure", "carl", "203.0.113.9")
    assert not member.read("auth ok: publickey user=alice peer=203.0.113.9:41000 p=2", {})


def test_whole_lines_that_nothing_reads_any_more_are_lost_too(bench: Watched) -> None:
    web = (
        f'203.0.113.{n % 250} - - [23/Nov/2026:06:51:07 +0000] "GET /p/{n} HTTP/1.1" 200 512' for n in itertools.count()
    )
    bench.feed(web, 300)
    for _ in range(6):
        bench.feed((f"#{n}# GET /p/{n} -> two hundred, {n} B" for n in itertools.count()), 20)

    (incident,) = bench.incidents()
    assert "usually something is read from" in bench.store.incident_notes(incident.id)[0].text


@pytest.mark.parametrize("quiet", ["attack over", "backup at night", "odd scanner"])
def test_logins_that_stop_are_no_loss_while_lines_are_understood(bench: Watched, quiet: str) -> None:
    bench.feed(auth_log(), 600)
    head = "Nov 23 23:51:07 web1"
    lines = {
        "attack over": f"{head} sshd[7]: Connection closed by authenticating user root 192.0.2.9 port 1 [preauth]",
        "backup at night": f"{head} nightly-backup[7]: copied another folder of this machine",
        "odd scanner": f"{head} CRON[7]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)",
    }
    odd = f"{head} sshd[9]: banner exchange: Connection from 198.51.100.7 port 4: strange words"
    for number in range(30):
        bench.feed(iter([lines[quiet]] * 10 + ([odd] if quiet == "odd scanner" and number % 4 == 0 else [])), 11)

    assert not bench.incidents()


def test_a_source_that_was_never_understood_loses_nothing(bench: Watched) -> None:
    for _ in range(10):
        bench.feed((f"%% {n} words of nobody's format %%" for n in itertools.count()), 60)
    assert not bench.incidents()


def test_what_somebody_closes_is_as_it_is_to_be(bench: Watched, store: Any) -> None:
    bench.feed(auth_log(), 600)
    changed = auth_log(failed="Denied {} (method password, peer {}, sport {})")
    for _ in range(6):
        bench.feed(changed, 20)
    (incident,) = bench.incidents()

    store.change_incident(
        incident.id, incident.version, SOMEBODY, kind="false_positive", text="", status="false_positive"
    )
    for _ in range(10):
        bench.feed(changed, 60)

    assert next(iter(bench.keeper.health())).state == "ok"
    assert [each.status for each in store.incidents(statuses=(), limit=10)] == ["false_positive"]


def test_what_was_learned_outlives_a_restart_and_so_does_what_is_lost(bench: Watched, store: Any) -> None:
    bench.feed(auth_log(), 600)
    bench.keeper.save()

    again = Watched.__new__(Watched)
    again.__dict__ = {**bench.__dict__}
    again.keeper = HabitKeeper(store, OwnAlerts(store, Told(), bench.ring), wall=bench.hands)  # type: ignore[arg-type]
    again.keeper.load()
    again.processor._habits = again.keeper
    changed = auth_log(failed="Denied {} (method password, peer {}, sport {})")
    for _ in range(6):
        again.feed(changed, 20)
    (incident,) = again.incidents()

    third = HabitKeeper(store, OwnAlerts(store, Told(), bench.ring), wall=bench.hands)  # type: ignore[arg-type]
    third.load()
    again.keeper = again.processor._habits = third
    for _ in range(6):
        again.feed(changed, 20)
    assert [each.id for each in again.incidents()] == [incident.id]
    assert next(iter(third.health())).state == "degraded"


def test_an_alert_of_ours_is_no_event_that_rules_could_see(bench: Watched, store: Any) -> None:
    bench.feed(auth_log(), 10)
    before = store.last_id()
    alerts = OwnAlerts(store, Told(), bench.ring)  # type: ignore[arg-type]
    for _ in range(3):
        alerts.put(OwnAlert(SOURCE_SILENT, bench.source_id, "auth", before, "Nothing comes.", NOW_US))

    assert store.last_id() == before
    assert [(each.n, each.title) for each in bench.incidents()] == [(3, "has gone silent")]


def test_habits_that_cannot_be_read_are_learned_anew() -> None:
    for stored in ({}, {"whole": 5}, {"longest_gap_s": 9}):
        assert SourceHabits.from_json(stored) == SourceHabits()
    habits = SourceHabits()
    habits.rhythm.watch(5, MONDAY, well=True)
    assert SourceHabits.from_json(habits.as_json()).as_json() == habits.as_json()


# -- rhythm


def lived(active: Any, weeks: float, *, begin: float = MONDAY) -> tuple[Rhythm, float, list[float]]:
    """A rhythm over weeks of minutes in which lines come or not, and the times at which it was called silent."""
    rhythm, alarms = Rhythm(local=time.gmtime), []
    now = begin
    for minute in range(int(weeks * WEEK / 60)):
        now = begin + minute * 60
        rhythm.watch(3 if active(now) else 0, now, well=True)
        if minute % 15 == 0 and rhythm.is_silent(now):
            alarms.append(now)
            rhythm.last_line_s = now
    return rhythm, now, alarms


def office(at_s: float) -> bool:
    """Whether somebody works: Monday to Friday, 9 to 17, not in every minute."""
    when = time.gmtime(at_s)
    return when.tm_wday < 5 and 9 <= when.tm_hour < 17 and int(at_s // 60) % 7 in (0, 3)


def test_nights_and_weekends_of_a_quiet_source_raise_nothing() -> None:
    rhythm, now, alarms = lived(office, 3)

    assert alarms == []
    assert rhythm.missing(now) == 0.0  # Sunday, 23:59
    assert rhythm.per_hour(MONDAY + 10 * HOUR) == pytest.approx(51, abs=5)


def test_a_source_that_falls_silent_in_its_hours_is_noticed() -> None:
    rhythm, _, _ = lived(office, 2.0)
    tuesday = MONDAY + 2 * WEEK + DAY
    for minute in range(24 * 60):  # Monday as ever
        now = MONDAY + 2 * WEEK + minute * 60
        rhythm.watch(3 if office(now) else 0, now, well=True)

    silent = []
    for minute in range(24 * 60):
        rhythm.watch(0, tuesday + minute * 60, well=True)
        silent.append(rhythm.is_silent(tuesday + minute * 60))

    first = silent.index(True) / 60
    assert 9.5 < first < 12, f"noticed at {first:.1f} h"


def test_a_source_that_never_rests_is_noticed_in_a_quarter_of_an_hour_once_a_week_was_watched() -> None:
    rhythm, now, alarms = lived(lambda _at: True, 1.1)
    assert alarms == []

    silent = [rhythm.is_silent(now + minute * 60) for minute in range(30)]
    assert 9 <= silent.index(True) <= 15
    young, then, _ = lived(lambda _at: True, 0.9)
    assert not young.is_silent(then + DAY / 24), "it is still learned"


def test_clocks_that_are_put_forward_or_back_raise_nothing() -> None:
    spring = MONDAY + 2 * WEEK + 6 * DAY  # from that Sunday on, people come an hour earlier by UTC

    def shifted(at_s: float) -> bool:
        return office(at_s + (HOUR if at_s >= spring else 0))

    assert lived(shifted, 3.1)[2] == []
    assert lived(lambda at: office(at - (HOUR if at >= spring else 0)), 3.1)[2] == []
    rhythm, now, _ = lived(lambda _at: True, 1.5)
    rhythm.watch(0, now - 2 * DAY, well=True)  # a step
    assert not rhythm.is_silent(now - 2 * DAY)


def test_hours_that_were_not_watched_are_not_learned_as_silent() -> None:
    rhythm, now, _ = lived(lambda _at: True, 1.2)
    for minute in range(24 * 60):
        rhythm.watch(0, now + minute * 60, well=False)
    assert rhythm.missing(now + DAY) > MISSING_MINUTES

    again = Rhythm.from_json(rhythm.as_json())
    later = now + 3 * DAY  # it was not running
    again.watch(0, later, well=True)
    assert not again.is_silent(later), "what was before the start, it cannot know"


def test_a_silent_source_is_told_once_and_heals_when_it_speaks(bench: Watched, store: Any) -> None:
    lines = auth_log()
    bench.feed(lines, 1)
    habits = bench.keeper._habits[bench.source_id]
    learned, now, _ = lived(lambda _at: True, 1.5, begin=bench.hands.now)
    habits.rhythm = learned
    bench.hands.now = now
    for _ in range(8):
        bench.hands.now += 300
        bench.look(bytes_total=1 << 30)  # it is behind: nothing can be said
    assert not bench.incidents()

    for _ in range(8):
        bench.hands.now += 300
        bench.look()
    (incident,) = bench.incidents()
    assert list(incident.members) == [(SOURCE_SILENT, "attempt")]
    assert "auth is silent" in next(iter(bench.keeper.health())).reason
    with store.database.reading() as connection:
        told = connection.exec_driver_sql("SELECT incident_id, n FROM notification_history").all()
    assert told == [(incident.id, 1)]

    bench.feed(lines, 1)
    assert next(iter(bench.keeper.health())).state == "ok"
