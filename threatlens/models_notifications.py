"""The tables of the outbox: what is told, to whom, and how each channel is doing."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, Integer, SmallInteger, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from threatlens.clock import now_us
from threatlens.models import Base


class NotificationRecord(Base):
    """The outbox and its history: one message for one channel, written in the transaction of what it is about."""

    __tablename__ = "notification_history"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    event_id: Mapped[int] = mapped_column(Integer, default=0)  # its last event; 0: none
    incident_id: Mapped[int] = mapped_column(Integer, default=0)  # 0: none
    notification_type: Mapped[str] = mapped_column(Text)  # event, incident, digest, system, report
    channel: Mapped[str] = mapped_column(Text)
    rule: Mapped[str] = mapped_column(Text)  # the notification rule
    thread: Mapped[str] = mapped_column(Text)
    key: Mapped[str] = mapped_column(Text, unique=True)  # the same for every try
    status: Mapped[str] = mapped_column(Text)  # pending, sent, failed, suppressed
    severity: Mapped[int] = mapped_column(SmallInteger)
    title: Mapped[str] = mapped_column(Text)
    n: Mapped[int] = mapped_column(Integer)  # matches it tells of
    tries: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    next_try_us: Mapped[int] = mapped_column(BigInteger, default=0)
    sent_at: Mapped[int | None] = mapped_column(BigInteger)
    error_message: Mapped[str | None] = mapped_column(Text)  # of the last try; suppressed: why
    payload: Mapped[str] = mapped_column(Text, default="")  # JSON, once it was put together
    transcript: Mapped[str] = mapped_column(Text, default="")  # of the last try, secrets masked
    __table_args__ = (
        Index("ix_notification_history_pending", "channel", "next_try_us", sqlite_where=text("status = 'pending'")),
        Index("ix_notification_history_channel", "channel", "created_at"),
        Index("ix_notification_history_thread", "channel", "thread", "id"),
    )


class NotificationThreadRecord(Base):
    """What one channel was told about one thing, and what it was not told yet."""

    __tablename__ = "notification_threads"
    channel: Mapped[str] = mapped_column(Text, primary_key=True)
    thread: Mapped[str] = mapped_column(Text, primary_key=True)
    incident_id: Mapped[int] = mapped_column(Integer, default=0)
    n: Mapped[int] = mapped_column(Integer)  # matches since it began
    told: Mapped[int] = mapped_column(Integer)  # of those, in messages that were put together
    severity: Mapped[int] = mapped_column(SmallInteger)
    told_severity: Mapped[int] = mapped_column(SmallInteger)
    first_us: Mapped[int] = mapped_column(BigInteger)  # event times
    last_us: Mapped[int] = mapped_column(BigInteger)
    first_event_id: Mapped[int] = mapped_column(Integer)
    last_event_id: Mapped[int] = mapped_column(Integer)
    queued_us: Mapped[int] = mapped_column(BigInteger)  # when its last message was queued
    seen_us: Mapped[int] = mapped_column(BigInteger)  # when it last grew
    cooldown_us: Mapped[int] = mapped_column(BigInteger)
    pending_id: Mapped[int] = mapped_column(Integer)  # the message that waits; 0: none
    rule: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    title: Mapped[str] = mapped_column(Text)
    details: Mapped[str] = mapped_column(Text, default="{}")  # JSON: facts for the message
    __table_args__ = (
        Index("ix_notification_threads_untold", "queued_us", sqlite_where=text("n > told AND pending_id = 0")),
    )


class ChannelStateRecord(Base):
    """How a channel is doing."""

    __tablename__ = "channel_states"
    channel: Mapped[str] = mapped_column(Text, primary_key=True)
    failures: Mapped[int] = mapped_column(Integer)  # in a row
    open_until_us: Mapped[int] = mapped_column(BigInteger)  # the circuit breaker: nothing is tried before
    disabled: Mapped[str] = mapped_column(Text)  # why nothing is tried until somebody acts
    last_ok_us: Mapped[int] = mapped_column(BigInteger)
    last_error: Mapped[str] = mapped_column(Text)
    answers_from_us: Mapped[int] = mapped_column(BigInteger, default=0)  # links of older messages do nothing


class NotificationAnswerRecord(Base):
    """A link of a message that was used."""

    __tablename__ = "notification_answers"
    notification_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    action: Mapped[str] = mapped_column(Text, primary_key=True)  # acknowledge, mute
    address: Mapped[str] = mapped_column(Text)  # where it was used from
    used_at: Mapped[int] = mapped_column(BigInteger)
