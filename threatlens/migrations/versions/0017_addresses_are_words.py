"""Events are found by address and user through words in the full-text index instead of an index each."""

import hashlib
from collections.abc import Iterator

from alembic import op
from sqlalchemy import Connection

revision = "0017"
down_revision = "0016"

#: As they were when this was written: what the index holds must not change with the program.
INDEXED_CHARACTERS, NAME_CHARACTERS, STEP = 8_192, 256, 2_000


def upgrade() -> None:
    connection = op.get_bind()
    for statement in SCHEMA.split(";\n"):
        op.execute(statement)
    for words in _words(connection):
        connection.exec_driver_sql("INSERT INTO events_fts (rowid, raw) VALUES (?,?)", words)


def _words(connection: Connection) -> Iterator[list[tuple[int, str]]]:
    after = 0
    while True:
        rows = connection.exec_driver_sql(
            "SELECT id, raw, encoding, source_ip, user_name FROM events WHERE id > ? ORDER BY id LIMIT ?", (after, STEP)
        ).all()
        if not rows:
            return
        yield [(row[0], _text(*row[1:])) for row in rows]
        after = rows[-1][0]


def _text(raw: str | bytes, encoding: str | None, source_ip: str | None, user_name: str | None) -> str:
    line = raw if isinstance(raw, str) else raw.decode(encoding or "utf-8", "replace").removeprefix("\ufeff")
    text = line[:INDEXED_CHARACTERS]
    if source_ip is not None:
        text = f"{text} ip@{source_ip.replace(':', '-')}"
    if user_name is not None:
        text = f"{text} {_user_word(user_name)}"
    return text


def _user_word(name: str) -> str:
    if name.isascii():
        return f"u@{name[:NAME_CHARACTERS]}"
    return "u@-" + hashlib.blake2b(name.encode().lower(), digest_size=8).hexdigest()


SCHEMA = """DROP INDEX ix_events_source_ip;
DROP INDEX ix_events_user_name;
CREATE TABLE user_totals (
    user_name TEXT COLLATE NOCASE PRIMARY KEY NOT NULL,
    n INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO user_totals
    SELECT user_name, count(*) FROM events WHERE user_name IS NOT NULL GROUP BY user_name COLLATE NOCASE;
INSERT INTO events_fts (events_fts) VALUES ('delete-all')"""
