"""A coverage-guided search for text that a decoder cannot bear: python benchmarks/fuzz_decoders.py -max_total_time=600.

Needs atheris (pip install atheris), which is no part of the tests. The samples are where it begins; what it finds is
written to the current folder as crash-..., and raises here. Further options are libFuzzer's.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["threatlens.decoders", "threatlens.analyzers"]):
    from threatlens.analyzers.heuristic import category, severity
    from threatlens.analyzers.patterns import TemplateTree
    from threatlens.decoders import FORMATS, SourceDecoder, decode_stored
    from threatlens.decoders.base import ADDRESSES, MAX_FIELDS, VALUE_CHARS
    from threatlens.decoders.records import to_json
    from threatlens.event import TIME_ERROR

READ_AT_S = 1_795_435_200.0
NAMES = ["auto"] * 3 + sorted(FORMATS)
OURS = ("source.ip", "destination.ip", "source.nat.ip", "observer.ip")


def one_input(data: bytes) -> None:
    """The first two bytes choose the format, the others are lines, of which some make one event."""
    decoder = SourceDecoder(format=NAMES[int.from_bytes(data[:2], "big") % len(NAMES)])
    tree = TemplateTree(max_shapes=50)
    head, text = None, ""
    for line in data[2:].decode("utf-8", "replace").split("\n")[:8]:
        decoded = decoder.decode(line, READ_AT_S)
        assert len(decoded.fields) <= MAX_FIELDS
        assert (decoded.timestamp_us is None) == bool(decoded.flags & TIME_ERROR)
        for name, value in decoded.fields.items():
            assert "." in name, name
            if name in OURS:
                assert ADDRESSES[str(value)] == value
            assert not isinstance(value, str) or len(value) <= VALUE_CHARS
        severity(decoded)
        category(decoded)
        tree.find(decoded.message)
        decode_stored(line, decoded.format)
        whole = decoder.join(head, text, line, decoded) if head is not None else None
        head, text = (decoded, line) if whole is None else (whole, f"{text}\n{line}")
        assert decode_stored(text, head.format).message is not None
        decoder.may_go_on(head, text)
        to_json({"message": decoded.message, **decoded.fields})


def seeds(folder: str) -> None:
    """Every sample as a file."""
    for path in sorted((ROOT / "tests" / "samples").glob("*.log")):
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line and not line.startswith("#")]
        for number, line in enumerate(lines):
            (Path(folder) / f"{path.stem}-{number}").write_bytes(b"\0\0" + line.encode())
        (Path(folder) / f"{path.stem}-all").write_bytes(b"\0\0" + "\n".join(lines[:8]).encode())


def main() -> None:
    """Search until a limit of libFuzzer's is reached."""
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        seeds(folder)
        atheris.Setup([*sys.argv, "-max_len=4096", "-timeout=5", folder], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    main()
