"""Rule files as values, read with care: nobody has to trust what a rule file holds.

Only plain YAML: no tags, no double keys, bounded in size, depth and repeats. Each document knows the lines of its
keys, so that a mistake can be shown where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from threatlens.detectors.compiled import MAX_BYTES

_MAX_DEPTH = 32
_MAX_NODES = 50_000  # with every repeat of an anchor counted: ten times the longest rule in use
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DocumentError(Exception):
    """The text is not a rule file. `line` from 1, 0 unknown."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file."""

    value: dict[str, Any]
    line: int  # where it begins, from 1
    node: yaml.Node

    def line_of(self, text: str, under: str = "") -> int:
        """The line of the first key or value that holds `text`; else that of the key `under`, else of the document."""
        if text:
            for key, value in _scalars(self.node):
                if text in key.value or (isinstance(value, yaml.ScalarNode) and text in value.value):
                    return int((value if text not in key.value else key).start_mark.line) + 1
        if under and isinstance(self.node, yaml.MappingNode):
            for key, _ in self.node.value:
                if key.value == under:
                    return int(key.start_mark.line) + 1
        return self.line


def _scalars(node: yaml.Node) -> Any:
    """Every (key, value) of the mappings and (item, item) of the sequences in a node."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key, value
            yield from _scalars(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            if isinstance(item, yaml.ScalarNode):
                yield item, item
            else:
                yield from _scalars(item)


def read_documents(content: bytes) -> list[Document]:
    """Every document of a file. Raises DocumentError."""
    if len(content) > MAX_BYTES:
        raise DocumentError(f"has {len(content):,} bytes; a rule file may have {MAX_BYTES:,}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError("is not UTF-8 text", content.count(b"\n", 0, error.start) + 1) from error
    found = []
    loader = _LOADER(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # noqa: S101 - check_node() said so
            _check(node)
            value = loader.construct_document(node)
            if value is None:
                continue
            if not isinstance(value, dict):
                raise DocumentError("is not a rule: keys with values are expected", node.start_mark.line + 1)
            found.append(Document(value, node.start_mark.line + 1, node))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DocumentError(f"is not YAML: {error.problem or error}", mark.line + 1 if mark else 0) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DocumentError(f"is not YAML: {str(error).splitlines()[0]}") from error
    finally:
        loader.dispose()
    return found


def _check(root: yaml.Node) -> None:
    nodes = 0
    waiting = [(root, 1)]
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        line = node.start_mark.line + 1
        if depth > _MAX_DEPTH:
            raise DocumentError(f"is nested deeper than {_MAX_DEPTH} levels", line)
        if nodes > _MAX_NODES:
            raise DocumentError(f"has more than {_MAX_NODES:,} values", line)
        if isinstance(node, yaml.SequenceNode):
            waiting.extend((item, depth + 1) for item in node.value)
        elif isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise DocumentError("has a key that is not a plain word", key.start_mark.line + 1)
                if key.value in keys:
                    raise DocumentError(f"has the key {key.value!r} twice", key.start_mark.line + 1)
                keys.add(key.value)
                waiting.append((value, depth + 1))
