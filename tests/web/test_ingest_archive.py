"""Uploaded archives: their lines, or nothing at all (R29)."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from programs import Program

from threatlens.errors import IngestError
from threatlens.web import ingest_archive
from threatlens.web.ingest_archive import file_chunks

A, B = b"one\ntwo", b"three\n"
LINES = b"one\ntwo\nthree\n"


def tar(*members: tuple[str, bytes], form: int = tarfile.PAX_FORMAT, **changes: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in changes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED, mode: int = 0) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return out.getvalue()


GOOD = {
    "tar": tar(("a.log", A), ("b.log", B)),
    "tar.gz": gzip.compress(tar(("a.log", A), ("b.log", B))),
    "zip": zipped(("a.log", A), ("b.log", B)),
    "stored zip": zipped(("a.log", A), ("b.log", B), method=zipfile.ZIP_STORED),
    "gzip": gzip.compress(LINES),
    "text": LINES,
    "tar of GNU with long names": tar(("x/" * 100 + "a.log", A), ("b.log", B), form=tarfile.GNU_FORMAT),
    "tar of pax with long names": tar(("\u00e9/" * 100 + "a.log", A), ("b.log", B)),
    "zip with a comment": zipped(("a.log", A), ("b.log", B))[:-2] + b"\x02\x00hi",
}


@pytest.mark.parametrize("kind", GOOD)
def test_an_archive_is_the_lines_of_its_files(kind: str) -> None:
    assert b"".join(file_chunks(io.BytesIO(GOOD[kind]))) == LINES


def overlapping() -> bytes:
    """Fifty members that are all the same bytes."""
    one = zipped(("a", b"x" * 1000))
    start = one.index(b"PK\x01\x02")
    entry = one[start : one.index(b"PK\x05\x06")]
    end = struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, 50, 50, 50 * len(entry), start, 0)
    return one[:start] + 50 * entry + end


def lying_about_its_size() -> bytes:
    data = bytearray(zipped(("a", b"x" * 1000)))
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<L", 10)
    return bytes(data)


def link_in_tar(kind: bytes) -> bytes:
    return tar(("a", b""), type=kind, linkname="/etc/passwd")


def encrypted() -> bytes:
    data = bytearray(zipped(("a", b"x")))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


BAD: dict[str, tuple[Callable[[], bytes], int]] = {
    "zip slip": (lambda: zipped(("../../x", A)), 400),
    "zip slip the other way": (lambda: zipped(("..\\..\\x", A)), 400),
    "absolute name in a zip": (lambda: zipped(("/etc/x", A)), 400),
    "drive in a zip": (lambda: zipped(("C:\\x", A)), 400),
    "link in a zip": (lambda: zipped(("x", b"/etc/passwd"), mode=0o120777), 400),
    "tar slip": (lambda: tar(("../../x", A)), 400),
    "tar slip in a long name": (lambda: tar(("x/" * 100 + "../" * 120 + "x", A), form=tarfile.GNU_FORMAT), 400),
    "tar slip in a pax name": (lambda: tar(("\u00e9/" * 100 + "../" * 120 + "x", A)), 400),
    "absolute name in a tar": (lambda: tar(("/etc/x", A)), 400),
    "symbolic link in a tar": (lambda: link_in_tar(tarfile.SYMTYPE), 400),
    "hard link in a tar": (lambda: link_in_tar(tarfile.LNKTYPE), 400),
    "FIFO in a tar": (lambda: link_in_tar(tarfile.FIFOTYPE), 400),
    "device in a tar": (lambda: link_in_tar(tarfile.CHRTYPE), 400),
    "zip in a zip": (lambda: zipped(("a", zipped(("b", A)))), 400),
    "gzip in a tar": (lambda: tar(("a.gz", gzip.compress(A))), 400),
    "tar in a zip": (lambda: zipped(("a.tar", tar(("b", A)))), 400),
    "gzip in a gzip": (lambda: gzip.compress(gzip.compress(A)), 400),
    "zip in a gzip": (lambda: gzip.compress(zipped(("a", A))), 400),
    "members on top of each other": (overlapping, 400),
    "a size that is not true": (lying_about_its_size, 400),
    "encrypted": (encrypted, 400),
    "bzip2 in a zip": (lambda: zipped(("a", A), method=zipfile.ZIP_BZIP2), 415),
    "1001 members in a zip": (lambda: zipped(*((str(each), b"") for each in range(1001))), 413),
    "1001 members in a tar": (lambda: tar(*((str(each), b"") for each in range(1001))), 413),
    "a directory that says little and is long": (
        lambda: zipped(*(("n" * 5000 + str(each), b"") for each in range(300))),
        413,
    ),
    "zip bomb": (lambda: zipped(("a", bytes(20 << 20))), 413),
    "many members that are a bomb together": (
        lambda: zipped(*((str(each), bytes(3 << 20)) for each in range(8))),
        413,
    ),
    "gzip bomb": (lambda: gzip.compress(bytes(20 << 20)), 413),
    "tar.gz bomb": (lambda: gzip.compress(tar(("a", bytes(20 << 20)))), 413),
    "a name of 1 MB in a tar": (lambda: tar(("a", bytes(1 << 20)), type=tarfile.GNUTYPE_LONGNAME), 400),
    "cut off zip": (lambda: GOOD["zip"][:-10], 400),
    "cut off tar": (lambda: GOOD["tar"][:700], 400),
    "tar with a wrong checksum": (lambda: GOOD["tar"][:10] + b"x" + GOOD["tar"][11:], 400),
    "bzip2": (lambda: b"BZh91AY&SY", 415),
    "xz": (lambda: b"\xfd7zXZ\x00\x00", 415),
    "7z": (lambda: b"7z\xbc\xaf\x27\x1c\x00", 415),
    "a program": (lambda: b"\x7fELF\x02\x01", 415),
    "a program in a zip": (lambda: zipped(("a.log", b"\x7fELF\x02\x01")), 415),
}


@pytest.mark.parametrize("name", BAD)
def test_an_archive_that_tries_something_is_refused_in_little_memory(name: str) -> None:
    make, status = BAD[name]
    data = io.BytesIO(make())
    tracemalloc.start()
    try:
        with pytest.raises(IngestError) as caught:
            for _ in file_chunks(data):
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert caught.value.status == status
    assert peak < 30 << 20


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_cut_anywhere_is_noticed_or_leaves_nothing_out(kind: str) -> None:
    whole = GOOD[kind]
    for cut in range(1, len(whole), 97):
        data = whole[:cut]
        try:
            lines = b"".join(file_chunks(io.BytesIO(data)))
        except IngestError:
            continue
        assert lines == LINES or not ingest_archive.archive_kind(data[:512])


def test_an_upload_is_accepted_or_leaves_nothing_on_the_disk(app: Any, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    os.mkdir(tmp_path / "temporary")
    shipper = Program(app, "analyst")

    def upload(data: bytes, name: str) -> Any:
        form = {"file": (io.BytesIO(data), name)}
        return shipper.call("POST", "/ingest", data=form, content_type="multipart/form-data")

    good = upload(GOOD["zip"], "../../evil.zip")
    slip, bomb = upload(BAD["zip slip"][0](), "a.log"), upload(BAD["zip bomb"][0](), "b.log")

    assert (good.status_code, good.json["accepted"]) == (202, 3)
    assert (slip.status_code, bomb.status_code) == (400, 413)
    assert "leads out" in slip.json["detail"]
    assert not any("evil" in name for _, folders, files in os.walk(tmp_path) for name in folders + files)
    assert os.listdir(tmp_path / "temporary") == []
    spool = app.extensions["threatlens"].settings.spool
    assert sum(len(files) for _, _, files in os.walk(spool)) == 1
