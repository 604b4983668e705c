"""The tables. A class named ...Record is a row.

Times are integers: microseconds since the epoch, UTC, in columns named ..._us or timestamp/..._at as the design
document names them. An event keeps its raw line and what was decided about it; its fields are read from the raw line
again when somebody looks (decoders are pure), which keeps the table small and inserts fast.
"""

from __future__ import annotations

import time

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import BigInteger, Boolean, Float, ForeignKey, Index, Integer, LargeBinary, SmallInteger, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The declarative base of every table."""


db = SQLAlchemy(model_class=Base)


def now_us() -> int:
    """The wall clock in microseconds since the epoch."""
    return time.time_ns() // 1000


class LogSourceRecord(Base):
    """A configured source of lines: a file, a folder, a glob, or what the API and the command line hand in."""

    __tablename__ = "log_sources"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    source_name: Mapped[str] = mapped_column(Text, unique=True)
    path: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text, default="file")  # file, api, cli, demo
    origin: Mapped[str] = mapped_column(Text, default="ui")  # yaml (read-only in the UI), ui, api, cli, demo
    enabled: Mapped[bool] = mapped_column(Boolean, default=True)
    settings: Mapped[str] = mapped_column(Text, default="{}")  # JSON: the other fields of LogSourceConfig
    learned: Mapped[str] = mapped_column(Text, default="[]")  # JSON: decoder names this source spoke, newest first
    state: Mapped[str] = mapped_column(Text, default="starting")
    state_reason: Mapped[str] = mapped_column(Text, default="")
    remedy: Mapped[str] = mapped_column(Text, default="")
    last_monitored: Mapped[int] = mapped_column(BigInteger, default=0)
    file_size: Mapped[int] = mapped_column(BigInteger, default=0)  # bytes, all its files
    last_offset: Mapped[int] = mapped_column(BigInteger, default=0)  # bytes of those that are stored
    files: Mapped[int] = mapped_column(Integer, default=0)
    lines: Mapped[int] = mapped_column(BigInteger, default=0)  # the ledger: lines read ...
    blank_lines: Mapped[int] = mapped_column(BigInteger, default=0)  # ... of which carry no event
    events: Mapped[int] = mapped_column(BigInteger, default=0)  # ... and those stored as events
    unknown: Mapped[int] = mapped_column(BigInteger, default=0)  # events that no decoder knew
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)  # bytes stored, terminators included
    last_event_us: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    updated_at: Mapped[int] = mapped_column(BigInteger, default=now_us, onupdate=now_us)


class LogStreamRecord(Base):
    """One file's life: its content from the first byte on, whatever its name or inode is by now."""

    __tablename__ = "log_streams"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    source_id: Mapped[int] = mapped_column(ForeignKey("log_sources.id", ondelete="CASCADE"))
    path: Mapped[str] = mapped_column(LargeBinary)  # bytes: file names need not be text
    device: Mapped[int] = mapped_column(BigInteger, default=0)
    inode: Mapped[int] = mapped_column(BigInteger, default=0)  # 0: no file carries it now
    compressed: Mapped[bool] = mapped_column(Boolean, default=False)
    position: Mapped[int] = mapped_column(BigInteger, default=0)  # bytes stored; moves by compare-and-set only
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary, default=b"")  # threatlens.sources knows what is in it
    retired: Mapped[bool] = mapped_column(Boolean, default=False)  # its file was truncated, replaced or is gone
    created_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    updated_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    __table_args__ = (Index("ix_log_streams_source_id", "source_id"),)


class NameRecord(Base):
    """Short numbers for the words that events repeat: categories, formats, hosts, actions, file paths."""

    __tablename__ = "names"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[str] = mapped_column(Text)  # category, format, path
    name: Mapped[str] = mapped_column(Text)
    __table_args__ = (Index("ux_names_kind_name", "kind", "name", unique=True),)


class EventRecord(Base):
    """One event. id is the order of arrival; ids of one batch are consecutive."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    timestamp: Mapped[int] = mapped_column(BigInteger)  # event time, microseconds
    ingested_at: Mapped[int] = mapped_column(BigInteger)  # milliseconds (six bytes in SQLite, not eight)
    source_id: Mapped[int] = mapped_column(Integer)
    path_id: Mapped[int] = mapped_column(Integer)  # names.id
    format_id: Mapped[int] = mapped_column(SmallInteger)
    category_id: Mapped[int] = mapped_column(SmallInteger)
    severity: Mapped[int] = mapped_column(SmallInteger)
    flags: Mapped[int] = mapped_column(SmallInteger)
    template_id: Mapped[int] = mapped_column(Integer)  # 0: none
    outcome: Mapped[int] = mapped_column(SmallInteger)  # 0 none, 1 success, 2 failure
    source_ip: Mapped[str | None] = mapped_column(Text)
    user_name: Mapped[str | None] = mapped_column(Text)
    encoding: Mapped[str | None] = mapped_column(Text)  # only where raw is not UTF-8
    original_bytes: Mapped[int | None] = mapped_column(BigInteger)  # only where the line was cut: its true length
    processing_us: Mapped[int] = mapped_column(Integer)  # from read to commit
    realtime_processed: Mapped[int] = mapped_column(SmallInteger)
    notification_sent: Mapped[int] = mapped_column(SmallInteger)
    raw: Mapped[str] = mapped_column(Text)  # text where the line is UTF-8, else its exact bytes as a blob
    __table_args__ = (Index("ix_events_severity_id", "severity", "id", sqlite_where=text("severity >= 5")),)


class EventMinuteRecord(Base):
    """The roll-up: how many events of each kind a minute of event time has, and between which ids they lie."""

    __tablename__ = "event_minutes"
    minute: Mapped[int] = mapped_column(Integer, primary_key=True)  # minutes since the epoch
    source_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    category_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    severity: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    n: Mapped[int] = mapped_column(Integer)
    first_id: Mapped[int] = mapped_column(Integer)
    last_id: Mapped[int] = mapped_column(Integer)
    __table_args__ = (Index("ix_event_minutes_last_id", "last_id"),)


class AddressSlotRecord(Base):
    """The roll-up of addresses: what each did in ten minutes of event time."""

    __tablename__ = "address_slots"
    slot: Mapped[int] = mapped_column(Integer, primary_key=True)  # ten minutes each since the epoch
    source_ip: Mapped[str] = mapped_column(Text, primary_key=True)
    category_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    n: Mapped[int] = mapped_column(Integer)
    failures: Mapped[int] = mapped_column(Integer)
    successes: Mapped[int] = mapped_column(Integer)


class RawLogRecord(Base):
    """The ledger: which bytes of which stream became which events. Runs that touch are merged within a minute."""

    __tablename__ = "raw_logs"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    stream_id: Mapped[int] = mapped_column(Integer)
    start_offset: Mapped[int] = mapped_column(BigInteger)
    end_offset: Mapped[int] = mapped_column(BigInteger)
    lines: Mapped[int] = mapped_column(Integer)
    blank_lines: Mapped[int] = mapped_column(Integer, default=0)
    first_event_id: Mapped[int] = mapped_column(Integer)  # 0: only blank lines
    last_event_id: Mapped[int] = mapped_column(Integer)
    ingested_at: Mapped[int] = mapped_column(BigInteger)  # microseconds, of its first batch
    __table_args__ = (Index("ix_raw_logs_stream_start", "stream_id", "start_offset"),)


class DeadLetterRecord(Base):
    """A line that could not be stored as an event: kept raw, never retried by itself, replayed when asked."""

    __tablename__ = "dead_letters"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    source_id: Mapped[int] = mapped_column(Integer)
    stream_id: Mapped[int] = mapped_column(Integer)
    file_offset: Mapped[int] = mapped_column(BigInteger)  # of the run the line was in
    path: Mapped[str] = mapped_column(Text)
    raw: Mapped[bytes] = mapped_column(LargeBinary)
    encoding: Mapped[str] = mapped_column(Text)
    error: Mapped[str] = mapped_column(Text)
    created_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    replayed_at: Mapped[int] = mapped_column(BigInteger, default=0)  # 0: still dead
    event_id: Mapped[int] = mapped_column(Integer, default=0)


class TemplateRecord(Base):
    """One message shape of lines that no decoder knows."""

    __tablename__ = "templates"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    text: Mapped[str] = mapped_column(Text, unique=True)  # tokens, "<*>" where they vary
    sample: Mapped[str] = mapped_column(Text)
    n: Mapped[int] = mapped_column(BigInteger, default=0)
    first_seen_us: Mapped[int] = mapped_column(BigInteger)
    last_seen_us: Mapped[int] = mapped_column(BigInteger)
    source_id: Mapped[int] = mapped_column(Integer)  # where it was first seen


class MonitoringConfigRecord(Base):
    """What was configured in the UI, one row per saved version; the newest is in force."""

    __tablename__ = "monitoring_config"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    config_data: Mapped[str] = mapped_column(Text)  # JSON
    created_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    updated_at: Mapped[int] = mapped_column(BigInteger, default=now_us, onupdate=now_us)


class ProcessingMetricRecord(Base):
    """One measurement of the pipeline, once a minute."""

    __tablename__ = "processing_metrics"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    metric_type: Mapped[str] = mapped_column(Text)
    metric_value: Mapped[float] = mapped_column(Float)
    timestamp: Mapped[int] = mapped_column(BigInteger, default=now_us)
    details: Mapped[str] = mapped_column("metadata", Text, default="{}")  # JSON
    __table_args__ = (Index("ix_processing_metrics_type_time", "metric_type", "timestamp"),)


class ApiTokenRecord(Base):
    """A bearer token; only its SHA-256 is kept."""

    __tablename__ = "api_tokens"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    token_hash: Mapped[str] = mapped_column(Text, unique=True)  # hex
    role: Mapped[str] = mapped_column(Text)  # viewer, analyst, admin
    created_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    last_used_at: Mapped[int] = mapped_column(BigInteger, default=0)


class IngestionRecord(Base):
    """Data handed in by the API or the command line, and how far it has come."""

    __tablename__ = "ingestions"
    id: Mapped[str] = mapped_column(Text, primary_key=True)  # random, URL-safe
    source_id: Mapped[int] = mapped_column(Integer)
    path: Mapped[str] = mapped_column(Text)  # the spooled or named file
    size: Mapped[int] = mapped_column(BigInteger)  # bytes
    accepted: Mapped[int] = mapped_column(Integer)  # lines
    state: Mapped[str] = mapped_column(Text, default="accepted")  # accepted, processing, done, failed
    idempotency_key: Mapped[str | None] = mapped_column(Text, unique=True)
    error: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    updated_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
