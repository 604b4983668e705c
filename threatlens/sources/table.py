"""All known streams: by number, by the file that carries them, by path, and by how their content begins.

It also keeps the number of open files bounded: the least recently read one is closed first.
"""

from __future__ import annotations

import os
import resource
from collections import OrderedDict
from functools import lru_cache
from itertools import islice

from threatlens.sources.paths import family
from threatlens.sources.stream import Key, Stream

_LEVELS = (1, 4, 16, 32, 64, 128, 256, 1024)
#: A shared beginning of this many bytes is no coincidence, whatever the files are called.
TELLING_BYTES = 256
_MAX_DEAD = 20_000
_MAX_CANDIDATES = 64
_MAX_RELATIVES = 256

_IndexKey = tuple[int, int, str]


def default_open_limit() -> int:
    """How many files may be open at once, leaving room for everything else in the process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 8192
    return max(8, min(soft // 4 if soft < 1024 else soft // 2, 8192))


class StreamTable:
    """The streams in memory."""

    def __init__(self, max_open: int) -> None:
        self.by_id: dict[int, Stream] = {}
        self.by_key: dict[Key, Stream] = {}
        self.by_path: dict[str, Stream] = {}
        self._families: dict[str, set[Stream]] = {}  # streams with a file, by folder and family of its name
        self.last_at: dict[str, Stream] = {}  # the newest stream under each configured name
        self.max_open = max_open
        self.n_held = 0  # files kept open that no stream carries
        self._open: OrderedDict[int, Stream] = OrderedDict()
        self._dead: OrderedDict[int, None] = OrderedDict()
        self._starts: dict[_IndexKey, dict[int, Stream]] = {}  # streams whose head reaches this level
        self._ends: dict[_IndexKey, dict[int, Stream]] = {}  # streams whose head ends at this level
        self._indexed: dict[int, list[_IndexKey]] = {}

    def add(self, stream: Stream) -> None:
        """Take in a stream."""
        self.by_id[stream.stream_id] = stream
        if stream.alive:
            self._attach(stream)
        else:
            self._bury(stream)
        self.index(stream)
        stream.fold()

    def bind(self, stream: Stream, key: Key, path: str, *, unlinked: bool = False) -> None:
        """This file carries the stream now; unlinked: it had this path before it was deleted."""
        self._detach(stream)
        stream.key, stream.path, stream.alive = key, path, True
        stream.unlinked, stream.sought = unlinked, False
        self._attach(stream)
        self._dead.pop(stream.stream_id, None)
        self._unindex(stream)
        self.index(stream)

    def unbind(self, stream: Stream) -> None:
        """No file carries the stream any more."""
        self.close(stream)
        self._detach(stream)
        stream.alive = stream.unlinked = stream.dirty = stream.verified = False
        stream.present = (0, b"")
        self.index(stream)
        self._bury(stream)

    def relatives(self, path: str) -> list[Stream]:
        """The streams whose files lie in the same folder and share the family of the name; none if there are many."""
        found = self._families.get(_relation(0, path), ())
        return list(found) if len(found) <= _MAX_RELATIVES else []

    def _attach(self, stream: Stream) -> None:
        self.by_key[stream.key] = stream
        if not (stream.unlinked and stream.path in self.by_path):
            self.by_path[stream.path] = stream
        self._families.setdefault(_relation(0, stream.path), set()).add(stream)

    def _detach(self, stream: Stream) -> None:
        relation = _relation(0, stream.path)
        family_of = self._families.get(relation)
        if family_of is not None:
            family_of.discard(stream)
            if not family_of:
                del self._families[relation]
        if self.by_key.get(stream.key) is stream:
            del self.by_key[stream.key]
        if self.by_path.get(stream.path) is stream:
            del self.by_path[stream.path]

    def _bury(self, stream: Stream) -> None:
        stream.fold()
        self._dead[stream.stream_id] = None
        if len(self._dead) > _MAX_DEAD:
            oldest, _ = self._dead.popitem(last=False)
            self.remove(self.by_id[oldest])

    def remove(self, stream: Stream) -> None:
        """Forget a stream altogether."""
        self.close(stream)
        self._detach(stream)
        self._unindex(stream)
        self._dead.pop(stream.stream_id, None)
        self.by_id.pop(stream.stream_id, None)
        if self.last_at.get(stream.shown) is stream:
            del self.last_at[stream.shown]
        if stream.source is not None:
            stream.source.streams.discard(stream)

    # -- how content begins

    def index(self, stream: Stream) -> None:
        """Make the stream findable by its head, which has grown or is new."""
        head = stream.fingerprint.head or stream.present[1]
        keys = [(level, hash(head[:level]), _relation(level, stream.path)) for level in _LEVELS if level <= len(head)]
        if self._indexed.get(stream.stream_id) == keys:
            return
        self._unindex(stream)
        if not keys:
            return
        for key in keys:
            self._starts.setdefault(key, {})[stream.stream_id] = stream
        self._ends.setdefault(keys[-1], {})[stream.stream_id] = stream
        self._indexed[stream.stream_id] = keys

    def _unindex(self, stream: Stream) -> None:
        for key in self._indexed.pop(stream.stream_id, ()):
            for index in (self._starts, self._ends):
                found = index.get(key)
                if found is not None:
                    found.pop(stream.stream_id, None)
                    if not found:
                        del index[key]

    def candidates(self, head: bytes, path: str) -> list[Stream]:
        """The streams whose content may begin as this file's does, newest first."""
        levels = [level for level in _LEVELS if level <= len(head)]
        buckets = [self._ends.get((level, hash(head[:level]), _relation(level, path)), {}) for level in levels[:-1]]
        if levels:
            level = levels[-1]
            buckets.append(self._starts.get((level, hash(head[:level]), _relation(level, path)), {}))
        return [stream for bucket in reversed(buckets) for stream in islice(reversed(bucket.values()), _MAX_CANDIDATES)]

    # -- open files

    @property
    def n_open(self) -> int:
        """How many streams have their files open."""
        return len(self._open)

    @property
    def has_room(self) -> bool:
        """Whether one more file may be open."""
        return len(self._open) + self.n_held < self.max_open

    def opened(self, stream: Stream) -> None:
        """The stream's file has been opened or used; may close others."""
        self._open[stream.stream_id] = stream
        self._open.move_to_end(stream.stream_id)
        excess = len(self._open) + self.n_held - self.max_open
        if excess > 0:
            self.make_room(excess)

    def make_room(self, n: int) -> int:
        """Close the least recently used files that can be opened again by name; returns how many."""
        newest = next(reversed(self._open), None)
        closable = [s for number, s in self._open.items() if number != newest and not s.unlinked]
        # Stable, so the oldest first in each class: those read to their end, those with lines left, the hard to find.
        closable.sort(key=lambda s: 2 if s.lost_path or (s.compressed and s.dirty) else int(s.dirty))
        for stream in closable[:n]:
            self.close(stream)
        return min(n, len(closable))

    def close(self, stream: Stream) -> None:
        """Close the stream's file, if it is open."""
        self._open.pop(stream.stream_id, None)
        if stream.content is not None:
            os.close(stream.content.fd)
            stream.content = None
            stream.verified = False

    def close_all(self) -> None:
        """Close every file."""
        for stream in list(self._open.values()):
            self.close(stream)


def _relation(level: int, path: str) -> str:
    """What a file must share besides its beginning: for short beginnings, folder and family of the name."""
    return "" if level >= TELLING_BYTES else _kin(path)


@lru_cache(maxsize=4096)
def _kin(path: str) -> str:
    folder, name = os.path.split(path)
    return f"{folder}/{family(name)}"
