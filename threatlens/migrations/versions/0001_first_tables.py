"""The first tables."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)


SCHEMA = """
CREATE TABLE log_sources (
    id INTEGER PRIMARY KEY,
    source_name TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    kind TEXT NOT NULL DEFAULT 'file',
    origin TEXT NOT NULL DEFAULT 'ui',
    enabled BOOLEAN NOT NULL DEFAULT 1,
    settings TEXT NOT NULL DEFAULT '{}',
    learned TEXT NOT NULL DEFAULT '[]',
    state TEXT NOT NULL DEFAULT 'starting',
    state_reason TEXT NOT NULL DEFAULT '',
    remedy TEXT NOT NULL DEFAULT '',
    last_monitored BIGINT NOT NULL DEFAULT 0,
    file_size BIGINT NOT NULL DEFAULT 0,
    last_offset BIGINT NOT NULL DEFAULT 0,
    files INTEGER NOT NULL DEFAULT 0,
    lines BIGINT NOT NULL DEFAULT 0,
    blank_lines BIGINT NOT NULL DEFAULT 0,
    events BIGINT NOT NULL DEFAULT 0,
    unknown BIGINT NOT NULL DEFAULT 0,
    bytes BIGINT NOT NULL DEFAULT 0,
    last_event_us BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE log_streams (
    id INTEGER PRIMARY KEY,
    source_id INTEGER NOT NULL REFERENCES log_sources (id) ON DELETE CASCADE,
    path BLOB NOT NULL,
    device BIGINT NOT NULL DEFAULT 0,
    inode BIGINT NOT NULL DEFAULT 0,
    compressed BOOLEAN NOT NULL DEFAULT 0,
    position BIGINT NOT NULL DEFAULT 0,
    fingerprint BLOB NOT NULL DEFAULT x'',
    retired BOOLEAN NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX ix_log_streams_source_id ON log_streams (source_id);
CREATE TABLE names (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL
);
CREATE UNIQUE INDEX ux_names_kind_name ON names (kind, name);
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    timestamp BIGINT NOT NULL,
    ingested_at BIGINT NOT NULL,
    source_id INTEGER NOT NULL,
    path_id INTEGER NOT NULL,
    format_id SMALLINT NOT NULL,
    category_id SMALLINT NOT NULL,
    severity SMALLINT NOT NULL,
    flags SMALLINT NOT NULL,
    template_id INTEGER NOT NULL,
    outcome SMALLINT NOT NULL,
    source_ip TEXT,
    user_name TEXT,
    encoding TEXT,
    original_bytes BIGINT,
    processing_us INTEGER NOT NULL,
    realtime_processed SMALLINT NOT NULL,
    notification_sent SMALLINT NOT NULL,
    raw TEXT NOT NULL
);
CREATE INDEX ix_events_severity_id ON events (severity, id) WHERE severity >= 5;
CREATE VIRTUAL TABLE events_fts USING fts5 (
    raw, content='', columnsize=0, detail=none, tokenize="unicode61 tokenchars '.-_@'"
);
INSERT INTO events_fts (events_fts, rank) VALUES ('automerge', 16);
CREATE TABLE event_minutes (
    minute INTEGER NOT NULL,
    source_id INTEGER NOT NULL,
    category_id SMALLINT NOT NULL,
    severity SMALLINT NOT NULL,
    n INTEGER NOT NULL,
    first_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    PRIMARY KEY (minute, source_id, category_id, severity)
) WITHOUT ROWID;
CREATE INDEX ix_event_minutes_last_id ON event_minutes (last_id);
CREATE TABLE address_slots (
    slot INTEGER NOT NULL,
    source_ip TEXT NOT NULL,
    category_id SMALLINT NOT NULL,
    n INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    successes INTEGER NOT NULL,
    PRIMARY KEY (slot, source_ip, category_id)
) WITHOUT ROWID;
CREATE TABLE raw_logs (
    id INTEGER PRIMARY KEY,
    stream_id INTEGER NOT NULL,
    start_offset BIGINT NOT NULL,
    end_offset BIGINT NOT NULL,
    lines INTEGER NOT NULL,
    blank_lines INTEGER NOT NULL DEFAULT 0,
    first_event_id INTEGER NOT NULL,
    last_event_id INTEGER NOT NULL,
    ingested_at BIGINT NOT NULL
);
CREATE INDEX ix_raw_logs_stream_start ON raw_logs (stream_id, start_offset);
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY,
    source_id INTEGER NOT NULL,
    stream_id INTEGER NOT NULL,
    file_offset BIGINT NOT NULL,
    path TEXT NOT NULL,
    raw BLOB NOT NULL,
    encoding TEXT NOT NULL,
    error TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    replayed_at BIGINT NOT NULL DEFAULT 0,
    event_id INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE templates (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL UNIQUE,
    sample TEXT NOT NULL,
    n BIGINT NOT NULL DEFAULT 0,
    first_seen_us BIGINT NOT NULL,
    last_seen_us BIGINT NOT NULL,
    source_id INTEGER NOT NULL
);
CREATE TABLE monitoring_config (
    id INTEGER PRIMARY KEY,
    config_data TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE processing_metrics (
    id INTEGER PRIMARY KEY,
    metric_type TEXT NOT NULL,
    metric_value REAL NOT NULL,
    timestamp BIGINT NOT NULL,
    metadata TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX ix_processing_metrics_type_time ON processing_metrics (metric_type, timestamp);
CREATE TABLE api_tokens (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    token_hash TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL DEFAULT 0
);
CREATE TABLE ingestions (
    id TEXT PRIMARY KEY,
    source_id INTEGER NOT NULL,
    path TEXT NOT NULL,
    size BIGINT NOT NULL,
    accepted INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'accepted',
    idempotency_key TEXT UNIQUE,
    error TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
)
"""
