"""SourceDecoder: decodes the lines of one source and remembers what it speaks.

The line decoder that read the last line is asked first, if it is a strict one; otherwise those that can begin like
this line, learned ones first. What a message inside an envelope is, its program decides, line by line.
"""

from __future__ import annotations

from collections.abc import Sequence

from threatlens.decoders.base import (
    ANY_PROGRAM,
    MATCHED_CHARS,
    MAX_FIELDS,
    UNKNOWN,
    VALUE_CHARS,
    Decoder,
    LineDecoder,
    MessageDecoder,
    Opened,
    lead_shape,
)
from threatlens.decoders.times import Clock
from threatlens.event import FIELDS_CUT, TIME_CLAMPED, TIME_ERROR, Decoded, Fields

_MAX_SHAPES = 10_000
_ENVELOPE_DEPTH = 3  # JSON in syslog in a container's JSON is the deepest that occurs


class Registry:
    """The members of the family, indexed for dispatch. Immutable but for its cache of line shapes."""

    def __init__(self, members: Sequence[Decoder]) -> None:
        self.by_name: dict[str, Decoder] = {member.name: member for member in members}
        self.line_decoders = tuple(member for member in members if isinstance(member, LineDecoder))
        messages = [member for member in members if isinstance(member, MessageDecoder)]
        self.of_any_program = tuple(member for member in messages if not member.programs)
        self.by_program: dict[str, tuple[MessageDecoder, ...]] = {}
        for member in messages:
            for program in member.programs:
                self.by_program[program] = (*self.by_program.get(program, ()), member)
        self._leads = {member.name: tuple(lead_shape(lead) for lead in member.leads) for member in self.line_decoders}
        self._by_shape: dict[str, tuple[LineDecoder, ...]] = {}

    def candidates(self, line: str) -> tuple[LineDecoder, ...]:
        """The line decoders whose lines can begin like this one, in the order of the family."""
        shape = lead_shape(line)
        found = self._by_shape.get(shape)
        if found is None:
            found = tuple(member for member in self.line_decoders if shape.startswith(self._leads[member.name]))
            if len(self._by_shape) >= _MAX_SHAPES:
                self._by_shape.clear()
            self._by_shape[shape] = found
        return found


class SourceDecoder:
    """One per source. Not for use by several threads at once."""

    def __init__(
        self,
        registry: Registry,
        *,
        format: str = "auto",  # noqa: A002  (the name in the configuration)
        timezone: str = "UTC",
        learned: Sequence[str] = (),
        year: int | None = None,
    ) -> None:
        """`format` is a decoder's name or "auto". Raises ValueError for a format or a time zone that does not exist."""
        self._registry = registry
        self._by_program = registry.by_program
        try:
            self._clock = Clock(timezone, year)
        except (KeyError, OSError) as error:  # ZoneInfo raises both, by the kind of wrong name
            raise ValueError(f"no such time zone: {timezone}") from error
        if format not in {"auto", UNKNOWN} and format not in registry.by_name:
            raise ValueError(f"no such format: {format}")
        fixed = registry.by_name.get(format)
        self._fixed_line = fixed if isinstance(fixed, LineDecoder) else None
        self._fixed_message = fixed if isinstance(fixed, MessageDecoder) else None
        self._lines = 0
        self._last_seen: dict[str, int] = {
            name: -place for place, name in enumerate(learned, start=1) if name in registry.by_name
        }
        spoken = [registry.by_name[name] for name in self.learned]
        self._spoken = [member for member in spoken if isinstance(member, LineDecoder) and member.strict]
        self._favourite = self._fixed_line or next(iter(self._spoken), registry.line_decoders[0])

    @property
    def learned(self) -> tuple[str, ...]:
        """The names of the formats this source has been found to speak, most recently seen first."""
        seen = self._last_seen
        return tuple(sorted((name for name in seen if name != UNKNOWN), key=seen.__getitem__, reverse=True))

    def decode(self, line: str, read_at_s: float) -> Decoded:
        """What the line says. `read_at_s`: when it was read, seconds since the epoch. Takes any text."""
        clock = self._clock
        if read_at_s != clock.read_at_s:
            clock.move(read_at_s)
        long = len(line) > VALUE_CHARS
        opened = self._favourite.open(line[:MATCHED_CHARS] if long else line, clock) or self._open(line)
        name, timestamp_us, flags, program, message, fields = opened
        if program or self._fixed_message is not None:
            owners = self._by_program.get(program)
            if owners is not None and self._fixed_message is None and owners[0].read(message, fields):
                name = owners[0].name
            else:
                name, timestamp_us, flags, _, message, fields = self._look_inside(opened)
        if timestamp_us is not None and timestamp_us > clock.latest_us:
            timestamp_us = clock.read_at_us
            flags |= TIME_CLAMPED
        self._lines += 1
        self._last_seen[name] = self._lines
        if long or len(fields) > MAX_FIELDS:
            fields, cut = _bounded(fields)
            if cut or len(line) > MATCHED_CHARS:
                flags |= FIELDS_CUT
        return Decoded(name, timestamp_us, message, fields, flags)

    def _open(self, line: str) -> Opened:
        """Ask the decoders that can begin like this line; strict ones that this source has spoken before go first."""
        line = line[:MATCHED_CHARS].removeprefix("\ufeff")
        clock = self._clock
        if self._fixed_line is not None:
            return self._fixed_line.open(line, clock) or _unknown(line)
        candidates = self._registry.candidates(line)
        for member in self._spoken:
            if member in candidates and (opened := member.open(line, clock)) is not None:
                self._prefer(member)
                return opened
        for member in candidates:
            opened = member.open(line, clock)
            if opened is not None:
                if member.strict:
                    self._prefer(member)
                return opened
        return _unknown(line)

    def _prefer(self, member: LineDecoder) -> None:
        self._favourite = member
        if member in self._spoken:
            self._spoken.remove(member)
        self._spoken.insert(0, member)

    def _look_inside(self, opened: Opened) -> Opened:
        """Read the message of an envelope when the program's first decoder does not know it, or is not to be asked."""
        name, timestamp_us, flags, program, message, fields = opened
        if self._fixed_message is not None:
            if self._fixed_message.read(message, fields):
                name = self._fixed_message.name
            return name, timestamp_us, flags, "", message, fields
        for _ in range(_ENVELOPE_DEPTH):
            owner = self._read_message(program, message, fields)
            if owner:
                return owner, timestamp_us, flags, "", message, fields
            inner = self._open_message(program, message)
            if inner is None:
                break
            inner_name, inner_us, inner_flags, program, message, inner_fields = inner
            host = fields.get("host.name")
            fields.update(inner_fields)
            if host is not None:
                fields["host.name"] = host
            if inner_us is not None:
                timestamp_us, flags = inner_us, flags & ~TIME_ERROR | inner_flags
            else:
                flags |= inner_flags & ~TIME_ERROR
            name = inner_name
            if not program:
                break
        return name, timestamp_us, flags, "", message, fields

    def _read_message(self, program: str, message: str, fields: Fields) -> str:
        """Let the program's decoders, then those of any program, read the message. Gives the format, "" for none."""
        program, _, module = program.partition("(")
        owners = self._by_program.get(program, ())
        for owner in owners:
            if owner.read(message, fields):
                return owner.name
        for member in self._registry.of_any_program:
            if member.read(f"{module.rstrip(')')}: {message}" if module else message, fields):
                return owners[-1].name if owners else member.name
        return owners[-1].name if owners else ""

    def _open_message(self, program: str, message: str) -> Opened | None:
        for member in self._registry.candidates(message):
            if (member.inside and member.strict) or program == ANY_PROGRAM:
                opened = member.open(message, self._clock)
                if opened is not None and opened[0] != UNKNOWN:
                    return opened
        return None


def _unknown(line: str) -> Opened:
    return UNKNOWN, None, TIME_ERROR, "", line, {}


def _bounded(fields: Fields) -> tuple[Fields, bool]:
    """At most MAX_FIELDS fields of at most VALUE_CHARS characters, and whether anything had to go."""
    kept = dict(list(fields.items())[:MAX_FIELDS])
    cut = len(kept) < len(fields)
    for name, value in kept.items():
        if isinstance(value, str) and len(value) > VALUE_CHARS:
            kept[name] = value[:VALUE_CHARS]
            cut = True
        elif isinstance(value, list):
            kept[name] = [text[:VALUE_CHARS] for text in value[:MAX_FIELDS]]
    return kept, cut
