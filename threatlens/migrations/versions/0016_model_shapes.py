"""What a language model said about message shapes, and what an answer cost."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.execute("ALTER TABLE ai_analysis ADD COLUMN template_id INTEGER NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE ai_analysis ADD COLUMN cost FLOAT NOT NULL DEFAULT 0")
    op.execute("CREATE INDEX ix_ai_analysis_template_id ON ai_analysis (template_id, id) WHERE template_id > 0")
