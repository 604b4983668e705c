"""Saved versions of the configuration say who saved them."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("ALTER TABLE monitoring_config ADD COLUMN author TEXT NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE monitoring_config ADD COLUMN note TEXT NOT NULL DEFAULT ''")
