"""A machine with a log folder and a data folder, a book in memory, and a manager over them."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from threatlens.config import ConfigManager, SavedSource, SavedVersion
from threatlens.errors import ConfigError
from threatlens.vault import Vault

FORMATS = frozenset({"sshd", "nginx.access", "syslog.rfc3164", "json"})


class MemoryBook:
    """A ConfigBook that forgets."""

    def __init__(self) -> None:
        self.saved: list[str] = []
        self.said: list[tuple[str, str]] = []  # author and note of each
        self.rows: dict[int, SavedSource] = {}
        self.changes = 0
        self._ids = itertools.count(1)

    def version(self) -> int:
        return self.changes

    def load(self) -> str:
        return self.saved[-1] if self.saved else ""

    def save(self, config_data: str, author: str = "", note: str = "") -> int:
        self.saved.append(config_data)
        self.said.append((author, note))
        self.changes += 1
        return len(self.saved)

    def versions(self, limit: int) -> list[SavedVersion]:
        found = [SavedVersion(number, number, *said) for number, said in enumerate(self.said, 1)]
        return found[::-1][:limit]

    def version_data(self, version_id: int) -> str | None:
        return self.saved[version_id - 1] if 0 < version_id <= len(self.saved) else None

    def sources(self) -> list[SavedSource]:
        return list(self.rows.values())

    def put_source(self, source: SavedSource) -> int:
        known = {row.source_name: row.source_id for row in self.rows.values()}
        source_id = source.source_id or known.get(source.source_name) or next(self._ids)
        self.rows[source_id] = replace(source, source_id=source_id)
        self.changes += 1
        return source_id

    def delete_source(self, source_id: int) -> None:
        self.rows.pop(source_id, None)
        self.changes += 1


@dataclass
class Machine:
    """Folders, the book and the clock of one ThreatLens."""

    logs: Path
    data: Path
    book: MemoryBook
    keys: list[str] = field(default_factory=lambda: ["a key"])
    own_formats: frozenset[str] = frozenset()  # of decoders that people have made
    now: float = 4e9  # far from when the files are written, so that they count as settled

    @property
    def file(self) -> Path:
        return self.data / "threatlens.yaml"

    def write(self, text: str | bytes, name: str = "threatlens.yaml") -> Path:
        """Replace the file as an editor does; {logs} and {data} stand for the folders."""
        if isinstance(text, str):
            text = text.replace("{logs}", str(self.logs)).replace("{data}", str(self.data)).encode()
        path = self.data / name
        new = path.with_suffix(".new")
        new.write_bytes(text)
        os.chmod(new, 0o600)
        new.replace(path)
        return path

    def write_rest(self, text: str) -> Path:
        """The file with the log folder as the only root, then this text."""
        return self.write("allowed_roots: ['{logs}']\n" + text)

    def manager(self) -> ConfigManager:
        return ConfigManager(
            str(self.file),
            forbidden=[str(self.data)],
            book=self.book,
            formats=lambda: FORMATS | self.own_formats,
            vault=Vault(lambda: self.keys),
            clock=lambda: self.now,
        )

    def error(self) -> ConfigError:
        """The first of the errors that a manager finds."""
        manager = self.manager()
        manager.load_config()
        assert manager.errors, "no error was found"
        return manager.errors[0]


def machine_in(folder: Path) -> Machine:
    """A new one below this folder."""
    logs, data = folder / "logs", folder / "data"
    logs.mkdir(parents=True)
    data.mkdir()
    return Machine(logs, data, MemoryBook())
