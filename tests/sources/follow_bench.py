"""A book in memory that behaves as the database does: events and positions move together, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from threatlens.errors import StoreUnavailable
from threatlens.event import LogEntry
from threatlens.sources.base import LogSourceConfig, StreamState
from threatlens.sources.file import LogFileMonitor
from threatlens.sources.lines import split_records
from threatlens.sources.salvage import Salvage


class Store:
    """The committed side: survives a crash. It is the StreamBook too."""

    def __init__(self) -> None:
        self.rows: dict[int, StreamState] = {}
        self.lines: list[bytes] = []
        self.by_stream: dict[int, list[bytes]] = {}
        self.entries: list[LogEntry] = []
        self.refused: list[LogEntry] = []
        self.down = False
        self.calls: list[str] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.down:
            raise StoreUnavailable("busy")

    def streams(self) -> list[StreamState]:
        self._call("streams")
        return list(self.rows.values())

    def create(
        self,
        source_id: int,
        *,
        path: bytes,
        device: int,
        inode: int,
        compressed: bool,
        position: int,
        listed: bool = False,
    ) -> int:
        self._call("create")
        number = len(self.rows) + 1
        self.rows[number] = StreamState(number, source_id, path, device, inode, compressed, position, b"", False)
        return number

    def rebind(self, stream_id: int, *, path: bytes, device: int, inode: int, compressed: bool) -> None:
        self._call("rebind")
        self.rows[stream_id] = replace(
            self.rows[stream_id], path=path, device=device, inode=inode, compressed=compressed, retired=False
        )

    def rename(self, paths: Sequence[tuple[int, bytes]]) -> None:
        self._call("rename")
        for stream_id, path in paths:
            self.rows[stream_id] = replace(self.rows[stream_id], path=path)

    def retire(self, stream_id: int) -> None:
        self._call("retire")
        self.rows[stream_id] = replace(self.rows[stream_id], retired=True)

    def rewind(self, stream_id: int, *, expected: int, position: int, fingerprint: bytes) -> bool:
        self._call("rewind")
        if self.rows[stream_id].position != expected:
            return False
        self.rows[stream_id] = replace(self.rows[stream_id], position=position, fingerprint=fingerprint)
        return True

    def position(self, stream_id: int) -> int | None:
        self._call("position")
        row = self.rows.get(stream_id)
        return row.position if row else None

    def commit(self, entry: LogEntry) -> bool:
        row = self.rows.get(entry.stream_id)
        if row is None or row.position != entry.file_offset:
            self.refused.append(entry)
            return False
        records = split_records(entry)
        assert len(records) == entry.lines
        assert entry.end_offset > entry.file_offset
        assert len(entry.content) <= entry.end_offset - entry.file_offset
        self.rows[entry.stream_id] = replace(row, position=entry.end_offset, fingerprint=entry.fingerprint)
        self.lines += records
        self.by_stream.setdefault(entry.stream_id, []).extend(records)
        self.entries.append(entry)
        return True


class Clock:
    """A clock that only tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A folder, a store, and a monitor that can crash."""

    def __init__(self, root: Path, *, salvage_folder: str = "", **options: object) -> None:
        self.root = root
        self.salvage_folder = salvage_folder
        self.store = Store()
        self.clock = Clock()
        self.queue: list[LogEntry] = []
        self.options = options
        self.configs: list[LogSourceConfig] = []
        self.capacity: int | None = None
        self.monitor = self._monitor()

    def _monitor(self) -> LogFileMonitor:
        return LogFileMonitor(
            emit=self._emit,
            book=self.store,
            clock=self.clock,
            salvage=Salvage(self.salvage_folder),  # a process knows of copies what it finds in the folder
            **{"use_inotify": False, **self.options},  # type: ignore[arg-type]
        )

    def _emit(self, entry: LogEntry) -> bool:
        if self.capacity is not None and len(self.queue) >= self.capacity:
            return False
        self.queue.append(entry)
        return True

    def source(self, path: str, **changes: object) -> LogSourceConfig:
        number = len(self.configs) + 1
        config = LogSourceConfig(
            number,
            f"source{number}",
            str(self.root / path),
            **{"roots": (str(self.root),), **changes},  # type: ignore[arg-type]
        )
        self.configs.append(config)
        self.monitor.set_sources(self.configs)
        return config

    def scan(self) -> None:
        """Look and read; nothing is committed."""
        self.monitor.scan()

    def commit(self, n: int | None = None) -> None:
        """Store the first n queued entries, or all."""
        n = len(self.queue) if n is None else n
        for entry in self.queue[:n]:
            if not self.store.commit(entry):
                self.monitor.reset_stream(entry.stream_id)
        del self.queue[:n]

    def read(self) -> list[bytes]:
        """Look, read, store; returns what is new."""
        before = len(self.store.lines)
        self.scan()
        self.commit()
        return self.store.lines[before:]

    def crash(self) -> None:
        """Whatever is not committed is gone; a new process starts."""
        self.queue.clear()
        self.monitor.close()
        self.monitor = self._monitor()
        self.monitor.set_sources(self.configs)

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    def state(self, number: int = 0) -> str:
        return self.monitor.statuses()[number].state

    def write(self, name: str, data: bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(data)
        return path

    def swap_links(self, contents: Iterable[bytes]) -> None:
        """A source link.log, which points to a new file of each content in turn, outside of its folder."""
        targets = self.root.parent / "targets"
        targets.mkdir()
        self.source("link.log", roots=(str(self.root), str(targets)))
        for number, content in enumerate(contents):
            (targets / f"{number}.dat").write_bytes(content)
            (targets / "swap").symlink_to(targets / f"{number}.dat")
            (targets / "swap").rename(self.root / "link.log")
            self.scan()

    def open_descriptors(self) -> int:
        return len(os.listdir("/proc/self/fd"))
