"""Decoders that people make: drafted from lines that look alike, written as YAML, run by RE2.

A draft keeps the words that all lines share and names what varies: by its looks (times, addresses, numbers, quotes), by
the name in front of it (user=, port:), else label by label. RE2 takes time in proportion to the line, whatever the
pattern, so a pattern of anybody's may meet lines of anybody's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import re2
import yaml

from threatlens.decoders.base import ANY_LINE, LineDecoder, MessageDecoder, Opened, put_address, put_port
from threatlens.decoders.levels import LEVELS
from threatlens.decoders.tables import ADDRESS_SIDES, PORTS, field_of, is_number
from threatlens.decoders.times import Clock
from threatlens.errors import DecoderError
from threatlens.event import TIME_ERROR, Fields

MAX_PATTERN = 4_000  # characters
MAX_FILE = 65_536  # bytes
MAX_DEPTH = 4  # a list of samples in a section is two
MAX_LINES = 50  # a draft looks at
_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}(?:\.[a-z][a-z0-9_]{0,30}){0,3}")
_KEYS = {"name", "about", "pattern", "program", "category", "action", "outcome", "samples"}
_TOKEN = re.compile(
    r"(?P<time>[0-9]{4}[-/.][0-9]{2}[-/.][0-9]{2}[T _][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?"
    r"(?:Z| ?[+-][0-9]{2}:?[0-9]{2})?|[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"|[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}(?::[0-9]{2}){3} [+-][0-9]{4})"
    r"|(?P<address>(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w.])|(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{1,4})"
    r'|(?P<quoted>"[^"]*"|\'[^\']*\')|(?P<number>[0-9]+(?![\w.]))|(?P<word>[\w./\\@%+*#$~!&-]+)|(?P<space>\s+)|(?P<sign>.)',
    re.ASCII | re.DOTALL,
)
_PATTERNS = {"time": r"[^\]|]+?", "address": r"[0-9a-fA-F.:]+", "number": r"[0-9]+", "word": r"\S+?", "value": r"\S+?"}
_KEYED = {
    "user": "user", "username": "user", "login": "user", "account": "user", "for": "user", "by": "user",
    "src": "src", "from": "src", "ip": "src", "client": "src", "rhost": "src", "peer": "src", "remote": "src",
    "dst": "dst", "to": "dst", "port": "sport", "spt": "sport", "sport": "sport", "dpt": "dport", "dport": "dport",
    "pid": "pid", "level": "level", "severity": "level", "path": "file", "file": "file", "url": "url",
    "uri": "url", "method": "http_method", "status": "status", "command": "command", "reason": "reason",
    "host": "host", "session": "session",
}  # fmt: skip

_NUMBERS_ONLY = frozenset(("sport", "dport", "pid", "status"))
_NO_NUMBERS = frozenset(("user", "src", "dst", "file", "host", "url"))


@dataclass(frozen=True, slots=True)
class OwnDecoder:
    """A decoder as its file says it."""

    name: str
    pattern: str
    about: str = ""
    program: str = ""  # empty: it reads whole lines
    category: str = "other"
    action: str = ""
    outcome: str = ""
    samples: tuple[str, ...] = ()

    def as_yaml(self) -> str:
        """The file's text."""
        values: dict[str, Any] = {
            key: getattr(self, key)
            for key in ("name", "about", "pattern", "program", "category", "action", "outcome")
            if getattr(self, key)
        }
        values["samples"] = list(self.samples)
        plain = (self.pattern + "".join(self.samples)).isprintable()  # what is not would be folded or lost
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=plain, width=1000)


def parse(text: str, taken: frozenset[str] = frozenset()) -> OwnDecoder:
    """What a file says; raises DecoderError in words for what is wrong with it. `taken`: names that are ours."""
    if len(text.encode(errors="replace")) > MAX_FILE:
        raise DecoderError("the file is too large")
    try:
        _check_shape(text)
        values = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: numbers and dates that are none
        raise DecoderError(f"it is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict) or not {"name", "pattern"} <= values.keys():
        raise DecoderError("it needs a name and a pattern")
    for key, value in values.items():
        if key not in _KEYS:
            raise DecoderError(f"there is no key {key!r}; there are {', '.join(sorted(_KEYS))}")
        if key != "samples" and not isinstance(value, str):
            raise DecoderError(f"{key} must be text")
    samples = values.pop("samples", None) or []
    if not isinstance(samples, list) or not all(isinstance(sample, str) for sample in samples):
        raise DecoderError("samples must be a list of lines")
    made = OwnDecoder(**values, samples=tuple(samples))
    if _NAME.fullmatch(made.name) is None or made.name in taken or made.name in {"auto", "unknown"}:
        raise DecoderError(f"{made.name!r} is taken or no name: write small letters and dots, such as shop.orders")
    if made.outcome not in ("", "success", "failure"):
        raise DecoderError("outcome must be success or failure")
    member = member_of(made)
    clock = Clock()
    clock.move(0.0)
    for sample in made.samples:
        fits = member.open(sample, clock) is not None if isinstance(member, LineDecoder) else member.read(sample, {})
        if not fits:
            raise DecoderError(f"its pattern does not fit its own sample {sample[:200]!r}")
    return made


def _check_shape(text: str) -> None:
    """Raise DecoderError for what costs much to read: aliases, whose merged keys grow without bound, and depth."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise DecoderError("it repeats something by an alias (*name); write it out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise DecoderError(f"it is nested deeper than {MAX_DEPTH} levels")


def member_of(own: OwnDecoder) -> LineDecoder | MessageDecoder:
    """The decoder; raises DecoderError for a pattern that RE2 refuses or whose groups name no field."""
    if len(own.pattern) > MAX_PATTERN:
        raise DecoderError(f"the pattern is longer than {MAX_PATTERN} characters")
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    try:
        compiled = re2.compile(own.pattern, options)
    except UnicodeEncodeError as error:
        raise DecoderError("the pattern is none: it holds half of a character") from error
    except re2.error as error:
        told = error.args[0] if error.args else error
        raise DecoderError(
            f"the pattern is none: {told.decode(errors='replace') if isinstance(told, bytes) else told}"
        ) from error
    names = sorted(compiled.groupindex, key=compiled.groupindex.__getitem__)
    if len(names) != compiled.groups:
        raise DecoderError("every group of the pattern needs a name: (?P<user>...), or (?:...) for none")
    for name in names:
        if name not in {"time", "level", "message", *ADDRESS_SIDES, *PORTS} and "." not in field_of(name):
            raise DecoderError(f"no field is meant by a group named {name!r}")
    constants: Fields = {"event.category": own.category}
    if own.action:
        constants["event.action"] = own.action
    if own.outcome:
        constants["event.outcome"] = own.outcome

    def read(message: str, fields: Fields) -> bool:
        found = _fullmatch(compiled, message)
        if found is None:
            return False
        fields |= constants
        _put(dict(zip(names, found.groups(), strict=True)), fields)
        return True

    def open_line(line: str, clock: Clock) -> Opened | None:
        found = _fullmatch(compiled, line)
        if found is None:
            return None
        values = dict(zip(names, found.groups(), strict=True))
        fields = dict(constants)
        timestamp_us, flags = clock.any(values["time"]) if values.get("time") else (None, TIME_ERROR)
        _put(values, fields)
        return own.name, timestamp_us, flags, "", values.get("message") or line, fields

    about = own.about or "A decoder of your own."
    if own.program:
        return MessageDecoder(name=own.name, about=about, read=read, programs=(own.program,))
    return LineDecoder(name=own.name, about=about, open=open_line, leads=("",), strict=False, goes_on=ANY_LINE)


def _fullmatch(compiled: Any, text: str) -> Any:
    """RE2 reads UTF-8, which has no halves of surrogate pairs; they count as question marks."""
    try:
        return compiled.fullmatch(text)
    except UnicodeEncodeError:
        return compiled.fullmatch(text.encode(errors="replace").decode())


def _put(values: Mapping[str, str | None], fields: Fields) -> None:
    for name, text in values.items():
        if not text or name in ("time", "message"):
            continue
        if name == "level":
            fields["log.level"] = LEVELS.get(text) or text.lower()
        elif name in ADDRESS_SIDES:
            put_address(fields, ADDRESS_SIDES[name], text)
        elif name in PORTS:
            put_port(fields, PORTS[name], text)
        elif is_number(name):
            if len(text) <= 18 and text.isdecimal():
                fields[field_of(name)] = int(text)
        else:
            fields[field_of(name)] = text


def draft(lines: Sequence[str], name: str = "own.format") -> OwnDecoder:
    """A decoder that reads these lines; raises DecoderError when there are none."""
    lines = [line.encode(errors="replace").decode() for line in dict.fromkeys(lines) if line.strip()][:MAX_LINES]
    if not lines:
        raise DecoderError("choose at least one line")
    cut = [list(_tokens(line)) for line in lines]
    shared = 0
    while all(len(tokens) > shared for tokens in cut) and _alike([tokens[shared] for tokens in cut]):
        shared += 1
    parts: list[str] = []
    used: set[str] = set()
    for place in range(shared):
        column = [tokens[place] for tokens in cut]
        parts.append(_part(column, [text for _, text in cut[0][:place]], used))
    if any(len(tokens) > shared for tokens in cut):
        parts.append("(?P<message>.*)")
    return OwnDecoder(name, "".join(parts), about="Drafted from lines that look alike.", samples=tuple(lines[:3]))


def _tokens(line: str) -> Iterator[tuple[str, str]]:
    for found in _TOKEN.finditer(line[:2_000]):
        yield found.lastgroup or "sign", found[0]


def _alike(column: Sequence[tuple[str, str]]) -> bool:
    kinds = {kind for kind, _ in column}
    if kinds == {"sign"}:
        return len({text for _, text in column}) == 1
    return len(kinds) == 1 or kinds <= {"word", "number", "address"}


def _part(column: Sequence[tuple[str, str]], before: Sequence[str], used: set[str]) -> str:
    """The piece of the pattern for one place of the lines."""
    kinds, texts = {kind for kind, _ in column}, {text for _, text in column}
    kind = kinds.pop() if len(kinds) == 1 else "value"
    key = _key(before)
    if kind == "space":
        return r"[\s\v]+" if len(texts) > 1 else _literal(texts.pop())
    constant = len(texts) == 1 and kind in {"word", "sign"} and not (key and before[-1] == "=")
    level = kind == "word" and all(text in LEVELS and len(text) > 2 for text in texts)
    if constant and not level:
        return _literal(texts.pop())
    if kind == "quoted":
        quote = next(iter(texts))[0]
        group = _group("value", key, used)
        return f"{quote}(?P<{group}>[^{quote}]*){quote}" if len({text[0] for text in texts}) == 1 else r"\S+"
    group = "level" if level and "level" not in used else _group(kind, key, used)
    used.add(group)
    if kind == "time":
        longest = next(iter(texts))
        return rf"(?P<{group}>{re.sub(r'[A-Za-z]+', '[A-Za-z]+', re.sub(r'[0-9]+', '[0-9 ]+', _literal(longest)))})"
    return f"(?P<{group}>{_PATTERNS.get(kind, '.*?')})"


def _literal(text: str) -> str:
    escaped: str = re2.escape(text)
    return escaped


def _key(before: Sequence[str]) -> str:
    """The name in front of a value: "user=", "port ", "from "."""
    words = [text for text in before[-3:] if not text.isspace() and text not in {"=", ":", "[", "(", '"'}]
    return words[-1].lower().rpartition(".")[2] if words else ""


def _group(kind: str, key: str, used: set[str]) -> str:
    wanted = _KEYED.get(key, "")
    if kind == "time":
        wanted = "time"
    elif kind == "address":
        wanted = wanted if wanted in {"src", "dst"} else "src"
    elif wanted in (_NO_NUMBERS if kind == "number" else _NUMBERS_ONLY):
        wanted = ""
    if wanted == "src" and "src" in used:
        wanted = "dst"
    if not wanted or wanted in used:
        label = key if re.fullmatch(r"[a-z][a-z0-9_]{0,30}", key) else "value"
        wanted = f"labels__{label}"
        number = 2
        while wanted in used:
            wanted = f"labels__{label}{number}"
            number += 1
    used.add(wanted)
    return wanted
