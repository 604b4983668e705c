"""What tests share: a data folder, a store in it, an app on it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from threatlens import create_app
from threatlens.event import LogEntry
from threatlens.settings import Settings, load_settings, prepare_data_folder
from threatlens.store import EventRow, EventStore, Move
from threatlens.store_database import connect
from threatlens.store_schema import migrate

NOW_US = 1_795_478_400_000_000  # 2026-11-24 00:00:00 UTC


@pytest.fixture
def settings(tmp_path: Any) -> Settings:
    return load_settings({"THREATLENS_DATA": str(tmp_path / "data")})


@pytest.fixture
def store(settings: Settings) -> Iterator[EventStore]:
    prepare_data_folder(settings)
    migrate(settings)
    engine = connect(settings.database_url)
    yield EventStore(engine)
    engine.dispose()


@pytest.fixture
def app(settings: Settings) -> Iterator[Any]:
    app = create_app(settings)
    app.config["TESTING"] = True
    yield app
    app.extensions["threatlens"].store.database.engine.dispose()


@pytest.fixture
def services(app: Any) -> Any:
    return app.extensions["threatlens"]


class Filler:
    """Puts events into a store as the processor would, one stream a source."""

    def __init__(self, store: EventStore) -> None:
        self.store = store
        self.streams: dict[str, tuple[int, int, int]] = {}
        self.clock = itertools.count(NOW_US, 1_000_000)

    def stream(self, source: str) -> tuple[int, int, int]:
        if source not in self.streams:
            source_id = self.store.put_api_source(source, "auto")
            stream_id = self.store.create(
                source_id, path=b"/var/log/" + source.encode(), device=1, inode=source_id, compressed=False, position=0
            )
            self.streams[source] = (source_id, stream_id, 0)
        return self.streams[source]

    def add(
        self,
        *lines: str,
        source: str = "auth",
        severity: int = 2,
        category: str = "authentication",
        timestamp_us: int | None = None,
        outcome: int = 0,
        source_ip: str | None = None,
        log_format: str = "sshd",
    ) -> int:
        """Store these lines; the id of the first."""
        source_id, stream_id, position = self.stream(source)
        rows = [
            EventRow(
                next(self.clock) if timestamp_us is None else timestamp_us, NOW_US // 1000, source_id,
                self.store.name_id("path", "/var/log/" + source), self.store.name_id("format", log_format),
                self.store.name_id("category", category), severity, 0, 0, outcome, source_ip, None, None, 1500,
                1, 0, line,
            )
            for line in lines
        ]  # fmt: skip
        size = sum(len(line.encode()) + 1 for line in lines)
        move = Move(
            stream_id,
            source_id,
            position,
            position + size,
            b"f",
            len(lines),
            0,
            len(lines),
            int(log_format == "unknown"),
        )
        first = self.store.commit(rows, list(lines), [move])
        self.streams[source] = (source_id, stream_id, position + size)
        return first


@pytest.fixture
def filler(store: EventStore) -> Filler:
    return Filler(store)


def entry(content: bytes, *, stream_id: int = 1, source_id: int = 1, start: int = 0, **changes: Any) -> LogEntry:
    """A LogEntry with believable defaults."""
    return LogEntry(
        stream_id, source_id, "auth", "/var/log/auth.log", content, start, start + len(content),
        content.count(b"\n"), 5, NOW_US / 1e6, "utf-8", 0, 0, b"print",
    )._replace(**changes)  # fmt: skip
