"""A batch of lines on its way into the database, and how a line becomes part of the event before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from threatlens.decoders import SourceDecoder, continues, joined, records_in
from threatlens.detection import Verdict
from threatlens.event import FROM_EXPORT, Decoded, LogEntry
from threatlens.store import DeadLetter, EventRow, Move


def inside(entry: LogEntry, line: str) -> LogEntry | None:
    """The records that a line of an entry carries, as an entry of as many lines; None if it is one record."""
    records = records_in(line)
    if not records:
        return None
    content = "\n".join(records).encode(errors="replace")
    return entry._replace(content=content, lines=len(records), encoding="utf-8", flags=0, true_bytes=0)


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

    def add(self, other: Prepared) -> None:
        """Take in the batch that was prepared behind this one."""
        self.entries = [*self.entries, *other.entries]
        for name in ("rows", "decoded", "texts", "origins", "moves"):
            getattr(self, name).extend(getattr(other, name))

    def without(self, buried: set[int]) -> None:
        """Take these places out of the lists."""
        for name in ("rows", "decoded", "texts", "origins"):
            kept = [value for place, value in enumerate(getattr(self, name)) if place not in buried]
            setattr(self, name, kept)

    def join(self, text: str, raw: str | bytes, decoded: Decoded, decoder: SourceDecoder) -> bool:
        """Join a line to the last event, if it continues that. Bytes that are not text stay by themselves."""
        row, head, so_far = self.rows[-1], self.decoded[-1], self.texts[-1]
        if decoded.flags & FROM_EXPORT or not decoder.goes_on(head, so_far):
            return False
        if type(row.raw) is not str or type(raw) is not str:
            return False
        if not continues(decoded, text, head, so_far.count("\n") + 1, len(so_far)):
            return False
        whole = f"{so_far}\n{text}"
        self.rows[-1] = row._replace(raw=f"{row.raw}\n{raw}")
        self.decoded[-1] = joined(head, whole.partition("\n")[2], text)
        self.texts[-1] = whole
        return True
