"""Who has an incident open."""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)


SCHEMA = """
CREATE TABLE incident_watchers (
    incident_id INTEGER NOT NULL,
    user_name TEXT NOT NULL,
    seen_us BIGINT NOT NULL,
    PRIMARY KEY (incident_id, user_name)
) WITHOUT ROWID
"""
