"""What matches of a rule give the correlations that they are for: the groups that the events are of, and values.

A batch is fed as a whole: what correlations read alike is read once, and given to each of them as the same run.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from threatlens.detectors.correlation import Input
from threatlens.detectors.fields import NO_FIELDS, SHAPES, View
from threatlens.detectors.linking import Linked
from threatlens.detectors.predicates import Get, each
from threatlens.detectors.rule import Correlation
from threatlens.event import Decoded

MAX_POSITIONS = 1_000  # of one match
_Names = tuple[str, ...]


class Feeder(NamedTuple):
    """From a rule to one of its correlations. Fields are given as the names to look under, in order."""

    place: int  # of the correlation in the engine
    among: int  # the rule's place among the rules of the correlation
    names: tuple[_Names, ...]  # of the group-by fields
    counted: tuple[_Names, ...]  # of the fields whose values are counted or added up
    numeric: bool  # only numbers count

    def group(self, view: View) -> tuple[str, ...] | None:
        """The values of the group-by fields; None if one is missing."""
        found = []
        for names in self.names:
            value = first_value(view.values, names)
            if value is None:
                return None
            found.append(value)
        return tuple(found)

    def value(self, view: View) -> str | None:
        """The values that are counted, as one; None if one is missing or no number where only numbers count."""
        found = []
        for names in self.counted:
            value = first_value(view.values, names)
            if value is None:
                return None
            found.append(value)
        value = "\x1f".join(found)
        return None if self.numeric and not _is_number(value) else value


class Run:
    """Events of a batch for correlations, in order: the inputs, and beside each its place in the batch."""

    __slots__ = ("_by_group", "among", "base", "inputs", "places", "positions")

    def __init__(self, base: int, among: int, positions: list[int], inputs: list[Input]) -> None:
        self.base = base  # place of the rule or correlation that they come from
        self.among = among
        self.positions = positions
        self.inputs = inputs
        self.places: list[int] = []  # of the correlations that they are for
        self._by_group: dict[tuple[str, ...], list[int]] | None = None

    def positions_of(self, group: tuple[str, ...], last: int) -> tuple[int, ...]:
        """The positions of a group's events up to this one, the last thousand of them."""
        if self._by_group is None:
            by_group: dict[tuple[str, ...], list[int]] = {}
            for given, position in zip(self.inputs, self.positions, strict=True):
                by_group.setdefault(given[0], []).append(position)
            self._by_group = by_group
        found = self._by_group.get(group, ())
        end = bisect.bisect_right(found, last)
        return tuple(found[max(0, end - MAX_POSITIONS) : end])


def together(runs: Sequence[Run]) -> Run:
    """What one correlation is fed, in the order of the events; of one event in the order of the runs."""
    if len(runs) == 1:
        return runs[0]
    merged = sorted(
        ((position, given) for run in runs for position, given in zip(run.positions, run.inputs, strict=True)),
        key=lambda pair: pair[0],
    )
    return Run(-1, 0, [position for position, _ in merged], [given for _, given in merged])


class Feeds:
    """Reads the events of one batch for correlations."""

    def __init__(self, events: Sequence[tuple[Decoded, int]]) -> None:
        self._events = events
        self._columns: dict[tuple[int, _Names], list[str | None]] = {}
        self._runs: dict[tuple[int, int, tuple[_Names, ...], tuple[_Names, ...], bool], Run] = {}

    @property
    def runs(self) -> Iterable[Run]:
        """All that were made."""
        return self._runs.values()

    def run(self, base: int, feeder: Feeder, positions: Sequence[int]) -> Run:
        """What the events at these positions, which a rule matched, are to a correlation."""
        _, among, names, counted, numeric = feeder
        key = (base, among, names, counted, numeric)
        run = self._runs.get(key)
        if run is None:
            groups = self._rows(base, names, positions)
            rows = self._rows(base, counted, positions)
            events = self._events
            kept, inputs = [], []
            for position, group, row in zip(positions, groups, rows, strict=True):
                if group is None or row is None:
                    continue
                value = None if not row else row[0] if len(row) == 1 else "\x1f".join(row)
                if numeric and not _is_number(value or ""):
                    continue
                kept.append(position)
                inputs.append((group, events[position][1], among, value))
            run = self._runs[key] = Run(base, among, kept, inputs)
        return run

    def _rows(self, base: int, fields: Sequence[_Names], positions: Sequence[int]) -> list[tuple[str, ...] | None]:
        """The values of these fields of each event, None where one is missing."""
        if not fields:
            return [()] * len(positions)
        if len(fields) == 1:
            return [None if text is None else (text,) for text in self._column(base, fields[0], positions)]
        columns = [self._column(base, names, positions) for names in fields]
        return [None if None in row else row for row in zip(*columns, strict=True)]

    def _column(self, base: int, names: _Names, positions: Sequence[int]) -> list[str | None]:
        column = self._columns.get((base, names))
        if column is None:
            events, first = self._events, names[0]
            column = self._columns[base, names] = [
                text if type(text := events[position][0].fields.get(first)) is str else _text(*events[position], names)
                for position in positions
            ]
        return column


def _text(decoded: Decoded, timestamp_us: int, names: _Names) -> str | None:
    places = SHAPES[tuple(decoded.fields)]
    if not any(name in places or name in NO_FIELDS for name in names):
        return None
    return first_value(View(decoded, "", timestamp_us).values, names)


def field_names(spec: Correlation, name: str, base: Linked) -> tuple[str, ...]:
    """Where the field of a correlation stands in events of one of its rules, by its alias for that rule."""
    renamed = (spec.aliases or {}).get(name, {})
    wanted = renamed.get(base.rule.id) or renamed.get(base.rule.reference) or name
    return tuple(base.names(wanted.lower()))


def first_value(values: Get, names: Sequence[str]) -> str | None:
    """The first value of a field."""
    for name in names:
        value = values(name)
        if type(value) is str:
            return value
        for one in each(value):
            return one
    return None


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) < 1e300
    except ValueError:
        return False
