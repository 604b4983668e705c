"""How figures are shown: aligned text, one row per thing measured, its reference beside it."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Sequence


class Table:
    """Collect rows, then print them; numbers stand to the right."""

    def __init__(self, title: str, *columns: str) -> None:
        self.title = title
        self.rows: list[Sequence[str]] = [columns]

    def add(self, *cells: str) -> None:
        if len(cells) != len(self.rows[0]):
            raise ValueError(f"{len(cells)} cells for {len(self.rows[0])} columns")
        self.rows.append(cells)

    def show(self) -> None:
        widths = [max(len(row[column]) for row in self.rows) for column in range(len(self.rows[0]))]
        print(f"\n{self.title}  ({machine()})")
        for number, row in enumerate(self.rows):
            cells = [
                cell.ljust(width) if not i else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            print("  ".join(cells).rstrip())
            if not number:
                print("  ".join("-" * width for width in widths))
        print(flush=True)


def machine() -> str:
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms"


def times(value: float, reference: float) -> str:
    """How many times the reference."""
    return f"{value / reference:,.2f} x" if reference else "-"


def against(value: float, target: float, *, at_least: bool = False) -> str:
    """The verdict on a target."""
    return "holds" if (value >= target if at_least else value <= target) else "missed"
