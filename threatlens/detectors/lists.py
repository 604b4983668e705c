"""Lists of the user: entries that rules expand (`|expand: '%name%'`), and addresses, domains and hashes that are bad.

A list is a text file, one entry per line, "#" begins a comment; or CSV, whose first column counts, or the one under
the heading that names an indicator. Its name is that of the file without its ending.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence

MAX_ENTRIES = 2_000_000
MAX_LIST_BYTES = 200 << 20
SUFFIXES = (".txt", ".csv", ".list", ".netset", ".ipset")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_HEADINGS = ("indicator", "ip", "ip_address", "dst_ip", "cidr", "network", "domain", "host", "hash", "sha256_hash",
             "sha256", "md5_hash", "md5", "url", "value", "ioc", "ioc_value")  # fmt: skip


def load_lists(folder: str) -> dict[str, tuple[str, ...]]:
    """Every list of a folder, by name. Files that cannot be read are left out: rules that need them say so."""
    found = {}
    for entry in sorted(os.listdir(folder)):
        name, suffix = os.path.splitext(entry)
        path = os.path.join(folder, entry)
        if suffix in SUFFIXES and _NAME.fullmatch(name) and os.path.isfile(path):
            try:
                with open(path, "rb") as file:
                    found[name] = parse_list(
                        file.read(MAX_LIST_BYTES).decode("utf-8", "replace"), csv_file=suffix == ".csv"
                    )
            except OSError:
                continue
    return found


def parse_list(text: str, *, csv_file: bool = False) -> tuple[str, ...]:
    """The entries of a list, each once, in order."""
    return tuple(dict.fromkeys(_csv(text) if csv_file else _plain(text)))[:MAX_ENTRIES]


def _plain(text: str) -> Iterable[str]:
    for line in text.splitlines():
        entry = re.split(r"\s[#;]|^[#;]", line, maxsplit=1)[0].strip()
        if entry:
            yield entry


def _csv(text: str) -> Iterable[str]:
    lines = (line for line in io.StringIO(text) if line.strip() and not line.lstrip().startswith("#"))
    column: int | None = None
    for row in csv.reader(lines, skipinitialspace=True):
        if column is None:
            words = [cell.strip().lower() for cell in row]
            named = next((words.index(heading) for heading in _HEADINGS if heading in words), None)
            column = named if named is not None else 0
            if named is not None:
                continue
        if column < len(row) and (entry := row[column].strip()):
            yield entry


Lists = Mapping[str, Sequence[str]]
