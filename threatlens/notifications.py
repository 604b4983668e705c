"""NotificationManager: which rule tells which channel, and the outbox that is emptied behind the pipeline.

`plan` is asked once per batch and returns values that the store writes in the batch's own transaction; `deliver`
sends, one channel at a time, on threads of its own. So nothing slow ever holds a line up, and nothing that happened
is forgotten by a crash: a message that was on its way is sent again with the same key, unless all of it was handed
over to a channel that works.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from threatlens.analysis import AdviceOf
from threatlens.answers import AnswerLinks
from threatlens.broadcaster import EventBroadcaster
from threatlens.channels import (
    AppriseNotifier,
    Attachment,
    Delivery,
    EmailNotifier,
    MailServer,
    Message,
    NotificationChannel,
    OutboundClient,
    SlackNotifier,
    WebhookNotifier,
)
from threatlens.config_values import (
    AppriseChannel,
    Channel,
    EmailChannel,
    MonitoringConfig,
    NotificationRule,
    SlackChannel,
)
from threatlens.errors import ChannelError, ConfigError
from threatlens.event import EventUpdate, rfc3339
from threatlens.notifications_arrived import Arrivals
from threatlens.notifications_words import TITLE_CHARACTERS, Writer, as_json, from_json
from threatlens.store import EventStore
from threatlens.store_notifications import HOUR_US, Due, Occurrence
from threatlens.visible import visible

log = logging.getLogger(__name__)

#: What happened longer ago than this is not news: it is stored, shown and counted, and nobody is called.
STALE_US = 24 * HOUR_US
#: Seconds until the next try, by how many there were; the last one repeats.
RETRIES_S = (10, 30, 60, 300, 900, 1_800, 3_600, 7_200)
#: Tries end this long after the message was made.
GIVE_UP_US = 24 * HOUR_US
STEP_US = 30_000_000  # that the clock is put back by before messages wait no longer
#: The circuit breaker: after so many failures in a row the channel rests, twice as long each time.
BREAKER_FAILURES, BREAKER_FIRST_S, BREAKER_MAX_S = 5, 60, 1_800
#: Messages that one run of a channel's job sends at the most, so that a stop need not wait long.
SENT_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that rules may want to tell: an event, or what became of an incident."""

    thread: str  # what it is about
    severity: int
    title: str
    category: str
    source: str
    timestamp_us: int  # event time
    place: int = -1  # of its event in the batch; -1: none
    kind: str = "event"
    incident_id: int = 0
    rule_ids: tuple[str, ...] = ()  # of detection rules
    n: int = 1
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class _Gathered:
    """The happenings of one batch about one thing, for one rule."""

    worst: Happening
    first_us: int
    last_us: int
    first_place: int
    last_place: int
    n: int


class NotificationManager:
    """Plans and delivers. `plan` is for the processor's thread; `deliver` may run for several channels at once."""

    def __init__(
        self,
        store: EventStore,
        config: Callable[[], MonitoringConfig],
        client: OutboundClient,
        broadcaster: EventBroadcaster,
        *,
        base_url: str = "",
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        jitter: Callable[[], float] = random.random,
        report: Callable[[int], Attachment | None] = lambda _report_id: None,
        report_file: Callable[[str], Attachment | None] = lambda _name: None,
        answers: AnswerLinks | None = None,
        arrivals: Arrivals | None = None,
        build: Callable[[Channel, OutboundClient], NotificationChannel] | None = None,
        advice_of: AdviceOf = lambda _rule_id: None,
    ) -> None:
        self._store = store
        self._config = config
        self._client = client
        self._broadcaster = broadcaster
        self._base_url = base_url.rstrip("/")
        self._clock_us = clock_us
        self._asked_us = 0
        self._jitter = jitter
        self._report = report
        self._report_file = report_file
        self._answers = answers
        self._arrivals = arrivals or Arrivals()
        self._build = build or notifier
        self._writer = Writer(store, self._base_url, advice_of)

    # -- what is to be told

    def lowest_severity(self) -> int:
        """The lowest severity that any rule asks for; 11: none does."""
        return min((rule.min_severity for rule in self._config().notification_rules if rule.enabled), default=11)

    def plan(self, happenings: Sequence[Happening]) -> list[Occurrence]:
        """What these happenings are to be told, by rule, channel and thing; suppressed ones say why."""
        config = self._config()
        channels = {channel.name: channel for channel in config.channels}
        now_us = self._clock_us()
        planned: list[Occurrence] = []
        told: set[tuple[str, str]] = set()  # the first rule that tells a channel about a thing does it for all
        for rule in config.notification_rules:
            wanted = [each for each in happenings if rule_wants(rule, each)]
            if not wanted:
                continue
            for thread, gathered in _by_thread(rule, wanted).items():
                for name in rule.channels:
                    channel = channels.get(name)
                    if channel is not None and (name, thread) not in told:
                        told.add((name, thread))
                        planned.append(self._occurrence(rule, channel, thread, gathered, now_us))
        return planned

    def _occurrence(
        self, rule: NotificationRule, channel: Channel, thread: str, gathered: _Gathered, now_us: int
    ) -> Occurrence:
        worst = gathered.worst
        due_us, why = now_us, ""
        if gathered.last_us < now_us - STALE_US:
            why = "it happened more than a day ago"
        elif rule.hours and not within(rule.hours, now_us):
            why = f"outside the rule's hours ({rule.hours})"
        else:
            due_us = quiet_until(channel, worst.severity, now_us)
        cooldown_us = rule.cooldown_minutes * 60_000_000
        kind, title = worst.kind, visible(worst.title, TITLE_CHARACTERS)
        if rule.digest_minutes:
            cooldown_us = rule.digest_minutes * 60_000_000
            due_us = max(due_us, now_us + cooldown_us)
            kind, title = "digest", f"Digest: {rule.name}"
        return Occurrence(
            channel=channel.name, rule=rule.name, kind=kind, thread=thread, severity=worst.severity, title=title,
            first_us=gathered.first_us, last_us=gathered.last_us, n=gathered.n, first_place=gathered.first_place,
            last_place=gathered.last_place, incident_id=worst.incident_id, due_us=due_us, cooldown_us=cooldown_us,
            per_minute=channel.max_per_minute, suppressed=why, details=worst.details,
        )  # fmt: skip

    def recipients(self, happening: Happening) -> list[tuple[str, str, str]]:
        """Who would be told about this: (rule, channel, why not now; "" for: at once)."""
        planned = self.plan([happening])
        now_us = self._clock_us()
        return [(one.rule, one.channel, one.suppressed or _held(one, now_us)) for one in planned]

    def tell_all(self, kind: str, thread: str, title: str, *, severity: int, but: str = "") -> None:
        """Tell every channel, but one, something about ThreatLens itself."""
        now_us = self._clock_us()
        self._store.tell(
            [
                Occurrence(channel.name, "", kind, thread, severity, title, now_us, now_us, cooldown_us=HOUR_US)
                for channel in self._config().channels
                if channel.name != but
            ],
            now_us,
        )

    # -- sending

    def channels_with_work(self) -> list[str]:
        """Queue what became due, and name the channels that have something to send and may try."""
        now_us = self._clock_us()
        if now_us < self._asked_us - STEP_US:
            self._store.wait_no_longer(now_us)
        self._asked_us = now_us
        if found := self._arrivals.before():
            answered = {one.key: one.answer for one in found if one.answer}
            self._store.note_arrived(answered, [one.key for one in found if not one.answer], now_us)
        self._arrivals.settle()
        self._store.queue_updates(now_us, {each.name: each.max_per_minute for each in self._config().channels})
        due = self._store.has_due(now_us)
        if not due:
            return []
        states = self._store.channel_states()
        known = {channel.name for channel in self._config().channels}
        return sorted(
            name
            for name in due & known
            if name not in states or (not states[name].disabled and states[name].open_until_us <= now_us)
        )

    def deliver(self, name: str, stopped: Callable[[], bool] = lambda: False) -> int:
        """Send what is due on this channel, the oldest first, until one fails; how many arrived."""
        channel = next((each for each in self._config().channels if each.name == name), None)
        sent = 0
        while channel is not None and sent < SENT_AT_ONCE and not stopped():
            now_us = self._clock_us()
            due = self._store.due(name, now_us)
            until_us = quiet_until(channel, due.severity, now_us) if due and due.kind != "system" else now_us
            if due is not None and until_us > now_us:
                self._store.put_off(due, until_us)  # an update, or one that was to leave before the quiet hours began
                continue
            if due is None or not self._send(channel, due):
                break
            sent += 1
        return sent

    def _send(self, channel: Channel, due: Due) -> bool:
        if (arrived := self._arrivals.of(due.key)) is not None:  # the database was away when it was to be noted
            self._note(due, due.title, *arrived)
            return True
        payload = due.payload
        if not payload:
            message = self._writer.message(due)
            payload = json.dumps(as_json(message), ensure_ascii=False)
            self._store.put_payload(due, payload, message.title)
        message = from_json(json.loads(payload))
        if attachment := self._attachment(message):
            message = replace(message, attachments=(attachment,))
        if self._answers is not None and due.kind == "incident":  # never stored: who reads the database cannot answer
            message = replace(message, links=self._answers.links(due.id, due.incident_id, due.created_us))
        note = self._arrivals.begin(due.key)
        try:
            transcript = self._build(channel, self._client).send(message, note).transcript
        except (ChannelError, ConfigError) as error:
            if isinstance(error, ConfigError) or not self._arrivals.took(due.key):
                self._arrivals.take_back(due.key)
                self._failed(channel, due, message.title, error)
                self._arrivals.end(due.key)
                return False
            transcript = (*error.transcript, f"(it was taken; then: {error})")
        arrived = ("\n".join(transcript), self._clock_us())
        self._arrivals.add(due.key, *arrived)
        self._note(due, message.title, *arrived)
        return True

    def _attachment(self, message: Message) -> Attachment | None:
        """The file of a report, which is not kept with the message."""
        if isinstance(report_id := message.data.get("report_id"), int):
            return self._report(report_id)
        return self._report_file(file) if isinstance(file := message.data.get("report_file"), str) else None

    def _note(self, due: Due, title: str, transcript: str, now_us: int) -> None:
        self._store.mark_sent(due, transcript, now_us)
        self._arrivals.end(due.key)
        self._announce(due, title, "sent", now_us)

    def _failed(self, channel: Channel, due: Due, title: str, error: ChannelError | ConfigError) -> None:
        now_us = self._clock_us()
        permanent = error.permanent if isinstance(error, ChannelError) else True
        words = error.message if isinstance(error, ConfigError) else str(error)
        state = self._store.channel_states().get(channel.name)
        failures = (state.failures if state else 0) + 1
        open_until_us = 0
        if failures >= BREAKER_FAILURES:
            rest_s = min(BREAKER_MAX_S, BREAKER_FIRST_S * 2 ** min(20, failures - BREAKER_FAILURES))
            open_until_us = now_us + rest_s * 1_000_000
        wait_s = RETRIES_S[min(due.tries, len(RETRIES_S) - 1)] * (0.8 + 0.4 * self._jitter())
        if isinstance(error, ChannelError):
            wait_s = max(wait_s, error.retry_after_s)
        retry_us = now_us + int(wait_s * 1e6)
        if retry_us > due.created_us + GIVE_UP_US and not permanent:
            retry_us = 0
        transcript = "\n".join(error.transcript) if isinstance(error, ChannelError) else ""
        # A channel that cannot work keeps its messages: they go out when somebody has put it right.
        disabled = words if permanent else ""
        self._store.mark_failed(
            due, words, transcript, retry_us=retry_us, open_until_us=open_until_us, disabled=disabled
        )
        log.warning("notification %d by channel %s failed: %s", due.id, channel.name, words)
        if disabled and due.kind != "system":
            said = f"The channel {channel.name} does not work: {words}"
            self.tell_all("system", f"channel:{channel.name}", visible(said, 200), severity=7, but=channel.name)
        self._announce(due, title, "failed" if not retry_us or disabled else "retrying", now_us)

    def _announce(self, due: Due, title: str, status: str, now_us: int) -> None:
        data = {
            "id": due.id, "channel": due.channel, "status": status, "title": title, "severity": due.severity,
            "incident_id": due.incident_id, "event_id": due.last_event_id, "count": due.n, "kind": due.kind,
        }  # fmt: skip
        self._broadcaster.publish_update(EventUpdate("notification", data, now_us, priority=3, id=due.id))

    def test(self, channel: Channel) -> Delivery:
        """Really send a message by this channel, now; raises ChannelError or ConfigError."""
        now_us = self._clock_us()
        message = Message(
            key=f"test-{now_us}",
            kind="test",
            title="A test from ThreatLens",
            severity=1,
            timestamp=rfc3339(now_us),
            text="Somebody asked for this message to see whether the channel works. It does.",
            url=self._base_url,
            data={"test": True},
        )
        delivery = self._build(channel, self._client).send(message)
        self._store.note_proven(channel.name, now_us)
        return delivery


def _held(one: Occurrence, now_us: int) -> str:
    return "held back by quiet hours or a digest" if one.due_us > now_us else ""


def notifier(channel: Channel, client: OutboundClient) -> NotificationChannel:
    """The sender that a configured channel means. Raises ConfigError where its secret cannot be read."""
    if isinstance(channel, EmailChannel):
        server = channel.smtp
        password = server.password.resolve() if server.password else ""
        sender = channel.sender or f"threatlens@{server.host if '.' in server.host else 'localhost.localdomain'}"
        mail = MailServer(server.host, server.port, server.username, password, server.tls)
        return EmailNotifier(channel.name, channel.to, sender, mail, client)
    if isinstance(channel, SlackChannel):
        return SlackNotifier(channel.name, channel.url.resolve(), client)
    if isinstance(channel, AppriseChannel):
        return AppriseNotifier(channel.name, channel.url.resolve(), client)
    secrets = tuple(channel.secret.resolve().split()) if channel.secret else ()
    return WebhookNotifier(channel.name, channel.url, secrets, client)


def rule_wants(rule: NotificationRule, one: Happening) -> bool:
    """Whether this rule is about such a thing; hours are looked at later."""
    if not rule.enabled or not rule.min_severity <= one.severity <= rule.max_severity:
        return False
    if rule.categories and one.category not in rule.categories:
        return False
    if rule.sources and one.source not in rule.sources:
        return False
    return not rule.rules or any(rule_id in rule.rules for rule_id in one.rule_ids)


def _by_thread(rule: NotificationRule, wanted: Iterable[Happening]) -> dict[str, _Gathered]:
    found: dict[str, _Gathered] = {}
    for one in wanted:
        thread = f"digest:{rule.name}" if rule.digest_minutes else one.thread
        known = found.get(thread)
        if known is None:
            found[thread] = _Gathered(one, one.timestamp_us, one.timestamp_us, one.place, one.place, one.n)
            continue
        known.n += one.n
        known.first_us = min(known.first_us, one.timestamp_us)
        known.last_us = max(known.last_us, one.timestamp_us)
        known.last_place = max(known.last_place, one.place)
        if one.severity > known.worst.severity:
            known.worst = one
    return found


def within(hours: str, now_us: int) -> bool:
    """Whether the local time lies in "HH:MM-HH:MM", which may go over midnight."""
    start, end = (_minutes(part) for part in hours.split("-"))
    moment = dt.datetime.fromtimestamp(now_us / 1e6).astimezone()
    now = moment.hour * 60 + moment.minute
    return start <= now < end if start <= end else now >= start or now < end


def after_quiet(hours: str, now_us: int) -> int:
    """When the quiet hours that hold now are over; now where none hold."""
    if not within(hours, now_us):
        return now_us
    end = _minutes(hours.split("-")[1])
    # Without an offset, as clocks may change before the end.
    moment = dt.datetime.fromtimestamp(now_us / 1e6).astimezone().replace(tzinfo=None)
    until = moment.replace(hour=end // 60, minute=end % 60, second=0, microsecond=0)
    if until <= moment:
        until += dt.timedelta(days=1)
    return max(now_us, int(until.timestamp() * 1e6))


def quiet_until(channel: Channel, severity: int, now_us: int) -> int:
    """When a message of this severity may leave by this channel; now, unless its quiet hours hold."""
    return (
        after_quiet(channel.quiet_hours, now_us) if channel.quiet_hours and severity < channel.quiet_below else now_us
    )


def _minutes(clock: str) -> int:
    hour, minute = clock.split(":")
    return int(hour) * 60 + int(minute)
