"""Lists of what is bad: where each comes from, how it is, and how far past events were compared with what is new."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)


SCHEMA = """
CREATE TABLE threat_lists (
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    every_s INTEGER NOT NULL,
    etag TEXT NOT NULL,
    last_modified TEXT NOT NULL,
    entries INTEGER NOT NULL,
    ignored INTEGER NOT NULL,
    added INTEGER NOT NULL,
    checked_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    failures INTEGER NOT NULL,
    error TEXT NOT NULL,
    seen TEXT NOT NULL,
    pending INTEGER NOT NULL,
    marked INTEGER NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE list_passes (
    id INTEGER PRIMARY KEY,
    next_id BIGINT NOT NULL,
    low_id BIGINT NOT NULL,
    looked INTEGER NOT NULL,
    marked INTEGER NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at BIGINT NOT NULL
)
"""
