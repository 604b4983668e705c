"""What people write down about addresses, users and hosts."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute(
        "CREATE TABLE entity_notes (id INTEGER NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL, author TEXT NOT NULL,"
        " text TEXT NOT NULL, created_at BIGINT NOT NULL, PRIMARY KEY (id))"
    )
    op.execute("CREATE INDEX ix_entity_notes_value ON entity_notes (kind, value, id)")
