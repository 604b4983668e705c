"""The outbox: everything is told, once, to the right people, and calmly; nothing is lost by a crash."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from builders import NOW_US, entry

from threatlens.broadcaster import EventBroadcaster, Place
from threatlens.channels import Delivery
from threatlens.channels.email import compose
from threatlens.config_values import MonitoringConfig, NotificationRule, Secret, SlackChannel, WebhookChannel
from threatlens.errors import ChannelError, StoreUnavailable
from threatlens.handing_over import Note, hand_over
from threatlens.ingestion_queue import RealtimeIngestionQueue
from threatlens.notifications import GIVE_UP_US, Happening, NotificationManager, after_quiet, within
from threatlens.notifications_arrived import Arrivals, Left
from threatlens.notifications_words import Writer
from threatlens.processor import QueueProcessor
from threatlens.receiving import receive_into
from threatlens.sources.base import LogSourceConfig

S = 1_000_000
MINUTE = 60 * S


class Receiver:
    """Stands for the other end of every channel."""

    def __init__(self) -> None:
        self.got: list[tuple[str, object]] = []
        self.errors: list[ChannelError | Callable[[Note], ChannelError] | None] = []
        self.hold: dict[str, threading.Event] = {}

    def build(self, channel, _client):
        receiver = self

        class Built:
            name = channel.name

            def send(self, message, note=None):
                if channel.name in receiver.hold:
                    receiver.hold[channel.name].wait(60)
                error = receiver.errors.pop(0) if receiver.errors else None
                receiver.got.append((channel.name, message))
                if error is not None:
                    raise error(note) if callable(error) else error
                return Delivery(("> it", "< 200"))

        return Built()

    @property
    def titles(self) -> list[str]:
        return [message.title for _, message in self.got]


class Bench:
    def __init__(self, store) -> None:
        self.store = store
        self.now = NOW_US
        self.receiver = Receiver()
        self.config = MonitoringConfig(
            channels=(WebhookChannel("hook", "https://example.org/"), SlackChannel("chat", Secret("https://x.org"))),
            notification_rules=(NotificationRule("urgent", ("hook",), min_severity=7),),
        )
        self.ring = EventBroadcaster()
        self.manager = self.again()

    def again(self, arrivals: Arrivals | None = None) -> NotificationManager:
        """As after a restart."""
        self.manager = NotificationManager(
            self.store, lambda: self.config, None, self.ring, base_url="https://lens.example.org",
            clock_us=lambda: self.now, jitter=lambda: 0.5, build=self.receiver.build, arrivals=arrivals,
        )  # fmt: skip
        return self.manager

    def rule(self, **changes) -> None:
        self.config = replace(self.config, notification_rules=(replace(self.config.notification_rules[0], **changes),))

    def happen(self, **changes) -> None:
        values = {
            "thread": "203.0.113.9", "severity": 8, "title": "Password guessing", "category": "authentication",
            "source": "auth", "timestamp_us": self.now, **changes,
        }  # fmt: skip
        self.store.commit([], [], occurrences=self.manager.plan([Happening(**values)]))

    def send(self) -> int:
        return sum(self.manager.deliver(name) for name in self.manager.channels_with_work())

    def history(self, **where):
        return self.store.notifications(**where)


@pytest.fixture
def bench(store, monkeypatch) -> Bench:
    found = Bench(store)
    monkeypatch.setattr("threatlens.store.now_us", lambda: found.now)
    return found


def test_what_a_rule_asks_for_is_told_and_the_rest_is_not(bench):
    bench.happen()
    bench.happen(severity=6, thread="other")

    assert bench.send() == 1
    assert bench.receiver.titles == ["Password guessing"]
    (row,) = bench.history()
    assert (row.status, row.channel, row.rule, row.n) == ("sent", "hook", "urgent", 1)


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"categories": ("web",)}, 0),
        ({"categories": ("web", "authentication")}, 1),
        ({"sources": ("nginx",)}, 0),
        ({"sources": ("auth",)}, 1),
        ({"rules": ("other",)}, 0),
        ({"rules": ("ssh-guessing",)}, 1),
        ({"max_severity": 7}, 0),
        ({"enabled": False}, 0),
    ],
)
def test_a_rule_is_as_narrow_as_it_says(bench, rule, told):
    bench.rule(**rule)
    bench.happen(rule_ids=("ssh-guessing",))
    assert bench.send() == told


def test_two_rules_for_one_channel_tell_it_once(bench):
    first = bench.config.notification_rules[0]
    bench.config = replace(bench.config, notification_rules=(first, replace(first, name="all", min_severity=1)))
    bench.happen()
    assert bench.send() == 1


def test_several_channels_of_a_rule_are_each_on_their_own(bench):
    bench.rule(channels=("hook", "chat"))
    bench.receiver.errors = [ChannelError("no", permanent=False)]
    bench.happen()
    assert bench.send() == 1
    assert {row.channel: row.status for row in bench.history()} == {"chat": "pending", "hook": "sent"}


def test_a_flood_about_one_thing_is_one_message_and_then_one_with_the_count(bench):
    bench.happen()
    bench.send()
    for _ in range(213):
        bench.happen()
    assert bench.send() == 0
    bench.now += 15 * MINUTE
    assert bench.send() == 1
    message = bench.receiver.got[-1][1]
    assert message.data["count"] == 213
    assert message.data["total"] == 214
    assert "× 214" in message.title
    assert message.thread == bench.receiver.got[0][1].thread


def test_an_update_has_the_subject_of_the_first_mail_until_it_gets_worse(bench):
    bench.happen(severity=7, title="Password guessing")
    bench.send()
    for severity in (8, 9):
        bench.now += 15 * MINUTE
        bench.happen(severity=severity, title="Password guessing, and more")
        bench.send()
    first, update, worse = (
        compose(message, "tl@example.org", ("ops@example.org",)) for _, message in bench.receiver.got
    )
    assert first["Subject"] == "[ThreatLens] 7/10 Password guessing"
    assert update["Subject"] == "Re: [ThreatLens] 7/10 Password guessing"
    assert worse["Subject"].startswith("[ThreatLens] 9/10 Password guessing, and more")
    assert first["References"] == update["References"] == worse["References"]
    assert len({mail["Message-ID"] for mail in (first, update, worse)}) == 3


def test_what_happens_before_the_first_message_leaves_is_in_it(bench):
    for _ in range(5):
        bench.happen()
    assert bench.send() == 1
    assert bench.receiver.got[0][1].data["count"] == 5


def test_what_gets_worse_is_told_at_once(bench):
    bench.happen(severity=7)
    bench.send()
    bench.happen(severity=9)
    assert bench.send() == 1
    assert bench.receiver.got[-1][1].severity == 9


def test_ten_thousand_matches_in_a_minute_are_no_more_messages_than_configured_and_the_counts_are_right(bench):
    for second in range(50):
        bench.now += S
        found = [Happening(f"203.0.{second}.{i}", 8, "Scan", "network", "fw", bench.now) for i in range(200)]
        bench.store.commit([], [], occurrences=bench.manager.plan(found))
        bench.send()
    assert len(bench.receiver.got) <= 6
    bench.now += 16 * MINUTE
    bench.send()
    assert sum(message.data["count"] for _, message in bench.receiver.got) == 10_000
    assert len(bench.receiver.got) <= 7


def test_noise_leaves_room_for_what_is_severe(bench):
    bench.rule(min_severity=4)
    for number in range(20):
        bench.happen(thread=f"noise{number}", severity=4, title=f"noise {number}")
    bench.happen(thread="incident:7:success", severity=10, title="Somebody got in")
    bench.send()
    assert "Somebody got in" in bench.receiver.titles
    assert len(bench.receiver.got) == 5, "three of the noise, one that counts the others, and this"


def test_the_message_that_counts_the_others_names_the_worst_of_them(bench):
    bench.rule(min_severity=4)
    for number, severity in enumerate((4, 4, 4, 5, 7, 4)):
        bench.happen(thread=f"t{number}", severity=severity, title=f"thing {number}")
    bench.send()
    (storm,) = [message for _, message in bench.receiver.got if message.kind == "digest"]
    assert (storm.title, storm.severity) == ("3 matches at once, the worst: thing 4", 7)

    bench.now += 20 * MINUTE
    for number in range(10, 15):
        bench.happen(thread=f"t{number}", severity=4, title=f"thing {number}")
    bench.send()
    assert bench.receiver.got[-1][1].severity == 4, "what was told is told"


def test_updates_of_many_threads_keep_to_the_number_of_messages_too(bench):
    for minute in range(4):
        for number in range(5):
            bench.happen(thread=f"t{minute}{number}")
        bench.send()
        bench.now += MINUTE + S
    for minute in range(4):
        for number in range(5):
            bench.happen(thread=f"t{minute}{number}")
    bench.now += 15 * MINUTE
    before, sent = len(bench.receiver.got), []
    for _ in range(5):
        bench.happen(thread="t00")
        sent.append(bench.send())
        bench.now += MINUTE + S

    assert before == 20
    assert max(sent) <= 6
    assert sum(sent) >= 20
    told = {message.thread: message.data["total"] for _, message in bench.receiver.got}
    assert len(told) == 20
    assert min(told.values()) == 2


def test_a_digest_gathers(bench):
    bench.rule(digest_minutes=60)
    for i in range(30):
        bench.happen(thread=f"203.0.113.{i}", severity=7 + i % 3)
    assert bench.send() == 0
    bench.now += 60 * MINUTE
    assert bench.send() == 1
    message = bench.receiver.got[0][1]
    assert (message.kind, message.data["count"], message.severity) == ("digest", 30, 9)


def test_old_news_calls_nobody_and_says_so(bench):
    bench.happen(timestamp_us=bench.now - 25 * 60 * MINUTE)
    bench.happen(timestamp_us=bench.now - 25 * 60 * MINUTE)
    assert bench.send() == 0
    (row,) = bench.history(status="suppressed")
    assert (row.n, row.error_message) == (2, "it happened more than a day ago")


def local(hour: int) -> int:
    return int(dt.datetime(2026, 11, 24, hour, 30).astimezone().timestamp() * 1e6)


def test_outside_its_hours_a_rule_says_why_it_does_not_tell(bench):
    bench.rule(hours="08:00-18:00")
    bench.now = local(20)
    bench.happen()
    assert bench.send() == 0
    assert bench.history(status="suppressed")[0].error_message == "outside the rule's hours (08:00-18:00)"
    bench.now = local(9)
    bench.happen()
    assert bench.send() == 1


def test_in_quiet_hours_all_but_the_worst_waits_for_the_morning(bench):
    hook, chat = bench.config.channels
    bench.config = replace(bench.config, channels=(replace(hook, quiet_hours="22:00-07:00"), chat))
    bench.now = local(23)
    bench.happen()
    bench.happen(thread="worse", severity=9)
    assert bench.send() == 1
    assert bench.receiver.got[0][1].severity == 9
    bench.now = after_quiet("22:00-07:00", bench.now)
    assert bench.send() == 1


@pytest.fixture
def at_night(bench) -> Bench:
    """From half past nine on; the channel is quiet from ten."""
    hook, chat = bench.config.channels
    bench.config = replace(bench.config, channels=(replace(hook, quiet_hours="22:00-07:00"), chat))
    bench.now = local(21)
    return bench


def test_updates_and_retries_keep_to_quiet_hours_too(at_night):
    bench = at_night
    bench.happen()
    assert bench.send() == 1
    bench.happen()  # within the cooldown
    bench.receiver.errors = [ChannelError("gone")]
    bench.happen(thread="fails")
    bench.send()
    bench.now = local(22)
    assert bench.send() == 0
    assert {row.next_try_us for row in bench.history(status="pending")} == {after_quiet("22:00-07:00", local(22))}
    bench.now = after_quiet("22:00-07:00", local(22))
    assert bench.send() == 2


def test_what_gets_worse_in_quiet_hours_does_not_wait_with_what_it_joins(at_night):
    bench = at_night
    bench.now = local(23)
    bench.happen(severity=7)
    assert bench.send() == 0
    bench.happen(severity=8)
    assert bench.send() == 0
    bench.happen(severity=9)
    assert bench.send() == 1
    assert (bench.receiver.got[0][1].severity, bench.receiver.got[0][1].data["count"]) == (9, 3)


def test_that_a_channel_does_not_work_is_said_in_quiet_hours_too(at_night):
    bench = at_night
    bench.now = local(23)
    bench.manager.tell_all("system", "channel:chat", "The channel chat does not work", severity=7, but="chat")
    assert bench.send() == 1


@pytest.mark.parametrize(("day", "hours"), [("2026-10-24", 8.5), ("2026-03-28", 6.5), ("2026-11-24", 7.5)])
def test_quiet_hours_end_by_the_clock_although_it_is_changed_in_the_night(monkeypatch, day, hours):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        before = int(dt.datetime.fromisoformat(f"{day}T23:30").timestamp() * 1e6)
        end = after_quiet("22:00-07:00", before)
        assert (end - before) / (60 * MINUTE) == hours
        assert not within("22:00-07:00", end)
        assert within("22:00-07:00", end - MINUTE)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("hours", "hour", "inside"),
    [("08:00-18:00", 12, True), ("08:00-18:00", 18, False), ("22:00-07:00", 23, True), ("22:00-07:00", 3, True),
     ("22:00-07:00", 12, False)],
)  # fmt: skip
def test_spans_may_go_over_midnight(hours, hour, inside):
    assert within(hours, local(hour)) is inside


def test_a_failure_is_tried_again_later_with_the_same_key_and_words(bench):
    bench.receiver.errors = [ChannelError("gone"), None]
    bench.happen()
    assert bench.send() == 0
    bench.happen()
    assert bench.send() == 0
    bench.now += 10 * S
    assert bench.send() == 1
    (_, first), (_, second) = bench.receiver.got
    assert first == second
    assert bench.history()[0].tries == 2


def test_a_receiver_that_asks_for_time_gets_it(bench):
    bench.receiver.errors = [ChannelError("busy", retry_after_s=600)]
    bench.happen()
    bench.send()
    bench.now += 599 * S
    assert bench.send() == 0
    bench.now += S
    assert bench.send() == 1


def test_a_message_that_fails_for_a_day_is_a_dead_letter_that_can_be_sent_again(bench):
    bench.happen()
    while bench.history()[0].status == "pending":
        bench.receiver.errors = [ChannelError("gone")]
        bench.send()
        bench.now += 30 * MINUTE
    (row,) = bench.history()
    assert row.status == "failed"
    assert row.error_message == "gone"
    assert bench.now - NOW_US >= GIVE_UP_US - 150 * MINUTE
    assert bench.store.resend(row.id, bench.now)
    bench.now += 31 * MINUTE
    assert bench.send() == 1
    assert not bench.store.resend(row.id, bench.now)


def test_a_channel_that_fails_again_and_again_rests(bench):
    bench.receiver.errors = [ChannelError("gone")] * 50
    for i in range(5):
        bench.happen(thread=f"t{i}")
        bench.send()
    tried = len(bench.receiver.got)
    assert tried == 5
    bench.happen(thread="one more")
    assert bench.manager.channels_with_work() == []
    bench.now += 60 * S
    bench.receiver.errors = []
    assert bench.send() > 0


def test_a_clock_that_is_put_back_by_a_day_keeps_no_message_for_a_day(bench):
    bench.receiver.errors = [ChannelError("gone")] * 50
    for number in range(5):
        bench.happen(thread=f"t{number}")
        bench.send()
    assert bench.manager.channels_with_work() == []
    bench.now -= 24 * 60 * MINUTE
    bench.receiver.errors = []
    assert bench.send() == 5, "neither the next try nor the rest of the channel waits for tomorrow"
    bench.happen(thread="another")
    assert bench.history()[0].kind != "digest", "what was made tomorrow takes no place of this minute"
    assert bench.send() == 1
    bench.happen(thread="t0")
    bench.now += 16 * MINUTE
    assert bench.send() == 1, "an update waits for its minutes"


def test_a_channel_that_cannot_work_says_so_through_another_and_keeps_its_messages(bench):
    bench.receiver.errors = [ChannelError("the receiver answered 404", permanent=True)]
    bench.happen()
    bench.send()
    bench.now += S
    bench.send()
    name, message = bench.receiver.got[-1]
    assert name == "chat"
    assert "hook does not work" in message.title
    assert bench.store.channel_states()["hook"].disabled

    bench.now += 60 * MINUTE
    assert bench.send() == 0
    bench.store.resume_channel("hook")
    assert bench.send() == 1
    assert bench.receiver.got[-1][0] == "hook"


def test_a_crash_before_sending_tells_it_afterwards(bench):
    bench.happen()
    bench.again()
    assert bench.send() == 1


def test_a_crash_between_sending_and_noting_it_repeats_the_same_key(bench, monkeypatch):
    bench.happen()
    monkeypatch.setattr(bench.store, "mark_sent", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
    with pytest.raises(RuntimeError):
        bench.send()
    monkeypatch.undo()
    bench.again()
    bench.send()
    (_, first), (_, second) = bench.receiver.got
    assert first == second


def test_a_crash_once_the_answer_is_in_the_file_repeats_nothing(bench, monkeypatch, tmp_path):
    path = str(tmp_path / "arrived")
    bench.again(Arrivals(path))
    bench.happen()
    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "mark_sent", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError):
            bench.send()

    bench.again(Arrivals(path))
    bench.happen(thread="another")
    bench.send()

    assert len(bench.receiver.got) == 2
    assert [row.status for row in bench.history()] == ["sent", "sent"]
    assert not (tmp_path / "arrived").read_bytes().strip(b"\0told"), "what is noted is not kept"


def test_an_answer_is_noted_before_this_process_can_do_anything_about_it(tmp_path):
    """A process that is killed as soon as it has received one."""
    path, key = str(tmp_path / "arrived"), "0123456789abcdef" * 2
    arrivals = Arrivals(path)
    arrivals.settle()
    room = arrivals.begin(key).room
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = os.fork()
        if process == 0:
            receive_into(ours, room, 20)
            os.kill(os.getpid(), signal.SIGKILL)
        assert Arrivals(path).before() == [], "it is on its way, and nobody knows whether it arrived"
        theirs.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        os.waitpid(process, 0)

    assert Arrivals(path).before() == [Left(key, "HTTP/1.1 204")]


@pytest.mark.parametrize(
    ("answer", "told"),
    [(b"HTTP/1.1 200 OK\r\n", 1), (b"250 queued\r\n", 1), (b"HTTP/1.1 500", 2), (b"451 later", 2), (b"", 2)],
)
def test_whoever_took_a_message_and_fell_silent_is_not_told_twice(bench, answer, told):
    def broken(note):
        note.room[: len(answer)] = answer
        return ChannelError("no whole answer in time")

    bench.receiver.errors = [broken]
    bench.happen()
    bench.send()
    bench.now += MINUTE
    bench.send()
    assert len(bench.receiver.got) == told
    assert [row.status for row in bench.history()] == ["sent"]


class Stopped(BaseException):
    """Stands for a kill: nothing of ours runs any more."""


def handed_over_and_stopped(note):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        hand_over(ours, b"a message", note)
    raise Stopped


def stopped_while_sending(bench, tmp_path, *, errors=()) -> None:
    """A message is handed over whole, and then the engine is killed and started anew."""
    path = str(tmp_path / "arrived")
    bench.again(Arrivals(path))
    bench.receiver.errors = [*errors, handed_over_and_stopped]
    for _ in errors:
        bench.send()
        bench.now += MINUTE
    with pytest.raises(Stopped):
        bench.send()
    bench.again(Arrivals(path))


def test_what_was_handed_over_whole_to_a_channel_that_works_is_not_sent_again_and_says_why(bench, tmp_path):
    bench.happen(thread="before")
    bench.send()
    bench.happen()
    stopped_while_sending(bench, tmp_path)

    assert bench.send() == 0
    assert len(bench.receiver.got) == 2
    row = bench.history()[0]
    assert (row.status, row.shown_as) == ("sent", "unanswered")
    assert "handed over whole just before ThreatLens was stopped" in row.error_message
    assert bench.history(status="unanswered") == [row]
    assert bench.store.resend(row.id, bench.now), "one click sends it again"
    assert bench.send() == 1
    assert bench.receiver.got[-1] == bench.receiver.got[-2], "with the same key"
    assert bench.history()[0].shown_as == "sent"
    assert not bench.store.resend(row.id, bench.now)


def test_what_was_handed_over_to_a_channel_that_nobody_knows_to_work_is_sent_again(bench, tmp_path):
    bench.happen()
    stopped_while_sending(bench, tmp_path)
    assert bench.send() == 1
    (_, first), (_, second) = bench.receiver.got
    assert first == second


def test_a_test_that_arrived_shows_that_a_channel_works(bench, tmp_path):
    bench.manager.test(bench.config.channels[0])
    bench.happen()
    stopped_while_sending(bench, tmp_path)
    assert bench.send() == 0


@pytest.mark.parametrize(("between", "sent"), [(False, 1), (True, 0)])
def test_what_was_handed_over_after_a_failure_is_sent_again(bench, tmp_path, between, sent):
    """Of the channel; once it works again, the next message is not affected."""
    bench.happen(thread="works")
    bench.send()
    bench.receiver.errors = [ChannelError("gone")]
    bench.happen(thread="fails")
    bench.send()
    if between:
        bench.now += MINUTE
        bench.send()
    else:
        bench.receiver.errors = []
    bench.happen(thread="another")
    stopped_while_sending(bench, tmp_path)
    assert bench.send() == sent
    assert bench.history()[0].shown_as == ("sent" if sent else "unanswered")


def test_a_message_that_failed_before_is_sent_again_although_it_was_handed_over(bench, tmp_path):
    bench.happen(thread="before")
    bench.send()
    bench.happen()
    stopped_while_sending(bench, tmp_path, errors=[ChannelError("no answer in time")])
    bench.send()
    assert bench.history(status="unanswered") == []
    assert bench.history()[0].status == "sent"


def test_a_failure_takes_back_that_a_message_was_handed_over(bench, tmp_path):
    """So a kill after a time-out, while that is noted, sends it again."""

    def timed_out(note):
        with contextlib.suppress(Stopped):
            handed_over_and_stopped(note)
        return ChannelError("no answer in time")

    path = str(tmp_path / "arrived")
    bench.again(Arrivals(path))
    bench.happen()
    bench.receiver.errors = [timed_out]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.store, "mark_failed", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError):
            bench.send()
    assert Arrivals(path).before() == []


def test_a_full_disk_leaves_the_notes_in_memory(bench, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("threatlens.notifications_arrived.os.pwrite", full)
    bench.again(Arrivals(str(tmp_path / "arrived")))
    bench.happen()
    assert bench.send() == 1


def test_a_database_that_cannot_note_what_arrived_sends_it_to_nobody_twice(bench, monkeypatch):
    bench.happen()
    away = StoreUnavailable("the disk of the database is full", reason="disk_full")
    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "mark_sent", lambda *_: (_ for _ in ()).throw(away))
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                bench.send()
    bench.send()

    assert len(bench.receiver.got) == 1
    assert [row.status for row in bench.history()] == ["sent"]


def test_a_restart_floods_nobody(bench):
    bench.happen()
    bench.send()
    bench.again()
    bench.happen()
    assert bench.send() == 0


def test_a_batch_that_is_not_ours_tells_nothing(bench, store):
    source_id = store.put_api_source("auth", "auto")
    stream_id = store.create(source_id, path=b"/x", device=1, inode=1, compressed=False, position=50)
    bench.rule(min_severity=1)
    processor = QueueProcessor(
        RealtimeIngestionQueue(), store, bench.ring, on_refused=lambda _: None, notifications=bench.manager,
        wall=lambda: NOW_US / 1e6,
    )  # fmt: skip
    processor.set_sources([LogSourceConfig(source_id, "auth", "/x")], {})
    line = b"Nov 23 23:51:07 web1 sshd[4211]: Failed password for root from 203.0.113.9 port 52144 ssh2\n"

    assert processor.process([entry(line, stream_id=stream_id, source_id=source_id)], lambda _: False) is None
    assert bench.history() == []

    processor.process([entry(line, stream_id=stream_id, source_id=source_id, start=50)], lambda _: False)
    (row,) = bench.history()
    assert row.event_id == store.last_id()
    bench.send()
    assert store.event(row.event_id).notification_sent
    assert "password for root" in bench.receiver.got[0][1].samples[0]


def test_secrets_in_a_line_stay_here(bench, filler):
    first = filler.add("login password=hunter2 token=ghp_0123456789abcdefghij0123", severity=8)
    bench.store.commit([], [], occurrences=[replace(one, first_place=-1) for one in bench.manager.plan([])])
    from threatlens.store_notifications import Due

    due = Due(1, "k", "event", "hook", "urgent", "t", 8, "x", 1, 1, 0, 0, first, first, 0, 0, 0, {}, "")
    (sample,) = Writer(bench.store, "", lambda _: None).message(due).samples
    assert "hunter2" not in sample
    assert "ghp_" not in sample


def test_a_channel_that_hangs_holds_up_no_other(bench):
    bench.rule(channels=("hook", "chat"))
    bench.receiver.hold["hook"] = threading.Event()
    bench.happen()
    assert set(bench.manager.channels_with_work()) == {"hook", "chat"}
    stuck = threading.Thread(target=bench.manager.deliver, args=("hook",))
    stuck.start()
    assert bench.manager.deliver("chat") == 1
    bench.receiver.hold["hook"].set()
    stuck.join(60)
    assert len(bench.receiver.got) == 2


def test_what_became_of_a_message_is_announced(bench):
    bench.ring.begin(0)
    before = bench.ring.place()
    bench.happen()
    bench.send()
    (update,) = bench.ring.wait(Place(before.event_id, before.update_seq), 0).updates
    assert update.event_type == "notification"
    assert (update.data["channel"], update.data["status"]) == ("hook", "sent")


def test_who_would_be_told_is_known_beforehand(bench):
    happening = Happening("t", 9, "x", "web", "nginx", bench.now)
    assert bench.manager.recipients(happening) == [("urgent", "hook", "")]
    bench.rule(digest_minutes=5)
    assert bench.manager.recipients(happening)[0][2].startswith("held back")
    assert bench.history() == []
