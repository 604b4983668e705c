"""Is this unknown file something that was read before?

A file may carry on a stream that lost its file (renamed while nobody looked, copied before a truncation, compressed),
be a copy of one that is still followed, or be new. Only content decides; names only matter where content is too short.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from threatlens.sources.content import Content, head_of, is_prefix
from threatlens.sources.identity import Fingerprint
from threatlens.sources.paths import family, looks_rotated
from threatlens.sources.stream import Key, Stream
from threatlens.sources.table import TELLING_BYTES, StreamTable


class Finding(Enum):
    """What an unknown file is."""

    NEW = "new"  # a stream of its own
    CONTINUES = "continues"  # carries on a stream
    COPY = "copy"  # holds only what was read already
    HELD = "held"  # as yet the same as a stream that is still followed, or too short to tell
    NOTHING_YET = "nothing"  # no content to judge by


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an unknown file is, and to which stream it is related."""

    finding: Finding
    stream: Stream | None = None
    for_good: bool = True  # HELD: False when too short to be held for long


@dataclass(frozen=True, slots=True)
class Unknown:
    """A file nobody has judged yet."""

    content: Content
    key: Key
    path: str  # resolved
    shown: str  # as the source names it
    ours: bool = False  # a copy that we made: it holds no more than the file did


#: Opens a followed stream's content and confirms that it is still its own; None if it is not (any more).
Confirm = Callable[[Stream], Content | None]


def judge(unknown: Unknown, table: StreamTable, confirm: Confirm) -> Verdict:
    """What this file is. Streams found to be replaced on the way are judged as such."""
    head_start, head = head_of(unknown.content)
    if not head:
        return Verdict(Finding.NOTHING_YET)
    best: Stream | None = None
    copy: Stream | None = None
    held: Verdict | None = None
    for stream in table.candidates(head, unknown.path):
        if not _may_begin_alike(stream, head_start, head):
            continue
        content = confirm(stream) if stream.alive and not (stream.matchable and stream.position) else None
        if content is not None:
            if _gives_way(stream, unknown) and is_prefix(content, unknown.content):
                return Verdict(Finding.CONTINUES, stream)
            if is_prefix(unknown.content, content):
                for_good = unknown.content.size() >= TELLING_BYTES
                held = held if held and held.for_good else Verdict(Finding.HELD, stream, for_good)
                continue
            content = confirm(stream)  # it may have been truncated while the two were compared
        if content is not None or not stream.matchable or stream.position == 0:
            continue
        agreed, whole = unknown.content.matches(stream.fingerprint)
        if whole:
            best = stream if best is None or stream.position > best.position else best
        elif stream.key == unknown.key:
            continue  # truncated and written anew, which may begin as before
        elif agreed > 0 and not unknown.content.stuck:
            copy = stream
        elif agreed >= 0:
            held = held or Verdict(Finding.HELD, stream, agreed > 0)
    if best is not None:
        return Verdict(Finding.CONTINUES, best)
    if held is not None and held.for_good:
        return held
    if copy is not None:
        return Verdict(Finding.COPY, copy)
    return held or Verdict(Finding.NEW)


def _may_begin_alike(stream: Stream, head_start: int, head: bytes) -> bool:
    if stream.position:
        return stream.fingerprint.agrees(head_start, head)
    return stream.stale or Fingerprint(*stream.present).agrees(head_start, head)


def _gives_way(stream: Stream, unknown: Unknown) -> bool:
    """Whether the stream's own file is on its way out: deleted, or renamed by an editor that saves under its name."""
    saved = stream.lost_path and stream.shown == unknown.shown and stream.position >= TELLING_BYTES
    return stream.unlinked or (saved and not unknown.ours) or _is_copy(stream, unknown)


def _is_copy(stream: Stream, unknown: Unknown) -> bool:
    """Whether the stream's file is a copy, begun in this look, of the unknown one, which is about to be truncated."""
    rotated, name = os.path.basename(stream.path), os.path.basename(unknown.path)
    return (
        stream.position == 0
        and looks_rotated(rotated)
        and not looks_rotated(name)
        and os.path.dirname(stream.path) == os.path.dirname(unknown.path)
        and family(rotated) == family(name)
    )
