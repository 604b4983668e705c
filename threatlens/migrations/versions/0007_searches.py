"""Events are found by address and by user through an index each. What people saved to search for."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)


SCHEMA = """
CREATE INDEX ix_events_source_ip ON events (source_ip, id) WHERE source_ip IS NOT NULL;
CREATE INDEX ix_events_user_name ON events (user_name COLLATE NOCASE, id) WHERE user_name IS NOT NULL;
CREATE TABLE saved_searches (
    id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    params TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX ux_saved_searches_user_name ON saved_searches (user_id, name)
"""
