"""What commands that read files have in common."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, cast

import click

if TYPE_CHECKING:
    from threatlens.decoders.source import Registry
    from threatlens.settings import Settings


def check_format(name: str, registry: Registry | None = None) -> None:
    """Raises UsageError for a format that does not exist, in the house or in `registry`."""
    from threatlens.decoders import FORMATS

    known = FORMATS if registry is None else registry.by_name.keys()
    if name != "auto" and name not in known:
        msg = f"no decoder is named {name!r}; there are: auto, {', '.join(sorted(known))}"
        raise click.UsageError(msg)


def own_registry(settings: Settings) -> Registry | None:
    """All decoders with those that people have made; None while there are none of these. What is wrong with one is
    told on stderr."""
    if not os.path.isdir(settings.decoders_folder):
        return None
    from threatlens.own_decoders import OwnDecoders

    own = OwnDecoders(settings.decoders_folder)
    registry = own.registry()
    for name, problem in own.problems.items():
        click.echo(f"{name}: {problem}", err=True)
    return registry


def reader_has_enough() -> None:
    """After a BrokenPipeError (`| head`): what is still to be written goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_zone(name: str) -> None:
    """Raises UsageError for a time zone that does not exist."""
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        msg = f"--tz must be a time zone such as UTC or Europe/Berlin, not {name!r}"
        raise click.UsageError(msg) from error


def file_problem(file: str, error: Exception) -> click.ClickException:
    """Why a file cannot be read, in a sentence."""
    return click.ClickException(f"{file!r} cannot be read: {getattr(error, 'strerror', None) or error}")


@contextmanager
def open_file(file: str) -> Iterator[IO[bytes]]:
    """The bytes of a file or of standard input, unpacked if they are gzip."""
    if file == "-":
        yield sys.stdin.buffer
        return
    with open(file, "rb") as raw:
        if raw.read(2) == b"\x1f\x8b":
            raw.seek(0)
            with gzip.open(raw) as unpacked:
                yield cast("IO[bytes]", unpacked)
        else:
            raw.seek(0)
            yield raw


@contextmanager
def open_records(file: str) -> Iterator[Iterator[bytes]]:
    """The records of a file or of standard input: lines, or what is one line each made of an event log, XML, JSON.

    A file that is damaged ends in a ClickException.
    """
    from threatlens.decoders.record_files import LOOKED_AT, records
    from threatlens.errors import RecordsError

    try:
        with open_file(file) as stream:
            start = cast("io.BufferedReader", stream).read1(LOOKED_AT)
            yield records(start, stream, file)
    except RecordsError as error:
        raise click.ClickException(f"{file!r}: {error}") from error


def is_of_records(path: str) -> bool:
    """Whether a file's records are no lines."""
    from threatlens.decoders.record_files import LOOKED_AT, kind_of

    with open_file(path) as stream:
        return kind_of(stream.read(LOOKED_AT)) not in {"lines", "utf-16"}


def digest_of(path: str) -> str:
    """What identifies a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
