"""Accounts may be kept to some sources, as tokens may."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("users", sa.Column("sources", sa.Text(), nullable=False, server_default="[]"))
