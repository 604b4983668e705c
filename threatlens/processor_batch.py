"""A batch of lines on its way into the database, and how a line becomes part of the event before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from threatlens.analyzers.heuristic import category, severity
from threatlens.decoders import SourceDecoder, records_in
from threatlens.detection import Verdict
from threatlens.event import FROM_EXPORT, Decoded, LogEntry
from threatlens.store import FAILURE, SUCCESS, DeadLetter, EventRow, Move


def inside(entry: LogEntry, line: str) -> LogEntry | None:
    """The records that a line of an entry carries, as an entry of as many lines; None if it is one record."""
    records = records_in(line)
    if not records:
        return None
    content = "\n".join(records).encode(errors="replace")
    return entry._replace(content=content, lines=len(records), encoding="utf-8", flags=0, true_bytes=0)


OUTCOMES = {"success": SUCCESS, "failure": FAILURE}
#: So many events back a record may still join.
LOOKED_BACK = 8


def rated_again(row: EventRow, decoded: Decoded, name_id: Callable[[str, str], int]) -> EventRow:
    """The row of an event that has more lines now: what it says of them."""
    get = decoded.fields.get
    return row._replace(
        timestamp=row.timestamp if decoded.timestamp_us is None else decoded.timestamp_us,
        format_id=name_id("format", decoded.format),
        category_id=name_id("category", category(decoded)),
        severity=severity(decoded),
        outcome=OUTCOMES.get(get("event.outcome"), 0),  # type: ignore[arg-type]
        source_ip=get("source.ip"),  # type: ignore[arg-type]
        user_name=get("user.name"),  # type: ignore[arg-type]
    )


@dataclass
class Prepared:
    """A batch, ready for the transaction. The lists run side by side, one place per event."""

    entries: Sequence[LogEntry]
    rows: list[EventRow] = field(default_factory=list)
    decoded: list[Decoded] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    origins: list[LogEntry] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    verdict: Verdict | None = None  # what the rules say, once it is stored
    doubtful: bool = False  # an answer was lost: it may be stored already

    def add(self, other: Prepared) -> None:
        """Take in the batch that was prepared behind this one."""
        self.entries = [*self.entries, *other.entries]
        for name in ("rows", "decoded", "texts", "origins", "moves"):
            getattr(self, name).extend(getattr(other, name))

    def give_bytes_back(self) -> int:
        """Once it is stored nobody asks for the bytes that it was read from. Returns how many they were."""
        bare: dict[int, LogEntry] = {}  # many lines are of one entry
        for entry in self.origins:
            if id(entry) not in bare:
                bare[id(entry)] = entry._replace(content=b"")
        self.origins = [bare[id(entry)] for entry in self.origins]
        size, self.entries = sum(len(entry.content) for entry in self.entries), ()
        return size

    def without(self, buried: set[int]) -> None:
        """Take these places out of the lists."""
        for name in ("rows", "decoded", "texts", "origins"):
            kept = [value for place, value in enumerate(getattr(self, name)) if place not in buried]
            setattr(self, name, kept)

    def join(self, text: str, raw: str | bytes, decoded: Decoded, decoder: SourceDecoder, since: int) -> int:
        """Join a line to the event that it is a part of: the last one, or one of the few before it from place `since`
        on, as audit records of several events may alternate. Gives the place of that event, whose row keeps all but its
        bytes; -1: the line is no part. Bytes that are not text stay by themselves."""
        newest = len(self.rows) - 1
        if newest < since or decoded.flags & FROM_EXPORT or type(raw) is not str:
            return -1
        first = max(since, newest - LOOKED_BACK) if decoded.format == "auditd" else newest
        for place in range(newest, first - 1, -1):
            row, so_far = self.rows[place], self.texts[place]
            if type(row.raw) is not str or self.decoded[place].flags & FROM_EXPORT:
                continue
            whole = decoder.join(self.decoded[place], so_far, text, decoded)
            if whole is not None:
                flags = row.flags & ~self.decoded[place].flags | whole.flags
                self.rows[place] = row._replace(raw=f"{row.raw}\n{raw}", flags=flags)
                self.decoded[place] = whole
                self.texts[place] = f"{so_far}\n{text}"
                return place
        return -1
