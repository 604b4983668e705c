"""What a language model said about incidents."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)


SCHEMA = """
CREATE TABLE ai_analysis (
    id INTEGER NOT NULL,
    incident_id INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    state TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt_version TEXT NOT NULL,
    explanation TEXT NOT NULL,
    recommendations TEXT NOT NULL,
    severity SMALLINT NOT NULL,
    confidence TEXT NOT NULL,
    dropped INTEGER NOT NULL,
    talks SMALLINT NOT NULL,
    requests INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    error TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX ix_ai_analysis_incident_id ON ai_analysis (incident_id, id);
CREATE INDEX ix_ai_analysis_created_at ON ai_analysis (created_at)
"""
