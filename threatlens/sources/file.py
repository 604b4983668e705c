"""LogFileMonitor: follows the files of all sources and emits their lines, none lost and none twice.

One thread does everything: `run` blocks until `stop`. inotify wakes it; looking again every polling interval is the
safety net and the truth. Positions are kept in a StreamBook and move only when what was read has been stored.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVarTuple, Unpack

from threatlens.errors import SourceError, StoreUnavailable
from threatlens.event import SourceStatus
from threatlens.sources.base import Emit, LogSourceConfig, OpenLines, StreamBook
from threatlens.sources.follower import Follower
from threatlens.sources.losses import Noticed
from threatlens.sources.moves import Moves
from threatlens.sources.paths import display, explain, listings, looks_rotated, original_first, require_regular
from threatlens.sources.reader import order
from threatlens.sources.salvage import Salvage
from threatlens.sources.source import FollowedSource, by_folder
from threatlens.sources.stream import Limits, Stream
from threatlens.sources.table import default_open_limit
from threatlens.sources.watch import FileChangeEvent, Watcher

__all__ = ["FileChangeEvent", "LogFileMonitor", "LogSourceConfig"]

log = logging.getLogger(__name__)

_LONGEST_WAIT_S = 60.0
_WAITING_AFTER_S = 0.25  # an entry that waits longer to be taken shows as "waiting"
_REFUSED_WAIT_S = 0.05  # until an entry that was not taken is offered again
_AWAY_WAIT_S = 0.5  # at most, until the database is asked again
_LOOK_SHARE_WATCHED = 0.02  # of the time may go into looking, where inotify reports changes anyway
_LOOK_SHARE = 0.2
_NOTICE_S = 0.1  # in a long look, until new files are looked for
Arguments = TypeVarTuple("Arguments")
Unjudged = tuple[str, str, os.stat_result]  # (as configured, resolved, status)


class LogFileMonitor:
    """Follows log files. Everything but `run`, `step` and `scan` may be called from any thread."""

    def __init__(
        self,
        *,
        emit: Emit,
        book: StreamBook,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        forbidden: tuple[str, ...] = (),
        max_line_bytes: int = 1 << 20,
        max_unpacked_bytes: int = 64 << 30,
        quiet_s: float = 60.0,
        open_lines: OpenLines | None = None,
        max_open: int | None = None,
        use_inotify: bool = True,
        salvage: Salvage | None = None,
    ) -> None:
        """forbidden: folders never read. quiet_s: until a lone last line is a line. salvage: without, a kill ends
        what is not stored of deleted files. open_lines: what of the last lines waits for the rest of its event."""
        self._clock = clock
        self._forbidden = tuple(os.path.realpath(folder) for folder in forbidden)
        self._follower = Follower(
            emit=emit,
            book=book,
            clock=clock,
            wall=wall,
            limits=Limits(max_line_bytes, max_unpacked_bytes, open_lines),
            quiet_s=quiet_s,
            max_open=max_open or default_open_limit(),
            salvage=salvage or Salvage(""),
        )
        self._follower.between = self._notice
        self._noticed_s = 0.0  # clock
        self._sources: dict[int, FollowedSource] = {}
        self._watcher = Watcher(use_inotify=use_inotify)
        self._loaded = False
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._new_configs: list[LogSourceConfig] | None = None
        self._resets: set[int] = set()
        self._moves = Moves()
        self._by_folder: dict[str, list[tuple[FollowedSource, str]]] = {}
        self._statuses: tuple[tuple[SourceStatus, SourceStatus], ...] = ()  # (as it is, while emit waits)

    # -- from any thread

    def start(self) -> None:
        """Allow `run` (again) after `stop`."""
        self._stop.clear()

    def stop(self) -> None:
        """Let `run` return soon. What was emitted but not stored is read again next time."""
        self._stop.set()
        self._watcher.wake()

    def set_sources(self, configs: Iterable[LogSourceConfig]) -> None:
        """Follow exactly these sources from the next turn on."""
        with self._lock:
            self._new_configs = list(configs)
        self._watcher.wake()

    def reset_stream(self, stream_id: int) -> None:
        """Forget how far a stream was read and take its committed position again, at the next turn."""
        with self._lock:
            self._resets.add(stream_id)
        self._watcher.wake()

    @property
    def losses(self) -> Noticed:
        """Files found to have lost lines that were read, for whoever raises that to take away."""
        return self._follower.losses.found

    def statuses(self) -> list[SourceStatus]:
        """How every source is doing; never waits."""
        since = self._follower.emitting
        waiting = since is not None and self._clock() - since > _WAITING_AFTER_S
        return [pair[waiting] for pair in self._statuses]

    # -- the monitor's own thread

    def run(self) -> None:
        """Follow until `stop`."""
        while not self._stop.is_set():
            self.step(_LONGEST_WAIT_S)
        self._follower.book_names()
        self._follower.close_all()
        self._publish()

    def close(self) -> None:
        """Give all descriptors back; after this the monitor cannot be used."""
        self._follower.close_all()
        self._watcher.close()

    def scan(self) -> None:
        """Look at every source now and read all there is; for tests and for one-off reading."""
        for source in self._sources.values():
            source.next_look = 0.0
        self._turn(look_at_all=True)

    def step(self, timeout_s: float) -> None:
        """Wait for a change, at most this long or until a source is due, then take one turn."""
        started = self._clock()
        due = min((s.next_look for s in self._sources.values() if s.config.enabled), default=started + _LONGEST_WAIT_S)
        due = min(due, *self._follower.holding.values(), due)
        busy = self._follower.ready or self._follower.touched or self._new_configs is not None or self._resets
        if self._follower.refused:
            self._watcher.wait(min(timeout_s, _REFUSED_WAIT_S))
        elif not busy:
            self._watcher.wait(min(timeout_s, max(0.0, due - started)))
        if not self._stop.is_set():
            self._turn()

    def _turn(self, *, look_at_all: bool = False) -> None:
        self._follower.refused = False
        self._take_orders()
        self._publish()
        self._load()
        self._take_events()
        self._look(everything=look_at_all)
        self._follower.end_waits()
        self._publish()
        self._read_ready()
        self._publish()

    def _load(self) -> None:
        """Take in the remembered streams; while that cannot be, files are found and kept open only."""
        if not self._loaded:
            self._follower.book.retry()
            try:
                self._follower.load(self._sources)
            except StoreUnavailable as error:
                log.warning("the streams cannot be loaded yet: %s", error)
            else:
                self._loaded = True

    def _take_orders(self) -> None:
        with self._lock:
            configs, self._new_configs = self._new_configs, None
            resets, self._resets = self._resets, set()
        if configs is not None:
            self._apply(configs)
        for stream_id in resets:
            try:
                self._follower.reset(stream_id)
            except StoreUnavailable:
                with self._lock:
                    self._resets.add(stream_id)

    def _apply(self, configs: list[LogSourceConfig]) -> None:
        wanted = {config.source_id: config for config in configs}
        for number, source in list(self._sources.items()):
            if wanted.get(number) != source.config:
                self._follower.let_go(source)
                del self._sources[number]
        for number, config in wanted.items():
            if number not in self._sources:
                source = FollowedSource(config, self._forbidden)
                self._sources[number] = source
                self._adopt(source)

    def _adopt(self, source: FollowedSource) -> None:
        """Give a source its streams back that are in memory already."""
        for stream in self._follower.table.by_id.values():
            if stream.source is None and stream.owner == source.config.source_id:
                source.seen_before = True
                if source.config.enabled:
                    stream.source = source
                    if stream.alive:
                        source.streams.add(stream)

    # -- looking

    def _look(self, *, everything: bool) -> None:
        """Look at every source that is due, and at what has been touched since."""
        now = self._noticed_s = self._clock()
        due = [s for s in self._sources.values() if s.config.enabled and (everything or s.next_look <= now)]
        unjudged: list[tuple[FollowedSource, list[Unjudged]]] = []
        if due and self._loaded:
            self._follower.book.retry()
        for source in due:
            files: list[Unjudged] = []
            self._supervised(source, "", self._look_at, source, files)
            unjudged.append((source, files))
        for source, files in unjudged:
            for shown, real, status in sorted(files, key=original_first):
                self._supervised(source, shown, self._judge, source, (shown, real, status))
                self._notice()
            self._supervised(source, "", self._after_look, source)
            self._next_look(source, now)
        if due:
            self._watch()
        self._look_at_touched()
        self._follower.book_names()

    def _notice(self) -> None:
        """In the middle of a long look: what has appeared meanwhile may be gone before it ends."""
        if self._clock() - self._noticed_s > _NOTICE_S:
            self._by_folder = by_folder(self._sources.values())
            self._take_events()
            self._look_at_touched()
            self._noticed_s = self._clock()

    def _next_look(self, source: FollowedSource, started: float) -> None:
        now = self._clock()
        watched = not self._watcher.problem and all(self._watcher.watches(f) for f in source.folders)
        share = _LOOK_SHARE_WATCHED if watched else _LOOK_SHARE
        if self._follower.book.away is not None:
            source.next_look = now + max(now - started, min(source.config.polling_interval, _AWAY_WAIT_S))
        else:
            source.next_look = now + max(source.config.polling_interval, (now - started) / share)

    def _supervised(
        self, source: FollowedSource, path: str, work: Callable[[Unpack[Arguments]], object], *args: *Arguments
    ) -> bool:
        """Do one piece of a source's work; what goes wrong stays with this source and is shown on it. Did it work?"""
        try:
            work(*args)
        except StoreUnavailable as error:
            source.warnings["book"] = f"the database is not available ({error}); trying again"
            source.next_look = min(source.next_look, self._clock() + _AWAY_WAIT_S)
        except SourceError as error:
            source.problems[path] = error
        except OSError as error:
            source.problems[path] = explain(error, path or source.config.path)
        except Exception as error:
            source.failure = f"{type(error).__name__}: {error}"
            log.exception("source %s: an unforeseen error", source.config.source_name)
        else:
            if path:
                source.problems.pop(path, None)
            return True
        return False

    def _look_at(self, source: FollowedSource, unjudged: list[Unjudged]) -> None:
        """Find the source's files; those already known are looked at, the others collected."""
        source.problems = {path: p for path, p in source.problems.items() if p.state == "error" and path}
        source.damage = {path: p for path, p in source.damage.items() if os.path.lexists(path)}
        source.failure = ""
        source.warnings.pop("book", None)
        for stream in source.streams:
            stream.listed = False
        source.listings = listings(source.config)
        source.folders = set()
        for listing in source.listings:
            folder = os.path.realpath(listing.folder)
            if not os.path.isdir(folder):
                self._missing(source, listing.folder)
                continue
            source.folders.add(folder)
            self._watcher.add(folder)  # before its files are listed, so that none slips through
            for name in listing.names(folder):
                shown = os.path.join(listing.folder, name)
                quiet = not listing.literal and not source.config.path.endswith(listing.pattern)
                self._supervised(source, shown, self._file, source, (shown, folder, name), unjudged, quiet)
                self._notice()
        if not source.listings:
            self._missing(source, source.config.path)
        for stream in list(source.streams):
            if not stream.listed and stream in source.streams:
                self._supervised(source, stream.path, self._follower.recheck, stream)
                self._notice()
        for key in self._follower.held.keys(source):
            self._supervised(source, "", self._follower.look_at_held, key)

    def _missing(self, source: FollowedSource, path: str) -> None:
        source.problems[path] = SourceError(f"{display(path)} does not exist", state="missing")
        folder = os.path.realpath(os.path.dirname(path))
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        source.folders.add(folder)

    def _file(self, source: FollowedSource, place: tuple[str, str, str], unjudged: list[Unjudged], quiet: bool) -> None:
        """One file that the pattern names. quiet: folders among the files need no mention."""
        shown, folder, name = place  # as configured, resolved folder, name in it
        real = os.path.join(folder, name)
        status = os.stat(real, follow_symlinks=False)
        if (status.st_mode & 0o170000) == 0o120000:
            os.stat(real)  # a loop, or too long a chain, is an error
            real = os.path.realpath(real, strict=True)
            status = os.stat(real, follow_symlinks=False)
            source.folders.add(os.path.dirname(real))
        if quiet and (status.st_mode & 0o170000) == 0o040000:
            return
        source.fence.root_of(real)
        require_regular(status, shown)
        if not self._follower.found(source, shown, real, status):
            unjudged.append((shown, real, status))

    def _judge(self, source: FollowedSource, file: Unjudged) -> None:
        shown, real, status = file
        if self._follower.book.away is None:
            for key in self._follower.held.keys(source, waiting=True):  # first what was seen before this one
                self._supervised(source, "", self._follower.look_at_held, key)
        try:
            self._follower.take_in(source, shown, real, status)
        except FileNotFoundError:
            source.vanished += 1

    def _after_look(self, source: FollowedSource) -> None:
        """Look after the files that have ended, and after what carries on those that are gone."""
        follower = self._follower
        for stream in list(source.streams):
            if stream.ended and not stream.dirty and stream.alive:
                self._supervised(source, stream.path, follower.settle, stream)
        if follower.book.away is None:
            source.unheld.clear()
        self._supervised(source, "", follower.look_for_losses, source)
        self._supervised(source, "", follower.tend_salvaged, source)
        first = self._loaded and not source.looked
        source.looked |= first
        self._supervised(source, "", follower.search_rests, source, first)
        source.recount()

    # -- what inotify says

    def _watch(self) -> None:
        self._by_folder = by_folder(self._sources.values())
        wanted = {folder for source in self._sources.values() for folder in source.folders}
        fresh = {folder for folder in wanted if not self._watcher.watches(folder) and self._watcher.add(folder)}
        self._watcher.keep_only(wanted)
        for source in self._sources.values():
            if fresh & source.folders:
                source.next_look = min(source.next_look, self._clock())  # it may have changed before the watch began
            if self._watcher.problem:
                source.warnings["inotify"] = self._watcher.problem

    def _take_events(self) -> None:
        follower = self._follower
        for event in self._watcher.events():
            path = os.path.join(event.folder, event.name)
            if event.kind in ("lost", "gone") or event.is_folder:
                if event.kind == "lost":
                    self._moves.forget()
                self._look_soon(event.folder)
                continue
            stream = follower.table.by_path.get(path)
            if event.kind == "modified" and stream is not None and not stream.unlinked:
                if stream.source is not None:
                    stream.changed_at = self._clock()
                    follower.wants_reading(stream)
                continue
            if event.kind == "moved_from":  # what was touched and not looked at may be another file by now
                opened = stream is not None and stream.alive and path not in follower.touched
                self._moves.leaves(path, event.cookie, opened=opened)
            elif event.kind == "moved_to":
                named = self._moves.arrives(path, event.cookie)
                if named and named not in follower.table.by_path and self._matching(named):
                    follower.touched.pop(named, None)  # it is not gone
            elif event.kind == "deleted":
                for source, _ in self._matching(self._moves.ends(path)):
                    source.vanished += 1
            follower.touched[path] = None
        for path, named in self._moves.arrived():
            if self._matching(path) or not (sources := self._matching(named)):
                self._moves.ends(path)
            else:
                self._supervised(sources[0][0], path, self._judge_renamed, sources[0][0], path)

    def _look_soon(self, folder: str) -> None:
        for source in self._sources.values():
            if not folder or any(folder == f or f.startswith(folder + "/") for f in source.folders):
                source.next_look = 0.0

    def _judge_renamed(self, source: FollowedSource, path: str) -> None:
        """A file that had a name of ours and was renamed before it could be opened."""
        try:
            status = os.stat(path, follow_symlinks=False)
        except FileNotFoundError:
            return  # renamed again, or deleted: events that are to come tell
        self._moves.ends(path)
        require_regular(status, path)
        stream = self._follower.table.by_key.get((status.st_dev, status.st_ino))
        if stream is None or stream.content is None:
            self._judge(source, (path, path, status))

    def _matching(self, path: str) -> list[tuple[FollowedSource, str]]:
        """(source, path as its pattern names it) for every source that this resolved path belongs to."""
        folder, name = os.path.split(path)
        return [
            (source, os.path.join(shown, name))
            for source, shown in self._by_folder.get(folder, ())
            if any(listing.folder == shown and listing.matches(name) for listing in source.listings)
        ]

    def _look_at_touched(self) -> None:
        follower = self._follower
        while follower.touched:
            path = next((p for p in follower.touched if not looks_rotated(os.path.basename(p))), None)
            path = path or next(iter(follower.touched))
            del follower.touched[path]
            stream = follower.table.by_path.get(path)
            if stream is not None and stream.source is not None:
                self._supervised(stream.source, path, follower.recheck, stream)
            folder, name = os.path.split(path)
            real_folder = os.path.realpath(folder)
            matching = self._matching(os.path.join(real_folder, name))
            for source, shown in matching:
                self._supervised(source, shown, self._look_at_one, source, (shown, real_folder, name))
            if not matching and (kept := follower.held.at(path)) is not None:
                self._supervised(kept[0], "", follower.look_at_held, kept[1])

    def _look_at_one(self, source: FollowedSource, place: tuple[str, str, str]) -> None:
        unjudged: list[Unjudged] = []
        try:
            self._file(source, place, unjudged, True)
        except FileNotFoundError:
            if place[0] not in self._follower.table.last_at:
                source.vanished += 1
            for key in self._follower.held.keys(source, waiting=True):
                self._supervised(source, "", self._follower.look_at_held, key)
            return
        for found in unjudged:
            self._judge(source, found)

    # -- reading

    def _read_ready(self) -> None:
        """Let every stream that may have bytes have its turn, urgent sources first, until there are none."""
        follower = self._follower
        while follower.ready and not follower.refused and not self._stop.is_set():
            for stream in sorted(follower.ready.values(), key=order):
                if stream.stream_id not in follower.ready or stream.source is None:
                    follower.ready.pop(stream.stream_id, None)
                    continue
                before = stream.waits_for
                if before is not None:
                    if before.dirty and before.stream_id in follower.ready:
                        continue
                    stream.waits_for = None
                self._read(stream)
                if follower.refused or self._stop.is_set():
                    return
                self._take_events()
                self._look_at_touched()
            self._look_at_touched()
            self._follower.book_names()
            if any(s.next_look <= self._clock() and s.config.enabled for s in self._sources.values()):
                self._look(everything=False)
            self._publish()
            if self._new_configs is not None or self._resets:
                self._take_orders()

    def _read(self, stream: Stream) -> None:
        source = stream.source
        if source is None:
            return
        turns = stream.turn
        worked = self._supervised(source, "", self._follower.turn, stream)
        if stream.turn == turns or not worked:
            self._follower.no_reading(stream)
            stream.seen = (-1, 0, 0)

    def _publish(self) -> None:
        self._statuses = tuple((s.status(), s.status(waiting=True)) for s in self._sources.values())
