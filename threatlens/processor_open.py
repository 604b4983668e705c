"""Which event at the end of what was read may still go on.

A source asks before it hands lines on, so that an entry never ends within an event: what is committed with a position
is whole, however a file was written, read or cut into batches. Only lines of formats that go on wait; all others are
handed on at once.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable

from threatlens.decoders import MAX_LINES, SourceDecoder, is_open, is_trace_part, may_continue
from threatlens.decoders.continuations import ENCLOSING
from threatlens.decoders.postgresql_files import CSV
from threatlens.event import Decoded
from threatlens.own_decoders import OwnDecoders, known_format
from threatlens.processor_batch import LOOKED_BACK
from threatlens.sources.base import LogSourceConfig

log = logging.getLogger(__name__)


class OpenEvents:
    """An OpenLines (threatlens.sources.base). For one thread: that of the monitor."""

    def __init__(self, own_decoders: OwnDecoders | None = None) -> None:
        self._own_decoders = own_decoders
        self._registry = own_decoders.registry() if own_decoders else None
        self._decoders: dict[tuple[int, str, str], SourceDecoder] = {}
        self._met: set[SourceDecoder] = set()

    def __call__(self, config: LogSourceConfig, lines: Iterable[str], read_at_s: float) -> int:
        """How many of these lines, given last first, are an event that the line to come may go on; 0: none."""
        decoder = self._decoder(config)
        if decoder not in self._met:  # what is read first tells whether its events may hold any line
            self._met.add(decoder)
            lines = list(lines)
            if lines:
                self._decode(decoder, lines[-1], read_at_s)
        parts = 0  # lines of traces inside the lines of a container
        lines = iter(lines)
        for n, line in enumerate(lines, 1):
            if n > MAX_LINES:
                return 0
            if not line or line.isspace() or (may_continue(line) and not decoder.encloses):
                continue
            decoded = self._decode(decoder, line, read_at_s)
            if decoded is None:
                return 0
            if decoded.format == "auditd":
                return self._open_records(decoder, decoded, lines, n, read_at_s)
            if decoder.encloses:
                return self._enclosed(decoder, [line, *lines], n, read_at_s)
            if is_trace_part(decoded, line):
                parts += 1
                continue
            if decoded.fields.get("log.partial") is True:
                return self._open_parts(decoder, decoded, lines, n, read_at_s)
            return n if parts or decoder.may_go_on(decoded, line) else 0
        return 0

    @staticmethod
    def _decode(decoder: SourceDecoder, line: str, read_at_s: float) -> Decoded | None:
        try:
            return decoder.decode(line, read_at_s)
        except Exception:  # one bad record: it is stored as it is, with a flag, when its turn comes
            log.debug("a decoder failed on a line", exc_info=True)
            return None

    def _open_records(
        self, decoder: SourceDecoder, decoded: Decoded, lines: Iterable[str], n: int, read_at_s: float
    ) -> int:
        """Audit records at the end: back to the first one of any event that has not ended."""
        found, quiet = 0, 0
        ended: set[object] = set()
        record: Decoded | None = decoded
        for at, line in enumerate(itertools.chain([""], lines), n):
            if at > n:
                record = self._decode(decoder, line, read_at_s) if line.strip() else record
            if record is None or record.format != "auditd" or quiet > LOOKED_BACK or at > MAX_LINES:
                break
            number = record.fields.get("audit.id")
            if number not in ended and is_open(record, line):
                found, quiet = at, 0
            else:
                ended.add(number)
                quiet += 1
        return found

    def _open_parts(
        self, decoder: SourceDecoder, decoded: Decoded, lines: Iterable[str], n: int, read_at_s: float
    ) -> int:
        """The last line is a part of a longer one: back to the first part."""
        stream = decoded.fields.get("log.iostream")
        for line in lines:
            before = self._decode(decoder, line, read_at_s)
            if before is None or before.fields.get("log.partial") is not True:
                break
            if before.fields.get("log.iostream") != stream or n >= MAX_LINES:
                break
            n += 1
        return n

    def _enclosed(self, decoder: SourceDecoder, lines: Iterable[str], n: int, read_at_s: float) -> int:
        """Lines of a source whose events may hold any line. They begin with an event, so they are read from there."""
        head: Decoded | None = None
        text, start = "", 0
        whole = list(reversed(list(lines)))
        for at, line in enumerate(whole):
            decoded = self._decode(decoder, line, read_at_s)
            if decoded is None:
                head = None
                continue
            joined = decoder.join(head, text, line, decoded) if head is not None else None
            if joined is not None:
                head, text = joined, f"{text}\n{line}"
            else:
                head, text, start = decoded, line, at
        if head is None:
            return 0
        if head.format in ENCLOSING:
            waits = head.format != CSV or text.count('"') % 2 == 1
        else:
            waits = decoder.may_go_on(head, text)
        return len(whole) - start + n - 1 if waits else 0

    def _decoder(self, config: LogSourceConfig) -> SourceDecoder:
        registry = self._own_decoders.registry() if self._own_decoders else None
        if registry is not self._registry or len(self._decoders) > 10_000:
            self._registry = registry
            self._decoders.clear()
            self._met.clear()
        key = (config.source_id, config.format, config.timezone)
        found = self._decoders.get(key)
        if found is None:
            found = self._decoders[key] = SourceDecoder(
                format=known_format(config.format, registry), timezone=config.timezone, registry=registry
            )
        return found
