"""One address is looked up over all time through an index."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("CREATE INDEX ix_address_slots_source_ip ON address_slots (source_ip, slot)")
