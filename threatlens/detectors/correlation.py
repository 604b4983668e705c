"""Correlations, streaming in event time: what happens several times, or together, within a time span.

A group (the values of the group-by fields) keeps the few events that its condition needs. Lines may come late: an
event takes its place by its own time, up to a time span behind the newest of its group, and every window that holds it
is judged again. Conditions with gt or gte are told of at once when they become true; those with lt, lte, eq or neq are
judged when the window that began with the group's first event is over. How often a group is told of stands at
RuleMatch. Memory is bounded: the groups that were touched least recently are forgotten, and counted.

What changes the state are its inputs, in order; so the inputs are what is journalled, and playing them again gives
the same state. A snapshot replaces a journal that has grown longer than the state.
"""

from __future__ import annotations

import bisect
import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from threatlens.detectors.rule import Correlation, Tree

MAX_GROUPS = 100_000  # of one correlation
_MAX_ENTRIES = 4_096  # of one group
_FEW = 12  # entries that are looked through one by one
_MAX_PER_RULE = 32  # of one group and rule, where only their order counts
_LATE_WINDOWS = 64  # how many windows a late event is tried in
_AFTER = 1 << 60  # greater than the number of any rule: behind all entries of one time
_AT_ONCE = frozenset({"gt", "gte"})


#: One event for a correlation: values of the group-by fields, its time, which of the correlation's rules matched, and
#: the value of the field that is counted. A plain tuple, as there are several per line.
Input = tuple[tuple[str, ...], int, int, str | None]
_Entry = tuple[int, int, str | None]


@dataclass(frozen=True, slots=True)
class Firing:
    """A group that meets its condition."""

    group: tuple[str, ...]
    count: int
    first_us: int
    last_us: int
    again: bool


class _Group:
    """What is kept of one group. Entries are (time_us, rule, value) in order of time."""

    __slots__ = ("entries", "first_us", "latest", "met_us", "told", "told_us", "total", "values")

    def __init__(self) -> None:
        self.entries: list[_Entry] = []
        self.latest: dict[int, int] | None = None  # where rules must come together: rule -> its newest event
        self.values: dict[str | None, int] | None = None  # of many entries: value -> its time
        self.told = 0  # the count that was last told of; 0: the condition has not been met lately
        self.told_us = 0
        self.met_us = 0  # when the condition was last met
        self.total = 0  # events since the condition was first met
        self.first_us = 0

    def dump(self) -> list[Any]:
        return [self.entries, self.told, self.told_us, self.met_us, self.total, self.first_us]

    def load(self, dumped: Sequence[Any]) -> None:
        entries, self.told, self.told_us, self.met_us, self.total, self.first_us = dumped
        self.entries = [(time_us, rule, value) for time_us, rule, value in entries]


class Correlator:
    """The state of one correlation."""

    def __init__(self, spec: Correlation, *, max_groups: int = MAX_GROUPS) -> None:
        self.spec = spec
        self.max_groups = max_groups
        self.evicted = 0  # groups that were forgotten to make room
        self.groups: OrderedDict[tuple[str, ...], _Group] = OrderedDict()
        self.at_once = spec.type.startswith("temporal") or spec.op in _AT_ONCE
        self._span_us = spec.timespan_s * 1_000_000
        self._is_count = spec.type in {"event_count", "value_count"}  # a value is kept once, so entries are values
        self._is_values = spec.type == "value_count"
        self._is_temporal = spec.type.startswith("temporal")
        self._places = {reference: place for place, reference in enumerate(spec.rules)}
        limit = min(spec.number, _MAX_ENTRIES + 1)
        needed = min(math.ceil(max(1, limit)), _MAX_ENTRIES)
        self._max_entries = min(_MAX_ENTRIES, max(64, 2 * needed))
        if spec.type.startswith("value_") and not self._is_values:
            self._max_entries = _MAX_ENTRIES
        at_least = math.floor(limit) + 1 if spec.op == "gt" else math.ceil(limit)
        self._needed = max(1, at_least)  # entries of a window, where they are counted

    def feed(self, given: Input) -> Firing | None:
        """Take in one event; a firing if its group is to be told of now."""
        key = given[0]
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = _Group()
            if len(self.groups) > self.max_groups:
                self.forget_oldest()
        elif self.at_once:
            self.groups.move_to_end(key)
        place = self._insert(group, given)
        if place < 0 or not self.at_once:
            return None
        return self._judge(given, group, place)

    def forget_oldest(self) -> None:
        """Drop the group that was touched least recently."""
        self.groups.popitem(last=False)
        self.evicted += 1

    def close(self, now_us: int) -> list[Firing]:
        """Judge the windows that are over at that event time, for conditions that are judged at the end."""
        if self.at_once:
            return []
        fired = []
        while self.groups:
            key, group = next(iter(self.groups.items()))
            if not group.entries or group.entries[0][0] + self._span_us > now_us:
                break
            start = group.entries[0][0]
            inside = [entry for entry in group.entries if entry[0] < start + self._span_us]
            later = group.entries[len(inside) :]
            group.values = None
            del self.groups[key]
            if later:
                group.entries = later
                self.groups[key] = group
            if self._met(inside):
                fired.append(Firing(key, len(inside), start, inside[-1][0], again=False))
        return fired

    def _insert(self, group: _Group, given: Input) -> int:
        """Put the event among the entries; its place, -1 if it adds nothing."""
        entries = group.entries
        _, time_us, rule, value = given
        if self._is_values:
            if len(entries) > _FEW:  # most values of a busy group are new or long known: look where it stands
                known_us = self._values(group).pop(value, None)
                place = len(entries) if known_us is None else bisect.bisect_left(entries, (known_us,))
            else:
                group.values = None
                place = 0
            while place < len(entries) and entries[place][2] != value:
                place += 1
            if place < len(entries):
                if entries[place][0] > time_us:
                    group.values = None
                    return -1
                del entries[place]
        if not entries or entries[-1][0] <= time_us:
            place = len(entries)
            entries.append((time_us, rule, value))
            oldest = time_us - 2 * self._span_us
            if entries[0][0] < oldest and self.at_once:
                old = bisect.bisect_left(entries, (oldest,))
                del entries[:old]
                group.values = None
                place -= old
        else:
            place = bisect.bisect_right(entries, (time_us, _AFTER))
            far_behind = entries[-1][0] - time_us > 2 * self._span_us
            if far_behind and len(entries) >= self._max_entries:
                return -1  # another stream, or an old file: what the group holds is not lost for it
            entries.insert(place, (time_us, rule, value))
        if self._is_temporal:
            latest = self._latest(group)
            latest[rule] = max(latest.get(rule, time_us), time_us)
            place = self._thin(entries, rule, place)
        elif len(entries) > self._max_entries:
            if group.values is not None:
                group.values.pop(entries[0][2], None)
            del entries[0]
            place -= 1
        if group.values is not None and place >= 0:
            group.values[value] = time_us
        return place

    @staticmethod
    def _values(group: _Group) -> dict[str | None, int]:
        if group.values is None:
            group.values = {value: time_us for time_us, _, value in group.entries}
        return group.values

    @staticmethod
    def _latest(group: _Group) -> dict[int, int]:
        if group.latest is None:
            group.latest = {rule: time_us for time_us, rule, _ in group.entries}
        return group.latest

    def _thin(self, entries: list[_Entry], rule: int, place: int) -> int:
        if len(entries) <= _MAX_PER_RULE:
            return place
        of_rule = [at for at, known in enumerate(entries) if known[1] == rule]
        if len(of_rule) > _MAX_PER_RULE:
            del entries[of_rule[0]]
            place -= of_rule[0] < place or of_rule[0] == place
        return place

    def _judge(self, given: Input, group: _Group, place: int) -> Firing | None:
        entries = group.entries
        window = self._met_window(group, place)
        key, now, _, _ = given
        if group.told and abs(now - group.met_us) > self._span_us:
            group.told = 0
        if not group.told:
            if window is None:
                return None
            begin, end = window
            group.total = group.told = end - begin
            group.first_us, group.told_us, group.met_us = entries[begin][0], now, now
            return Firing(key, group.total, entries[begin][0], entries[end - 1][0], again=False)
        group.total += 1
        if window is None:
            return None
        group.met_us = max(group.met_us, now)
        if group.total < 2 * group.told and now - group.told_us < self._span_us:
            return None
        group.told, group.told_us = group.total, now
        return Firing(key, group.total, group.first_us, entries[window[1] - 1][0], again=True)

    def _met_window(self, group: _Group, place: int) -> tuple[int, int] | None:
        """Begin and end of a window that holds the entry at `place` and meets the condition."""
        entries = group.entries
        last = len(entries) - 1
        if place == last and not self._may_be_met(group):
            return None
        time_us = entries[place][0]
        for end in range(place, min(last + 1, place + _LATE_WINDOWS)):
            if entries[end][0] - time_us >= self._span_us:
                break
            if end < last and entries[end + 1][0] == entries[end][0]:
                continue
            begin = bisect.bisect_right(entries, (entries[end][0] - self._span_us, _AFTER))
            if self._is_count:
                if end + 1 - begin >= self._needed:
                    return begin, end + 1
            elif self._met(entries[begin : end + 1]):
                return begin, end + 1
        return None

    def _may_be_met(self, group: _Group) -> bool:
        """Whether the window that ends with the newest entry can meet the condition, told without looking into it."""
        entries = group.entries
        after_us = entries[-1][0] - self._span_us
        if self._is_count:
            return len(entries) >= self._needed and entries[-self._needed][0] > after_us
        if not self._is_temporal:
            return True
        present = {rule for rule, time_us in self._latest(group).items() if time_us > after_us}
        if self.spec.expression is None:
            return len(present) == len(self.spec.rules)
        return self._true(self.spec.expression, present)

    def _met(self, window: Sequence[_Entry]) -> bool:
        spec = self.spec
        kind = spec.type
        if self._is_count:
            return holds(len(window), spec.op, spec.number)
        if kind.startswith("temporal"):
            return self._together(window)
        numbers = sorted(float(value) for _, _, value in window if value is not None)
        if not numbers:
            return False
        return holds(_measure(kind, numbers, spec.percentile), spec.op, spec.number)

    def _together(self, window: Sequence[_Entry]) -> bool:
        spec = self.spec
        present = {rule for _, rule, _ in window}
        if spec.expression is None:
            if len(present) < len(spec.rules):
                return False
            wanted: Sequence[int] = range(len(spec.rules))
        else:
            if not self._true(spec.expression, present):
                return False
            wanted = [place for place in self._positive(spec.expression) if place in present]
        return spec.type == "temporal" or _in_order([rule for _, rule, _ in window], wanted)

    def _true(self, expression: Tree, present: set[int]) -> bool:
        word, argument = expression
        if word == "rule":
            return self._places[argument] in present
        results = (self._true(each, present) for each in argument)
        return all(results) if word == "and" else any(results) if word == "or" else not next(results)

    def _positive(self, expression: Tree) -> list[int]:
        """The rules that an expression asks for, in the order in which it names them."""
        word, argument = expression
        if word == "rule":
            return [self._places[argument]]
        if word == "not":
            return []
        return list(dict.fromkeys(place for each in argument for place in self._positive(each)))

    def dump(self) -> list[Any]:
        """The whole state, as JSON can hold it."""
        return [[list(key), *group.dump()] for key, group in self.groups.items()]

    def load(self, dumped: Iterable[Sequence[Any]]) -> None:
        """Become what dump() gave."""
        self.groups.clear()
        for key, *rest in dumped:
            group = self.groups[tuple(key)] = _Group()
            group.load(rest)


def holds(number: float, op: str, limit: float) -> bool:
    """Whether `number op limit`."""
    if op == "gte":
        return number >= limit
    if op == "gt":
        return number > limit
    if op == "lt":
        return number < limit
    if op == "lte":
        return number <= limit
    return (number == limit) is (op == "eq")


def _measure(kind: str, numbers: Sequence[float], percentile: int) -> float:
    """Sum, mean, median or percentile (linear between the nearest ranks) of sorted numbers."""
    if kind == "value_sum":
        return math.fsum(numbers)
    if kind == "value_avg":
        return math.fsum(numbers) / len(numbers)
    share = 0.5 if kind == "value_median" else percentile / 100
    at = share * (len(numbers) - 1)
    below = math.floor(at)
    above = min(below + 1, len(numbers) - 1)
    return numbers[below] + (numbers[above] - numbers[below]) * (at - below)


def _in_order(sequence: Sequence[int], wanted: Sequence[int]) -> bool:
    following = iter(sequence)
    return all(any(each == sought for each in following) for sought in wanted)
