"""Saved searches may be sent at an hour of every day or week."""

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.execute(
        "CREATE TABLE search_schedules (search_id INTEGER NOT NULL, every TEXT NOT NULL, weekday SMALLINT NOT NULL,"
        " hour SMALLINT NOT NULL, form TEXT NOT NULL, channels TEXT NOT NULL, from_us BIGINT NOT NULL,"
        " due_us BIGINT NOT NULL, sent_us BIGINT NOT NULL, problem TEXT NOT NULL, PRIMARY KEY (search_id),"
        " FOREIGN KEY(search_id) REFERENCES saved_searches (id) ON DELETE CASCADE)"
    )
