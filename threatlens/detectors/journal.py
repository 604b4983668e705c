"""The state of correlations as rows: snapshots now and then, and what was fed since, one row per batch for all of them.

A row of the journal holds the runs of one batch or more: each once, with the correlations that it was for, its groups
and values as numbers in lists of them. Playing the runs again gives the same state. When the journal is longer than
the state, the correlations that it changed are written down as they are, "<digest>:snapshot", and it begins anew.
A correlation is known by its id and digest: one that has changed begins anew, and the rows of its former self go.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from threatlens.courtesy import go_on
from threatlens.detectors.correlation import Correlator
from threatlens.detectors.feeding import Run, together
from threatlens.detectors.linking import Linked
from threatlens.detectors.rule import Rule
from threatlens.event import StateRow

#: A journal with more inputs than this and than the groups that it changed is replaced by snapshots.
MIN_INPUTS = 40_000
MAX_ROWS = 300  # more are written as one
JOURNAL = "journal"  # the id that its rows have in the place of a rule's


class Journal:
    """What has happened to correlations since their snapshots."""

    def __init__(self, links: Sequence[Linked]) -> None:
        self._names = {place: _name(each.rule) for place, each in enumerate(links) if each.rule.correlation is not None}
        self._clear()

    def _clear(self) -> None:
        self._pending: list[list[Any]] = []  # since rows() was asked: runs and [name, time] of closings, in order
        self._batches: list[bytes] = []  # what the rows hold
        self._keys: list[str] = []  # of the rows
        self._number = 0
        self._inputs = 0  # in the rows, counted for each correlation
        self._changed: dict[int, None] = {}  # correlations that the rows are about
        self._stale: list[tuple[str, str]] = []  # rows of rules that have changed or gone
        self._is_stale = False  # whether the journal holds inputs of such rules

    def fed(self, runs: Iterable[Run]) -> None:
        """Note what was fed, which one batch gave; the order of runs of one rule is that of places."""
        packed = []
        for run in sorted(runs, key=lambda run: run.base):
            if run.inputs and run.places:
                packed.append(_packed(run, [self._names[place] for place in run.places]))
                self._inputs += len(run.inputs) * len(run.places)
                self._changed.update(dict.fromkeys(run.places))
        if packed:
            self._pending.append(["fed", packed])

    def closed(self, place: int, now_us: int) -> None:
        """Note that windows were closed at that event time."""
        self._pending.append(["closed", self._names[place], now_us])
        self._inputs += 1
        self._changed[place] = None

    def rows(
        self, links: Sequence[Linked], correlators: Mapping[int, Correlator], give_way: Callable[[], None] = go_on
    ) -> list[StateRow]:
        """The rows that bring what is stored up to now."""
        changed = [StateRow(rule_id, key, None) for rule_id, key in self._stale]
        self._stale = []
        if not self._pending and not self._is_stale:
            return changed
        if self._pending:
            self._batches.append(_dumped(self._pending))
            self._pending = []
        is_long = self._inputs > MIN_INPUTS and self._inputs > sum(
            len(correlators[place].groups) for place in self._changed
        )
        if is_long or self._is_stale:
            changed += self._restarted()
            for place in self._changed:
                give_way()
                rule = links[place].rule
                key = f"{rule.digest[:12]}:snapshot"
                changed.append(StateRow(rule.id, key, _dumped(correlators[place].dump())))
            self._batches, self._inputs, self._is_stale = [], 0, False
            self._changed.clear()
            return changed
        if len(self._keys) >= MAX_ROWS:
            changed += self._restarted()
            self._batches = [b",".join(self._batches)]
        self._number += 1
        self._keys.append(f"{self._number:012d}")
        changed.append(StateRow(JOURNAL, self._keys[-1], b"[" + self._batches[-1] + b"]"))
        return changed

    def _restarted(self) -> list[StateRow]:
        gone = [StateRow(JOURNAL, key, None) for key in self._keys]
        self._keys = []
        return gone

    def restore(self, rows: Iterable[StateRow], links: Sequence[Linked], correlators: Mapping[int, Correlator]) -> None:
        """Bring fresh correlators to what the rows say; rows that belong to none of them are to be deleted."""
        self._clear()
        places = {name: place for place, name in self._names.items()}
        snapshots = {(links[p].rule.id, f"{links[p].rule.digest[:12]}:snapshot"): p for p in self._names}
        journal = []
        for row in rows:
            place = snapshots.get((row.rule_id, row.key))
            if row.payload is None or (row.rule_id != JOURNAL and place is None):
                self._stale.append((row.rule_id, row.key))
            elif place is not None:
                correlators[place].load(json.loads(row.payload))
            else:
                journal.append((row.key, row.payload))
        for key, payload in sorted(journal):
            self._keys.append(key)
            self._number = int(key)
            self._batches.append(payload[1:-1])
            for batch in json.loads(payload):
                for step in batch:
                    self._play(step, places, correlators)

    def _play(self, step: list[Any], places: Mapping[str, int], correlators: Mapping[int, Correlator]) -> None:
        if step[0] == "closed":
            place = places.get(step[1])
            if place is None:
                self._is_stale = True
                return
            correlators[place].close(step[2])
            self._inputs += 1
            self._changed[place] = None
            return
        fed: dict[int, list[Run]] = {}
        for packed in step[1]:
            run = _unpacked(packed)
            for name in packed[0]:
                place = places.get(name)
                if place is None:
                    self._is_stale = True
                else:
                    fed.setdefault(place, []).append(run)
        for place, runs in fed.items():
            inputs = together(runs).inputs
            correlators[place].feed_all(inputs)
            self._inputs += len(inputs)
            self._changed[place] = None


def _name(rule: Rule) -> str:
    return hashlib.sha256(f"{rule.id}:{rule.digest}".encode(errors="replace")).hexdigest()[:12]


def _packed(run: Run, names: list[str]) -> list[Any]:
    groups, times, _, values = zip(*run.inputs, strict=True)
    known_groups: dict[tuple[str, ...], int] = {}
    known_values: dict[str | None, int] = {}
    first = times[0]
    return [
        names, run.among, run.positions, first, [time_us - first for time_us in times],
        [known_groups.setdefault(group, len(known_groups)) for group in groups], list(known_groups),
        [known_values.setdefault(value, len(known_values)) for value in values], list(known_values),
    ]  # fmt: skip


def _unpacked(packed: list[Any]) -> Run:
    _, among, positions, first, times, of_groups, groups, of_values, values = packed
    keys = [tuple(group) for group in groups]
    inputs = [
        (keys[group], first + time_us, among, values[value])
        for time_us, group, value in zip(times, of_groups, of_values, strict=True)
    ]
    return Run(0, among, positions, inputs)


def _dumped(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # half a character, or a number of more than 64 bits
        return json.dumps(value, separators=(",", ":")).encode()
