"""Threat lists may be declared in the configuration."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.add_column("threat_lists", sa.Column("declared", sa.Integer(), nullable=False, server_default="0"))
