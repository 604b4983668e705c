"""The decoders that people have made: files in the data folder, loaded again when they change.

One file that is wrong is told and left out; the others and those of the house go on. A decoder of the house is never
replaced: those here read what all others have left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from threading import Lock

from threatlens.analyzers.heuristic import CATEGORIES
from threatlens.decoders import DECODERS, FORMATS, rereader
from threatlens.decoders.drafting import MAX_FILE, OwnDecoder, member_of, parse
from threatlens.decoders.source import Registry
from threatlens.durable import put_in_place
from threatlens.errors import DecoderError
from threatlens.event import Decoded

LOOK_EVERY_S = 1.0
MAX_DECODERS = 100


def known_format(name: str, registry: Registry | None) -> str:
    """The format of a source, as long as there is a decoder of that name; "auto" when it was taken away."""
    return name if name in (FORMATS if registry is None else registry.by_name) else "auto"


class OwnDecoders:
    """The folder's decoders together with those of the house. For several threads."""

    def __init__(self, folder: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = folder
        self._clock = clock
        self._lock = Lock()
        self._looked_at = float("-inf")
        self._seen: tuple[tuple[str, int, int], ...] | None = None
        self._registry = Registry(DECODERS)
        self._formats = FORMATS
        self._found: tuple[OwnDecoder, ...] = ()
        #: File name -> what is wrong with it.
        self.problems: dict[str, str] = {}

    def registry(self) -> Registry:
        """All decoders; the same object until a file changes."""
        with self._lock:
            now = self._clock()
            if now - self._looked_at >= LOOK_EVERY_S:
                self._looked_at = now
                self._look()
            return self._registry

    def formats(self) -> frozenset[str]:
        """The names of all decoders, for sources; the same object until a file changes."""
        self.registry()
        return self._formats

    def all(self) -> tuple[OwnDecoder, ...]:
        """Those of the folder, by name."""
        self.registry()
        return self._found

    def save(self, text: str) -> OwnDecoder:
        """Keep a decoder in its file; raises DecoderError for what is wrong with it."""
        made = parse(text, FORMATS)
        if made.category not in CATEGORIES:
            raise DecoderError(f"there is no category {made.category!r}; there are {', '.join(CATEGORIES)}")
        if len(self.all()) >= MAX_DECODERS and made.name not in {own.name for own in self._found}:
            raise DecoderError(f"there are {MAX_DECODERS} already")
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        path = self._path(made.name)
        try:
            with open(path + ".part", "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            put_in_place(path + ".part", path)
        except OSError as error:
            raise DecoderError(f"it cannot be kept: {error.strerror}") from error
        self._looked_at = float("-inf")
        return made

    def remove(self, name: str) -> None:
        """Forget a decoder; its events stay and are unknown from now on."""
        if name in {own.name for own in self.all()}:
            os.unlink(self._path(name))
            self._looked_at = float("-inf")

    def rereader(self) -> Callable[[str, str], Decoded]:
        """(raw line, format) -> its fields again, whoever's decoder read it; for one thread, and not for long."""
        return rereader(self.registry())

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name + ".yml")

    def _look(self) -> None:
        try:
            entries = sorted(os.scandir(self.folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            entries = []
        files = [entry for entry in entries if entry.name.endswith(".yml") and entry.is_file()][:MAX_DECODERS]
        seen = tuple((entry.name, entry.stat().st_mtime_ns, entry.stat().st_size) for entry in files)
        if seen == self._seen:
            return
        found: dict[str, OwnDecoder] = {}
        self.problems = {}
        for entry in files:
            try:
                with open(entry.path, encoding="utf-8") as file:
                    made = parse(file.read(MAX_FILE + 1), FORMATS | found.keys())
                found[made.name] = made
            except (DecoderError, OSError, UnicodeDecodeError) as error:
                self.problems[entry.name] = str(error)
        self._found = tuple(found.values())
        self._registry = Registry([*DECODERS, *map(member_of, self._found)])
        self._formats = frozenset(self._registry.by_name)
        self._seen = seen
