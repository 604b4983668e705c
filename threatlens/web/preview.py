"""A look at what a source would read, before it is saved: the first lines of its newest file, decoded.

The file is opened as the monitor opens it, inside the allowed roots only, and nothing is remembered.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from threatlens.analyzers.heuristic import severity
from threatlens.decoders import SourceDecoder
from threatlens.decoders.source import Registry
from threatlens.errors import ConfigError, SourceError
from threatlens.event import Decoded
from threatlens.sources.base import LogSourceConfig
from threatlens.sources.paths import Fence, Listing, display, explain, listings

MAX_LINES = 8
MAX_BYTES = 65_536
MAX_FILES = 1_000  # looked at


class Line(NamedTuple):
    """One line as it would be stored."""

    decoded: Decoded
    severity: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be read."""

    path: str = ""  # of the file whose lines are shown
    files: int = 0
    size: int = 0  # bytes, of all files
    lines: tuple[Line, ...] = ()
    problem: str = ""
    remedy: str = ""


def preview(config: LogSourceConfig, forbidden: tuple[str, ...], registry: Registry | None = None) -> Preview:
    """The first lines of the newest file of a source, read by the decoders of `registry` (None: ours); a problem in
    words when there is none to read."""
    fence = Fence(config.roots, forbidden)
    found: list[tuple[float, int, str]] = []
    try:
        for listing in listings(config):
            found += _files(listing, MAX_FILES - len(found))
        if not found:
            return Preview(problem=f"There is no file at {display(config.path)} yet.", remedy="It may come later.")
        newest = max(found)[2]
        descriptor = fence.open(os.path.realpath(newest))
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(MAX_BYTES)
    except SourceError as error:
        return Preview(problem=f"{error}.", remedy=error.remedy)
    except OSError as error:
        told = explain(error, config.path)
        return Preview(problem=f"{told}.", remedy=told.remedy)
    return Preview(
        path=display(newest),
        files=len(found),
        size=sum(size for _, size, _ in found),
        lines=tuple(_lines(content, config, registry)),
    )


def _files(listing: Listing, most: int) -> list[tuple[float, int, str]]:
    """Time of the last change, size and path of the files in one folder."""
    found: list[tuple[float, int, str]] = []
    for name in [listing.pattern] if listing.literal else sorted(os.listdir(listing.folder)):
        path = os.path.join(listing.folder, name)
        if len(found) < most and listing.matches(name) and os.path.isfile(path):
            status = os.stat(path)
            found.append((status.st_mtime, status.st_size, path))
    return found


def _lines(content: bytes, config: LogSourceConfig, registry: Registry | None) -> list[Line]:
    decoder = SourceDecoder(format=config.format, timezone=config.timezone, registry=registry)
    encoding = config.encoding if config.encoding != "auto" else "utf-16" if content[:2] in _BOMS else "utf-8-sig"
    shown = []
    for line in content.decode(encoding, "replace").split("\n")[:-1]:
        if line.strip():
            decoded = decoder.decode(line.rstrip("\r"), time.time())
            shown.append(Line(decoded, severity(decoded)))
        if len(shown) == MAX_LINES:
            break
    return shown


_BOMS = (b"\xff\xfe", b"\xfe\xff")


def checked(values: Mapping[str, Any], roots: tuple[str, ...]) -> LogSourceConfig:
    """The values of a form as a source that can be looked at; raises ConfigError."""
    path = str(values["path"])
    if not path.startswith("/") or "\0" in path:
        raise ConfigError("Write the whole path, from '/' on", key="path")
    return LogSourceConfig(
        source_id=0,
        source_name="test",
        path=path,
        format=values["format"],
        timezone=values["timezone"],
        file_pattern=values["file_pattern"],
        recursive=values["recursive"],
        roots=roots,
    )
