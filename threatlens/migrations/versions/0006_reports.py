"""Reports: which were made, and what is in them."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)


SCHEMA = """
CREATE TABLE reports (
    id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    day TEXT NOT NULL,
    start_us BIGINT NOT NULL,
    end_us BIGINT NOT NULL,
    zone TEXT NOT NULL,
    state TEXT NOT NULL,
    tries SMALLINT NOT NULL,
    file TEXT NOT NULL,
    size BIGINT NOT NULL,
    error TEXT NOT NULL,
    headline TEXT NOT NULL,
    data TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    made_us BIGINT NOT NULL,
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX ux_reports_span ON reports (kind, day, end_us)
"""
