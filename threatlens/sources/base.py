"""What a source is handed and what it must offer.

A source knows neither the queue nor the database: it emits entries, and keeps its place in a StreamBook.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from threatlens.event import LogEntry, SourceStatus

#: Hands one entry on. False: it was not taken, as the queue stayed full for a moment or we are stopping.
Emit = Callable[[LogEntry], bool]
#: How the names of cases begin: what somebody handed in to look into it, kept apart from what happens now.
CASE_PREFIX = "case "
#: The sources of attacks that somebody makes up to see one arrive: nobody is told, or as of a real one.
TEST_ATTACK, TEST_ATTACK_TOLD = "test attack", "test attack with messages"
TEST_ATTACKS = (TEST_ATTACK, TEST_ATTACK_TOLD)


@dataclass(frozen=True, slots=True)
class LogSourceConfig:
    """One configured source of files."""

    source_id: int  # log_sources.id
    source_name: str
    path: str  # a file, a folder or a glob; absolute
    enabled: bool = True
    format: str = "auto"  # or a decoder's name
    start_at: str = "beginning"  # or "end"; only for a file never seen before
    polling_interval: float = 1.0  # seconds between looks; inotify wakes sooner
    file_pattern: str | None = None  # folders only
    recursive: bool = False
    timezone: str = "UTC"  # IANA name, for timestamps that carry none
    learn_timezone: bool = True  # UTC is a guess: take the zone that the lines turn out to be written in
    encoding: str = "auto"  # or a Python codec name
    priority: int = 5  # 1 (first) to 10
    roots: tuple[str, ...] = field(default=())  # realpaths; nothing outside is opened
    whole_files: bool = False  # files are complete when they appear: an unterminated last line is a line
    case: bool = False  # what is found in it stays in it: no incident, no message, nothing learned


#: How many of these lines of a source, given last first, are an event that the line to come may go on; 0: none is open.
#: With them goes when they were read, in seconds since the epoch.
OpenLines = Callable[[LogSourceConfig, Iterable[str], float], int]


@dataclass(frozen=True, slots=True)
class StreamState:
    """What is remembered of one stream: a row of log_streams."""

    stream_id: int
    source_id: int
    path: bytes
    device: int
    inode: int  # 0: no file carries it now
    compressed: bool
    position: int  # bytes stored (of the uncompressed content)
    fingerprint: bytes
    retired: bool


class StreamBook(Protocol):
    """Where streams are remembered. Every call is one small transaction; raises StoreUnavailable when it cannot."""

    def streams(self) -> list[StreamState]:
        """All remembered streams."""

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
        """Remember a new stream at this position (0, or the size for start_at: end) and return its id; listed: the
        source's pattern names its file, so that it is found again should this be forgotten."""

    def rebind(self, stream_id: int, *, path: bytes, device: int, inode: int, compressed: bool) -> None:
        """The same content goes on in another file (copied, compressed); a retired one lives again."""

    def rename(self, paths: Sequence[tuple[int, bytes]]) -> None:
        """These streams' files have other names now: (stream, its path)."""

    def retire(self, stream_id: int) -> None:
        """Its file holds other content now (truncated, inode reused); the rest may still be found in a copy."""

    def rewind(self, stream_id: int, *, expected: int, position: int, fingerprint: bytes) -> bool:
        """Move a position back by compare-and-set; False: it was not at `expected`."""

    def position(self, stream_id: int) -> int | None:
        """The committed position in bytes; None: no such stream."""


class Source(Protocol):
    """Where lines come from."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def statuses(self) -> list[SourceStatus]: ...
