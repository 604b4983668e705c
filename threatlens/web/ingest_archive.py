"""Uploaded archives as lines: gzip, tar, tar.gz and zip, told apart by their first bytes, never by a name.

Nothing is unpacked onto the disk and no name in an archive is used: the contents of its files follow one another, in
pieces. An archive that tries anything (a path that leads elsewhere, a link, members on top of each other, archives in
it, more than the limits) is refused as a whole.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import IO

from threatlens.errors import IngestError
from threatlens.web.ingest_body import CHUNK, MAX_RATIO, MAX_UNPACKED, RATIO_FROM, gunzip, read_chunks

MAX_MEMBERS = 1000
MAX_DIRECTORY = 1 << 20  # bytes of a zip's list of members
MAX_NAME = 64 * 1024  # bytes of a tar's record with a long name
BLOCK = 512
_TAR_MAGIC = slice(257, 262)
_END = b"PK\x05\x06"
_END_SIZE = 22
_HEADER_SIZE = 30  # of a member, without its name
_ZIP64 = b"PK\x06\x07"
_ZIP64_SIZE = 20
_ARCHIVES = {
    b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "rar",
}  # fmt: skip
_NO_LOGS = {
    b"\x7fELF": "a program", b"MZ\x90\x00": "a program", b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture", b"%PDF-": "a PDF", b"SQLite format 3\x00": "a database",
}  # fmt: skip


def file_chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """The lines in an uploaded file, unpacked if it is packed. Raises IngestError: 400, 413, 415."""
    magic = stream.read(BLOCK)
    size = stream.seek(0, 2)
    stream.seek(0)
    kind = archive_kind(magic)
    if kind == "zip":
        return _unzip(stream, size)
    chunks = read_chunks(stream)
    if kind == "gzip":
        head, chunks = _peek(gunzip(chunks), BLOCK)
        inner = archive_kind(head)
        if inner not in {"", "tar"}:
            raise IngestError(f"there is a {inner} in the gzip; archives in archives are not taken", status=400)
        kind = inner
    elif kind not in {"", "tar"}:
        raise IngestError(f"{kind} is not taken; unpack it, or send zip, tar, tar.gz or gzip", status=415)
    else:
        _refuse_other_kinds(magic)
    return untar(chunks) if kind == "tar" else chunks


def archive_kind(head: bytes) -> str:
    """The kind of archive that a file with this beginning is; empty: none."""
    if head[_TAR_MAGIC] == b"ustar":
        return "tar"
    return next((kind for magic, kind in _ARCHIVES.items() if head.startswith(magic)), "")


def _refuse_other_kinds(head: bytes) -> None:
    for magic, what in _NO_LOGS.items():
        if head.startswith(magic):
            raise IngestError(f"this is {what}, not a log", status=415)


def _peek(chunks: Iterable[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, and everything from the beginning on."""
    rest = iter(chunks)
    head = b""
    while len(head) < size and (chunk := next(rest, b"")):
        head += chunk

    def everything() -> Iterator[bytes]:
        yield head
        yield from rest

    return head[:size], everything()


# --- tar


def untar(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The contents of the files in a tar, one after another, each ending with a line break."""
    reader = _Reader(chunks)
    members = 0
    while (header := reader.exactly(BLOCK)) and header.strip(b"\0"):
        members += 1
        if members > MAX_MEMBERS:
            raise IngestError(f"the tar holds more than {MAX_MEMBERS} members", status=413)
        kind, size = header[156:157], _tar_size(header)
        if kind in b"Lxg":
            if size > MAX_NAME:
                raise IngestError("a name in the tar is too long", status=400)
            _check_name(_long_name(kind, reader.exactly(size)))
        else:
            _check_name(header[:100].partition(b"\0")[0])
            _check_name(header[345:500].partition(b"\0")[0])  # the folders of a long name
            if kind in b"0\0":
                yield from _member(reader.pieces(size))
            elif kind != b"5":  # a folder
                raise IngestError("there is a link or a device in the tar; only files are taken", status=400)
            elif size:
                raise IngestError("the tar is broken", status=400)
        reader.exactly(-size % BLOCK)
    if not members:
        raise IngestError("the tar is broken", status=400)
    for _ in reader.rest():  # what packs it may have a checksum at its end
        pass


def _tar_size(header: bytes) -> int:
    """The size of a member whose header is whole; raises IngestError."""
    try:
        written = int(header[148:156].strip(b"\0 ") or b"x", 8)
        size = int(header[124:136].strip(b"\0 ") or b"0", 8)
    except ValueError as error:
        raise IngestError("the tar is broken", status=400) from error
    if written != sum(header[:148]) + 8 * 0x20 + sum(header[156:]) or size < 0:
        raise IngestError("the tar is broken", status=400)
    return size


def _long_name(kind: bytes, record: bytes) -> bytes:
    """The names in a record of GNU tar or pax, as far as they can lead elsewhere."""
    if kind == b"L":
        return record.rstrip(b"\0")
    names = [line.partition(b"path=")[2] for line in record.split(b"\n") if b"path=" in line]
    return next((name for name in names if _leads_out(name)), b"")


def _leads_out(name: bytes) -> bool:
    parts = name.replace(b"\\", b"/").split(b"/")
    return name.startswith((b"/", b"\\")) or b".." in parts or b":" in parts[0] or b"\0" in name


def _check_name(name: bytes) -> None:
    if _leads_out(name):
        raise IngestError("a name in the archive leads out of it", status=400)


class _Reader:
    """Bytes by the number, out of pieces of any size."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = b""

    def exactly(self, size: int) -> bytes:
        """So many bytes, or none at the very end; raises IngestError in between."""
        found = b"".join(self._some(size))
        if len(found) < size and (found or size < BLOCK):
            raise IngestError("the archive is cut off", status=400)
        return found

    def pieces(self, size: int) -> Iterator[bytes]:
        """So many bytes, piece by piece; raises IngestError if there are fewer."""
        for piece in self._some(size):
            size -= len(piece)
            yield piece
        if size:
            raise IngestError("the archive is cut off", status=400)

    def rest(self) -> Iterator[bytes]:
        return self._chunks

    def _some(self, size: int) -> Iterator[bytes]:
        while size > 0:
            if not self._held:
                self._held = next(self._chunks, b"")
                if not self._held:
                    return
            piece, self._held = self._held[:size], self._held[size:]
            size -= len(piece)
            yield piece


def _member(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The content of one file in an archive: no archive itself, with a line break at its end."""
    head, everything = _peek(pieces, BLOCK)
    if kind := archive_kind(head):
        raise IngestError(f"there is a {kind} in the archive; archives in archives are not taken", status=400)
    _refuse_other_kinds(head)
    last = b"\n"
    for piece in everything:
        if piece:
            yield piece
            last = piece[-1:]
    if last != b"\n":
        yield b"\n"


# --- zip


def _unzip(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """The contents of the files in a zip, one after another, each ending with a line break."""
    _check_directory(stream, size)
    try:
        with zipfile.ZipFile(stream) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            _check_members(members, size)
            unpacked = 0
            for info in members:
                with archive.open(info) as content:
                    for piece in _member(iter(lambda content=content: content.read(CHUNK), b"")):  # type: ignore[misc]
                        unpacked += len(piece)
                        if unpacked > MAX_UNPACKED or (unpacked > RATIO_FROM and unpacked > MAX_RATIO * size):
                            raise IngestError("the zip unpacks to more than is taken at once", status=413)
                        yield piece
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise IngestError("the zip is broken", status=400) from error


def _check_directory(stream: IO[bytes], size: int) -> None:
    """Refuse a zip whose list of members alone would take too much; the library reads it as a whole."""
    stream.seek(max(0, size - _END_SIZE - 65535))
    tail = stream.read()
    at = len(tail) - _END_SIZE if tail[-_END_SIZE:].startswith(_END) and tail.endswith(b"\0\0") else tail.rfind(_END)
    if at < 0 or len(tail) < at + _END_SIZE:
        raise IngestError("the zip is broken", status=400)
    count, length = struct.unpack("<HL", tail[at + 10 : at + 16])
    if tail[max(0, at - _ZIP64_SIZE) : at].startswith(_ZIP64) or count > MAX_MEMBERS or length > MAX_DIRECTORY:
        raise IngestError(f"the zip holds more than {MAX_MEMBERS} members", status=413)
    stream.seek(0)


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    if len(members) > MAX_MEMBERS:
        raise IngestError(f"the zip holds more than {MAX_MEMBERS} members", status=413)
    end = size
    for info in sorted(members, key=lambda info: info.header_offset, reverse=True):
        if info.header_offset + _HEADER_SIZE + info.compress_size > end:
            raise IngestError("members of the zip lie on top of each other", status=400)
        end = info.header_offset
    if sum(info.file_size for info in members) > MAX_UNPACKED:
        raise IngestError("the zip unpacks to more than is taken at once", status=413)
    for info in members:
        name = info.orig_filename.encode("utf-8", "surrogatepass")
        if _leads_out(name):
            raise IngestError("a name in the archive leads out of it", status=400)
        if (info.external_attr >> 16) & 0o170000 not in {0, 0o100000}:
            raise IngestError("there is a link or a device in the zip; only files are taken", status=400)
        if info.flag_bits & 1:
            raise IngestError("the zip is encrypted", status=400)
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise IngestError("the zip is packed in a way that is not taken; use deflate", status=415)
