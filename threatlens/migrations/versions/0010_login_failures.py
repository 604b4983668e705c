"""Tries to log in that failed, counted for all processes together."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)


SCHEMA = """
CREATE TABLE login_failures (
    key_hash TEXT NOT NULL,
    count INTEGER NOT NULL,
    failed_at BIGINT NOT NULL,
    PRIMARY KEY (key_hash)
) WITHOUT ROWID;
CREATE INDEX ix_login_failures_failed_at ON login_failures (failed_at)
"""
