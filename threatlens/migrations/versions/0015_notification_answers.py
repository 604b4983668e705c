"""Answers that links in messages gave, and since when a channel's links hold."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)


SCHEMA = """
CREATE TABLE notification_answers (
    notification_id INTEGER NOT NULL,
    action TEXT NOT NULL,
    address TEXT NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (notification_id, action)
);
ALTER TABLE channel_states ADD COLUMN answers_from_us BIGINT NOT NULL DEFAULT 0
"""
