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
_AT_ONCE = frozenset({"gt", "gte"})


#: One event for a correlation: values of the group-by fields, its time, which of the correlation's rules matched, and
#: the value of the field that is counted. A plain tuple, as there are several per line.
Input = tuple[tuple[str, ...], int, int, str | None]
_Lone = tuple[int, int, str | None]  # time, rule and value of a group's only event


@dataclass(frozen=True, slots=True)
class Firing:
    """A group that meets its condition."""

    group: tuple[str, ...]
    count: int
    first_us: int
    last_us: int
    again: bool


class Group:
    """What is kept of one group: the times of its events in order, and beside each what else its type needs."""

    __slots__ = ("first_us", "index", "met_us", "times", "told", "told_us", "total", "what")

    def __init__(self, times: list[int], what: list[Any]) -> None:
        self.times = times
        self.what = what  # of values the value, of rules that must come together the rule, of plain counts nothing
        #: Value, of many, or rule -> its newest time; None until it is needed.
        self.index: dict[Any, int] | None = None
        self.told = 0  # the count that was last told of; 0: the condition has not been met lately
        self.told_us = 0
        self.met_us = 0  # when the condition was last met
        self.total = 0  # events since the condition was first met
        self.first_us = 0


class Correlator:
    """The state of one correlation."""

    def __init__(self, spec: Correlation, *, max_groups: int = MAX_GROUPS) -> None:
        self.spec = spec
        self.max_groups = max_groups
        self.evicted = 0  # groups that were forgotten to make room
        #: The group touched least recently first. Most groups of a flood have one event: of those nothing else is kept.
        self.groups: OrderedDict[tuple[str, ...], Group | _Lone] = OrderedDict()
        self.at_once = spec.type.startswith("temporal") or spec.op in _AT_ONCE
        self._span_us = spec.timespan_s * 1_000_000
        self._is_count = spec.type in {"event_count", "value_count"}  # a value is kept once, so entries are values
        self._is_plain = spec.type == "event_count"
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
        together = self._is_temporal and spec.expression is None and len(spec.rules) > 1
        self._can_wait = together  # until there are events of all rules
        #: Whether one event never meets the condition.
        self._needs_several = self.at_once and (self._needed > 1 if self._is_count else together)

    def feed(self, given: Input) -> Firing | None:
        """Take in one event; a firing if its group is to be told of now."""
        key, time_us, rule, value = given
        groups = self.groups
        kept = groups.get(key)
        if kept is None:
            lone = (time_us, rule, value)
            group = self._group_of(lone) if not self._needs_several else None
            groups[key] = group or lone
            if len(groups) > self.max_groups:
                self.forget_oldest()
            if group is None or not self.at_once:
                return None
            place = 0
        else:
            if self.at_once:
                groups.move_to_end(key)
            if isinstance(kept, tuple):
                group = groups[key] = self._group_of(kept)
            else:
                group = kept
            times = group.times
            if self._is_plain and self.at_once and times[-1] <= time_us:  # by far the most
                times.append(time_us)
                if times[0] < time_us - 2 * self._span_us:
                    del times[: bisect.bisect_left(times, time_us - 2 * self._span_us)]
                elif len(times) > self._max_entries:
                    del times[0]
                place = len(times) - 1
            else:
                place = self._insert(group, given)
                if place < 0 or not self.at_once:
                    return None
        if not group.told and place == len(group.times) - 1 and not self._may_be_met(group):
            return None
        return self._judge(given, group, place)

    def feed_all(self, inputs: Sequence[Input]) -> list[tuple[int, Firing]]:
        """Take in several events; the firings, each with the place of its event among them.

        What happens to nearly all events is written out here: they come in order and add to a group that is known, and
        either its condition is not met, or that it is met has been told. All others go through feed().
        """
        fired: list[tuple[int, Firing]] = []
        feed = self.feed
        if not (self.at_once and (self._is_count or self._can_wait)):
            return [(index, firing) for index, given in enumerate(inputs) if (firing := feed(given)) is not None]
        groups = self.groups
        find, touch = groups.get, groups.move_to_end
        is_plain, is_temporal = self._is_plain, self._is_temporal
        needed, span_us, most, sides = self._needed, self._span_us, self._max_entries, len(self.spec.rules)
        for index, given in enumerate(inputs):
            key, time_us, rule, value = given
            group = find(key)
            oldest = time_us - 2 * span_us
            if type(group) is Group and group.times[-1] <= time_us and (is_plain or group.times[0] >= oldest):
                times, what = group.times, group.what
                if is_temporal:
                    latest = group.index
                    if latest is not None and rule in latest and len(latest) < sides:
                        is_full = len(times) >= _MAX_PER_RULE
                        if not is_full or len(latest) == 1:
                            touch(key)
                            times.append(time_us)
                            what.append(rule)
                            latest[rule] = time_us
                            if is_full:
                                del times[0], what[0]
                            continue
                else:
                    touch(key)
                    if is_plain:
                        times.append(time_us)
                        if times[0] < oldest:
                            del times[: bisect.bisect_left(times, oldest)]
                        elif len(times) > most:
                            del times[0]
                    elif what[-1] == value:
                        times[-1] = time_us
                        if group.index is not None:
                            group.index[value] = time_us
                    else:
                        self._take_out(group, value, time_us)
                        times.append(time_us)
                        what.append(value)
                        if group.index is not None:
                            group.index[value] = time_us
                        if len(times) > most:
                            if group.index is not None:
                                del group.index[what[0]]
                            del times[0], what[0]
                    is_met = len(times) >= needed and times[-needed] > time_us - span_us
                    if not is_met:
                        if group.told:
                            if abs(time_us - group.met_us) > span_us:
                                group.told = 0
                            else:
                                group.total += 1
                        continue
                    if (
                        group.told
                        and time_us - group.told_us < span_us
                        and group.total + 1 < 2 * group.told
                        and time_us >= group.met_us
                    ):
                        group.total += 1
                        group.met_us = time_us
                        continue
                    firing = self._judge(given, group, len(times) - 1)
                    if firing is not None:
                        fired.append((index, firing))
                    continue
            firing = feed(given)
            if firing is not None:
                fired.append((index, firing))
        return fired

    def group(self, key: tuple[str, ...]) -> Group | None:
        """What is kept of a group, to be looked at."""
        found = self.groups.get(key)
        return self._group_of(found) if isinstance(found, tuple) else found

    def _group_of(self, lone: _Lone) -> Group:
        time_us, rule, value = lone
        return Group([time_us], [] if self._is_plain else [rule if self._is_temporal else value])

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
            key, kept = next(iter(self.groups.items()))
            group = self._group_of(kept) if isinstance(kept, tuple) else kept
            times = group.times
            if not times or times[0] + self._span_us > now_us:
                break
            start, newest = times[0], times[0]
            inside = bisect.bisect_left(times, start + self._span_us)
            newest = times[inside - 1]
            met = self._met(group, 0, inside)
            group.index = None
            del self.groups[key], times[:inside], group.what[:inside]
            if times:
                self.groups[key] = group
            if met:
                fired.append(Firing(key, inside, start, newest, again=False))
        return fired

    def _insert(self, group: Group, given: Input) -> int:
        """Put the event among the entries; its place, -1 if it adds nothing."""
        times, what = group.times, group.what
        _, time_us, rule, value = given
        if self._is_values and not self._take_out(group, value, time_us):
            return -1
        if not times or times[-1] <= time_us:
            place = len(times)
            times.append(time_us)
            oldest = time_us - 2 * self._span_us
            if times[0] < oldest and self.at_once:
                old = bisect.bisect_left(times, oldest)
                if group.index is not None and self._is_values:
                    for gone in what[:old]:
                        del group.index[gone]
                del times[:old], what[:old]
                place -= old
        else:
            place = bisect.bisect_right(times, time_us)
            far_behind = times[-1] - time_us > 2 * self._span_us
            if far_behind and len(times) >= self._max_entries:
                return -1  # another stream, or an old file: what the group holds is not lost for it
            times.insert(place, time_us)
        if self._is_plain:
            if len(times) > self._max_entries:
                del times[0]
                place -= 1
        elif self._is_temporal:
            what.insert(place, rule)
            latest = self._latest(group)
            if latest.get(rule, time_us) <= time_us:
                latest[rule] = time_us
            if len(times) > _MAX_PER_RULE and what.count(rule) > _MAX_PER_RULE:
                first = what.index(rule)
                del times[first], what[first]
                place -= first <= place
        else:
            what.insert(place, value)
            if group.index is not None:
                group.index[value] = time_us
            if len(times) > self._max_entries:
                if group.index is not None:
                    del group.index[what[0]]
                del times[0], what[0]
                place -= 1
        return place

    @staticmethod
    def _take_out(group: Group, value: str | None, time_us: int) -> bool:
        """Take out the entry that holds the value, if one does. False: it is newer than this event."""
        times, what = group.times, group.what
        if len(times) <= _FEW:
            group.index = None
            if value not in what:
                return True
            place = what.index(value)
            if times[place] > time_us:
                return False
        else:
            if group.index is None:
                group.index = dict(zip(what, times, strict=True))
            known_us = group.index.get(value)
            if known_us is None:
                return True
            if known_us > time_us:
                return False
            place = what.index(value, bisect.bisect_left(times, known_us))
            del group.index[value]
        del times[place], what[place]
        return True

    @staticmethod
    def _latest(group: Group) -> dict[int, int]:
        if group.index is None:
            group.index = dict(zip(group.what, group.times, strict=True))
        return group.index

    def _judge(self, given: Input, group: Group, place: int) -> Firing | None:
        times = group.times
        key, now, _, _ = given
        if not self._is_count or place < len(times) - 1:
            window = self._met_window(group, place)
        elif not self._may_be_met(group):
            window = None
        elif now - group.told_us < self._span_us and group.total + 1 < 2 * group.told and now >= group.met_us:
            group.total += 1  # it goes on, and that is known
            group.met_us = now
            return None
        else:
            window = bisect.bisect_right(times, now - self._span_us), len(times)
        if group.told and abs(now - group.met_us) > self._span_us:
            group.told = 0
        if not group.told:
            if window is None:
                return None
            begin, end = window
            group.total = group.told = end - begin
            group.first_us, group.told_us, group.met_us = times[begin], now, now
            return Firing(key, group.total, times[begin], times[end - 1], again=False)
        group.total += 1
        if window is None:
            return None
        group.met_us = max(group.met_us, now)
        if group.total < 2 * group.told and now - group.told_us < self._span_us:
            return None
        group.told, group.told_us = group.total, now
        return Firing(key, group.total, group.first_us, times[window[1] - 1], again=True)

    def _met_window(self, group: Group, place: int) -> tuple[int, int] | None:
        """Begin and end of a window that holds the entry at `place` and meets the condition."""
        times = group.times
        last = len(times) - 1
        if place == last and not self._may_be_met(group):
            return None
        time_us = times[place]
        for end in range(place, min(last + 1, place + _LATE_WINDOWS)):
            if times[end] - time_us >= self._span_us:
                break
            if end < last and times[end + 1] == times[end]:
                continue
            begin = bisect.bisect_right(times, times[end] - self._span_us)
            if self._is_count:
                if end + 1 - begin >= self._needed:
                    return begin, end + 1
            elif self._met(group, begin, end + 1):
                return begin, end + 1
        return None

    def _may_be_met(self, group: Group) -> bool:
        """Whether the window that ends with the newest entry can meet the condition, told without looking into it."""
        times = group.times
        after_us = times[-1] - self._span_us
        if self._is_count:
            return len(times) >= self._needed and times[-self._needed] > after_us
        if not self._is_temporal:
            return True
        latest = self._latest(group)
        if self.spec.expression is None:
            return len(latest) == len(self.spec.rules) and min(latest.values()) > after_us
        present = {rule for rule, time_us in latest.items() if time_us > after_us}
        return self._true(self.spec.expression, present)

    def _met(self, group: Group, begin: int, end: int) -> bool:
        spec = self.spec
        kind = spec.type
        if self._is_count:
            return holds(end - begin, spec.op, spec.number)
        if self._is_temporal:
            return self._together(group.what[begin:end])
        numbers = sorted(float(value) for value in group.what[begin:end] if value is not None)
        if not numbers:
            return False
        return holds(_measure(kind, numbers, spec.percentile), spec.op, spec.number)

    def _together(self, rules: Sequence[int]) -> bool:
        spec = self.spec
        present = set(rules)
        if spec.expression is None:
            if len(present) < len(spec.rules):
                return False
            wanted: Sequence[int] = range(len(spec.rules))
        else:
            if not self._true(spec.expression, present):
                return False
            wanted = [place for place in self._positive(spec.expression) if place in present]
        return spec.type == "temporal" or _in_order(rules, wanted)

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
        return [[list(key), *self._dumped(group)] for key, group in self.groups.items()]

    def _dumped(self, group: Group | _Lone) -> list[Any]:
        if isinstance(group, tuple):
            return [[group]]
        whats = group.what or [0] * len(group.times)
        entries = [
            (time_us, what, None) if self._is_temporal else (time_us, 0, what if group.what else None)
            for time_us, what in zip(group.times, whats, strict=True)
        ]
        return [entries, group.told, group.told_us, group.met_us, group.total, group.first_us]

    def load(self, dumped: Iterable[Sequence[Any]]) -> None:
        """Become what dump() gave."""
        self.groups.clear()
        for key, entries, *told in dumped:
            if not told:
                time_us, rule, value = entries[0]
                self.groups[tuple(key)] = (time_us, rule, value)
                continue
            times = [time_us for time_us, _, _ in entries]
            what = [] if self._is_plain else [rule if self._is_temporal else value for _, rule, value in entries]
            group = self.groups[tuple(key)] = Group(times, what)
            group.told, group.told_us, group.met_us, group.total, group.first_us = told


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
