"""The tables. A class named ...Record is a row.

Times are integers: microseconds since the epoch, UTC, in columns named ..._us or timestamp/..._at as the design
document names them. An event keeps its raw line and what was decided about it; its fields are read from the raw line
again when somebody looks (decoders are pure), which keeps the table small and inserts fast.

They say what the schema is: tests hold the migrations to it, and `flask --app wsgi shell` looks at what is stored with
them. Only the app factory imports them, as the store speaks SQL.
"""

from __future__ import annotations

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import BigInteger, Boolean, Float, ForeignKey, Index, Integer, LargeBinary, SmallInteger, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from threatlens.clock import now_us


class Base(DeclarativeBase):
    """The declarative base of every table."""


db = SQLAlchemy(model_class=Base)


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
    learned: Mapped[str] = mapped_column(Text, default="[]")  # JSON: decoders it spoke, newest first, and its zone
    state: Mapped[str] = mapped_column(Text, default="starting")
    state_reason: Mapped[str] = mapped_column(Text, default="")
    remedy: Mapped[str] = mapped_column(Text, default="")
    last_monitored: Mapped[int] = mapped_column(BigInteger, default=0)
    file_size: Mapped[int] = mapped_column(BigInteger, default=0)  # bytes, all its files
    last_offset: Mapped[int] = mapped_column(BigInteger, default=0)  # bytes of those that are stored
    files: Mapped[int] = mapped_column(Integer, default=0)
    lines: Mapped[int] = mapped_column(BigInteger, default=0)  # the ledger: lines read ...
    blank_lines: Mapped[int] = mapped_column(BigInteger, default=0)  # ... of which carry no event
    joined_lines: Mapped[int] = mapped_column(BigInteger, default=0)  # ... which are part of the event before them
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


class UserTotalRecord(Base):
    """The users that events name, and in how many; names that differ in case only are one."""

    __tablename__ = "user_totals"
    user_name: Mapped[str] = mapped_column(Text(collation="NOCASE"), primary_key=True)
    n: Mapped[int] = mapped_column(Integer)


class AddressSlotRecord(Base):
    """The roll-up of addresses: what each did in ten minutes of event time."""

    __tablename__ = "address_slots"
    slot: Mapped[int] = mapped_column(Integer, primary_key=True)  # ten minutes each since the epoch
    source_ip: Mapped[str] = mapped_column(Text, primary_key=True)
    category_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    n: Mapped[int] = mapped_column(Integer)
    failures: Mapped[int] = mapped_column(Integer)
    successes: Mapped[int] = mapped_column(Integer)
    __table_args__ = (Index("ix_address_slots_source_ip", "source_ip", "slot"),)


class RawLogRecord(Base):
    """The ledger: which bytes of which stream became which events. Runs that touch are merged within a minute."""

    __tablename__ = "raw_logs"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    stream_id: Mapped[int] = mapped_column(Integer)
    start_offset: Mapped[int] = mapped_column(BigInteger)
    end_offset: Mapped[int] = mapped_column(BigInteger)
    lines: Mapped[int] = mapped_column(Integer)
    blank_lines: Mapped[int] = mapped_column(Integer, default=0)
    joined_lines: Mapped[int] = mapped_column(Integer, default=0)  # part of the event of a line before
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
    config_data: Mapped[str] = mapped_column(Text)  # JSON; secrets are sealed (vault.py)
    author: Mapped[str] = mapped_column(Text, default="")
    note: Mapped[str] = mapped_column(Text, default="")
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
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))  # none: the command line
    prefix: Mapped[str] = mapped_column(Text, default="")
    expires_at: Mapped[int] = mapped_column(BigInteger, default=0)  # 0: never
    scopes: Mapped[str] = mapped_column(Text, default="[]")  # JSON: read, ingest, write; none: all of them
    sources: Mapped[str] = mapped_column(Text, default="[]")  # JSON: names; none: all


class UserRecord(Base):
    """An account of a person."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)  # never used again
    name: Mapped[str] = mapped_column(Text, unique=True)  # normalised
    password_hash: Mapped[str] = mapped_column(Text)  # Argon2id, with its salt and cost
    role: Mapped[str] = mapped_column(Text)
    enabled: Mapped[bool] = mapped_column(Boolean, default=True)
    created_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    password_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    last_login_at: Mapped[int] = mapped_column(BigInteger, default=0)
    sources: Mapped[str] = mapped_column(Text, default="[]")  # JSON: names of all they may know of; none: all
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - as SQLAlchemy wants it


class SessionRecord(Base):
    """A browser that somebody logged in with; only the hash of its secret is kept."""

    __tablename__ = "sessions"
    id_hash: Mapped[str] = mapped_column(Text, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_at: Mapped[int] = mapped_column(BigInteger)
    seen_at: Mapped[int] = mapped_column(BigInteger)
    confirmed_at: Mapped[int] = mapped_column(BigInteger)  # when the password was last given
    address: Mapped[str] = mapped_column(Text)
    browser: Mapped[str] = mapped_column(Text)
    __table_args__ = (Index("ix_sessions_user_id", "user_id"), {"sqlite_with_rowid": False})


class LoginAddressRecord(Base):
    """From where somebody logged in: the limit of an account does not lock them out there."""

    __tablename__ = "login_addresses"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    address: Mapped[str] = mapped_column(Text, primary_key=True)
    seen_at: Mapped[int] = mapped_column(BigInteger)
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - as SQLAlchemy wants it


class SetupCodeRecord(Base):
    """What the first administrator is made with; only its hash is kept."""

    __tablename__ = "setup_codes"
    code_hash: Mapped[str] = mapped_column(Text, primary_key=True)
    created_at: Mapped[int] = mapped_column(BigInteger)
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - as SQLAlchemy wants it


class AuditRecord(Base):
    """One entry of the audit log. Triggers refuse to change or delete it."""

    __tablename__ = "audit_log"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    timestamp: Mapped[int] = mapped_column(BigInteger)
    actor: Mapped[str] = mapped_column(Text)
    address: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text)
    target: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text)  # JSON
    request_id: Mapped[str] = mapped_column(Text)
    hash: Mapped[str] = mapped_column(Text)
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - as SQLAlchemy wants it


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


class DetectionRecord(Base):
    """One match of a rule, correlation or novelty."""

    __tablename__ = "detections"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    rule_id: Mapped[str] = mapped_column(Text)
    rule_name: Mapped[str] = mapped_column(Text)
    level: Mapped[str] = mapped_column(Text)  # informational, low, medium, high, critical
    severity: Mapped[int] = mapped_column(SmallInteger)
    kind: Mapped[str] = mapped_column(Text)  # rule, correlation, novelty
    timestamp: Mapped[int] = mapped_column(BigInteger)  # of its last event
    first_us: Mapped[int] = mapped_column(BigInteger)
    n: Mapped[int] = mapped_column(Integer)  # events that it counts
    group_by: Mapped[str] = mapped_column(Text, default="[]")  # JSON: [[field, value], ...]
    source_ip: Mapped[str | None] = mapped_column(Text)
    user_name: Mapped[str | None] = mapped_column(Text)
    host_name: Mapped[str | None] = mapped_column(Text)
    tags: Mapped[str] = mapped_column(Text, default="[]")  # JSON: ["attack.t1110.001", ...]
    event_id: Mapped[int] = mapped_column(Integer)  # its last event
    source_id: Mapped[int] = mapped_column(Integer, default=0)
    incident_id: Mapped[int] = mapped_column(Integer, default=0)  # 0: none
    suppressed: Mapped[str] = mapped_column(Text, default="")  # observe, mute:ID, exception:ID, case; "": counts
    __table_args__ = (
        Index("ix_detections_event_id", "event_id"),
        Index("ix_detections_rule_id", "rule_id", "id"),
        Index("ix_detections_incident_id", "incident_id", "id", sqlite_where=text("incident_id > 0")),
    )


class DetectionEventRecord(Base):
    """The other events of a match that has several."""

    __tablename__ = "detection_events"
    event_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    detection_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    __table_args__ = (Index("ix_detection_events_detection_id", "detection_id"),)


class IncidentRecord(Base):
    """Matches about one attacker, user or host that belong together."""

    __tablename__ = "incidents"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    status: Mapped[str] = mapped_column(Text, default="open")  # open, acknowledged, closed, false_positive
    title: Mapped[str] = mapped_column(Text)
    severity: Mapped[int] = mapped_column(SmallInteger)
    outcome: Mapped[str] = mapped_column(Text)  # attempt, success
    subject_kind: Mapped[str] = mapped_column(Text)  # source.ip, user.name, host.name, rule
    subject: Mapped[str] = mapped_column(Text)
    first_us: Mapped[int] = mapped_column(BigInteger)
    last_us: Mapped[int] = mapped_column(BigInteger)
    n: Mapped[int] = mapped_column(Integer)  # matches
    assignee: Mapped[str] = mapped_column(Text, default="")
    previous_id: Mapped[int] = mapped_column(Integer, default=0)  # the closed incident about the same subject
    closed_us: Mapped[int] = mapped_column(BigInteger, default=0)  # event time: its last event when it was closed
    created_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    updated_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    version: Mapped[int] = mapped_column(Integer, default=1)  # of what people decide; moves by compare-and-set
    __table_args__ = (
        Index("ix_incidents_status", "status", "id"),
        Index("ix_incidents_subject", "subject_kind", "subject", "id"),
    )


class IncidentMemberRecord(Base):
    """What one rule has to do with an incident: a row of its timeline."""

    __tablename__ = "incident_members"
    incident_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    rule_id: Mapped[str] = mapped_column(Text, primary_key=True)
    outcome: Mapped[str] = mapped_column(Text, primary_key=True)
    rule_name: Mapped[str] = mapped_column(Text)
    level: Mapped[str] = mapped_column(Text)
    severity: Mapped[int] = mapped_column(SmallInteger)
    kind: Mapped[str] = mapped_column(Text)
    tags: Mapped[str] = mapped_column(Text, default="[]")
    n: Mapped[int] = mapped_column(Integer)  # matches
    events: Mapped[int] = mapped_column(Integer)  # events behind them
    first_us: Mapped[int] = mapped_column(BigInteger)
    last_us: Mapped[int] = mapped_column(BigInteger)
    first_event_id: Mapped[int] = mapped_column(Integer)
    last_event_id: Mapped[int] = mapped_column(Integer)


class IncidentEntityRecord(Base):
    """An address, user or host that an incident is about."""

    __tablename__ = "incident_entities"
    kind: Mapped[str] = mapped_column(Text, primary_key=True)  # source.ip, user.name, host.name
    value: Mapped[str] = mapped_column(Text, primary_key=True)
    incident_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    n: Mapped[int] = mapped_column(Integer)
    taken: Mapped[int] = mapped_column(SmallInteger, default=0)  # 1: in a match that succeeded
    __table_args__ = (Index("ix_incident_entities_incident_id", "incident_id"),)


class IncidentNoteRecord(Base):
    """A comment, or something that somebody did about an incident."""

    __tablename__ = "incident_notes"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    incident_id: Mapped[int] = mapped_column(Integer)
    kind: Mapped[str] = mapped_column(Text)  # comment, acknowledged, assigned, closed, false_positive, reopened, undone
    author: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text, default="")
    before: Mapped[str] = mapped_column(Text, default="{}")  # JSON: what undo restores
    created_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    __table_args__ = (Index("ix_incident_notes_incident_id", "incident_id", "id"),)


class MuteRecord(Base):
    """Matches that shall not raise anything for a while; an empty column is any value."""

    __tablename__ = "mutes"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    rule_id: Mapped[str] = mapped_column(Text, default="")
    source_ip: Mapped[str] = mapped_column(Text, default="")  # an address or a network
    user_name: Mapped[str] = mapped_column(Text, default="")
    source: Mapped[str] = mapped_column(Text, default="")  # name of a log source
    host_name: Mapped[str] = mapped_column(Text, default="")
    reason: Mapped[str] = mapped_column(Text, default="")
    author: Mapped[str] = mapped_column(Text)
    incident_id: Mapped[int] = mapped_column(Integer, default=0)  # made from there
    created_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    expires_us: Mapped[int] = mapped_column(BigInteger)
    ended_us: Mapped[int] = mapped_column(BigInteger, default=0)  # taken back; 0: not
    hits: Mapped[int] = mapped_column(Integer, default=0)
    condition: Mapped[str] = mapped_column(Text, default="")  # severity, other, count: what ends it before its time
    condition_n: Mapped[int] = mapped_column(Integer, default=0)
    known: Mapped[str] = mapped_column(Text, default="[]")  # JSON: what ends nothing
    ended_by: Mapped[str] = mapped_column(Text, default="")  # what did, in words; "": a person


class RuleStateRecord(Base):
    """What somebody decided about a rule: off, observe (counted, raises nothing), on."""

    __tablename__ = "rule_states"
    rule_id: Mapped[str] = mapped_column(Text, primary_key=True)
    state: Mapped[str] = mapped_column(Text)
    author: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[int] = mapped_column(BigInteger, default=now_us)


class RuleExceptionRecord(Base):
    """Events for which a rule shall raise nothing."""

    __tablename__ = "rule_exceptions"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    rule_id: Mapped[str] = mapped_column(Text)
    conditions: Mapped[str] = mapped_column(Text)  # JSON: {field: value with * and ?}; all must hold
    reason: Mapped[str] = mapped_column(Text, default="")
    author: Mapped[str] = mapped_column(Text)
    created_at: Mapped[int] = mapped_column(BigInteger, default=now_us)


class RuleDayRecord(Base):
    """How often a rule matched on one day of event time."""

    __tablename__ = "rule_days"
    rule_id: Mapped[str] = mapped_column(Text, primary_key=True)
    day: Mapped[int] = mapped_column(Integer, primary_key=True)  # days since the epoch
    n: Mapped[int] = mapped_column(Integer)
    suppressed: Mapped[int] = mapped_column(Integer)  # of them, not raised
    last_us: Mapped[int] = mapped_column(BigInteger)


class CorrelationStateRecord(Base):
    """What a correlation remembers, as of the last committed batch."""

    __tablename__ = "correlation_states"
    rule_id: Mapped[str] = mapped_column(Text, primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    payload: Mapped[bytes] = mapped_column(LargeBinary)  # written and read by threatlens.detectors


class NoveltyRecord(Base):
    """Something that was seen before: a user on a host, a network of a user, a message shape, an hour of a user."""

    __tablename__ = "novelties"
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    scope: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[str] = mapped_column(Text, primary_key=True)
    first_us: Mapped[int] = mapped_column(BigInteger)
    last_us: Mapped[int] = mapped_column(BigInteger)
    n: Mapped[int] = mapped_column(Integer)
    __table_args__ = (Index("ix_novelties_last_us", "last_us"),)
