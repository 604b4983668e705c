"""Saved searches may stand on the dashboard."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.add_column("saved_searches", sa.Column("pinned", sa.Integer(), nullable=False, server_default="0"))
