"""Which event at the end of what was read may still go on.

A source asks before it hands lines on, so that an entry never ends within an event: what is committed with a position
is whole, however a file was written, read or cut into batches. Only lines of formats that go on wait; all others are
handed on at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from threatlens.decoders import SourceDecoder, may_continue
from threatlens.own_decoders import OwnDecoders
from threatlens.sources.base import LogSourceConfig

log = logging.getLogger(__name__)


class OpenEvents:
    """An OpenLines (threatlens.sources.base). For one thread: that of the monitor."""

    def __init__(self, own_decoders: OwnDecoders | None = None) -> None:
        self._own_decoders = own_decoders
        self._registry = own_decoders.registry() if own_decoders else None
        self._decoders: dict[tuple[int, str, str], SourceDecoder] = {}

    def __call__(self, config: LogSourceConfig, lines: Iterable[str], read_at_s: float) -> int:
        """How many of these lines, given last first, are an event that the line to come may go on; 0: none."""
        for n, line in enumerate(lines, 1):
            if line and not line.isspace() and not may_continue(line):
                return n if self._goes_on(config, line, read_at_s) else 0
        return 0

    def _goes_on(self, config: LogSourceConfig, line: str, read_at_s: float) -> bool:
        decoder = self._decoder(config)
        try:
            return decoder.goes_on(decoder.decode(line, read_at_s), line)
        except Exception:  # one bad record: it is stored as it is, with a flag, when its turn comes
            log.debug("a decoder failed on a line of %s", config.source_name, exc_info=True)
            return False

    def _decoder(self, config: LogSourceConfig) -> SourceDecoder:
        registry = self._own_decoders.registry() if self._own_decoders else None
        if registry is not self._registry or len(self._decoders) > 10_000:
            self._registry = registry
            self._decoders.clear()
        key = (config.source_id, config.format, config.timezone)
        found = self._decoders.get(key)
        if found is None:
            found = self._decoders[key] = SourceDecoder(
                format=config.format, timezone=config.timezone, registry=registry
            )
        return found
