"""The outbox: what is to be told, to whom, and what became of it.

What happened is written in the transaction of the events it is about. A thread gathers what happens about one thing
on one channel; it is told when it begins, and again, with counts, once the cooldown is over or it got worse. One
message of a thread waits at the most, so a flood of matches becomes one message with a number in it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from threatlens.store_told import FAILED, PENDING, SUPPRESSED, Told

HOUR_US = 3_600_000_000
#: A thread that was quiet this long begins anew.
THREAD_ENDS_US = 24 * HOUR_US
#: How much worse a thread must get to be told again at once.
WORSE_BY = 2
#: The thread that takes what comes above a channel's limit.
STORM = "storm"
#: From this severity on a message has a place even in a minute in which lesser ones fill theirs.
SEVERE = 8
#: Updates that are queued for one channel at once.
MOST_UPDATES = 500
#: What is said of a message that counts as sent although nobody said that it was taken.
UNANSWERED = "handed over whole just before ThreatLens was stopped; the answer was not seen"
_MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something to tell one channel: `n` matches of one rule about one thing, in one batch."""

    channel: str
    rule: str
    kind: str  # event, incident, system, digest, report
    thread: str
    severity: int
    title: str
    first_us: int  # event times
    last_us: int
    n: int = 1
    first_place: int = -1  # of the first event in its batch; -1: it is about none
    last_place: int = -1
    incident_id: int = 0
    due_us: int = 0  # not to be sent before
    cooldown_us: int = 15 * _MINUTE_US
    per_minute: int = 0  # messages that the channel takes; 0: any number
    suppressed: str = ""  # why it is not told
    details: Mapping[str, Any] = field(default_factory=dict)  # facts for the message


@dataclass(frozen=True, slots=True)
class Due:
    """One message to send now. `payload` is empty until it was put together the first time."""

    id: int
    key: str
    kind: str
    channel: str
    rule: str
    thread: str
    severity: int
    title: str
    n: int  # matches it tells of
    total: int  # of the thread since it began
    first_us: int
    last_us: int
    first_event_id: int
    last_event_id: int
    incident_id: int
    tries: int
    created_us: int
    details: Mapping[str, Any]
    payload: str


@dataclass(frozen=True, slots=True)
class ChannelState:
    """How a channel is doing."""

    channel: str
    failures: int = 0  # in a row
    open_until_us: int = 0  # nothing is tried before
    disabled: str = ""  # why nothing is tried until somebody acts; "": it works
    last_ok_us: int = 0
    last_error: str = ""


def write_occurrences(connection: Connection, occurrences: Iterable[Occurrence], first_id: int, now_us: int) -> None:
    """Put what happened into the outbox, within the caller's transaction. `first_id`: of the batch's first event."""
    for one in occurrences:
        first = first_id + one.first_place if one.first_place >= 0 else 0
        last = first_id + one.last_place if one.last_place >= 0 else 0
        if one.suppressed:
            _suppress(connection, one, first, now_us)
        else:
            _gather(connection, one, first, last, now_us)


def _suppress(connection: Connection, one: Occurrence, event_id: int, now_us: int) -> None:
    """One row an hour says that and why a thread is not told."""
    told = connection.exec_driver_sql(
        "UPDATE notification_history SET n = n + ? WHERE id = (SELECT id FROM notification_history WHERE channel = ?"
        " AND thread = ? AND status = 'suppressed' AND error_message = ? AND created_at > ? ORDER BY id DESC LIMIT 1)",
        (one.n, one.channel, one.thread, one.suppressed, now_us - HOUR_US),
    )
    if told.rowcount == 0:
        _insert(connection, one, one.thread, event_id, now_us, status=SUPPRESSED, error=one.suppressed)


def _gather(connection: Connection, one: Occurrence, first: int, last: int, now_us: int) -> None:
    thread = one.thread
    row = _thread(connection, one.channel, thread, now_us)
    limited = row is None and one.per_minute and one.kind != "system"
    if limited and _made(connection, one.channel, now_us) >= _places(one.severity, one.per_minute):
        thread = STORM  # the last place of a minute is its own
        row = _thread(connection, one.channel, thread, now_us)
    if row is None:
        connection.exec_driver_sql(
            "INSERT INTO notification_threads (channel, thread, incident_id, n, told, severity,"
            " told_severity, first_us, last_us, first_event_id, last_event_id, queued_us, seen_us, cooldown_us,"
            " pending_id, rule, kind, title, details) VALUES (?,?,?,0,0,?,0,?,?,?,?,0,?,?,0,?,?,?,?)"
            " ON CONFLICT (channel, thread) DO UPDATE SET incident_id = excluded.incident_id, n = 0,"
            " told = 0, severity = excluded.severity, told_severity = 0,"
            " first_us = excluded.first_us, last_us = excluded.last_us,"
            " first_event_id = excluded.first_event_id, last_event_id = excluded.last_event_id, queued_us = 0,"
            " seen_us = excluded.seen_us, cooldown_us = excluded.cooldown_us, pending_id = 0, rule = excluded.rule,"
            " kind = excluded.kind, title = excluded.title, details = excluded.details",
            (one.channel, thread, one.incident_id, one.severity, one.first_us, one.last_us, first, last, now_us,
             one.cooldown_us, one.rule, _kind(one, thread), one.title, json.dumps(dict(one.details))),
        )  # fmt: skip
        row = (0, 0, 0, 0, 0, 0)
    pending_id, queued_us, told, told_severity, worst, n = row
    if n == told > 0 and _kind(one, thread) == "digest":  # all of it was told: what comes now is another one's
        worst = 0
        connection.exec_driver_sql(
            "UPDATE notification_threads SET severity = 0, first_us = ?, first_event_id = ?"
            " WHERE channel = ? AND thread = ?",
            (one.first_us, first, one.channel, thread),
        )
    connection.exec_driver_sql(
        "UPDATE notification_threads SET n = n + ?, severity = max(severity, ?), first_us = min(first_us, ?),"
        " last_us = max(last_us, ?), last_event_id = max(last_event_id, ?), seen_us = ?, cooldown_us = ?"
        " WHERE channel = ? AND thread = ?",
        (one.n, one.severity, one.first_us, one.last_us, last, now_us, one.cooldown_us, one.channel, thread),
    )
    if thread != STORM or one.severity > worst:  # of many things it names the worst
        connection.exec_driver_sql(
            "UPDATE notification_threads SET title = ?, details = ?, incident_id = ? WHERE channel = ? AND thread = ?",
            (one.title, json.dumps(dict(one.details)), one.incident_id, one.channel, thread),
        )
    if pending_id and one.due_us <= now_us:  # what is loud does not wait for the end of quiet hours with what is not
        connection.exec_driver_sql(
            "UPDATE notification_history SET next_try_us = ? WHERE id = ? AND tries = 0 AND next_try_us > ?",
            (now_us, pending_id, now_us),
        )
    worse = told > 0 and one.severity >= told_severity + WORSE_BY
    if pending_id or not (told == 0 or worse or now_us >= queued_us + one.cooldown_us):
        return
    if told and not worse and one.per_minute and _made(connection, one.channel, now_us) >= one.per_minute:
        return  # queue_updates tells it when there is room
    _queue(connection, one, thread, last, now_us)


def _places(severity: int, per_minute: int) -> int:
    """How many messages of a minute may be new things of this severity: noise leaves room for what is severe."""
    return per_minute - 1 if severity >= SEVERE else max(1, per_minute // 2)


def _made(connection: Connection, channel: str, now_us: int) -> int:
    """Messages that were made for a channel within the last minute."""
    return int(
        connection.exec_driver_sql(
            "SELECT count(*) FROM notification_history WHERE channel = ? AND created_at > ? AND created_at <= ?"
            " AND status <> 'suppressed'",
            (channel, now_us - _MINUTE_US, now_us),
        ).scalar_one()
    )


def _thread(connection: Connection, channel: str, thread: str, now_us: int) -> tuple[int, ...] | None:
    row = connection.exec_driver_sql(
        "SELECT pending_id, queued_us, told, told_severity, severity, n FROM notification_threads"
        " WHERE channel = ? AND thread = ? AND (seen_us > ? OR pending_id > 0)",
        (channel, thread, now_us - THREAD_ENDS_US),
    ).one_or_none()
    return None if row is None else tuple(row)


def _queue(connection: Connection, one: Occurrence, thread: str, event_id: int, now_us: int) -> None:
    row_id = _insert(connection, one, thread, event_id, now_us, status=PENDING, error=None)
    connection.exec_driver_sql(
        "UPDATE notification_threads SET pending_id = ?, queued_us = ? WHERE channel = ? AND thread = ?",
        (row_id, now_us, one.channel, thread),
    )


def _insert(
    connection: Connection, one: Occurrence, thread: str, event_id: int, now_us: int, *, status: str, error: str | None
) -> int:
    return int(
        connection.exec_driver_sql(
            "INSERT INTO notification_history (event_id, incident_id, notification_type, channel, rule, thread, key,"
            " status, severity, title, n, tries, created_at, next_try_us, sent_at, error_message, payload, transcript)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,0,?,?,NULL,?,'','') RETURNING id",
            (event_id, one.incident_id, _kind(one, thread), one.channel, one.rule, thread, secrets.token_hex(16),
             status, one.severity, one.title, one.n, now_us, max(one.due_us, now_us), error),
        ).scalar_one()
    )  # fmt: skip


def _kind(one: Occurrence, thread: str) -> str:
    return "digest" if thread == STORM else one.kind


def _works(connection: Connection, channel: str, now_us: int) -> None:
    connection.exec_driver_sql(
        "INSERT INTO channel_states (channel, failures, open_until_us, disabled, last_ok_us, last_error)"
        " VALUES (?,0,0,'',?,'') ON CONFLICT (channel) DO UPDATE SET failures = 0, open_until_us = 0,"
        " disabled = '', last_ok_us = excluded.last_ok_us, last_error = ''",
        (channel, now_us),
    )


class Outbox(Told):
    """The tables notification_history, notification_threads and channel_states."""

    def tell(self, occurrences: Sequence[Occurrence], now_us: int) -> None:
        """Put what is about no event into the outbox."""
        with self.database.writing() as connection:
            write_occurrences(connection, occurrences, 0, now_us)

    def queue_updates(self, now_us: int, per_minute: Mapping[str, int]) -> int:
        """Queue a message for threads whose cooldown is over and of which not all was told; how many.

        A channel gets no more in a minute than it takes, the most severe first; the others wait for the next minute.
        """
        waiting = "n > told AND pending_id = 0 AND queued_us + cooldown_us <= ?"
        queued = 0
        with self.database.writing() as connection:
            channels = connection.exec_driver_sql(
                f"SELECT DISTINCT channel FROM notification_threads WHERE {waiting}", (now_us,)
            ).scalars()
            for channel in list(channels):
                most, made = per_minute.get(channel, 0), _made(connection, channel, now_us)
                room = max(0, most - made) if most else MOST_UPDATES
                rows = connection.exec_driver_sql(
                    "SELECT channel, rule, kind, thread, severity, title, first_us, last_us, n - told, incident_id,"
                    f" cooldown_us, last_event_id FROM notification_threads WHERE {waiting} AND channel = ?"
                    " ORDER BY severity DESC, queued_us LIMIT ?",
                    (now_us, channel, min(room, MOST_UPDATES)),
                ).all()
                for place, row in enumerate(rows):
                    if most and row.severity < SEVERE and made + place >= _places(row.severity, most):
                        break  # the most severe come first
                    one = Occurrence(
                        row.channel, row.rule, row.kind, row.thread, row.severity, row.title, row.first_us,
                        row.last_us, row[8], incident_id=row.incident_id, cooldown_us=row.cooldown_us,
                    )  # fmt: skip
                    _queue(connection, one, row.thread, row.last_event_id, now_us)
                    queued += 1
        return queued

    def wait_no_longer(self, now_us: int) -> None:
        """The clock was put back: nothing waits until it has gone round again. Quiet hours are looked at anew."""
        with self.database.writing() as connection:
            for query in (
                "UPDATE notification_history SET next_try_us = ? WHERE status = 'pending' AND next_try_us > ?",
                "UPDATE notification_threads SET queued_us = ? WHERE queued_us > ?",
                "UPDATE notification_threads SET seen_us = ? WHERE seen_us > ?",
                "UPDATE channel_states SET open_until_us = ? WHERE open_until_us > ?",
            ):
                connection.exec_driver_sql(query, (now_us, now_us))

    def has_due(self, now_us: int) -> set[str]:
        """The channels with something to send now."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT DISTINCT channel FROM notification_history WHERE status = 'pending' AND next_try_us <= ?",
                (now_us,),
            )
            return {row[0] for row in rows}

    def due(self, channel: str, now_us: int) -> Due | None:
        """The oldest message of this channel that is to be sent now."""
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                "SELECT h.id, h.key, h.notification_type, h.channel, h.rule, h.thread,"
                " max(h.severity, coalesce(t.severity, 0)), coalesce(t.title, h.title),"
                " CASE WHEN t.pending_id = h.id THEN t.n - t.told ELSE h.n END, coalesce(t.n, h.n),"
                " coalesce(t.first_us, h.created_at), coalesce(t.last_us, h.created_at),"
                " coalesce(t.first_event_id, h.event_id), coalesce(t.last_event_id, h.event_id), h.incident_id,"
                " h.tries, h.created_at, coalesce(t.details, '{}'), h.payload"
                " FROM notification_history h LEFT JOIN notification_threads t"
                " ON t.channel = h.channel AND t.thread = h.thread"
                " WHERE h.channel = ? AND h.status = 'pending' AND h.next_try_us <= ?"
                " ORDER BY h.next_try_us, h.id LIMIT 1",
                (channel, now_us),
            ).one_or_none()
        return None if row is None else Due(*(*row[:17], json.loads(row[17]), row[18]))

    def first_told(self, channel: str, thread: str) -> tuple[int, str] | None:
        """(severity, title) of the oldest message of a thread that is still in the history."""
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                "SELECT severity, title FROM notification_history WHERE channel = ? AND thread = ? AND payload <> ''"
                " ORDER BY id LIMIT 1",
                (channel, thread),
            ).one_or_none()
        return None if row is None else (int(row[0]), str(row[1]))

    def put_payload(self, due: Due, payload: str, title: str) -> None:
        """Keep what is going to be sent, before it is: every try sends the same bytes, later matches are not in it."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE notification_history SET payload = ?, title = ?, n = ?, severity = ? WHERE id = ?",
                (payload, title, due.n, due.severity, due.id),
            )
            connection.exec_driver_sql(
                "UPDATE notification_threads SET told = ?, told_severity = ?, pending_id = 0"
                " WHERE channel = ? AND thread = ? AND pending_id = ?",
                (due.total, due.severity, due.channel, due.thread, due.id),
            )

    def mark_sent(self, due: Due, transcript: str, now_us: int) -> None:
        """It arrived."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE notification_history SET status = 'sent', sent_at = ?, tries = tries + 1, error_message = NULL,"
                " transcript = ? WHERE id = ?",
                (now_us, transcript, due.id),
            )
            if due.last_event_id:
                connection.exec_driver_sql(
                    "UPDATE events SET notification_sent = 1 WHERE id IN (?, ?)",
                    (due.first_event_id, due.last_event_id),
                )
            _works(connection, due.channel, now_us)

    def note_arrived(self, answered: Mapping[str, str], handed_over: Sequence[str], now_us: int) -> None:
        """What an engine that was stopped could not note: the answers of whoever took a message, by its key, and keys.

        What was handed over and not answered counts as sent where the channel works; else it is tried again.
        """
        with self.database.writing() as connection:
            for key, answer in answered.items():
                connection.exec_driver_sql(
                    "UPDATE notification_history SET status = 'sent', sent_at = ?, tries = tries + 1,"
                    " error_message = NULL, transcript = ? WHERE key = ? AND status = 'pending'",
                    (now_us, f"< {answer}\n(ThreatLens was ended then, and noted it at its next start)", key),
                )
            for key in handed_over:
                connection.exec_driver_sql(
                    "UPDATE notification_history SET status = 'sent', sent_at = ?, tries = 1, error_message = ?,"
                    " transcript = '' WHERE key = ? AND status = 'pending' AND tries = 0 AND channel IN"
                    " (SELECT channel FROM channel_states WHERE failures = 0 AND disabled = '' AND last_error = ''"
                    " AND last_ok_us > 0 AND open_until_us <= ?)",
                    (now_us, UNANSWERED, key, now_us),
                )
            for key in (*answered, *handed_over):
                connection.exec_driver_sql(
                    "UPDATE events SET notification_sent = 1"
                    " WHERE id = (SELECT event_id FROM notification_history WHERE key = ? AND status = 'sent')",
                    (key,),
                )

    def mark_failed(
        self, due: Due, error: str, transcript: str, *, retry_us: int, open_until_us: int, disabled: str
    ) -> None:
        """It did not arrive. retry_us: when it is tried again, 0: never; disabled: why the channel is not tried."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE notification_history SET status = ?, tries = tries + 1, next_try_us = ?, error_message = ?,"
                " transcript = ? WHERE id = ?",
                (PENDING if retry_us else FAILED, retry_us, error, transcript, due.id),
            )
            connection.exec_driver_sql(
                "INSERT INTO channel_states (channel, failures, open_until_us, disabled, last_ok_us, last_error)"
                " VALUES (?,1,?,?,0,?) ON CONFLICT (channel) DO UPDATE SET failures = channel_states.failures + 1,"
                " open_until_us = excluded.open_until_us, disabled = excluded.disabled,"
                " last_error = excluded.last_error",
                (due.channel, open_until_us, disabled, error),
            )

    def put_off(self, due: Due, until_us: int) -> None:
        """Send it then, and not before."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE notification_history SET next_try_us = ? WHERE id = ?", (until_us, due.id)
            )

    def channel_states(self) -> dict[str, ChannelState]:
        """By channel; one that never sent has none."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT channel, failures, open_until_us, disabled, last_ok_us, last_error FROM channel_states"
            )
            return {row[0]: ChannelState(*row) for row in rows}

    def resume_channel(self, channel: str) -> None:
        """Try the channel again from now on; what waits for it becomes due."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE channel_states SET failures = 0, open_until_us = 0, disabled = '' WHERE channel = ?", (channel,)
            )

    def note_proven(self, channel: str, now_us: int) -> None:
        """A message that somebody sent to try it has arrived."""
        with self.database.writing() as connection:
            _works(connection, channel, now_us)

    def resend(self, notification_id: int, now_us: int) -> bool:
        """Put a message that failed, or whose answer was not seen, back into the outbox; False: it is no such one."""
        with self.database.writing() as connection:
            changed = connection.exec_driver_sql(
                "UPDATE notification_history SET status = 'pending', tries = 0, next_try_us = ?, created_at = ?,"
                " sent_at = NULL, error_message = NULL"
                " WHERE id = ? AND (status = 'failed' OR (status = 'sent' AND error_message IS NOT NULL))",
                (now_us, now_us, notification_id),
            )
        return changed.rowcount == 1
