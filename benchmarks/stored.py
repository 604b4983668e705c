"""A database of millions of events within a minute: some thousand lines go through the product's own `ingest`, and what
it stored is repeated with times that spread over a week, with everything that belongs to it (full text, roll-ups).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time

from benchmarks import corpus
from benchmarks.product import Product

#: Source, kind of lines, share of the lines in percent.
MIXTURE = (("auth", "sshd", 60), ("web", "nginx", 30), ("app", "json", 10))
SPAN_US = 7 * 86_400_000_000
INGESTED = 100_000


def build(product: Product, events: int) -> None:
    """Fill the product's empty database with this many events, the newest from now."""
    ingested = min(events, INGESTED)
    for source, kind, share in MIXTURE:
        path = os.path.join(product.folder, f"{source}.log")
        corpus.write(path, kind, max(1, ingested * share // 100), seed=7)
        product.command("ingest", "--source", source, path)
        os.unlink(path)
    with contextlib.closing(sqlite3.connect(product.database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-400000")
        _repeat(connection, events)


def _repeat(connection: sqlite3.Connection, events: int) -> None:
    """Copies of what is there, one behind the other, mixed by a step through the ids that meets each once."""
    columns = [row[1] for row in connection.execute("PRAGMA table_info(events)")]
    rest = ", ".join(columns[2:])
    here = int(connection.execute("SELECT max(id) FROM events").fetchone()[0])
    begin, step = time.time_ns() // 1000 - SPAN_US, SPAN_US // events
    connection.execute("BEGIN")
    connection.execute(f"CREATE TEMP TABLE told AS SELECT * FROM events ORDER BY id * 7919 % {here}")
    connection.execute("DELETE FROM events")
    connection.execute("DELETE FROM event_minutes")
    connection.execute("DELETE FROM address_slots")
    connection.execute("INSERT INTO events_fts (events_fts) VALUES ('delete-all')")
    for first in range(0, events, here):
        connection.execute(
            f"INSERT INTO events (id, timestamp, {rest}) SELECT rowid + ?, ? + (rowid + ?) * ?, {rest} FROM told"
            " WHERE rowid + ? <= ?",
            (first, begin, first, step, first, events),
        )
    connection.execute(  # as store_words.indexed_text has it; the users' names are ASCII here
        "INSERT INTO events_fts (rowid, raw) SELECT id, substr(raw, 1, 8192)"
        " || coalesce(' ip@' || replace(source_ip, ':', '-'), '') || coalesce(' u@' || user_name, '') FROM events"
    )
    connection.execute("DELETE FROM user_totals")
    connection.execute(
        "INSERT INTO user_totals SELECT user_name, count(*) FROM events WHERE user_name IS NOT NULL"
        " GROUP BY user_name COLLATE NOCASE"
    )
    connection.execute(
        "INSERT INTO event_minutes (minute, source_id, category_id, severity, n, first_id, last_id)"
        " SELECT timestamp / 60000000, source_id, category_id, severity, count(*), min(id), max(id)"
        " FROM events GROUP BY 1, 2, 3, 4"
    )
    connection.execute(
        "INSERT INTO address_slots (slot, source_ip, category_id, n, failures, successes)"
        " SELECT timestamp / 600000000, source_ip, category_id, count(*), sum(outcome = 2), sum(outcome = 1)"
        " FROM events WHERE source_ip IS NOT NULL GROUP BY 1, 2, 3"
    )
    connection.execute(
        "UPDATE log_sources SET events = (SELECT count(*) FROM events e WHERE e.source_id = log_sources.id)"
    )
    connection.execute("UPDATE log_sources SET lines = events + blank_lines")
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode=WAL")
