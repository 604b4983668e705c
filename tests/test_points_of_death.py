"""No point of death is special: the process is killed at each step, begun again, and nothing is lost or doubled.

A child is forked that lives through reading, rotation, storing and telling; at the n-th passage of a named point it
kills itself with SIGKILL. What names and counts the points stands here and wraps the product from outside: nothing of
it is in the product.
"""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.runtime.migration import MigrationContext

import threatlens.store as store_module
from threatlens import backup, store_secrets
from threatlens.backup import make_backup, restore_backup
from threatlens.broadcaster import EventBroadcaster
from threatlens.channels import Delivery
from threatlens.config_values import MonitoringConfig, NotificationRule, WebhookChannel
from threatlens.detection import Detector
from threatlens.detectors import DetectionEngine, RuleSet, compile_text, load_tables
from threatlens.ingestion_queue import RealtimeIngestionQueue
from threatlens.notifications import NotificationManager
from threatlens.processor import QueueProcessor
from threatlens.settings import Settings, new_secret_key, write_secret_keys
from threatlens.sources.base import LogSourceConfig
from threatlens.sources.file import LogFileMonitor
from threatlens.sources.gzipped import GzipContent
from threatlens.store import EventStore
from threatlens.store_config import ConfigTable
from threatlens.store_database import connect
from threatlens.store_retention import KEPT_NEWEST
from threatlens.store_schema import HEAD, migrate, revision
from threatlens.vault import Vault

RULES = """title: A failed login
name: failed
id: 00000000-0000-4000-8000-000000000001
level: informational
logsource: {product: linux, service: sshd}
detection: {sel: {event.outcome: failure}, condition: sel}
---
title: Many failed logins
id: 00000000-0000-4000-8000-000000000002
level: high
correlation:
  type: event_count
  rules: [failed]
  group-by: [source.ip]
  timespan: 1h
  condition: {gte: 25}
"""
HOOK = MonitoringConfig(
    channels=(WebhookChannel("hook", "https://example.org/"),),
    notification_rules=(NotificationRule("all", ("hook",), min_severity=5),),
)
LINES_EACH = 40
#: Lines are of the last hour: what is older is not told of.
BEGUN_S = int(time.time()) - 3_600


def line(number: int) -> str:
    at = dt.datetime.fromtimestamp(BEGUN_S + number, dt.UTC).isoformat()
    address = "198.51.100.7" if number < LINES_EACH else "203.0.113.9"  # of the packed file, and of the others
    return f"{at} web1 sshd[1]: Failed password for u{number} from {address} port 5 ssh2"


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    rules, problems = compile_text(RULES, "rules.yml")
    assert not problems
    return RuleSet(tuple(rules), ())


class World:
    """A folder with logs, a database, and somebody at the other end of the channel."""

    def __init__(self, settings: Settings, folder: Path, rules: RuleSet) -> None:
        self.settings, self.rules = settings, rules
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.received = folder / "received"
        self.received.touch()
        os.makedirs(settings.data, mode=0o700, exist_ok=True)
        migrate(settings)
        with gzip.open(self.logs / "auth.log.2.gz", "wt") as packed:
            packed.writelines(f"{line(number)}\n" for number in range(LINES_EACH))
        self.write("auth.log", LINES_EACH)
        self.write("staged", 2 * LINES_EACH)  # moved to auth.log when that is rotated
        self.expected = [line(number) for number in range(3 * LINES_EACH)]

    def write(self, name: str, first: int) -> None:
        (self.logs / name).write_text("".join(f"{line(n)}\n" for n in range(first, first + LINES_EACH)))

    # -- one life

    def live(self) -> None:
        """Everything that the engine does, one step after the other, until there is nothing left to do."""
        store = EventStore(connect(self.settings.database_url))
        ring, queue = EventBroadcaster(), RealtimeIngestionQueue()
        manager = NotificationManager(store, lambda: HOOK, None, ring, build=self._build)  # type: ignore[arg-type]
        detector = Detector(store, DetectionEngine(self.rules, load_tables()))
        monitor = LogFileMonitor(emit=queue.put, book=store, use_inotify=False)
        processor = QueueProcessor(
            queue, store, ring, on_refused=lambda ids: [monitor.reset_stream(one) for one in ids],
            notifications=manager, detector=detector,
        )  # fmt: skip
        source = LogSourceConfig(
            store.put_api_source("auth", "auto"), "auth", str(self.logs / "auth.log*"), roots=(str(self.logs),)
        )
        monitor.set_sources([source])
        processor.set_sources([source], store.learned())
        for _ in range(3):
            monitor.scan()
            while entries := queue.take(20, timeout_s=0):
                processor.process(entries, lambda _wait_s: False)
                manager.deliver("hook")
            self._rotate()
            self.checkpoint()
        manager.deliver("hook")
        monitor.close()
        store.database.engine.dispose()

    def checkpoint(self) -> None:
        with sqlite3.connect(self.settings.database_path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _rotate(self) -> None:
        log, old, staged = self.logs / "auth.log", self.logs / "auth.log.1", self.logs / "staged"
        if staged.exists():
            if log.exists():
                log.rename(old)
            staged.rename(log)

    def _build(self, channel: Any, _client: Any) -> Any:
        received = self.received

        class Receiver:
            name = channel.name

            def send(self, message: Any, room: Any) -> Delivery:
                with received.open("a") as file:
                    file.write(message.key + "\n")
                    os.fsync(file.fileno())
                return Delivery(("> it", "< 200"))

        return Receiver()

    # -- what is there

    def events(self) -> list[str]:
        with sqlite3.connect(self.settings.database_path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return [row[0] for row in connection.execute("SELECT raw FROM events ORDER BY id")]

    def events_of_files(self) -> list[str]:
        """The lines in the order in which they are stored, those of the packed file first: files may overtake."""
        packed = set(self.expected[:LINES_EACH])
        return sorted(self.events(), key=lambda raw: raw not in packed)

    def alerts(self) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.settings.database_path) as connection:
            return connection.execute(
                "SELECT rule_id, n, timestamp, first_us, source_ip FROM detections ORDER BY id"
            ).fetchall()

    def unsent(self) -> int:
        with sqlite3.connect(self.settings.database_path) as connection:
            return int(
                connection.execute("SELECT count(*) FROM notification_history WHERE status <> 'sent'").fetchone()[0]
            )


def dying(life: Callable[[], object], patch: Callable[[], None] = lambda: None) -> bool:
    """Lead a life in a child with this patch; whether it was killed. A life that fails otherwise fails the test."""
    child = os.fork()
    if child == 0:
        try:
            patch()
            life()
        except BaseException:  # noqa: BLE001 - nothing of the child may go on as a second test run
            import traceback

            traceback.print_exc()
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the child failed by itself; its traceback is above"
    return False


def kill_at(owner: Any, name: str, moment: str, n: int) -> Callable[[], None]:
    """A patch that kills the process before or after the n-th call of owner.name."""

    def patch() -> None:
        original = owner.__dict__[name]
        function = original.__func__ if isinstance(original, staticmethod) else original
        calls = 0

        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if moment == "before" and calls == n:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = function(*args, **kwargs)
            if moment == "after" and calls == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        setattr(owner, name, staticmethod(counted) if isinstance(original, staticmethod) else counted)

    return patch


POINTS = {
    "after a run of lines was read": (RealtimeIngestionQueue, "put", "after"),
    "while a packed file is read": (GzipContent, "pread", "after"),
    "before the transaction begins": (EventStore, "commit", "before"),
    "before the position moves": (EventStore, "_move", "before"),
    "after the position moved": (EventStore, "_move", "after"),
    "after the events are inserted": (EventStore, "_index_words", "before"),
    "after the matches are written": (Detector, "write", "after"),
    "before the commit": (store_module, "write_occurrences", "after"),
    "after the commit": (EventStore, "commit", "after"),
    "before it is announced": (QueueProcessor, "_announce", "before"),
    "after it was announced": (QueueProcessor, "_announce", "after"),
    "before a new file is entered": (EventStore, "create", "before"),
    "after a new file was entered": (EventStore, "create", "after"),
    "while rotated files are renamed in the book": (EventStore, "rename", "before"),
    "after they were renamed in the book": (EventStore, "rename", "after"),
    "after a checkpoint": (World, "checkpoint", "after"),
    "after a file was rotated away": (World, "_rotate", "after"),
    "before a message is sent": (NotificationManager, "_send", "before"),
    "between sending and noting it": (EventStore, "mark_sent", "before"),
    "after it was noted": (EventStore, "mark_sent", "after"),
}


def found_in(owner: Any, name: str) -> Any:
    """The class that really holds the method."""
    return next(each for each in owner.__mro__ if name in each.__dict__) if isinstance(owner, type) else owner


@pytest.fixture(scope="module")
def alerts_without_kills(rules: RuleSet, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    from threatlens.settings import load_settings

    folder = tmp_path_factory.mktemp("calm")
    world = World(load_settings({"THREATLENS_DATA": str(folder / "data")}), folder, rules)
    assert not dying(world.live)
    assert world.events_of_files() == world.expected
    assert world.alerts()
    return sorted(world.alerts())


@pytest.mark.parametrize("point", POINTS)
def test_a_death_at_any_point_loses_nothing_and_doubles_nothing(
    settings: Settings, tmp_path: Path, rules: RuleSet, alerts_without_kills: list[tuple[Any, ...]], point: str
) -> None:
    owner, name, moment = POINTS[point]
    world = World(settings, tmp_path, rules)

    deaths = sum(dying(world.live, kill_at(found_in(owner, name), name, moment, n)) for n in (1, 2, 3))
    while dying(world.live):
        pytest.fail("an ordinary life was killed")

    assert deaths, "the point was never passed"
    assert world.events_of_files() == world.expected
    assert sorted(world.alerts()) == alerts_without_kills
    keys = Counter(world.received.read_text().split())
    assert keys
    assert world.unsent() == 0
    assert sum(n - 1 for n in keys.values()) <= (deaths if point == "between sending and noting it" else 0)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_death_while_old_events_are_forgotten_forgets_a_step_whole_or_not_at_all(
    settings: Settings, tmp_path: Path, rules: RuleSet, moment: str
) -> None:
    world = World(settings, tmp_path, rules)
    world.write("auth.log.0", 1_000)
    more = KEPT_NEWEST + 50
    (world.logs / "auth.log.0").write_text("".join(f"{line(1_000 + n)}\n" for n in range(more)))
    assert not dying(world.live)
    before = world.events()

    def forget() -> None:
        store = EventStore(connect(settings.database_url))
        store.forget_events(0, stored_before_us=None, keep_evidence=False, limit=30)

    owner = found_in(EventStore, "_forget")
    assert dying(forget, kill_at(owner, "_forget", moment, 1))
    assert world.events() == before
    assert not dying(forget)
    assert world.events() == before[30:]


@pytest.mark.parametrize("point", ["_write", "_members"])
def test_a_death_while_a_backup_is_made_leaves_none_that_could_be_taken_for_one(
    settings: Settings, tmp_path: Path, rules: RuleSet, point: str
) -> None:
    world = World(settings, tmp_path, rules)
    assert not dying(world.live)
    target = tmp_path / "copies"
    target.mkdir()

    def make() -> None:
        make_backup(settings, str(target / "one.tl"), version="0.1.0")

    assert dying(make, kill_at(backup, point, "after" if point == "_write" else "before", 1))
    assert not (target / "one.tl").exists()
    assert not dying(make)
    assert not dying(lambda: restore_backup(settings, str(target / "one.tl")))
    assert world.events_of_files() == world.expected


@pytest.mark.parametrize("n", [1, 2])
def test_a_death_while_the_key_is_changed_leaves_every_secret_readable(settings: Settings, store: Any, n: int) -> None:
    old, new = new_secret_key(), new_secret_key()
    write_secret_keys(settings, [old])
    sealed = Vault(lambda: [old]).seal("the password", "configuration")
    ConfigTable(store.database).save(json.dumps({"llm": {"api_key": sealed}}))
    store.database.engine.dispose()

    def rotate() -> None:
        from threatlens.settings import secret_keys

        keys = [new, *[key for key in secret_keys(settings) if key != new]]
        write_secret_keys(settings, keys)
        store_secrets.reseal(EventStore(connect(settings.database_url)).database, Vault(lambda: keys))
        write_secret_keys(settings, keys[:1])

    import threatlens.settings as settings_module

    def patched() -> None:
        kill_at(store_secrets, "reseal", "before" if n == 1 else "after", 1)()

    assert dying(rotate, patched)
    keys = settings_module.secret_keys(settings)
    stored = ConfigTable(EventStore(connect(settings.database_url)).database).load()
    text = json.loads(stored)["llm"]["api_key"]
    assert Vault(lambda: keys).open(text, "configuration") == "the password"
    assert not dying(rotate)


def test_a_migration_killed_at_any_statement_is_finished_by_the_next_start(settings: Settings, tmp_path: Path) -> None:
    """From every schema before this one, killed at points that chance chose."""
    dice, deaths = random.Random(7), 0
    os.makedirs(settings.data, mode=0o700, exist_ok=True)
    for number in range(1, int(HEAD)):
        older = f"{number:04}"
        path = Path(settings.database_path)
        for each in path.parent.glob("threatlens.db*"):
            each.unlink()
        _build(str(tmp_path / "older.db"), older)  # one step on from the one before
        shutil.copy(tmp_path / "older.db", path)
        with sqlite3.connect(path) as connection:
            connection.execute("INSERT INTO names (kind, name) VALUES ('path', '/var/log/auth.log')")
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if dying(lambda: migrate(settings), _kill_at_statement(dice.randrange(1, 16))):
            deaths += 1
            with sqlite3.connect(path) as connection:
                assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == tables, "half of it"
            assert revision(str(path)) == older
        assert not dying(lambda: migrate(settings))
        with sqlite3.connect(path) as connection:
            assert revision(str(path)) == HEAD
            assert connection.execute("SELECT name FROM names WHERE kind = 'path'").fetchall() == [
                ("/var/log/auth.log",)
            ]
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert deaths >= int(HEAD) // 2


def _kill_at_statement(n: int) -> Callable[[], None]:
    def patch() -> None:
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        seen = 0

        def count(*_: Any) -> None:
            nonlocal seen
            seen += 1
            if seen == n:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(Engine, "after_cursor_execute", count)

    return patch


def _build(path: str, to: str) -> None:
    """A database of an older schema."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine

    config = Config()
    config.set_main_option("script_location", str(Path(store_module.__file__).parent / "migrations"))
    engine = create_engine("sqlite:///" + path)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, to)
        connection.commit()
        assert MigrationContext.configure(connection).get_current_revision() == to
    engine.dispose()
