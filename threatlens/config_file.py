"""Reads a configuration file into nodes that remember where they stand.

The tree is built from the parser's events, not by a YAML loader: no tag is ever obeyed, nothing recurses, limits hold
before memory is spent, and a plain scalar stays the text that was written, so that `no` or `012` can be refused where
text is wanted instead of silently becoming something else. JSON is read the same way.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from threatlens.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_VALUES = 50_000
MAX_REPEATED = 100  # values that aliases repeat, in the whole file

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_ESCAPED_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value: its text, and whether it stood there without quotes."""

    text: str
    plain: bool
    line: int = 0  # from 1; 0: not from a file
    column: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """A sequence of nodes."""

    items: tuple[Node, ...]
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Section:
    """Keys and their nodes, in the order of the file; every key is there once."""

    entries: Mapping[str, Entry]
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's place and its value."""

    value: Node
    line: int = 0
    column: int = 0


Node = Scalar | Listing | Section


@dataclass(frozen=True, slots=True)
class Signature:
    """What tells that a file is not the one that was read; all zero: there is none."""

    mtime_ns: int = 0
    size: int = 0
    inode: int = 0


def signature(path: str) -> Signature:
    """The file's signature now, without opening it."""
    try:
        found = os.stat(path)
    except OSError:
        return Signature()
    return Signature(found.st_mtime_ns, found.st_size, found.st_ino)


def locate(paths: Sequence[str]) -> str:
    """The one of these files that is there, else the first. Raises ConfigError if there are two."""
    found = [path for path in paths if os.path.lexists(path)]
    if len(found) > 1:
        raise ConfigError(f"and {found[1]} both exist; remove one", file=found[0])
    return found[0] if found else paths[0]


def read_bytes(path: str) -> tuple[bytes, os.stat_result]:
    """The file's content and what it was when it was opened. Raises ConfigError; FileNotFoundError if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=path) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError("is not a regular file", file=path)
        if found.st_size > MAX_BYTES:
            raise ConfigError(f"has {found.st_size} bytes; a configuration may have {MAX_BYTES} (1 MiB)", file=path)
        with os.fdopen(os.dup(descriptor), "rb") as stream:
            return stream.read(MAX_BYTES), found
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=path) from error
    finally:
        os.close(descriptor)


def parse(content: bytes, file: str) -> Section:
    """The document's top section, empty for an empty document. Raises ConfigError with line and column."""
    text = _decode(content, file)
    if file.endswith(".json"):
        text = _without_json_only_forms(text)
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, file) from error
    except yaml.YAMLError as error:
        raise ConfigError("is not YAML", file=file) from error
    root = builder.root
    if root is None or (isinstance(root, Scalar) and is_null(root)):
        return Section({})
    if not isinstance(root, Section):
        raise ConfigError("must be a list of keys with values", file=file, line=root.line, column=root.column)
    return root


def node_of(value: Any) -> Node:
    """The node of a plain value (from a form or from saved JSON), so that one set of checks serves all origins."""
    if value is None:
        return Scalar("null", plain=True)
    if isinstance(value, bool):
        return Scalar("true" if value else "false", plain=True)
    if isinstance(value, (int, float)):
        return Scalar(repr(value), plain=True)
    if isinstance(value, Mapping):
        return Section({str(key): Entry(node_of(item)) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return Listing(tuple(node_of(item) for item in value))
    return Scalar(str(value), plain=False)


def is_null(node: Node) -> bool:
    """Whether nothing was given: an empty value, `~` or `null` without quotes."""
    return isinstance(node, Scalar) and node.plain and node.text in {"", "~", "null", "Null", "NULL"}


def yaml_meaning(node: Scalar) -> str:
    """What YAML takes an unquoted scalar for, in words; empty: text."""
    if not node.plain:
        return ""
    tag = yaml.resolver.Resolver().resolve(yaml.ScalarNode, node.text, (True, False))  # type: ignore[no-untyped-call]
    return _MEANINGS.get(tag.rpartition(":")[2], "")


_MEANINGS = {
    "bool": "a truth value",
    "int": "a number",
    "float": "a number",
    "timestamp": "a date",
    "null": "nothing",
}


def _decode(content: bytes, file: str) -> str:
    if content[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise ConfigError("is UTF-16; save it as UTF-8", file=file, line=1, column=1)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        line, column = _place(before, len(before))
        raise ConfigError("is not UTF-8", file=file, line=line, column=column) from error
    if bad := _CONTROL.search(text):
        line, column = _place(text, bad.start())
        message = f"control character U+{ord(bad.group()):04X} is not allowed"
        raise ConfigError(message, file=file, line=line, column=column)
    return text


def _without_json_only_forms(text: str) -> str:
    """JSON that YAML does not read: characters escaped as surrogate pairs, and tabs before the first brace."""
    body = text.lstrip()
    lead = text[: len(text) - len(body)].replace("\t", " ")
    return lead + _ESCAPED_PAIR.sub(lambda pair: pair[1] + bytes.fromhex(pair[2] + pair[3]).decode("utf-16-be"), body)


def _place(text: str, index: int) -> tuple[int, int]:
    """Line and column, both from 1, of a character."""
    start = text.rfind("\n", 0, index) + 1
    return text.count("\n", 0, index) + 1, index - start + 1


def _syntax_error(error: yaml.MarkedYAMLError, text: str, file: str) -> ConfigError:
    """The parser's complaint in words that help, at the place that has to be changed."""
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "is not YAML"
    if "end of stream" in problem and "quoted scalar" in (error.context or "") and error.context_mark:
        mark, problem = error.context_mark, "this quote is never closed"
    elif "maximum nesting depth" in problem:  # the parser's own limit, far beyond ours
        problem = f"is nested deeper than {MAX_DEPTH} levels"
    elif mark and "cannot start any token" in problem:
        character = text.split("\n")[mark.line][mark.column : mark.column + 1]
        if character == "\t":
            problem = "a tab cannot indent; use spaces"
        elif character:
            problem = f"a value cannot begin with {character!r}; put it in quotes"
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    return ConfigError(problem, file=file, line=line, column=column)


class _Builder:
    """Puts nodes together from events; a stack instead of recursion, limits checked as the events come."""

    def __init__(self, file: str) -> None:
        self.root: Node | None = None
        self._file = file
        self._open: list[_Frame] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._values = 0
        self._repeated = 0

    def take(self, event: yaml.Event) -> None:
        """One event of the parser."""
        if isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.ScalarEvent):
            self._refuse_tag(event)
            line, column = _start(event)
            self._add(Scalar(event.value, not event.style, line, column), 1, event.anchor)
        elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            self._refuse_tag(event)
            if len(self._open) >= MAX_DEPTH:
                raise self._error(event, f"is nested deeper than {MAX_DEPTH} levels")
            self._open.append(_Frame(isinstance(event, yaml.MappingStartEvent), *_start(event), event.anchor, []))
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            frame = self._open.pop()
            node = self._section(frame) if frame.section else Listing(tuple(frame.nodes), frame.line, frame.column)
            self._add(node, frame.values + 1, frame.anchor)
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise self._error(event, "holds a second document; one is allowed")

    def _add(self, node: Node, values: int, anchor: str | None) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise self._error(None, f"holds more than {MAX_VALUES} values")
        if anchor:
            self._anchors[anchor] = (node, values)
        if self._open:
            self._open[-1].nodes.append(node)
            self._open[-1].values += values
        else:
            self.root = node

    def _alias(self, event: yaml.AliasEvent) -> None:
        # An anchor is known only once its value is complete, so a value cannot hold itself.
        if event.anchor not in self._anchors:
            raise self._error(event, f"no value named &{event.anchor} stands before this")
        node, values = self._anchors[event.anchor]
        self._repeated += values
        if self._repeated > MAX_REPEATED:
            raise self._error(event, f"aliases repeat more than {MAX_REPEATED} values")
        self._add(node, values, None)

    def _section(self, frame: _Frame) -> Section:
        entries: dict[str, Entry] = {}
        for key, value in _pairs(frame.nodes):
            if not isinstance(key, Scalar):
                raise ConfigError("a key must be a word", file=self._file, line=key.line, column=key.column)
            if key.text == "<<" and key.plain:
                message = "merging with << is not supported; write the keys out"
                raise ConfigError(message, file=self._file, line=key.line, column=key.column)
            if key.text in entries:
                message = f"{key.text[:60]!r} is given twice: in lines {entries[key.text].line} and {key.line}"
                raise ConfigError(message, file=self._file, line=key.line, column=key.column)
            entries[key.text] = Entry(value, key.line, key.column)
        return Section(entries, frame.line, frame.column)

    def _refuse_tag(self, event: Any) -> None:
        if event.tag is not None:
            raise self._error(event, "tags are not allowed")

    def _error(self, event: yaml.Event | None, message: str) -> ConfigError:
        line, column = _start(event) if event else (0, 0)
        return ConfigError(message, file=self._file, line=line, column=column)


@dataclass(slots=True)
class _Frame:
    """A collection whose end has not come yet."""

    section: bool
    line: int
    column: int
    anchor: str | None
    nodes: list[Node]
    values: int = 0  # of it so far, with what aliases repeat


def _start(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _pairs(nodes: list[Node]) -> Iterator[tuple[Node, Node]]:
    return zip(nodes[::2], nodes[1::2], strict=True)
