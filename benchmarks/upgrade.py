"""What it costs to come from the first schema with a million events, and what a kill at any moment of it leaves.

The database of the first schema is filled with the columns that it shares with today's. Then `migrate` is killed with
SIGKILL at moments that chance chooses over the time that it takes. After each kill the database must be whole, and
as it was or as it will be; the next start finishes it. Every event is there, nothing changed, a copy of before too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from benchmarks.product import ROOT, Product, workshop
from benchmarks.stored import build
from benchmarks.table import Table

FIRST = "0001"
MIGRATE = (
    "from threatlens.settings import load_settings\nfrom threatlens.store_schema import migrate\n"
    "import os\nmigrate(load_settings(dict(os.environ)))\n"
)


def old_database(path: str, today: str) -> None:
    """A database of the first schema with the names and events of today's."""
    config = Config()
    config.set_main_option("script_location", os.path.join(ROOT, "threatlens", "migrations"))
    engine = create_engine("sqlite:///" + path)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, FIRST)
        connection.commit()
    engine.dispose()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("ATTACH ? AS today", (today,))
        connection.execute("BEGIN")
        for table in ("names", "log_sources", "events"):
            shared = ", ".join(sorted(columns(connection, "main", table) & columns(connection, "today", table)))
            connection.execute(f"INSERT INTO main.{table} ({shared}) SELECT {shared} FROM today.{table}")
        connection.execute("COMMIT")


def columns(connection: sqlite3.Connection, schema: str, table: str) -> set[str]:
    return {row[1] for row in connection.execute(f"PRAGMA {schema}.table_info({table})")}


def state(path: str) -> tuple[str, int, str]:
    """The schema, how many events there are, and what the integrity check says."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        (events,) = connection.execute("SELECT count(*) FROM events").fetchone()
        (whole,) = connection.execute("PRAGMA quick_check").fetchone()
    return str(revision), int(events), str(whole)


def texts(path: str) -> list[tuple[object, ...]]:
    """What may not change, of every thousandth event."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT id, timestamp, raw FROM events WHERE id % 1000 = 1 ORDER BY id").fetchall()


def run(events: int, kills: int, seed: int) -> bool:
    dice = random.Random(seed)
    with workshop() as folder:
        product = Product(folder)
        build(product, events)
        head = state(product.database)[0]
        first = os.path.join(folder, "first.db")
        old_database(first, product.database)
        before = texts(first)

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-c", MIGRATE], cwd=ROOT, env=product.env())

        def old_again() -> None:
            for name in os.listdir(product.data):
                if name.startswith("threatlens.db"):
                    os.unlink(os.path.join(product.data, name))
            shutil.copy(first, product.database)

        old_again()
        begun = time.perf_counter()
        good = start().wait() == 0
        took = time.perf_counter() - begun
        after = state(product.database)
        same = texts(product.database) == before
        copies = [name for name in os.listdir(product.data) if name.startswith("threatlens.db.")]
        struck = broken = 0
        for _ in range(kills):
            old_again()
            process = start()
            time.sleep(dice.random() * took)
            struck += process.poll() is None
            process.kill()
            process.wait()
            found = state(product.database)
            broken += found[0] not in (FIRST, head) or found[1:] != (events, "ok")
            broken += start().wait() != 0 or state(product.database) != (head, events, "ok")
    rows = [
        (f"seconds from {FIRST} to {head}", f"{took:.1f}", good),
        ("events before", f"{events:,}", True),
        ("events after", f"{after[1]:,}", after == (head, events, "ok")),
        ("texts that changed", "none" if same else "some", same),
        ("copies of before beside it", f"{len(copies)}", len(copies) == 1),
        ("kills while it ran", f"{struck}", struck > 0),
        ("that left something broken, or that the next start did not finish", f"{broken}", not broken),
    ]
    table = Table("An upgrade from the first schema, and kills meanwhile", "what", "number", "verdict")
    for what, value, holds in rows:
        table.add(what, value, "holds" if holds else "missed")
    table.show()
    return all(holds for *_, holds in rows)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=1_000_000)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    return 0 if run(given.events, given.kills, given.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
