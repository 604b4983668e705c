"""Sources in the database: what is configured, how each is doing, and what was handed in."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from threatlens.clock import now_us
from threatlens.decoders import is_zone
from threatlens.errors import IngestError
from threatlens.event import SourceStatus
from threatlens.settings import Settings
from threatlens.sources.base import CASE_PREFIX, TEST_ATTACK, TEST_ATTACK_TOLD, TEST_ATTACKS, LogSourceConfig
from threatlens.store_database import Database, known
from threatlens.visible import is_plain

HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class SourceView:
    """A row of log_sources."""

    id: int
    source_name: str
    path: str
    kind: str  # file, api, cli, demo, test
    origin: str  # yaml, ui, api, cli, demo
    enabled: bool
    state: str
    state_reason: str
    remedy: str
    last_monitored: int  # microseconds since the epoch
    file_size: int  # bytes, all its files
    last_offset: int  # bytes of those that are stored
    files: int
    lines: int
    blank_lines: int
    joined_lines: int  # that are part of the event of a line before
    events: int
    unknown: int
    bytes: int
    last_event_us: int
    created_at: int
    updated_at: int
    learned: tuple[str, ...] = ()
    learned_zone: str = ""  # such as UTC+02:00; "": none, or not learned
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def unaccounted(self) -> int:
        """Lines that are neither blank nor in an event: as many as there are dead letters."""
        return self.lines - self.blank_lines - self.joined_lines - self.events


@dataclass(frozen=True, slots=True)
class DeadLetterView:
    """A line that could not become an event."""

    id: int
    source: str
    path: str
    raw: str
    error: str
    created_at: int
    replayed_at: int
    event_id: int


#: In dead_letters.replayed_at: somebody asked for another try.
REPLAY_ASKED = -1
_PLAIN = (
    "id, source_name, path, kind, origin, enabled, state, state_reason, remedy, last_monitored, file_size, last_offset,"
    " files, lines, blank_lines, joined_lines, events, unknown, bytes, last_event_us, created_at, updated_at, learned,"
    " settings"
)


def _taught(learned: str) -> dict[str, Any]:
    """The formats that a source was found to speak, and its zone, which stands behind them."""
    names = json.loads(learned)
    zone = names.pop() if names and is_zone(names[-1]) else ""
    return {"learned": tuple(names), "learned_zone": zone}


class SourceBook:
    """The tables log_sources, ingestions, dead_letters, processing_metrics and monitoring_config."""

    database: Database

    # -- sources

    def hours_of_sources(self, until_us: int, hours: int = 24) -> dict[int, list[int]]:
        """Events of each source by the hour of event time, the last hour at the end; without any it is left out."""
        last = until_us // HOUR_US
        found: dict[int, list[int]] = {}
        with self.database.reading() as connection:
            for source_id, hour, n in connection.exec_driver_sql(
                "SELECT source_id, hour, sum(n) FROM event_hours WHERE hour > ? AND hour <= ? GROUP BY source_id, hour",
                (last - hours, last),
            ):
                found.setdefault(source_id, [0] * hours)[hour - last + hours - 1] = int(n)
        return found

    def sources(self) -> list[SourceView]:
        """All sources by name, but for removed ones."""
        with self.database.reading() as connection:
            of_moment = known(connection)
            if "sources" not in of_moment:
                of_moment["sources"] = self._sources(connection)
            return list(of_moment["sources"])

    @staticmethod
    def _sources(connection: Connection) -> list[SourceView]:
        rows = connection.exec_driver_sql(
            f"SELECT {_PLAIN} FROM log_sources WHERE kind <> 'removed' ORDER BY source_name"
        )
        return [
            SourceView(
                **{
                    **row._mapping,  # noqa: SLF001 - SQLAlchemy's public name for a row as a mapping
                    "enabled": bool(row.enabled),
                    **_taught(row.learned),
                    "settings": json.loads(row.settings),
                }
            )
            for row in rows
        ]

    def source(self, source_id: int) -> SourceView:
        """One source; raises KeyError for an unknown one."""
        return {view.id: view for view in self.sources()}[source_id]

    def stream_progress(self, source_id: int) -> tuple[int, bool, bool] | None:
        """(bytes stored, whether that is all, whether it is compressed) of a source that is one file; None: not opened
        yet. Of a compressed one "all" means read to its end: what was read may still wait to be stored."""
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                "SELECT t.position, t.compressed, s.state, s.path FROM log_streams t JOIN log_sources s"
                " ON s.id = t.source_id WHERE s.id = ? AND t.retired = 0 ORDER BY t.id DESC LIMIT 1",
                (source_id,),
            ).one_or_none()
        if row is None:
            return None
        complete = row[2] == "flowing" if row[1] else row[0] >= os.path.getsize(row[3])
        return int(row[0]), complete, bool(row[1])

    def learned(self) -> dict[int, tuple[str, ...]]:
        """Which decoders each source is known to speak."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql("SELECT id, learned FROM log_sources")
            return {row[0]: tuple(json.loads(row[1])) for row in rows}

    def write_source_status(self, statuses: Sequence[SourceStatus]) -> None:
        """What the monitor says about its sources."""
        now = now_us()
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE log_sources SET state = ?, state_reason = ?, remedy = ?, files = ?, file_size = ?,"
                " last_monitored = ? WHERE id = ?",
                [(s.state, s.reason, s.remedy, s.files, s.bytes_total, now, s.source_id) for s in statuses],
            )

    # -- sources that no operator configures: the spool, files named on the command line, the demo

    def put_internal_sources(self, names: Mapping[str, str], folder: str, *, kind: str) -> None:
        """Make sure that these sources (name -> file in the folder) exist and are enabled."""
        now = now_us()
        with self.database.writing() as connection:
            for name, file_name in names.items():
                connection.exec_driver_sql(
                    "INSERT INTO log_sources (source_name, path, kind, origin, created_at, updated_at)"
                    " VALUES (?,?,?,?,?,?) ON CONFLICT (source_name) DO UPDATE SET enabled = 1, path = excluded.path",
                    (name, os.path.join(folder, file_name), kind, kind, now, now),
                )

    def put_api_source(self, name: str, log_format: str) -> int:
        """The source that data handed in under this name belongs to; raises IngestError when the name is taken."""
        return self._put_handed_in(name, "", "api", {"format": log_format, "file_pattern": "*.log"})

    def put_test_source(self, *, tells: bool) -> int:
        """The source of test attacks; tells: whoever is told of real ones is told of these."""
        return self._put_handed_in(TEST_ATTACK_TOLD if tells else TEST_ATTACK, "", "test", {"file_pattern": "*.log"})

    def put_cli_source(self, name: str, path: str, log_format: str) -> int:
        """The source of a file that the command line names."""
        return self._put_handed_in(name, path, "cli", {"format": log_format})

    def _put_handed_in(self, name: str, path: str, kind: str, settings: Mapping[str, Any]) -> int:
        if len(name) > 100 or not is_plain(name):
            msg = "the source's name must have 1 to 100 printable characters"
            raise IngestError(msg)
        if name in TEST_ATTACKS and kind != "test":  # whoever takes test attacks away takes what is real for one
            msg = f"the name {name!r} is kept for attacks that are made up; choose another one"
            raise IngestError(msg, status=409)
        now = now_us()
        with self.database.writing() as connection:
            row = connection.exec_driver_sql(
                "SELECT id, kind, path, settings FROM log_sources WHERE source_name = ?", (name,)
            ).one_or_none()
            if row is None:
                return int(
                    connection.exec_driver_sql(
                        "INSERT INTO log_sources (source_name, path, kind, origin, settings, created_at, updated_at)"
                        " VALUES (?,?,?,?,?,?,?) RETURNING id",
                        (name, path, kind, kind, json.dumps(settings), now, now),
                    ).scalar_one()
                )
            if row[1] not in {kind, "removed"} or (row[1] == "cli" and row[2] != path):
                msg = f"the name {name!r} belongs to another source; choose another one"
                raise IngestError(msg, status=409)
            if json.loads(row[3]) != settings or row[1] != kind:
                connection.exec_driver_sql(
                    "UPDATE log_sources SET settings = ?, kind = ?, path = ?, enabled = 1, updated_at = ? WHERE id = ?",
                    (json.dumps(settings), kind, path, now, row[0]),
                )
            return int(row[0])

    def internal_sources(self, settings: Settings) -> list[LogSourceConfig]:
        """What to follow for them; each may open its own folder only."""
        configs = []
        for source in self.sources():
            if source.kind == "file" or not source.enabled or (source.kind == "demo" and not settings.demo):
                continue
            spooled = source.kind in ("api", "test")
            path = os.path.join(settings.spool, str(source.id)) if spooled else source.path
            configs.append(
                LogSourceConfig(
                    source.id,
                    source.source_name,
                    path,
                    format=str(source.settings.get("format", "auto")),
                    file_pattern=source.settings.get("file_pattern"),
                    roots=(path if spooled else os.path.dirname(path),),
                    whole_files=source.kind != "demo",
                    polling_interval=1.0,
                    case=source.kind == "test"
                    or (source.kind != "demo" and source.source_name.startswith(CASE_PREFIX)),
                )
            )
        return configs

    def internal_version(self) -> tuple[int, int]:
        """Changes whenever one of them comes, goes or changes."""
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                "SELECT count(*), coalesce(max(updated_at), 0) FROM log_sources"
                " WHERE kind NOT IN ('file', 'removed') AND enabled = 1"
            ).one()
            return int(row[0]), int(row[1])

    # -- ingestions

    def add_ingestion(
        self, ingestion_id: str, source_id: int, path: str, size: int, lines: int, key: str | None
    ) -> None:
        """Remember data that is durable now; raises sqlalchemy's IntegrityError when the key is taken."""
        now = now_us()
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "INSERT INTO ingestions (id, source_id, path, size, accepted, idempotency_key, created_at, updated_at)"
                " VALUES (?,?,?,?,?,?,?,?)",
                (ingestion_id, source_id, path, size, lines, key, now, now),
            )

    def ingestion(self, column: str, value: str) -> tuple[Any, ...] | None:
        """(id, source, state, size, stored, accepted, created_at) of one ingestion, by id or idempotency_key."""
        if column not in {"id", "idempotency_key"}:
            msg = f"ingestions are found by id or idempotency_key, not {column}"
            raise ValueError(msg)
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                "SELECT i.id, s.source_name, CASE WHEN i.state = 'accepted' AND t.position > 0 THEN 'processing'"
                " ELSE i.state END, i.size, CASE WHEN i.state = 'done' THEN i.size ELSE coalesce(t.position, 0) END,"
                " i.accepted, i.created_at FROM ingestions i JOIN log_sources s ON s.id = i.source_id"
                f" LEFT JOIN log_streams t ON t.source_id = i.source_id AND t.path = CAST(i.path AS BLOB)"
                f" WHERE i.{column} = ? ORDER BY t.id DESC LIMIT 1",
                (value,),
            ).one_or_none()
            return None if row is None else tuple(row)

    def stored_ingestions(self) -> list[tuple[str, str]]:
        """(id, path) of every ingestion whose last byte is stored but that is not marked done yet."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT i.id, i.path FROM ingestions i JOIN log_streams t ON t.source_id = i.source_id"
                " AND t.path = CAST(i.path AS BLOB) WHERE i.state <> 'done' AND t.position >= i.size"
            )
            return [(row[0], row[1]) for row in rows]

    def finish_ingestion(self, ingestion_id: str, at_us: int) -> None:
        """Its last byte is stored."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE ingestions SET state = 'done', updated_at = ? WHERE id = ?", (at_us, ingestion_id)
            )

    # -- dead letters

    def dead_letters(self, limit: int = 100) -> list[DeadLetterView]:
        """Lines that could not become events, the newest first."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT d.id, coalesce(s.source_name, '?'), d.path, d.raw, d.encoding, d.error, d.created_at,"
                " d.replayed_at, d.event_id FROM dead_letters d LEFT JOIN log_sources s ON s.id = d.source_id"
                " ORDER BY d.id DESC LIMIT ?",
                (limit,),
            ).all()
        return [
            DeadLetterView(row[0], row[1], row[2], row[3].decode(row[4], "replace"), row[5], row[6], row[7], row[8])
            for row in rows
        ]

    def request_replay(self, letter_id: int) -> bool:
        """Ask the engine to try this dead letter again; False: there is none, or it has become an event already."""
        with self.database.writing() as connection:
            asked = connection.exec_driver_sql(
                "UPDATE dead_letters SET replayed_at = ? WHERE id = ? AND event_id = 0", (REPLAY_ASKED, letter_id)
            )
            return asked.rowcount == 1

    def asked_replays(self, limit: int = 100) -> list[tuple[int, int, str, bytes, str]]:
        """(id, source id, path, raw, encoding) of the dead letters that shall be tried again."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT id, source_id, path, raw, encoding FROM dead_letters WHERE replayed_at = ? LIMIT ?",
                (REPLAY_ASKED, limit),
            )
            return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]

    def refuse_replay(self, letter_id: int, error: str) -> None:
        """It failed again, and this is why."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE dead_letters SET replayed_at = 0, error = ? WHERE id = ?", (error, letter_id)
            )

    # -- measurements

    def write_metrics(self, values: Mapping[str, float], details: Iterable[tuple[str, str]] = ()) -> None:
        """One measurement of each kind."""
        now = now_us()
        metadata = json.dumps(dict(details))
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "INSERT INTO processing_metrics (metric_type, metric_value, timestamp, metadata) VALUES (?,?,?,?)",
                [(kind, value, now, metadata) for kind, value in values.items()],
            )
