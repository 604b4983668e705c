"""A mute may end by what happens, not only by time."""

from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.execute("ALTER TABLE mutes ADD COLUMN condition TEXT NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE mutes ADD COLUMN condition_n INTEGER NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE mutes ADD COLUMN known TEXT NOT NULL DEFAULT '[]'")
    op.execute("ALTER TABLE mutes ADD COLUMN ended_by TEXT NOT NULL DEFAULT ''")
