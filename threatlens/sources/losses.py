"""Lines that vanish from a followed file: a log only grows, and who takes lines out of it hides something (T1070.002).

Rotation is told apart by content: what was copied away before a truncation is found in a copy, and a file that takes
the place of another is suspicious only when it holds a part of what was read there before.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass

from threatlens.sources.content import Content, is_prefix
from threatlens.sources.identity import TAIL_BYTES, Fingerprint, digest, tail_start
from threatlens.sources.paths import display
from threatlens.sources.source import FollowedSource
from threatlens.sources.stream import Key, Stream
from threatlens.sources.table import TELLING_BYTES

#: Seconds until somebody who moves content away must have finished, and between two alerts about one file.
GRACE_S, AGAIN_S = 3.0, 3_600.0
#: A file that holds this share of another's bytes from its beginning is no new log with the same first lines.
_TELLING_SHARE = 0.25
_MANY_MARKS = 2
_SEARCHED_BYTES = 16 << 20
_MAX_WAITING = 1_000


@dataclass(frozen=True, slots=True)
class LinesLost:
    """A file that holds less than what was read from it."""

    source_id: int
    source_name: str
    path: str  # printable
    read_bytes: int
    left_bytes: int
    how: str  # in words: the file was ...
    noticed_s: float  # seconds since the epoch


class Noticed(deque[LinesLost]):
    """What was found and is not raised yet, the oldest first. Kept in a file, it outlives a kill.

    The monitor's thread appends before it books that the lines are gone; whoever raises it takes it away afterwards.
    """

    _path = ""

    def keep_in(self, path: str) -> None:
        """Keep it in this file from now on, with what is there. What cannot be read there is nothing."""
        self._path = path
        with contextlib.suppress(OSError, ValueError, TypeError), open(path, encoding="utf-8") as file:
            self.extendleft([LinesLost(**each) for each in json.load(file)][::-1])

    def append(self, loss: LinesLost) -> None:
        super().append(loss)
        self._write()

    def popleft(self) -> LinesLost:
        loss = super().popleft()
        self._write()
        return loss

    def _write(self) -> None:
        if not self._path:
            return
        with contextlib.suppress(OSError):  # a full disk: this process still knows
            with open(self._path + ".part", "w", encoding="utf-8") as file:
                json.dump([asdict(each) for each in list(self)], file)
            os.replace(self._path + ".part", self._path)


@dataclass(frozen=True, slots=True)
class Suspect:
    """A stream whose file was written anew, or gave its name to another one."""

    stream: Stream
    source: FollowedSource
    key: Key
    path: str  # resolved
    position: int
    in_place: bool  # the same file, with other content
    since: float  # clock


class LossWatch:
    """What is suspected and what was found. Used from the monitor's thread; `found` may be emptied by another."""

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self.found = Noticed(maxlen=_MAX_WAITING)
        self._clock = clock
        self._wall = wall
        self._suspects: dict[int, Suspect] = {}  # by stream
        self._told: dict[str, float] = {}

    def suspect(self, stream: Stream, *, in_place: bool) -> None:
        """The stream's file does not hold any more what was read from it; where that went is seen in a while."""
        source = stream.source
        if source is None or not stream.position or stream.compressed or len(self._suspects) >= _MAX_WAITING:
            return
        self._suspects.setdefault(
            stream.stream_id,
            Suspect(stream, source, stream.key, stream.path, stream.position, in_place, self._clock()),
        )

    def due(self, source: FollowedSource) -> list[Suspect]:
        """The suspicions that are old enough to be decided; they are not suspected any more."""
        now = self._clock()
        found = [each for each in self._suspects.values() if each.source is source and now - each.since >= GRACE_S]
        for each in found:
            del self._suspects[each.stream.stream_id]
        return found

    def wait(self, suspect: Suspect) -> None:
        """It cannot be decided yet."""
        self._suspects[suspect.stream.stream_id] = suspect

    def tell(self, source: FollowedSource, path: str, read_bytes: int, left_bytes: int, how: str) -> None:
        """Lines are gone; a file that loses lines again and again is told of once an hour."""
        now = self._clock()
        if now - self._told.get(path, -AGAIN_S) < AGAIN_S:
            return
        if len(self._told) >= _MAX_WAITING:
            self._told.clear()
        self._told[path] = now
        self.found.append(
            LinesLost(
                source.config.source_id,
                source.config.source_name,
                display(path),
                read_bytes,
                left_bytes,
                how,
                self._wall(),
            )
        )


def only_newline_gone(content: Content, fingerprint: Fingerprint) -> bool:
    """Whether what was read is still there but for the end of its last line, behind which something was written."""
    if not fingerprint.marks:
        return False
    position, wanted = fingerprint.marks[-1]
    start = tail_start(position)
    return digest(content.pread(position - 1 - start, start) + b"\n") == wanted


def holds_part(content: Content, of: Stream, position: int) -> bool:
    """Whether this content is a part of what was read as the stream: its beginning, or pieces of it anywhere."""
    size = content.size()
    if size >= max(TELLING_BYTES, position * _TELLING_SHARE):
        if of.content is not None and is_prefix(content, of.content):
            return True
        mark = of.fingerprint
        if size < position and content.pread(len(mark.head), mark.head_start) == mark.head:
            return True
    return _marks_in(content, of) >= min(2, len(of.fingerprint.marks)) > 0


def _marks_in(content: Content, of: Stream) -> int:
    """How many of the stream's marks stand in this content, wherever it has an end of a line.

    A mark is of the last bytes before an end, and many lines of one program end alike. So it tells something of a line
    that it covers, or that stands as a whole in the content that was read; where that is not open any more, only if
    there are several marks and no two of them are the same.
    """
    wanted: dict[bytes, list[int]] = {}
    for position, mark in of.fingerprint.marks:
        wanted.setdefault(mark, []).append(position)
    found: set[bytes] = set()
    differ = of.content is None and len(wanted) == len(of.fingerprint.marks) >= _MANY_MARKS
    text = content.pread(_SEARCHED_BYTES, 0)
    start, end = 0, text.find(b"\n") + 1
    while end and len(found) < 2:
        if end >= TAIL_BYTES:
            mark = digest(text[end - TAIL_BYTES : end])
            telling = differ or end - start < TAIL_BYTES
            if mark in wanted and (telling or _stands_in(of.content, text[start:end], wanted[mark])):
                found.add(mark)
        start, end = end, text.find(b"\n", end) + 1
    return len(found)


def _stands_in(content: Content | None, line: bytes, ends: list[int]) -> bool:
    """Whether this content has the line before one of these positions."""
    return content is not None and any(
        end >= len(line) and content.pread(len(line), end - len(line)) == line for end in ends
    )
