"""The samples of decoders: lines, and above each what must come out of it.

They are files of the project, `tests/samples/<format>.log`: the test suite tries them, and ThreatLens itself does where
it runs, with the decoders that are in use there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from threatlens.event import Decoded, rfc3339

#: When the lines are said to be read, seconds since the epoch (2026-11-23T12:00:00Z): it decides their years.
READ_AT_S = 1_795_435_200.0


@dataclass(frozen=True, slots=True)
class DecoderSample:
    """One line."""

    format: str  # the file it stands in
    number: int  # of its line in that file, from 1
    decoy: bool  # somebody tries to put something else into the fields
    expected: Mapping[str, Any]
    line: str

    def fault(self, decoded: Decoded) -> str:
        """What came out wrong, "" nothing did."""
        record: dict[str, Any] = {"log.format": decoded.format, "message": decoded.message, **decoded.fields}
        if decoded.timestamp_us is not None:
            record["@timestamp"] = rfc3339(decoded.timestamp_us)
        wrong = [name for name, value in self.expected.items() if record.get(name) != value]
        return f"{wrong[0]} is {record.get(wrong[0])!r}, not {self.expected[wrong[0]]!r}" if wrong else ""


def read_decoder_samples(folder: str) -> Iterator[DecoderSample]:
    """All samples of a folder. A line without anything expected is none; raises OSError and ValueError."""
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".log"):
            continue
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            lines = file.read().split("\n")
        expected, comment = None, ""
        for number, line in enumerate(lines, start=1):
            if line.startswith("#= "):
                expected = json.loads(line[3:])
            elif line.startswith("# "):
                comment = line
            elif expected is not None:
                yield DecoderSample(name[:-4], number, comment.startswith("# Decoy"), expected, line)
                expected, comment = None, ""
            elif line:
                raise ValueError(f"{name}:{number}: a line without an expectation")
