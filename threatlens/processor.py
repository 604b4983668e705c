"""QueueProcessor: what happens to a line. Take a batch, cut it into lines, decode, rate, store, announce.

Everything a batch changes is one transaction (EventStore.commit). A database that is busy, full or away makes the
batch wait and try again; a batch that is not ours to write is given up; a line that cannot be stored ends as a dead
letter. No path drops a line and none tries one for ever.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy.exc import DBAPIError

from threatlens.analyzers.heuristic import category, severity
from threatlens.analyzers.patterns import TemplateTree
from threatlens.broadcaster import EventBroadcaster
from threatlens.decoders import SourceDecoder
from threatlens.errors import NotOurs, StoreUnavailable
from threatlens.event import BAD_ENCODING, PARSE_ERROR, Decoded, Event, LogEntry
from threatlens.ingestion_queue import RealtimeIngestionQueue
from threatlens.sources.base import LogSourceConfig
from threatlens.sources.lines import split_records
from threatlens.store import DeadLetter, EventRow, EventStore, Move

log = logging.getLogger(__name__)

OUTCOMES = {"success": 1, "failure": 2}
#: Seconds between two tries while the database is away: doubling from the first to the second.
RETRY_FIRST_S, RETRY_MAX_S = 0.1, 5.0
#: Characters of a line that go into the full-text index.
INDEXED_CHARACTERS = 8_192


@dataclass(frozen=True, slots=True)
class ProcessingResult:
    """What became of one batch."""

    first_id: int
    events: int
    lines: int
    dead: int
    seconds: float


@dataclass
class ProcessorState:
    """What the processor says about itself; read by other threads, written by its own."""

    lines: int = 0
    events: int = 0
    batches: int = 0
    dead: int = 0
    retries: int = 0
    unavailable: str = ""  # why the database cannot be written now; "" while it can
    last_batch: ProcessingResult | None = None


class _Line(NamedTuple):
    """One line on its way into the database."""

    row: EventRow
    decoded: Decoded
    text: str
    entry: LogEntry


@dataclass
class _Prepared:
    """A batch, ready for the transaction."""

    lines: list[_Line] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)


class QueueProcessor:
    """Consumes the queue. One thread calls run(); the rest may be called from others."""

    def __init__(
        self,
        queue: RealtimeIngestionQueue,
        store: EventStore,
        broadcaster: EventBroadcaster,
        *,
        on_refused: Callable[[frozenset[int]], None],
        batch_lines: int = 2_000,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.batch_lines = batch_lines
        self.state = ProcessorState()
        self._queue = queue
        self._store = store
        self._broadcaster = broadcaster
        self._on_refused = on_refused
        self._wall = wall
        self._decoders: dict[int, SourceDecoder] = {}
        self._configs: dict[int, LogSourceConfig] = {}
        self._learned: dict[int, tuple[str, ...]] = {}
        self._tree = TemplateTree()

    def set_sources(self, configs: Iterable[LogSourceConfig], learned: dict[int, tuple[str, ...]]) -> None:
        """How each source is to be decoded; what a source has taught so far is kept unless its format changed."""
        for config in configs:
            known = self._configs.get(config.source_id)
            if known is None or (known.format, known.timezone) != (config.format, config.timezone):
                taught = learned.get(config.source_id, ())
                self._decoders[config.source_id] = SourceDecoder(
                    format=config.format, timezone=config.timezone, learned=taught
                )
                self._learned[config.source_id] = taught
            self._configs[config.source_id] = config

    def run(self, stopped: Callable[[float], bool]) -> None:
        """Process batches until `stopped(0)`; stopped(s) waits s seconds or until stopping, and says whether we are."""
        while not stopped(0):
            entries = self._queue.take(self.batch_lines, timeout_s=0.5)
            if entries:
                self.process(entries, stopped)

    def process(self, entries: Sequence[LogEntry], stopped: Callable[[float], bool]) -> ProcessingResult | None:
        """One batch from entries to announcement; None: given up because we are stopping or nothing was ours."""
        started = time.perf_counter()
        while entries:
            prepared = self._prepare(entries)
            try:
                first_id = self._store_patiently(prepared, stopped)
            except NotOurs as refusal:
                log.warning("%s; reading on from the committed position", refusal)
                self._queue.forget(refusal.stream_ids)
                self._on_refused(refusal.stream_ids)
                entries = [entry for entry in entries if entry.stream_id not in refusal.stream_ids]
                continue
            if first_id is None:
                return None
            self._announce(prepared, first_id)
            return self._account(prepared, first_id, time.perf_counter() - started)
        return None

    # -- preparing: pure work on values

    def _prepare(self, entries: Sequence[LogEntry]) -> _Prepared:
        """Decode and rate every line; the entries of one stream are brought together, in their order."""
        prepared = _Prepared()
        by_stream: dict[int, list[LogEntry]] = {}
        for entry in entries:
            by_stream.setdefault(entry.stream_id, []).append(entry)
        for of_stream in by_stream.values():
            first, last = of_stream[0], of_stream[-1]
            lines = blank = unknown = 0
            before = len(prepared.lines)
            for entry in of_stream:
                found, empty, strange = self._read_lines(entry, prepared.lines)
                lines += found + empty
                blank += empty
                unknown += strange
            prepared.moves.append(
                Move(
                    first.stream_id, first.source_id, first.file_offset, last.end_offset, last.fingerprint, lines,
                    blank, len(prepared.lines) - before, unknown,
                )
            )  # fmt: skip
        return prepared

    def _read_lines(self, entry: LogEntry, into: list[_Line]) -> tuple[int, int, int]:
        """Append the entry's lines; returns how many carry an event, how many are blank, how many nobody decodes."""
        read_at = entry.timestamp
        now = self._wall()
        ingested_ms = int(now * 1000)
        processing_us = max(0, int((now - read_at) * 1_000_000))
        source_id = entry.source_id
        decoder = self._decoders.get(source_id)
        if decoder is None:
            decoder = self._decoders[source_id] = SourceDecoder()
        decode = decoder.decode
        name_id = self._store.name_id
        path_id = name_id("path", entry.source_path)
        extra_flags = entry.flags
        original_bytes = entry.true_bytes or None
        blank = unknown = events = 0
        for raw, text, encoding, flags in texts(entry):
            if not text or text.isspace():
                blank += 1
                continue
            try:
                decoded = decode(text, read_at)
            except Exception:  # one bad record: stored raw, flagged, never tried again
                log.exception("a decoder failed on a line of %s", entry.source_name)
                decoded = Decoded("unknown", None, text, {}, PARSE_ERROR)
            fields = decoded.fields
            template_id = 0
            if decoded.format == "unknown":
                unknown += 1
                shape = self._tree.template(decoded.message[:INDEXED_CHARACTERS])
                template_id = self._store.template_id(shape, sample=text, source_id=source_id)
            events += 1
            timestamp = decoded.timestamp_us
            row = EventRow(
                timestamp if timestamp is not None else int(read_at * 1_000_000),
                ingested_ms,
                source_id,
                path_id,
                name_id("format", decoded.format),
                name_id("category", category(decoded)),
                severity(decoded),
                decoded.flags | flags | extra_flags,
                template_id,
                OUTCOMES.get(fields.get("event.outcome"), 0),  # type: ignore[arg-type]
                fields.get("source.ip"),  # type: ignore[arg-type]
                fields.get("user.name"),  # type: ignore[arg-type]
                encoding,
                original_bytes,
                processing_us,
                1,
                0,
                raw,
            )
            into.append(_Line(row, decoded, text, entry))
        return events, blank, unknown

    # -- storing: one transaction, tried until it holds

    def _store_patiently(self, prepared: _Prepared, stopped: Callable[[float], bool]) -> int | None:
        """Commit, waiting for a database that is away; the id of the first event, None when we are stopping."""
        wait_s = RETRY_FIRST_S
        while True:
            try:
                first_id = self._commit(prepared)
            except StoreUnavailable as error:
                if not self.state.unavailable:
                    log.warning("%s; the batch waits and is tried again", error)
                self.state.unavailable = error.reason
                self.state.retries += 1
                if stopped(wait_s):
                    return None
                wait_s = min(RETRY_MAX_S, wait_s * 2)
            except DBAPIError:
                # Not the database's state but this data: find the line and bury it.
                log.exception(
                    "a batch of %d lines cannot be stored as it is; looking for the line", len(prepared.lines)
                )
                self._bury(prepared)
            else:
                if self.state.unavailable:
                    log.info("the database takes data again")
                    self.state.unavailable = ""
                return first_id

    def _commit(self, prepared: _Prepared) -> int:
        learned = []
        for source_id in {move.source_id for move in prepared.moves}:
            now = self._decoders[source_id].learned
            if now != self._learned.get(source_id, ()):
                learned.append((source_id, json.dumps(now)))
        templates = Counter(line.row.template_id for line in prepared.lines if line.row.template_id)
        first_id = self._store.commit(
            [line.row for line in prepared.lines],
            [line.text[:INDEXED_CHARACTERS] for line in prepared.lines],
            prepared.moves,
            dead=prepared.dead,
            templates=templates.items(),
            learned=learned,
        )
        self._learned.update((source_id, self._decoders[source_id].learned) for source_id, _ in learned)
        return first_id

    def _bury(self, prepared: _Prepared) -> None:
        """Move every line that the database refuses by itself to the dead letters; the moves stay whole."""
        kept: list[_Line] = []
        buried: Counter[int] = Counter()
        for line in prepared.lines:
            error = self._store.refusal(line.row)
            if error is None:
                kept.append(line)
                continue
            raw = line.row.raw
            entry = line.entry
            buried[entry.stream_id] += 1
            prepared.dead.append(
                DeadLetter(
                    entry.source_id, entry.stream_id, entry.file_offset, entry.source_path,
                    raw.encode(errors="replace") if isinstance(raw, str) else raw, entry.encoding, error,
                )
            )  # fmt: skip
        if not buried:
            # Refused together but not one by one: the next try tells, and trouble raises StoreUnavailable.
            msg = "the batch was refused, though each of its lines would be taken"
            raise StoreUnavailable(msg, reason="away")
        prepared.lines = kept
        prepared.moves = [move._replace(events=move.events - buried[move.stream_id]) for move in prepared.moves]

    # -- dead letters

    def replay(self) -> int:
        """Try the dead letters again that somebody asked for; how many became events."""
        done = 0
        for letter_id, source_id, path, raw, encoding in self._store.asked_replays():
            config = self._configs.get(source_id)
            name = config.source_name if config else "?"
            now = self._wall()
            entry = LogEntry(0, source_id, name, path, raw, 0, 0, 1, 5, now, encoding, 0, 0, b"")
            lines: list[_Line] = []
            self._read_lines(entry, lines)
            error = self._store.refusal(lines[0].row) if len(lines) == 1 else "it is not one line"
            if error is not None:
                self._store.refuse_replay(letter_id, error)
                continue
            words = [lines[0].text[:INDEXED_CHARACTERS]]
            first_id = self._store.commit([lines[0].row], words, [], replayed=[letter_id])
            self._announce(_Prepared(lines), first_id)
            done += 1
        return done

    # -- announcing

    def _announce(self, prepared: _Prepared, first_id: int) -> None:
        lines = prepared.lines
        self._broadcaster.publish(
            first_id, len(lines), lambda: [event_of(event_id, line) for event_id, line in enumerate(lines, first_id)]
        )

    def _account(self, prepared: _Prepared, first_id: int, seconds: float) -> ProcessingResult:
        lines = sum(move.lines for move in prepared.moves)
        result = ProcessingResult(first_id, len(prepared.lines), lines, len(prepared.dead), seconds)
        state = self.state
        state.lines += lines
        state.events += result.events
        state.dead += result.dead
        state.batches += 1
        state.last_batch = result
        return result


def texts(entry: LogEntry) -> Iterable[tuple[str | bytes, str, str | None, int]]:
    """The lines of an entry as (what is stored, text, encoding unless UTF-8, flags)."""
    if entry.encoding == "utf-8" and b"\r" not in entry.content and b"\0" not in entry.content:
        try:
            lines = entry.content.decode().split("\n")
        except UnicodeDecodeError:
            pass
        else:
            if lines and not lines[-1]:
                lines.pop()
            return ((line, line.removeprefix("\ufeff"), None, 0) for line in lines)
    return (_text(record, entry.encoding) for record in split_records(entry))


def _text(record: bytes, encoding: str) -> tuple[str | bytes, str, str | None, int]:
    try:
        text = record.decode(encoding)
    except UnicodeDecodeError:
        return record, record.decode(encoding, "replace").removeprefix("\ufeff"), encoding, BAD_ENCODING
    if encoding == "utf-8":
        return text, text.removeprefix("\ufeff"), None, 0
    return record, text.removeprefix("\ufeff"), encoding, 0


def event_of(event_id: int, line: _Line) -> Event:
    """The stored line as an event, without asking the database."""
    row, decoded, entry = line.row, line.decoded, line.entry
    fields = decoded.fields
    if row.original_bytes is not None:
        fields = {**fields, "event.original_bytes": row.original_bytes}
    return Event(
        id=event_id,
        timestamp_us=row.timestamp,
        ingested_us=row.ingested_at * 1000,
        source=entry.source_name,
        source_id=entry.source_id,
        path=entry.source_path,
        category=category(decoded),
        severity=row.severity,
        format=decoded.format,
        message=decoded.message,
        raw=line.text,
        fields=fields,
        flags=row.flags,
        template_id=row.template_id,
        processing_time_s=row.processing_us / 1_000_000,
    )
