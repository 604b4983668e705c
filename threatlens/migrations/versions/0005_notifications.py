"""The outbox of notifications, what each channel was told, and how each is doing."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)


SCHEMA = """
CREATE TABLE notification_history (
    id INTEGER NOT NULL,
    event_id INTEGER NOT NULL,
    incident_id INTEGER NOT NULL,
    notification_type TEXT NOT NULL,
    channel TEXT NOT NULL,
    rule TEXT NOT NULL,
    thread TEXT NOT NULL,
    key TEXT NOT NULL,
    status TEXT NOT NULL,
    severity SMALLINT NOT NULL,
    title TEXT NOT NULL,
    n INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    created_at BIGINT NOT NULL,
    next_try_us BIGINT NOT NULL,
    sent_at BIGINT,
    error_message TEXT,
    payload TEXT NOT NULL,
    transcript TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (key)
);
CREATE INDEX ix_notification_history_channel ON notification_history (channel, created_at);
CREATE INDEX ix_notification_history_pending ON notification_history (channel, next_try_us) WHERE status = 'pending';
CREATE INDEX ix_notification_history_thread ON notification_history (channel, thread, id);
CREATE TABLE notification_threads (
    channel TEXT NOT NULL,
    thread TEXT NOT NULL,
    incident_id INTEGER NOT NULL,
    n INTEGER NOT NULL,
    told INTEGER NOT NULL,
    severity SMALLINT NOT NULL,
    told_severity SMALLINT NOT NULL,
    first_us BIGINT NOT NULL,
    last_us BIGINT NOT NULL,
    first_event_id INTEGER NOT NULL,
    last_event_id INTEGER NOT NULL,
    queued_us BIGINT NOT NULL,
    seen_us BIGINT NOT NULL,
    cooldown_us BIGINT NOT NULL,
    pending_id INTEGER NOT NULL,
    rule TEXT NOT NULL,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    details TEXT NOT NULL,
    PRIMARY KEY (channel, thread)
);
CREATE INDEX ix_notification_threads_untold ON notification_threads (queued_us) WHERE n > told AND pending_id = 0;
CREATE TABLE channel_states (
    channel TEXT NOT NULL,
    failures INTEGER NOT NULL,
    open_until_us BIGINT NOT NULL,
    disabled TEXT NOT NULL,
    last_ok_us BIGINT NOT NULL,
    last_error TEXT NOT NULL,
    PRIMARY KEY (channel)
)
"""
