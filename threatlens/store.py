"""EventStore: the transaction that holds events and offsets.

Events, the ledger, the roll-up, the full text and the new position of every stream are committed together, and a
position moves by compare-and-set: a crash at any instruction neither loses nor repeats a line, and a second writer
cannot repeat one either, as its batch begins where ours already ended.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from threatlens.clock import now_us
from threatlens.decoders import rereader
from threatlens.errors import NotOurs
from threatlens.store_accounts import AccountBook
from threatlens.store_analyses import AnalysisBook
from threatlens.store_answers import AnswerBook
from threatlens.store_audit import AuditLog
from threatlens.store_conditions import MINUTE_US
from threatlens.store_database import Database
from threatlens.store_entities import EntityBook
from threatlens.store_health import HealthBook
from threatlens.store_notifications import Occurrence, Outbox, write_occurrences
from threatlens.store_reading import SLOT_US, Decode, EventReading
from threatlens.store_reports import ReportBook
from threatlens.store_retention import RetentionBook
from threatlens.store_searches import SearchBook
from threatlens.store_sources import SourceBook
from threatlens.store_streams import StreamTable
from threatlens.store_threats import ThreatListBook
from threatlens.store_tokens import TokenBook
from threatlens.store_volumes import VolumeBook
from threatlens.store_watchers import WatcherBook
from threatlens.store_words import indexed_text, line_of

#: In events.outcome; 0: the line says neither.
SUCCESS, FAILURE = 1, 2
#: Runs of bytes that touch are one ledger row as long as they lie in one minute.
LEDGER_MERGE_US = 60_000_000


_ROW = "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_INSERT = "INSERT INTO events VALUES " + _ROW
#: Rows of one statement. While it runs, other threads run too; a statement a row would make them take turns.
_CHUNK = 250
_INSERT_CHUNK = "INSERT INTO events VALUES " + ",".join([_ROW] * _CHUNK)
_INDEX = "INSERT INTO events_fts (rowid, raw) VALUES (?,?)"
_INDEX_CHUNK = _INDEX + ",(?,?)" * (_CHUNK - 1)


class EventRow(NamedTuple):
    """One row of `events`, in the order of its columns, without the id."""

    timestamp: int
    ingested_at: int
    source_id: int
    path_id: int
    format_id: int
    category_id: int
    severity: int
    flags: int
    template_id: int
    outcome: int
    source_ip: str | None
    user_name: str | None
    encoding: str | None
    original_bytes: int | None
    processing_us: int
    realtime_processed: int
    notification_sent: int
    raw: str | bytes


class Move(NamedTuple):
    """One stream goes from start to end; `events` rows of the batch (in its order) came from those bytes."""

    stream_id: int
    source_id: int
    start: int  # bytes
    end: int  # bytes
    fingerprint: bytes
    lines: int
    blank_lines: int
    events: int
    unknown: int
    joined_lines: int = 0  # that are part of the event of a line before


class DeadLetter(NamedTuple):
    """A line that could not become an event."""

    source_id: int
    stream_id: int
    file_offset: int
    path: str
    raw: bytes
    encoding: str
    error: str


class EventStore(
    EventReading,
    AnalysisBook,
    SourceBook,
    AnswerBook,
    StreamTable,
    TokenBook,
    AccountBook,
    Outbox,
    ReportBook,
    SearchBook,
    HealthBook,
    EntityBook,
    RetentionBook,
    ThreatListBook,
    VolumeBook,
    WatcherBook,
):
    """Everything that is stored: the write transaction here, the rest by subject in the store_... modules."""

    def __init__(self, engine: Engine, rereader: Callable[[], Decode] = rereader) -> None:
        """`rereader` makes what reads the fields of stored lines again, given their format."""
        super().__init__(Database(engine))
        self.rereader = rereader
        self.audit = AuditLog(self.database)
        self._names: dict[tuple[str, str], int] = {}
        self._names_lock = threading.Lock()

    # -- the transaction

    def commit(
        self,
        rows: Sequence[EventRow],
        moves: Sequence[Move],
        *,
        dead: Sequence[DeadLetter] = (),
        templates: Iterable[tuple[int, int]] = (),
        learned: Iterable[tuple[int, str]] = (),
        replayed: Sequence[int] = (),
        occurrences: Sequence[Occurrence] = (),
        also: Callable[[Connection, int], Sequence[Occurrence]] | None = None,
        doubtful: bool = False,
    ) -> int:
        """Store a batch and return the id of its first event; the others follow consecutively.

        rows, in the order of the moves, one per event; templates: (id, how many more); learned: (source id, JSON list
        of decoders); replayed: the dead letters that the rows come from, one each; occurrences: what is to be told
        about the batch; also: called with the transaction and the first id, to write what belongs to the batch beside
        its events, and returns what is to be told of that. Raises NotOurs naming the streams whose position is not
        where the batch begins (nothing is stored then) and StoreUnavailable. doubtful: the answer to an earlier try was
        lost; if the batch is found to be stored whole, that was it.
        """
        with self.database.writing() as connection:
            if doubtful and (known := _stored(connection, moves)):
                return known
            first_id = (connection.exec_driver_sql("SELECT max(id) FROM events").scalar() or 0) + 1
            self._move(connection, moves)
            if rows:
                _insert(connection, _INSERT, _INSERT_CHUNK, [(first_id + at, *row) for at, row in enumerate(rows)])
                self._index_words(connection, rows, first_id)
                self._roll_up(connection, rows, first_id)
            self._write_ledger(connection, moves, first_id)
            if dead:
                created = now_us()
                connection.exec_driver_sql(
                    "INSERT INTO dead_letters (source_id, stream_id, file_offset, path, raw, encoding, error,"
                    " created_at, replayed_at, event_id) VALUES (?,?,?,?,?,?,?,?,0,0)",
                    [(*letter, created) for letter in dead],
                )
            seen = now_us()
            for template_id, more in templates:
                connection.exec_driver_sql(
                    "UPDATE templates SET n = n + ?, last_seen_us = ? WHERE id = ?", (more, seen, template_id)
                )
            for source_id, names in learned:
                connection.exec_driver_sql("UPDATE log_sources SET learned = ? WHERE id = ?", (names, source_id))
            for event_id, letter_id in enumerate(replayed, first_id):
                connection.exec_driver_sql(
                    "UPDATE dead_letters SET replayed_at = ?, event_id = ? WHERE id = ?", (seen, event_id, letter_id)
                )
            told = occurrences if also is None else [*occurrences, *also(connection, first_id)]
            write_occurrences(connection, told, first_id, seen)
        return first_id

    @staticmethod
    def _index_words(connection: Connection, rows: Sequence[EventRow], first_id: int) -> None:
        words = [
            (event_id, indexed_text(line_of(row[17], row[12]), row[10], row[11]))
            for event_id, row in enumerate(rows, first_id)
        ]
        _insert(connection, _INDEX, _INDEX_CHUNK, words)

    def refusal(self, row: EventRow) -> str | None:
        """Why the database does not take this row, in its words; None: it does. Stores nothing."""
        try:
            with self.database.writing() as connection:
                savepoint = connection.begin_nested()
                last = connection.exec_driver_sql("SELECT max(id) FROM events").scalar() or 0
                connection.exec_driver_sql(_INSERT, (last + 1, *row))
                savepoint.rollback()
        except DBAPIError as error:
            return str(error.orig)
        return None

    @staticmethod
    def _move(connection: Connection, moves: Sequence[Move]) -> None:
        """The compare-and-set of every position; a batch may hold several runs of one stream, one behind the other."""
        refused = set()
        now = now_us()
        for move in moves:
            moved = connection.exec_driver_sql(
                "UPDATE log_streams SET position = ?, fingerprint = ?, updated_at = ? WHERE id = ? AND position = ?",
                (move.end, move.fingerprint, now, move.stream_id, move.start),
            )
            if moved.rowcount != 1:
                refused.add(move.stream_id)
        if refused:
            msg = f"another writer has moved {len(refused)} stream(s)"
            raise NotOurs(msg, stream_ids=frozenset(refused))

    @staticmethod
    def _roll_up(connection: Connection, rows: Sequence[EventRow], first_id: int) -> None:
        """Count by minute, address and user; by columns, as a look at each row would cost more."""
        columns = list(zip(*rows, strict=True))
        timestamps, source_ids, category_ids, severities = columns[0], columns[2], columns[5], columns[6]
        kinds = list(zip([at // MINUTE_US for at in timestamps], source_ids, category_ids, severities, strict=True))
        last_id = first_id + len(rows) - 1
        lasts = dict(zip(kinds, range(first_id, last_id + 1), strict=True))
        firsts = dict(zip(reversed(kinds), range(last_id, first_id - 1, -1), strict=True))
        connection.exec_driver_sql(
            "INSERT INTO event_minutes (minute, source_id, category_id, severity, n, first_id, last_id)"
            " VALUES (?,?,?,?,?,?,?) ON CONFLICT (minute, source_id, category_id, severity)"
            " DO UPDATE SET n = event_minutes.n + excluded.n, last_id = excluded.last_id",
            [(*kind, n, firsts[kind], lasts[kind]) for kind, n in Counter(kinds).items()],
        )
        seen = Counter(zip([at // SLOT_US for at in timestamps], columns[10], category_ids, columns[9], strict=True))
        addresses = [
            (slot, address, category_id, n, n if outcome == FAILURE else 0, n if outcome == SUCCESS else 0)
            for (slot, address, category_id, outcome), n in seen.items()
            if address is not None
        ]
        users = [(name, n) for name, n in Counter(columns[11]).items() if name is not None]
        if users:
            connection.exec_driver_sql(
                "INSERT INTO user_totals (user_name, n) VALUES (?,?)"
                " ON CONFLICT (user_name) DO UPDATE SET n = user_totals.n + excluded.n",
                users,
            )
        if addresses:
            connection.exec_driver_sql(
                "INSERT INTO address_slots (slot, source_ip, category_id, n, failures, successes) VALUES (?,?,?,?,?,?)"
                " ON CONFLICT (slot, source_ip, category_id) DO UPDATE SET n = address_slots.n + excluded.n,"
                " failures = address_slots.failures + excluded.failures,"
                " successes = address_slots.successes + excluded.successes",
                addresses,
            )

    @staticmethod
    def _write_ledger(connection: Connection, moves: Sequence[Move], first_id: int) -> None:
        now = now_us()
        event_id = first_id
        per_source: dict[int, list[int]] = {}
        for move in moves:
            first = event_id if move.events else 0
            last = event_id + move.events - 1 if move.events else 0
            event_id += move.events
            merged = connection.exec_driver_sql(
                "UPDATE raw_logs SET end_offset = ?, lines = lines + ?, blank_lines = blank_lines + ?,"
                " joined_lines = joined_lines + ?,"
                " first_event_id = CASE WHEN first_event_id = 0 THEN ? ELSE first_event_id END,"
                " last_event_id = CASE WHEN ? = 0 THEN last_event_id ELSE ? END"
                " WHERE id = (SELECT id FROM raw_logs WHERE stream_id = ? ORDER BY start_offset DESC LIMIT 1)"
                " AND end_offset = ? AND ingested_at > ?",
                (move.end, move.lines, move.blank_lines, move.joined_lines, first, last, last, move.stream_id,
                 move.start, now - LEDGER_MERGE_US),
            )  # fmt: skip
            if merged.rowcount != 1:
                connection.exec_driver_sql(
                    "INSERT INTO raw_logs (stream_id, start_offset, end_offset, lines, blank_lines, joined_lines,"
                    " first_event_id, last_event_id, ingested_at) VALUES (?,?,?,?,?,?,?,?,?)",
                    (move.stream_id, move.start, move.end, move.lines, move.blank_lines, move.joined_lines, first, last,
                     now),
                )  # fmt: skip
            total = per_source.setdefault(move.source_id, [0, 0, 0, 0, 0, 0])
            for index, more in enumerate(
                (move.lines, move.blank_lines, move.joined_lines, move.events, move.unknown, move.end - move.start)
            ):
                total[index] += more
        for source_id, (lines, blank, joined, events, unknown, size) in per_source.items():
            connection.exec_driver_sql(
                "UPDATE log_sources SET lines = lines + ?, blank_lines = blank_lines + ?,"
                " joined_lines = joined_lines + ?, events = events + ?,"
                " unknown = unknown + ?, bytes = bytes + ?, last_offset = last_offset + ?,"
                " last_event_us = CASE WHEN ? > 0 THEN ? ELSE last_event_us END WHERE id = ?",
                (lines, blank, joined, events, unknown, size, size, events, now, source_id),
            )

    def merge_words(self) -> None:
        """Put parts of the full-text index together, a little at a time: smaller on disk, quicker to search."""
        with self.database.writing() as connection:
            connection.exec_driver_sql("INSERT INTO events_fts (events_fts, rank) VALUES ('merge', 125)")

    # -- words as numbers

    def name_id(self, kind: str, name: str) -> int:
        """The number that stands for this word (kind: category, format or path); a new word gets one at once."""
        key = (kind, name)
        known = self._names.get(key)
        if known is not None:
            return known
        with self._names_lock, self.database.writing() as connection:
            connection.exec_driver_sql("INSERT INTO names (kind, name) VALUES (?,?) ON CONFLICT DO NOTHING", key)
            number = connection.exec_driver_sql("SELECT id FROM names WHERE kind = ? AND name = ?", key).scalar_one()
            if len(self._names) > 100_000:  # paths of short-lived files: bounded
                self._names.clear()
            self._names[key] = int(number)
        return int(number)

    def template_id(self, text: str, *, sample: str, source_id: int) -> int:
        """The number of this message shape; 0 once there are more shapes than are kept."""
        with self.database.writing() as connection:
            row = connection.exec_driver_sql("SELECT id FROM templates WHERE text = ?", (text,)).scalar()
            if row is None:
                many = connection.exec_driver_sql("SELECT count(*) FROM templates").scalar_one()
                if many >= MAX_TEMPLATES:
                    return 0
                now = now_us()
                row = connection.exec_driver_sql(
                    "INSERT INTO templates (text, sample, n, first_seen_us, last_seen_us, source_id)"
                    " VALUES (?,?,0,?,?,?) RETURNING id",
                    (text, sample[:2_000], now, now, source_id),
                ).scalar_one()
        return int(row)

    def generalise_template(self, template_id: int, text: str) -> None:
        """The shape has become more general; its number stays. A shape that reads so already keeps its own."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE templates SET text = ? WHERE id = ? AND NOT EXISTS (SELECT 1 FROM templates WHERE text = ?)",
                (text, template_id, text),
            )


def _insert(connection: Connection, one: str, chunk: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows, a chunk a statement as long as there are whole ones."""
    whole = len(rows) // _CHUNK * _CHUNK
    for start in range(0, whole, _CHUNK):
        connection.exec_driver_sql(chunk, tuple(chain.from_iterable(rows[start : start + _CHUNK])))
    if whole < len(rows):
        connection.exec_driver_sql(one, list(rows[whole:]))


def _stored(connection: Connection, moves: Sequence[Move]) -> int:
    """The id of the first event of a batch that is stored whole; 0: it is not. Nobody has written since."""
    last_ids = {}
    for stream_id, end in {move.stream_id: move.end for move in moves}.items():
        row = connection.exec_driver_sql(
            "SELECT t.position, r.end_offset, r.last_event_id FROM log_streams t JOIN raw_logs r ON r.stream_id = t.id"
            " WHERE t.id = ? ORDER BY r.start_offset DESC LIMIT 1",
            (stream_id,),
        ).one_or_none()
        if row is None or row[0] != end or row[1] != end:
            return 0
        last_ids[stream_id] = int(row[2])
    last = max((last_ids[move.stream_id] for move in moves if move.events), default=0)
    newest = int(connection.exec_driver_sql("SELECT max(id) FROM events").scalar() or 0)
    return (last or newest) + 1 - sum(move.events for move in moves)


#: Shapes of undecoded lines that are kept; an attacker can make up as many as he likes.
MAX_TEMPLATES = 10_000
