"""SourceDecoder: decodes the lines of one source and remembers what it speaks.

The line decoder that read the last line is asked first, if it is a strict one; otherwise those that can begin like
this line, learned ones first. What a message inside an envelope is, its program decides, line by line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from threatlens.decoders import exported
from threatlens.decoders.base import (
    ANY_PROGRAM,
    LEAD_CHARS,
    LONG_LEAD_CHARS,
    MATCHED_CHARS,
    MAX_FIELDS,
    UNKNOWN,
    VALUE_CHARS,
    Decoder,
    LineDecoder,
    MessageDecoder,
    ObjectDecoder,
    Opened,
    Quick,
    Read,
    lead_shape,
)
from threatlens.decoders.continuations import ENCLOSING, is_open, join_part, joined, origin
from threatlens.decoders.times import Clock, fixed_zone, is_zone, offset_minutes
from threatlens.event import FIELDS_CUT, FROM_EXPORT, TIME_CLAMPED, TIME_ERROR, Decoded, Fields

_MAX_SHAPES = 10_000
#: When stored lines are read again, in seconds since the epoch: a time that is the future is looked at more closely.
AFTER_ALL_S = 4_000_000_000.0
_ENVELOPE_DEPTH = 3  # JSON in syslog in a container's JSON is the deepest that occurs
_ENVELOPES = frozenset(("syslog.rfc3164", "syslog.iso", "syslog.rfc5424"))
_SPLIT_HEADS = frozenset(("CEF", "LEEF"))
_OF_THE_ENVELOPE = frozenset(("host.name", "container.name", "kubernetes.pod.name", "log.iostream"))
_NOBODY: tuple[tuple[str, Read], ...] = ()
_new = tuple.__new__  # makes a Decoded in half the time that Decoded() takes; one is made per line


def _claim(message: str, fields: Fields) -> bool:  # noqa: ARG001  (a Read)
    """Reads nothing, but says whose line it is."""
    return True


def _message_decoder(member: Decoder) -> MessageDecoder | None:
    """The member, or the part of it, that reads messages inside envelopes."""
    if isinstance(member, LineDecoder) and member.read is not None:
        return MessageDecoder(member.name, member.about, member.read, member.programs)
    return member if isinstance(member, MessageDecoder) else None


class Registry:
    """The members of the family, indexed for dispatch. Immutable but for its cache of line shapes."""

    def __init__(self, members: Sequence[Decoder]) -> None:
        self.by_name: dict[str, Decoder] = {member.name: member for member in members}
        self.line_decoders = tuple(member for member in members if isinstance(member, LineDecoder))
        messages = [message for member in members if (message := _message_decoder(member)) is not None]
        self.of_any_program = tuple(member for member in messages if not member.programs)
        #: Program -> formats and readers to ask in turn; the last one always takes the line.
        self.readers: dict[str, tuple[tuple[str, Read], ...]] = {
            program: self._readers_of(program, messages) for member in messages for program in member.programs
        }
        #: Formats of an envelope (or of the whole line) and of what is in it -> what reads most of such lines.
        self.quick: dict[tuple[str, str], Quick] = {
            (envelope.name, member.name): member.join(envelope.head)
            for envelope in self.line_decoders
            if envelope.head is not None
            for member in messages
            if member.join is not None
        }
        self.quick |= {(each.name, each.name): each.quick for each in self.line_decoders if each.quick is not None}
        self.goes_on = {member.name: member.goes_on for member in self.line_decoders if member.goes_on}
        self._by_shape: dict[str, tuple[tuple[LineDecoder, tuple[str, ...]], ...]] = {}

    def _readers_of(self, program: str, messages: Sequence[MessageDecoder]) -> tuple[tuple[str, Read], ...]:
        own = [(member.name, member.read) for member in messages if program in member.programs]
        name = own[-1][0]
        return (*own, *((name, member.read) for member in self.of_any_program), (name, _claim))

    def line_decoder(self, name: str) -> Decoder | None:
        """The member of that name; for a product's JSON the one that opens its lines."""
        member = self.by_name.get(name)
        return self.by_name["json"] if isinstance(member, ObjectDecoder) else member

    def readers_of(self, program: str) -> tuple[tuple[str, Read], ...]:
        """The readers of a program, or of the family it belongs to: "postfix/smtpd" is postfix's."""
        found = self.readers.get(program)
        if found is None:
            found = self.readers.get(program.partition("/")[0], _NOBODY)
            if found:
                if len(self.readers) > _MAX_SHAPES:
                    return found
                self.readers[program] = found
        return found

    def candidates(self, line: str) -> list[LineDecoder]:
        """The line decoders whose lines can begin like this one and have its marks, in the order of the family."""
        shape = lead_shape(line)
        found = self._by_shape.get(shape)
        if found is None:
            found = self._beginning_like(shape)
            if len(self._by_shape) >= _MAX_SHAPES:
                self._by_shape.clear()
            self._by_shape[shape] = found
        if len(found) < 2:
            return [member for member, _ in found]
        long = ""
        kept = []
        for member, leads in found:  # as loops: a generator for each member would cost more than the texts
            for mark in member.marks:
                if mark in line:
                    break
            else:
                if member.marks:
                    continue
            if leads:
                long = long or lead_shape(line, LONG_LEAD_CHARS)
                if not long.startswith(leads):
                    continue
            kept.append(member)
        return kept

    def _beginning_like(self, shape: str) -> tuple[tuple[LineDecoder, tuple[str, ...]], ...]:
        """Decoders that have a lead of which this is the beginning, or the other way round; with their long leads."""
        found = []
        for member in self.line_decoders:
            folded = [lead_shape(lead, LONG_LEAD_CHARS) for lead in member.leads]
            leads = [lead for lead in folded if shape.startswith(lead[:LEAD_CHARS])]
            if leads:
                long = () if any(len(lead) <= LEAD_CHARS for lead in leads) else tuple(leads)
                found.append((member, long))
        return tuple(found)


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
        learns_zone: bool = False,
    ) -> None:
        """`format` is a decoder's name or "auto"; `learned` what a decoder of the source had learned before;
        `learns_zone`: times without a zone may be found to be of another than UTC.

        Raises ValueError for a format or a time zone that does not exist."""
        if format not in {"auto", UNKNOWN} and format not in registry.by_name:
            raise ValueError(f"no such format: {format}")
        self._learns_zone = learns_zone and timezone == "UTC"
        self._zone = next((each for each in learned if is_zone(each)), "") if self._learns_zone else ""
        try:
            self._clock = Clock(self._zone or timezone, year)
        except (KeyError, OSError, ValueError) as error:  # ZoneInfo raises each, by the kind of wrong name
            raise ValueError(f"no such time zone: {timezone}") from error
        self._registry = registry
        fixed = registry.line_decoder(format)
        self._fixed_line = fixed if isinstance(fixed, LineDecoder) else None
        self._fixed_message = fixed if isinstance(fixed, MessageDecoder) else None
        self._readers: Mapping[str, tuple[tuple[str, Read], ...]] = (
            registry.readers if self._fixed_message is None else {}
        )
        names = [name for name in learned if name in registry.by_name]
        self._last_seen = {name: -place for place, name in enumerate(names)}
        self._changes = 0
        self._newest = ""
        self._settled = ""  # the format of a line that left nothing more to be asked, if the last such line did
        self.encloses = False  # events of this source have been met that may hold any line
        known = [registry.line_decoder(name) for name in names]
        self._spoken = [member for member in known if isinstance(member, LineDecoder) and member.strict]
        self._quick: Quick | None = None  # reads most lines that are like the newest one
        self._favourite_open = (self._fixed_line or next(iter(self._spoken), registry.line_decoders[0])).open

    @property
    def learned(self) -> tuple[str, ...]:
        """The names of the formats this source has been found to speak, most recently met first, and its zone if that
        was learned."""
        seen = self._last_seen
        names = sorted((name for name in seen if name != UNKNOWN), key=seen.__getitem__, reverse=True)
        return (*names, self._zone) if self._zone else tuple(names)

    def learn_zone(self, minutes: int, line: str, read_at_s: float, local_zone: str = "") -> bool:
        """Read times from now on as those of a zone that is so much ahead of the present one, if `line`, as one of this
        source's, names none. Where `local_zone`, which knows when summer time begins, is just so much ahead of UTC it
        is taken. False: the line names a zone, or the source's is fixed."""
        if not self._learns_zone or not minutes:
            return False
        before = self.decode(line, read_at_s).timestamp_us
        whole = offset_minutes(self._zone, read_at_s) + minutes
        zone = local_zone if whole and offset_minutes(local_zone, read_at_s) == whole else fixed_zone(whole)
        kept, self._clock = self._clock, Clock(zone)
        after = self.decode(line, read_at_s).timestamp_us
        if before is None or after != before - minutes * 60_000_000:
            self._clock = kept
            return False
        self._zone = zone if whole else ""
        return True

    def goes_on(self, head: Decoded, line: str) -> bool:
        """Whether lines behind this one, as it was `head` decoded, may belong to its event."""
        if head.timestamp_us is None:
            return False
        marks = self._registry.goes_on.get(head.format)
        return marks is not None and any(mark in line for mark in marks)

    def may_go_on(self, head: Decoded, line: str) -> bool:
        """Whether lines behind this one may belong to its event, by its kind or by what it says."""
        return self.goes_on(head, line) or is_open(head, line)

    def join(self, head: Decoded, text: str, line: str, decoded: Decoded) -> Decoded | None:
        """The event of `head`, whose lines so far are `text`, with `line`, by itself `decoded`; None: another event."""
        clock = self._clock
        return join_part(
            head, text, line, decoded, self.goes_on(head, text), lambda whole: self.decode(whole, clock.read_at_s)
        )

    def decode(self, line: str, read_at_s: float) -> Decoded:
        """What the line says. `read_at_s`: when it was read, seconds since the epoch. Takes any text."""
        clock = self._clock
        if read_at_s != clock.read_at_s:
            clock.move(read_at_s)
        chars = len(line)
        quick = self._quick
        if quick is not None and chars <= VALUE_CHARS and (decoded := quick(line, clock)) is not None:
            return decoded
        if chars > MATCHED_CHARS:
            line = line[:MATCHED_CHARS]
        opened = self._favourite_open(line, clock) or self._open(line)
        name, timestamp_us, flags, program, message, fields = opened
        if program:
            for owner, read in self._readers.get(program, _NOBODY):
                if read(message, fields):
                    name = owner
                    break
            else:
                name, timestamp_us, flags, _, message, fields = self._look_inside(opened)
        elif name is not self._settled:
            if name in _ENVELOPES and self._readers:  # a message without a program may still be of a known format
                name, timestamp_us, flags, _, message, fields = self._look_inside(opened)
            elif self._fixed_message is not None and name is not self._fixed_message.name:
                name, timestamp_us, flags, _, message, fields = self._read_fixed(opened, line)
            else:
                self._settled = name
        if timestamp_us is not None and timestamp_us > clock.latest_us:
            timestamp_us = clock.read_at_us
            flags |= TIME_CLAMPED
        if name is not self._newest:
            self._newest = name
            if name in ENCLOSING:
                self.encloses = True
            self._changes += 1
            self._last_seen[name] = self._changes
            self._quick = self._registry.quick.get((opened[0], name))
        if chars > VALUE_CHARS and not flags & FROM_EXPORT:
            fields, cut = _bounded(fields)
            if cut or chars > MATCHED_CHARS:
                flags |= FIELDS_CUT
        return _new(Decoded, (name, timestamp_us, message, fields, flags))

    def _open(self, line: str) -> Opened:
        """Ask the decoders that can begin like this line; strict ones that this source has spoken before go first."""
        line = line.removeprefix("\ufeff")
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
        self._favourite_open = member.open
        if member in self._spoken:
            self._spoken.remove(member)
        self._spoken.insert(0, member)

    def _look_inside(self, opened: Opened) -> Opened:
        """Read the message of an envelope whose program is not in the registry, or is not to be asked."""
        if (whole := exported.inside(opened)) is not None:
            return self._read_again(opened, *whole)
        if self._fixed_message is not None:
            return self._read_fixed(opened, "")
        name, timestamp_us, flags, program, message, fields = opened
        for _ in range(_ENVELOPE_DEPTH):
            owner = self._read_message(program, message, fields)
            if owner:
                return owner, timestamp_us, flags, "", message, fields
            if program in _SPLIT_HEADS:  # its colon looked like that behind a program
                message = f"{program}:{message}"
            inner = self._open_message(program, message)
            if inner is None:
                if program == ANY_PROGRAM and (owner := self._read_message(_image(fields), message, fields)):
                    name = owner
                break
            name, inner_us, inner_flags, program, message, inner_fields = inner
            for known in _OF_THE_ENVELOPE & fields.keys():
                inner_fields.pop(known, None)  # the envelope knows better
            fields.update(inner_fields)
            if inner_us is not None:
                timestamp_us, flags = inner_us, flags & ~(TIME_ERROR | TIME_CLAMPED) | inner_flags
            else:
                flags |= inner_flags & ~TIME_ERROR
            if not program:
                break
        if len(fields) > MAX_FIELDS:
            fields, _ = _bounded(fields)
            flags |= FIELDS_CUT
        return name, timestamp_us, flags, "", message, fields

    def _read_again(self, opened: Opened, line: str, log_format: str) -> Opened:
        """The event that was exported: its line, which goes into event.original, decoded anew at the exported time."""
        again = Rereader(self._registry).read(line, log_format)
        flags = again.flags & ~(TIME_ERROR | TIME_CLAMPED) | opened[2] | FROM_EXPORT
        fields = {**again.fields, exported.LINE: line}
        return again.format, opened[1], flags, "", again.message, fields

    def _read_fixed(self, opened: Opened, line: str) -> Opened:
        """Read with the one decoder of messages that is configured, in whatever envelope there is."""
        name, timestamp_us, flags, program, message, fields = opened
        fixed = self._fixed_message
        if fixed is None:
            return opened
        if fixed.read(message, fields) or any(member.read(message, fields) for member in self._registry.of_any_program):
            return fixed.name, timestamp_us, flags, "", message, fields
        member = self._registry.by_name.get(name)
        if program or (isinstance(member, LineDecoder) and not member.inside):
            return name, timestamp_us, flags, "", message, fields
        return _unknown(line)

    def _read_message(self, program: str, message: str, fields: Fields) -> str:
        """Let the program's readers, then those of any program, read the message. Gives the format, "" for none."""
        program, _, module = program.partition("(")
        if module:  # "sshd(pam_unix)", as old PAM wrote it
            tagged = f"{module.rstrip(')')}: {message}"
            for member in self._registry.of_any_program:
                if member.read(tagged, fields):
                    readers = self._registry.readers_of(program) if self._readers else _NOBODY
                    return readers[-1][0] if readers else member.name
        if self._readers:
            for owner, read in self._registry.readers_of(program):
                if read(message, fields):
                    return owner
        for member in self._registry.of_any_program:
            if member.read(message, fields):
                return member.name
        return ""

    def _open_message(self, program: str, message: str) -> Opened | None:
        for member in self._registry.candidates(message):
            if program == ANY_PROGRAM or (member.inside and member.strict):
                opened = member.open(message, self._clock)
                if opened is not None and opened[0] != UNKNOWN:
                    return opened
        return None


class Rereader:
    """Reads lines again of which the formats are known; their times are not to be used.

    Every format has a decoder that goes on from line to line as a source's does. Not for several threads at once.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._learned: dict[str, SourceDecoder] = {}
        self._fixed: dict[str, SourceDecoder] = {}

    def read(self, line: str, log_format: str) -> Decoded:
        """What a line, with those that continue it, says."""
        line, more, rest = line.partition("\n")
        learned = self._learned.get(log_format)
        if learned is None:
            learned = self._learned[log_format] = SourceDecoder(self._registry, learned=(log_format,))
        decoded = learned.decode(line, AFTER_ALL_S)
        if more and (is_open(decoded, line) or origin(decoded, line) is not None):
            return _joined_again(learned, decoded, line, rest.split("\n"))
        if decoded.format != log_format and log_format in self._registry.by_name:
            fixed = self._fixed.get(log_format)
            if fixed is None:
                fixed = self._fixed[log_format] = SourceDecoder(self._registry, format=log_format)
            decoded = fixed.decode(line, AFTER_ALL_S)
        return joined(decoded, rest, rest) if more else decoded


def _joined_again(decoder: SourceDecoder, decoded: Decoded, text: str, lines: Sequence[str]) -> Decoded:
    """An event of several lines that say to what they belong."""
    for line in lines:
        whole = decoder.join(decoded, text, line, decoder.decode(line, AFTER_ALL_S))
        decoded = whole or decoded._replace(message=f"{decoded.message}\n{line}")
        text = f"{text}\n{line}"
    return decoded


def _image(fields: Fields) -> str:
    """The program that a container is named for."""
    name = fields.get("container.name")
    return name.lower() if isinstance(name, str) else ""


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
