"""What rules find: detections, the incidents they belong to, and what people decided about rules."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)


SCHEMA = """
CREATE TABLE detections (
    id INTEGER PRIMARY KEY,
    rule_id TEXT NOT NULL,
    rule_name TEXT NOT NULL,
    level TEXT NOT NULL,
    severity SMALLINT NOT NULL,
    kind TEXT NOT NULL,
    timestamp BIGINT NOT NULL,
    first_us BIGINT NOT NULL,
    n INTEGER NOT NULL,
    group_by TEXT NOT NULL DEFAULT '[]',
    source_ip TEXT,
    user_name TEXT,
    host_name TEXT,
    tags TEXT NOT NULL DEFAULT '[]',
    event_id INTEGER NOT NULL,
    source_id INTEGER NOT NULL DEFAULT 0,
    incident_id INTEGER NOT NULL DEFAULT 0,
    suppressed TEXT NOT NULL DEFAULT ''
);
CREATE INDEX ix_detections_event_id ON detections (event_id);
CREATE INDEX ix_detections_rule_id ON detections (rule_id, id);
CREATE INDEX ix_detections_incident_id ON detections (incident_id, id) WHERE incident_id > 0;
CREATE TABLE detection_events (
    event_id INTEGER NOT NULL,
    detection_id INTEGER NOT NULL,
    PRIMARY KEY (event_id, detection_id)
) WITHOUT ROWID;
CREATE INDEX ix_detection_events_detection_id ON detection_events (detection_id);
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY,
    status TEXT NOT NULL DEFAULT 'open',
    title TEXT NOT NULL,
    severity SMALLINT NOT NULL,
    outcome TEXT NOT NULL,
    subject_kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    first_us BIGINT NOT NULL,
    last_us BIGINT NOT NULL,
    n INTEGER NOT NULL,
    assignee TEXT NOT NULL DEFAULT '',
    previous_id INTEGER NOT NULL DEFAULT 0,
    closed_us BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1
);
CREATE INDEX ix_incidents_status ON incidents (status, id);
CREATE INDEX ix_incidents_subject ON incidents (subject_kind, subject, id);
CREATE TABLE incident_members (
    incident_id INTEGER NOT NULL,
    rule_id TEXT NOT NULL,
    outcome TEXT NOT NULL,
    rule_name TEXT NOT NULL,
    level TEXT NOT NULL,
    severity SMALLINT NOT NULL,
    kind TEXT NOT NULL,
    tags TEXT NOT NULL DEFAULT '[]',
    n INTEGER NOT NULL,
    events INTEGER NOT NULL,
    first_us BIGINT NOT NULL,
    last_us BIGINT NOT NULL,
    first_event_id INTEGER NOT NULL,
    last_event_id INTEGER NOT NULL,
    PRIMARY KEY (incident_id, rule_id, outcome)
) WITHOUT ROWID;
CREATE TABLE incident_entities (
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    incident_id INTEGER NOT NULL,
    n INTEGER NOT NULL,
    taken SMALLINT NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, value, incident_id)
) WITHOUT ROWID;
CREATE INDEX ix_incident_entities_incident_id ON incident_entities (incident_id);
CREATE TABLE incident_notes (
    id INTEGER PRIMARY KEY,
    incident_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    author TEXT NOT NULL,
    text TEXT NOT NULL DEFAULT '',
    before TEXT NOT NULL DEFAULT '{}',
    created_at BIGINT NOT NULL
);
CREATE INDEX ix_incident_notes_incident_id ON incident_notes (incident_id, id);
CREATE TABLE mutes (
    id INTEGER PRIMARY KEY,
    rule_id TEXT NOT NULL DEFAULT '',
    source_ip TEXT NOT NULL DEFAULT '',
    user_name TEXT NOT NULL DEFAULT '',
    source TEXT NOT NULL DEFAULT '',
    host_name TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    author TEXT NOT NULL,
    incident_id INTEGER NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    ended_us BIGINT NOT NULL DEFAULT 0,
    hits INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE rule_states (
    rule_id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    author TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE rule_exceptions (
    id INTEGER PRIMARY KEY,
    rule_id TEXT NOT NULL,
    conditions TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    author TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE TABLE rule_days (
    rule_id TEXT NOT NULL,
    day INTEGER NOT NULL,
    n INTEGER NOT NULL,
    suppressed INTEGER NOT NULL,
    last_us BIGINT NOT NULL,
    PRIMARY KEY (rule_id, day)
) WITHOUT ROWID;
CREATE TABLE correlation_states (
    rule_id TEXT NOT NULL,
    key TEXT NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (rule_id, key)
) WITHOUT ROWID;
CREATE TABLE novelties (
    kind TEXT NOT NULL,
    scope TEXT NOT NULL,
    value TEXT NOT NULL,
    first_us BIGINT NOT NULL,
    last_us BIGINT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (kind, scope, value)
) WITHOUT ROWID;
CREATE INDEX ix_novelties_last_us ON novelties (last_us)
"""
