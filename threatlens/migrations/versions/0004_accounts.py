"""Who may do what: accounts, their sessions, what tokens are confined to; and the audit log, which only grows."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


STATEMENTS = (
    """CREATE TABLE users (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        password_hash TEXT NOT NULL,
        role TEXT NOT NULL,
        enabled BOOLEAN NOT NULL DEFAULT 1,
        created_at BIGINT NOT NULL,
        password_at BIGINT NOT NULL,
        last_login_at BIGINT NOT NULL DEFAULT 0
    )""",
    """CREATE TABLE sessions (
        id_hash TEXT PRIMARY KEY,
        user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        created_at BIGINT NOT NULL,
        seen_at BIGINT NOT NULL,
        confirmed_at BIGINT NOT NULL,
        address TEXT NOT NULL,
        browser TEXT NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX ix_sessions_user_id ON sessions (user_id)",
    """CREATE TABLE login_addresses (
        user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        address TEXT NOT NULL,
        seen_at BIGINT NOT NULL,
        PRIMARY KEY (user_id, address)
    ) WITHOUT ROWID""",
    "CREATE TABLE setup_codes (code_hash TEXT PRIMARY KEY, created_at BIGINT NOT NULL) WITHOUT ROWID",
    "ALTER TABLE api_tokens ADD COLUMN user_id INTEGER REFERENCES users (id) ON DELETE CASCADE",
    "ALTER TABLE api_tokens ADD COLUMN prefix TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE api_tokens ADD COLUMN expires_at BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE api_tokens ADD COLUMN scopes TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE api_tokens ADD COLUMN sources TEXT NOT NULL DEFAULT '[]'",
    """CREATE TABLE audit_log (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        timestamp BIGINT NOT NULL,
        actor TEXT NOT NULL,
        address TEXT NOT NULL,
        action TEXT NOT NULL,
        target TEXT NOT NULL,
        detail TEXT NOT NULL,
        request_id TEXT NOT NULL,
        hash TEXT NOT NULL
    )""",
    """CREATE TRIGGER audit_log_is_not_changed BEFORE UPDATE ON audit_log
        BEGIN SELECT raise(ABORT, 'the audit log only grows'); END""",
    """CREATE TRIGGER audit_log_is_not_deleted BEFORE DELETE ON audit_log
        BEGIN SELECT raise(ABORT, 'the audit log only grows'); END""",
)
