"""One configured source as the monitor sees it: what it follows, what went wrong, how it is told to people."""

from __future__ import annotations

import os
from collections.abc import Iterable

from threatlens.errors import SourceError
from threatlens.event import SourceStatus
from threatlens.sources.base import LogSourceConfig
from threatlens.sources.paths import Fence, Listing, display
from threatlens.sources.stream import Key, Stream

#: Which state is shown when files of one source differ.
_WORST_FIRST = ("error", "no_permission", "refused", "missing")
_READING_BEHIND_BYTES = 4 << 20


class FollowedSource:
    """A configured source and everything remembered about it while it runs."""

    def __init__(self, config: LogSourceConfig, forbidden: tuple[str, ...]) -> None:
        self.config = config
        self.fence = Fence(config.roots, forbidden)
        self.streams: set[Stream] = set()
        self.listings: list[Listing] = []
        self.folders: set[str] = set()  # resolved, to be watched
        self.next_look = 0.0  # clock
        self.looked = False  # at least once since the start
        self.seen_before = False  # it has streams from an earlier run: its files that are unknown now are new
        self.problems: dict[str, SourceError] = {}  # by path, as of the last look
        self.damage: dict[str, SourceError] = {}  # by path: what a file holds cannot be read; until it is another
        self.warnings: dict[str, str] = {}  # by subject
        self.vanished = 0  # files gone before they could be opened
        self.unsought: set[str] = set()  # paths of streams whose files are gone: what carries them on?
        self.unheld: set[Key] = set()  # files that are new, cannot be booked, and cannot be kept open either
        self.failure = ""
        self.bytes_total = 0
        self.bytes_read = 0
        self.last_read_us = 0

    def note_size(self, stream: Stream, size: int) -> None:
        """Keep the totals: the stream's file has this size now."""
        self.bytes_total += size - stream.size
        stream.size = size

    def recount(self) -> None:
        """Compute the totals anew, from the files that the source follows."""
        self.bytes_total = sum(max(s.size, s.position) for s in self.streams)
        self.bytes_read = sum(s.position for s in self.streams)

    def status(self, *, waiting: bool = False) -> SourceStatus:
        """What to tell about the source."""
        state, reason, remedy = self._state(waiting=waiting)
        warnings = list(self.warnings.values())
        if self.vanished:
            warnings.append(f"{self.vanished} files were gone before they could be opened")
        if self.unheld:
            warnings.append(
                f"{len(self.unheld)} new files wait for the database and too many files are open to keep them open too;"
                " what is deleted before it is back is lost (raise the limit of open files: LimitNOFILE, ulimit -n)"
            )
        return SourceStatus(
            source_id=self.config.source_id,
            source_name=self.config.source_name,
            state=state,
            reason=reason,
            remedy=remedy,
            files=len(self.streams),
            bytes_total=max(self.bytes_total, self.bytes_read),
            bytes_read=self.bytes_read,
            last_read_us=self.last_read_us,
            warnings=tuple(warnings),
            vanished=self.vanished,
        )

    def _state(self, *, waiting: bool) -> tuple[str, str, str]:
        if not self.config.enabled:
            return "disabled", "", ""
        if self.failure:
            return "error", self.failure, "The details are in the log; reading is tried again at the next look."
        if self.problems or self.damage:
            problems = [*self.problems.values(), *self.damage.values()]
            problems.sort(key=lambda p: _WORST_FIRST.index(p.state))
            worst = problems[0]
            reason = str(worst) + (f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else "")
            return worst.state, reason, worst.remedy
        if not self.looked:
            return "starting", "", ""
        if waiting:
            return "waiting", "the queue is full; reading pauses and the file is the buffer", ""
        if not self.streams and not self.listings:
            return "missing", f"nothing is at {display(self.config.path)} yet", ""
        if self.bytes_total - self.bytes_read > _READING_BEHIND_BYTES:
            return "reading", f"{self.bytes_read:,} of {self.bytes_total:,} bytes read", ""
        return "flowing", "", ""


def by_folder(sources: Iterable[FollowedSource]) -> dict[str, list[tuple[FollowedSource, str]]]:
    """Resolved folder: the sources that look into it, each with the folder as it is configured."""
    found: dict[str, list[tuple[FollowedSource, str]]] = {}
    for source in sources:
        for listing in source.listings:
            found.setdefault(os.path.realpath(listing.folder), []).append((source, listing.folder))
    return found
