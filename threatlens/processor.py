"""QueueProcessor: what happens to a line. Take a batch, cut it into lines, decode, rate, store, announce.

Everything a batch changes is one transaction (EventStore.commit). A database that is busy, full or away makes the
batch wait and try again; a batch that is not ours to write is given up; a line that cannot be stored ends as a dead
letter. No path drops a line and none tries one for ever.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, Full, Queue
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from threatlens.analyzers.heuristic import category, severity
from threatlens.analyzers.patterns import TemplateTree
from threatlens.broadcaster import EventBroadcaster
from threatlens.clock import now_us
from threatlens.courtesy import PIECE_LINES, Courtesy
from threatlens.decoders import PARTS, SEVERAL, SourceDecoder
from threatlens.detection import Detector, Item, Verdict, updates
from threatlens.errors import NotOurs, StoreUnavailable
from threatlens.event import FROM_EXPORT, PARSE_ERROR, Decoded, LogEntry
from threatlens.habits_keeper import HabitKeeper
from threatlens.health_disk import DiskGuard
from threatlens.ingestion_queue import RealtimeIngestionQueue
from threatlens.notices import incident_happenings, quiet_places
from threatlens.notifications import NotificationManager
from threatlens.own_decoders import OwnDecoders, known_format
from threatlens.processor_batch import OUTCOMES, Prepared, inside, rated_again
from threatlens.processor_events import Counts, by_source, events_of, happening
from threatlens.processor_patience import Patience
from threatlens.processor_zones import Zones
from threatlens.sources.base import LogSourceConfig
from threatlens.sources.lines import texts
from threatlens.store import MAX_TEMPLATES, DeadLetter, EventRow, EventStore, Move
from threatlens.store_notifications import Occurrence
from threatlens.store_words import INDEXED_CHARACTERS

log = logging.getLogger(__name__)

#: Batches that may be ready before one is stored; together they are one transaction.
PREPARED_BATCHES = 3
#: Looks, 50 ms apart, whether the rules are loaded, before lines are stored without them.
AWAIT_RULES = 1_200
#: Makes a named tuple from a tuple; its own constructor takes three times as long, once per line.
_new_row = tuple.__new__


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
    taken: int = 0  # entries taken from the queue; written by prepare()
    finished: int = 0  # of those, stored or given up; written by finish()


class QueueProcessor:
    """Consumes the queue in two steps, each a thread of its own: prepare() decodes, finish() stores and announces.

    While one batch is written the next is decoded. The order of batches is kept, as each step has one thread.
    """

    def __init__(
        self,
        queue: RealtimeIngestionQueue,
        store: EventStore,
        broadcaster: EventBroadcaster,
        *,
        on_refused: Callable[[frozenset[int]], None],
        notifications: NotificationManager | None = None,
        detector: Detector | None = None,
        own_decoders: OwnDecoders | None = None,
        habits: HabitKeeper | None = None,
        guard: DiskGuard | None = None,
        courtesy: Courtesy | None = None,
        batch_lines: int = 2_000,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.batch_lines = batch_lines
        self.state = ProcessorState()
        self.counts = Counts()
        self._queue = queue
        self._store = store
        self._broadcaster = broadcaster
        self._on_refused = on_refused
        self._notifications = notifications
        self._detector = detector
        self._guard = guard
        self._courtesy = courtesy or Courtesy()
        self._give_way_reading, self._give_way_storing = self._courtesy.worker(), self._courtesy.worker()
        self._habits = habits
        self._detecting = threading.Lock()  # dead letters are replayed by another thread
        self._wall = wall
        self._own_decoders = own_decoders
        self._registry = own_decoders.registry() if own_decoders else None
        self._decoders: dict[int, SourceDecoder] = {}
        self._configs: dict[int, LogSourceConfig] = {}
        self._cases: set[int] = set()  # sources that raise nothing: see LogSourceConfig
        self._learned: dict[int, tuple[str, ...]] = {}
        self._tree = TemplateTree()
        self.zones = Zones()
        self._templates: dict[str, int] = {}  # id of a shape in the tree: its number in the store
        self._prepared: Queue[Prepared] = Queue(maxsize=PREPARED_BATCHES)

    def set_sources(self, configs: Iterable[LogSourceConfig], learned: dict[int, tuple[str, ...]]) -> None:
        """How each source is to be decoded; what a source has taught so far is kept unless its format changed."""
        for config in configs:
            known = self._configs.get(config.source_id)
            if known is None or _reading(known) != _reading(config):
                taught = learned.get(config.source_id, ())
                self._decoders[config.source_id] = self._decoder_for(config, taught)
                self._learned[config.source_id] = taught
            self._configs[config.source_id] = config
            (self._cases.add if config.case else self._cases.discard)(config.source_id)

    def _decoder_for(self, config: LogSourceConfig, learned: Sequence[str]) -> SourceDecoder:
        log_format, zone, learns_zone = _reading(config)
        name = known_format(log_format, registry := self._registry)
        return SourceDecoder(format=name, timezone=zone, learned=learned, registry=registry, learns_zone=learns_zone)

    def _take_over_decoders(self) -> None:
        """Decode with what people have made since the last batch; what the sources have taught is kept."""
        registry = self._own_decoders.registry() if self._own_decoders else None
        if registry is not self._registry:
            self._registry = registry
            for source_id, config in self._configs.items():
                self._decoders[source_id] = self._decoder_for(config, self._decoders[source_id].learned)

    def prepare(self, stopped: Callable[[float], bool]) -> None:
        """Decode batches until `stopped(0)`; stopped(s) waits s seconds or until stopping, and says whether we are."""
        while not stopped(0):
            entries = self._queue.take(PIECE_LINES if self._courtesy.is_visited else self.batch_lines, timeout_s=0.5)
            self.state.taken += len(entries)
            prepared = self._prepare_patiently(entries, stopped) if entries else None
            while prepared is not None and not stopped(0):
                with contextlib.suppress(Full):
                    self._prepared.put(prepared, timeout=0.1)
                    break

    def finish(self, stopped: Callable[[float], bool]) -> None:
        """Store and announce what was prepared, until `stopped(0)`."""
        self._await_rules(stopped)
        while not stopped(0):
            with contextlib.suppress(Empty):
                prepared = self._prepared.get(timeout=0.5)
                with contextlib.suppress(Empty):  # behind a backlog: one transaction for all that is ready
                    while not self._courtesy.is_visited:
                        prepared.add(self._prepared.get_nowait())
                taken = len(prepared.entries)
                self._finish(prepared, stopped)
                self.state.finished += taken

    def _await_rules(self, stopped: Callable[[float], bool]) -> None:
        """No line is stored before the rules can be asked about it, unless they take for ever."""
        for _ in range(AWAIT_RULES):
            if self._detector is None or self._detector.is_ready or stopped(0.05):
                return
        log.error("the rules are not loaded after a minute; lines are stored without them until they are")

    def process(self, entries: Sequence[LogEntry], stopped: Callable[[float], bool]) -> ProcessingResult | None:
        """Both steps at once; None: given up because we are stopping or nothing was ours."""
        return self._finish(self._prepare_patiently(entries, stopped), stopped)

    def _finish(self, prepared: Prepared, stopped: Callable[[float], bool]) -> ProcessingResult | None:
        started = time.perf_counter()
        while prepared.entries:
            try:
                first_id = self._store_patiently(prepared, stopped)
            except NotOurs as refusal:
                log.warning("%s; reading on from the committed position", refusal)
                self._queue.forget(refusal.stream_ids)
                self._on_refused(refusal.stream_ids)
                ours = [entry for entry in prepared.entries if entry.stream_id not in refusal.stream_ids]
                prepared = self._prepare_patiently(ours, stopped)
                continue
            if first_id is None:
                return None
            self._announce(prepared, first_id)
            self._give_way_storing()
            return self._account(prepared, first_id, time.perf_counter() - started)
        return None

    # -- preparing: pure work on values

    def _prepare_patiently(self, entries: Sequence[LogEntry], stopped: Callable[[float], bool]) -> Prepared:
        """Prepare, waiting for a database that is away: a new word needs a number. Empty when we are stopping."""
        return Patience(self.state, stopped, self._guard).with_which(partial(self._prepare, entries)) or Prepared(())

    def _prepare(self, entries: Sequence[LogEntry]) -> Prepared:
        """Decode and rate every line; the entries of one stream are brought together, in their order."""
        self._take_over_decoders()
        prepared = Prepared(entries)
        by_stream: dict[int, list[LogEntry]] = {}
        for entry in entries:
            by_stream.setdefault(entry.stream_id, []).append(entry)
        for of_stream in by_stream.values():
            first, last = of_stream[0], of_stream[-1]
            blank = joined = unknown = 0
            before = len(prepared.rows)
            for entry in of_stream:
                empty, added, strange = self._read_lines(entry, prepared)
                blank += empty
                joined += added
                unknown += strange
            events = len(prepared.rows) - before
            prepared.moves.append(
                Move(
                    first.stream_id, first.source_id, first.file_offset, last.end_offset, last.fingerprint,
                    events + blank + joined, blank, events, unknown, joined,
                )
            )  # fmt: skip
        return prepared

    def _read_lines(self, entry: LogEntry, prepared: Prepared) -> tuple[int, int, int]:
        """Append the entry's lines; returns how many are blank, how many joined an event, how many nobody decodes.

        A line that continues the event before it in the entry joins that: a source hands on events whole.
        """
        read_at = entry.timestamp
        now = self._wall()
        ingested_ms, read_at_us = int(now * 1000), int(read_at * 1_000_000)
        processing_us = max(0, int((now - read_at) * 1_000_000))
        source_id, original_bytes = entry.source_id, entry.true_bytes or None
        decoder = self._decoders.get(source_id)
        if decoder is None:
            decoder = self._decoders[source_id] = SourceDecoder(registry=self._registry)
        decode, name_id = decoder.decode, self._store.name_id
        path_id = name_id("path", entry.source_path)
        format_ids: dict[str, int] = {}
        category_ids: dict[str, int] = {}
        rows, all_decoded, all_texts = prepared.rows, prepared.decoded, prepared.texts
        before = len(rows)
        blank = joined = unknown = 0
        give_way = self._give_way_reading
        for place, (raw, text, encoding, flags) in enumerate(texts(entry)):
            if not place & 63:
                give_way()
            if not text or text.isspace():
                blank += 1
                continue
            try:
                decoded = decode(text, read_at)
            except Exception:  # one bad record: stored raw, flagged, never tried again
                log.exception("a decoder failed on a line of %s", entry.source_name)
                decoded = Decoded("unknown", None, text, {}, PARSE_ERROR)
            name, timestamp, message, fields, decoded_flags = decoded
            template_id = 0
            if decoded_flags & FROM_EXPORT:
                raw = text = str(fields.pop("event.original"))  # noqa: PLW2901
                encoding = None  # noqa: PLW2901
            if (name in PARTS or decoder.encloses) and (
                place := prepared.join(text, raw, decoded, decoder, before)
            ) >= 0:
                rows[place] = rated_again(rows[place], all_decoded[place], name_id)
                joined += 1
                continue
            if name == "unknown":
                unknown += 1
                template_id = self._template_id(message, text, source_id)
            elif name in SEVERAL and (records := inside(entry, text)) is not None:
                counts = zip((blank, joined, unknown), self._read_lines(records, prepared), strict=True)
                blank, joined, unknown = (sum(pair) for pair in counts)
                continue
            format_id = format_ids.get(name)
            if format_id is None:
                format_id = format_ids[name] = name_id("format", name)
            kind = category(decoded)
            category_id = category_ids.get(kind)
            if category_id is None:
                category_id = category_ids[kind] = name_id("category", kind)
            get = fields.get
            rows.append(
                _new_row(
                    EventRow,
                    (
                        read_at_us if timestamp is None else timestamp, ingested_ms, source_id, path_id, format_id,
                        category_id, severity(decoded), decoded_flags | flags, template_id,
                        OUTCOMES.get(get("event.outcome"), 0),  # type: ignore[arg-type]
                        get("source.ip"), get("user.name"), encoding, original_bytes, processing_us, 1, 0, raw,
                    ),
                )
            )  # fmt: skip
            all_decoded.append(decoded)
            all_texts.append(text)
        if len(rows) > before and (newest := all_decoded[-1]).timestamp_us is not None:
            self.zones.observe(entry, decoder, newest.timestamp_us, all_texts[-1].partition("\n")[0])
        if entry.flags and len(rows) > before:  # of its last line
            rows[-1] = rows[-1]._replace(flags=rows[-1].flags | entry.flags)
        prepared.origins += [entry] * (len(rows) - len(prepared.origins))
        return blank, joined, unknown

    def _template_id(self, message: str, line: str, source_id: int) -> int:
        """The number of the shape of a line that no decoder knows."""
        shape = self._tree.find(message[:INDEXED_CHARACTERS])
        known = self._templates.get(shape.id)
        if known is None:
            known = self._templates.get(shape.narrower)
            if known is None:
                known = self._store.template_id(shape.text, sample=line, source_id=source_id)
            else:
                self._store.generalise_template(known, shape.text)
            self._templates[shape.id] = known
        return known

    def recall_shapes(self) -> None:
        """Begin with the shapes that are stored, so that a restart does not number them anew."""
        for view in self._store.templates(limit=MAX_TEMPLATES):
            self._templates.setdefault(self._tree.recall(view.text).id, view.id)

    # -- storing: one transaction, tried until it holds

    def _store_patiently(self, prepared: Prepared, stopped: Callable[[float], bool]) -> int | None:
        """Commit, waiting for a database that is away; the id of the first event, None when we are stopping."""
        patience = Patience(self.state, stopped, self._guard)
        while True:
            try:
                first_id = self._commit(prepared)
            except StoreUnavailable as error:
                prepared.doubtful = True
                if not patience.waits(error):
                    return None
            except DBAPIError:
                # Not the database's state but this data: find the line and bury it.
                log.exception("a batch of %d lines cannot be stored as it is; looking for the line", len(prepared.rows))
                self._bury(prepared)
            else:
                if self.state.unavailable:
                    log.info("the database takes data again")
                    self.state.unavailable = ""
                return first_id

    def _commit(self, prepared: Prepared) -> int:
        if self._guard is not None and self._guard.holding:
            msg = "the disk of the database is full"
            raise StoreUnavailable(msg, reason="disk_full")
        learned = []
        for source_id in {move.source_id for move in prepared.moves}:
            now = self._decoders[source_id].learned
            if now != self._learned.get(source_id, ()):
                learned.append((source_id, json.dumps(now)))
        templates = Counter(row.template_id for row in prepared.rows if row.template_id)
        first_id = self._detect_and_commit(
            prepared, dead=prepared.dead, templates=templates.items(), learned=learned, doubtful=prepared.doubtful
        )
        self._learned.update((source_id, self._decoders[source_id].learned) for source_id, _ in learned)
        return first_id

    def _occurrences(
        self, prepared: Prepared, rows: Sequence[EventRow], verdict: Verdict | None = None
    ) -> list[Occurrence]:
        """What the batch gives to tell; an incident of the verdict, which is written, speaks for its events."""
        if self._notifications is None:
            return []
        lowest = self._notifications.lowest_severity()
        if lowest > 10:  # nobody wants to be told of anything
            return []
        quiet = quiet_places(verdict) if verdict is not None else set()
        happenings = [
            happening(row, prepared.decoded[place], prepared.origins[place], place)
            for place, row in enumerate(rows)
            if row.severity >= lowest and place not in quiet and prepared.origins[place].source_id not in self._cases
        ]
        if verdict is not None:
            happenings += incident_happenings(verdict)
        return self._notifications.plan(happenings) if happenings else []

    def _detect_and_commit(self, prepared: Prepared, **more: Any) -> int:
        """Ask the rules, then store the batch with what they say; a batch that is tried again is asked about again."""
        detector = self._detector
        if detector is None:
            occurrences = self._occurrences(prepared, prepared.rows)
            return self._store.commit(prepared.rows, prepared.moves, occurrences=occurrences, **more)
        with self._detecting:
            started = time.perf_counter()
            cases = self._cases
            verdict = detector.look(
                [
                    Item(one, row.timestamp, row.template_id, entry.source_id, entry.source_name,
                         entry.source_id in cases)
                    for one, row, entry in zip(prepared.decoded, prepared.rows, prepared.origins, strict=True)
                ],
                self._give_way_storing,
            )  # fmt: skip
            self.counts.rules.add(time.perf_counter() - started)
            self._give_way_storing()
            rows = verdict.rated(prepared.rows)

            def write(connection: Connection, first_id: int) -> list[Occurrence]:
                nonlocal rows
                rows = detector.write(connection, first_id, verdict, rows)
                return self._occurrences(prepared, rows, verdict)

            first_id = self._store.commit(rows, prepared.moves, also=write, **more)
            detector.committed()
        prepared.rows, prepared.verdict = rows, verdict
        return first_id

    def _bury(self, prepared: Prepared) -> None:
        """Move every line that the database refuses by itself to the dead letters; the moves stay whole."""
        buried: set[int] = set()
        of_stream: Counter[int] = Counter()
        for place, (row, entry) in enumerate(zip(prepared.rows, prepared.origins, strict=True)):
            error = self._store.refusal(row)
            if error is None:
                continue
            raw = row.raw.encode(errors="replace") if isinstance(row.raw, str) else row.raw
            prepared.dead.append(
                DeadLetter(
                    entry.source_id, entry.stream_id, entry.file_offset, entry.source_path, raw, entry.encoding, error
                )
            )
            buried.add(place)
            of_stream[entry.stream_id] += 1
        if not buried:
            # Refused together but not one by one: the next try tells, and trouble raises StoreUnavailable.
            msg = "the batch was refused, though each of its lines would be taken"
            raise StoreUnavailable(msg, reason="away")
        prepared.without(buried)
        prepared.moves = [move._replace(events=move.events - of_stream[move.stream_id]) for move in prepared.moves]

    # -- dead letters

    def replay(self) -> int:
        """Try the dead letters again that somebody asked for; how many became events."""
        done = 0
        for letter_id, source_id, path, raw, encoding in self._store.asked_replays():
            config = self._configs.get(source_id)
            name = config.source_name if config else "?"
            now = self._wall()
            entry = LogEntry(0, source_id, name, path, raw, 0, 0, 1, 5, now, encoding, 0, 0, b"")
            prepared = Prepared([entry])
            self._read_lines(entry, prepared)
            error = self._store.refusal(prepared.rows[0]) if len(prepared.rows) == 1 else "it is not one line"
            if error is not None:
                self._store.refuse_replay(letter_id, error)
                continue
            self._announce(prepared, self._detect_and_commit(prepared, replayed=[letter_id]))
            done += 1
        return done

    # -- announcing

    def _announce(self, prepared: Prepared, first_id: int) -> None:
        size = prepared.give_bytes_back()
        self._broadcaster.publish(first_id, len(prepared.rows), lambda: events_of(prepared, first_id), size=size)
        if prepared.verdict is not None:
            for update in updates(prepared.verdict, now_us()):
                self._broadcaster.publish_update(update)

    def _account(self, prepared: Prepared, first_id: int, seconds: float) -> ProcessingResult:
        lines = sum(move.lines for move in prepared.moves)
        result = ProcessingResult(first_id, len(prepared.rows), lines, len(prepared.dead), seconds)
        self.counts.add(prepared.decoded, prepared.origins, self._wall())
        if self._habits is not None:
            for run in by_source(prepared, first_id):
                if run[0] not in self._cases:
                    self._habits.take(*run)
        state = self.state
        state.lines += lines
        state.events += result.events
        state.dead += result.dead
        state.batches += 1
        state.last_batch = result
        return result


def _reading(config: LogSourceConfig) -> tuple[str, str, bool]:
    """What of a source's settings its decoder depends on."""
    return config.format, config.timezone, config.learn_timezone
