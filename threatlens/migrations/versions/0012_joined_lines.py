"""Lines that are part of the event before them have a count of their own."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute("ALTER TABLE log_sources ADD COLUMN joined_lines BIGINT NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE raw_logs ADD COLUMN joined_lines INTEGER NOT NULL DEFAULT 0")
