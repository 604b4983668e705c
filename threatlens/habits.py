"""What is usual for a source: how much of its lines is understood, and at which hours lines come.

Only counts and times go in and verdicts come out, so that weeks can be tried in a moment. Two things are noticed:

* Detection is lost: lines come, but an action that was read from them (failed logins, say) is not read any more. That
  it is missing is not enough, an attack may just be over: the lines that are not understood must have become more, too.
* A source is silent when it never was: at this hour of the week lines came in every week that was seen. What is
  counted are minutes with lines, so that a burst is no rhythm. Nights and weekends of a quiet source expect nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: What is shown: lines that are understood at all, with an action, and about logging in.
KINDS = ("lines", "actions", "logins")
LINES, ACTIONS, LOGINS = range(len(KINDS))
#: The kind of loss in which no line of a source is understood any more.
NO_LINE = "lines"
#: Lines, and lines with the action, before something can be said to be missing.
MIN_LEARNED, MIN_OF_ACTION = 100, 20
#: A run without it that chance would give once in a million times, and at the least this many lines.
CHANCE, MIN_RUN, MIN_UNKNOWN_RUN = 1e-6, 10, 50
#: Lines that count as now, and how many are remembered as usual: older ones weigh less.
RECENT, MEMORY = 50.0, 20_000.0
#: The share of lines that are not understood must have risen to twice the usual and by this.
RISE = 0.15
MAX_PROGRAMS, MAX_ACTIONS = 200, 64

HOURS, WEEKS = 168, 4
#: Minutes of an hour that must have been watched for the hour to be learned.
WATCHED_MINUTES = 45
#: Minutes with lines that must be missing for a source to be called silent, and the least time for it.
MISSING_MINUTES, SILENT_S = 10.0, 600.0
WEEK_S = 7 * 86_400


class Tally(NamedTuple):
    """Lines that came one after the other."""

    lines: int
    of_kind: tuple[int, int, int]  # as KINDS
    actions: Mapping[str, int]  # by action, outcome and category: see action_name
    fresh: int = 0  # not understood, though they speak of logins, and new

    @property
    def bare(self) -> int:
        """Lines without an action."""
        return self.lines - self.of_kind[ACTIONS]


def action_name(action: str, outcome: str, category: str) -> str:
    """The three as one word; `action_parts` takes it apart."""
    return "|".join(part.replace("|", " ")[:64] for part in (action, outcome, category))


def action_parts(name: str) -> tuple[str, str, str]:
    """Action, outcome and category of such a word."""
    action, _, rest = name.partition("|")
    outcome, _, category = rest.partition("|")
    return action, outcome, category


@dataclass
class Usual:
    """How often one action is read."""

    n: float = 0.0
    run: int = 0  # lines since the last one
    bare: int = 0  # of those, without an action
    fresh: int = 0


@dataclass
class Yield:
    """What is understood of the lines of one program, or of a whole source (`whole`): there programs come and go, so
    that lines without an action tell nothing, only new ones that speak of logins do."""

    whole: bool = False
    lines: float = 0.0
    of_kind: list[float] = field(default_factory=lambda: [0.0] * len(KINDS))
    actions: dict[str, Usual] = field(default_factory=dict)
    unknown_run: int = 0
    longest_unknown: int = 0
    recent_lines: float = 0.0
    recent_bare: float = 0.0
    lost: str = ""  # an action's name, or NO_LINE
    lost_us: int = 0

    def share(self, kind: int) -> float:
        """The usual share of this kind, 0.0 to 1.0."""
        return self.of_kind[kind] / self.lines if self.lines else 0.0

    def share_of(self, name: str) -> float:
        """The usual share of an action, or of lines that are understood."""
        if name == NO_LINE:
            return self.share(LINES)
        return self.actions[name].n / self.lines if name in self.actions and self.lines else 0.0

    def run_of(self, name: str) -> int:
        """How many lines came since the last one with this action."""
        return self.unknown_run if name == NO_LINE else self.actions[name].run if name in self.actions else 0

    def take(self, tally: Tally, now_us: int) -> str:
        """Count lines in. "lost" and "found" when that changes, else ""."""
        self._count_now(tally)
        if self.lost:
            if not (tally.of_kind[LINES] if self.lost == NO_LINE else tally.actions.get(self.lost)):
                return ""
            self.lost, self.lost_us = "", 0
            return "found"
        if name := self._missing():
            self.lost, self.lost_us = name, now_us
            return "lost"
        self._learn(tally)
        return ""

    def forget(self) -> None:
        """Begin to learn anew: what comes now is as it is to be."""
        self.__init__(self.whole)  # type: ignore[misc]

    def _count_now(self, tally: Tally) -> None:
        for name, usual in self.actions.items():
            if name in tally.actions:
                usual.run = usual.bare = usual.fresh = 0
            else:
                usual.run += tally.lines
                usual.bare += tally.bare
                usual.fresh += tally.fresh
        if tally.of_kind[LINES]:
            if not self.lost:
                self.longest_unknown = max(self.longest_unknown, self.unknown_run)
            self.unknown_run = 0
        else:
            self.unknown_run += tally.lines
        keep = (1 - 1 / RECENT) ** tally.lines
        self.recent_lines = self.recent_lines * keep + tally.lines
        self.recent_bare = self.recent_bare * keep + tally.bare

    def _learn(self, tally: Tally) -> None:
        self.lines += tally.lines
        for kind, n in enumerate(tally.of_kind):
            self.of_kind[kind] += n
        for name, n in tally.actions.items():
            usual = self.actions.get(name)
            if usual is None:
                if len(self.actions) >= MAX_ACTIONS:
                    del self.actions[min(self.actions, key=lambda each: self.actions[each].n)]
                usual = self.actions[name] = Usual()
            usual.n += n
        if self.lines > MEMORY:
            self.lines /= 2
            self.of_kind = [n / 2 for n in self.of_kind]
            for usual in self.actions.values():
                usual.n /= 2

    def _missing(self) -> str:
        """What should have come and did not, the most usual first; "": nothing."""
        if self.lines < MIN_LEARNED:
            return ""
        for name, usual in sorted(self.actions.items(), key=lambda each: -each[1].n):
            if usual.n >= MIN_OF_ACTION and usual.run >= _enough(usual.n / self.lines) and self._is_odd(usual):
                return name
        known = self.share(LINES)
        if self.whole and self.of_kind[LINES] >= MIN_OF_ACTION:
            return NO_LINE if self.unknown_run >= max(_enough(known), MIN_UNKNOWN_RUN, 3 * self.longest_unknown) else ""
        return ""

    def _is_odd(self, usual: Usual) -> bool:
        """Whether lines that are not understood came instead."""
        if self.whole:
            return usual.fresh >= MIN_RUN
        risen = self.recent_bare >= (2 * (1 - self.share(ACTIONS)) + RISE) * self.recent_lines
        return usual.bare >= MIN_RUN and risen

    def as_json(self) -> dict[str, Any]:
        """To be stored."""
        return {
            "whole": self.whole, "lines": round(self.lines, 1), "of_kind": [round(n, 1) for n in self.of_kind],
            "actions": {name: round(usual.n, 1) for name, usual in self.actions.items()},
            "longest_unknown": self.longest_unknown, "lost": self.lost, "lost_us": self.lost_us,
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Yield:
        """From as_json(); runs begin anew."""
        return cls(
            bool(values["whole"]), float(values["lines"]), [float(n) for n in values["of_kind"]],
            {str(name): Usual(float(n)) for name, n in values["actions"].items()},
            longest_unknown=int(values["longest_unknown"]), lost=str(values["lost"]), lost_us=int(values["lost_us"]),
        )  # fmt: skip


def _enough(share: float) -> float:
    """Lines without something of this share that are too many for chance."""
    return MIN_RUN if share >= 1 else max(MIN_RUN, math.log(CHANCE) / math.log1p(-share))


@dataclass
class Rhythm:
    """At which hours of the week lines come. Times are seconds since the epoch; hours are those of `local`."""

    #: Hour of the week -> minutes with lines in each of the last weeks in which the hour was watched.
    minutes: list[list[int]] = field(default_factory=lambda: [[] for _ in range(HOURS)])
    lines: list[float] = field(default_factory=lambda: [0.0] * HOURS)  # a mean of each hour
    since_s: float = 0.0  # watched since then; 0: not yet
    last_line_s: float = 0.0
    silent: bool = False
    _begun_s: float = 0.0  # when this process began to watch; what was before, it cannot know
    _hour: int = -1  # hours since the epoch of the hour that is being watched
    _slot: int = 0
    _watched: set[int] = field(default_factory=set)  # minutes of the hour
    _active: set[int] = field(default_factory=set)
    _lines: int = 0
    #: Hours without a line since the last one: they are usual if nobody had to be told.
    _empty: list[int] = field(default_factory=list)
    local: Callable[[float], time.struct_time] = time.localtime

    def watch(self, lines: int, now_s: float, *, well: bool) -> None:
        """So many lines came since the last look. `well`: the source can be read, so that no lines means none."""
        if not self.since_s:
            self.since_s = self.last_line_s = now_s
        if not self._begun_s or self._begun_s > now_s:
            self._begun_s = now_s
        self.last_line_s = min(self.last_line_s, now_s)  # the clock was put back
        hour = int(now_s // 3_600)
        if hour != self._hour:
            self._finish()
            self._hour, self._slot = hour, self._slot_of(now_s)
        minute = int(now_s // 60) % 60
        if well and not self.silent:
            self._watched.add(minute)
        if lines:
            for slot in self._empty if not self.silent else ():
                self._remember(slot, 0, 0)
            self._empty = []
            self._active.add(minute)
            self._lines += lines
            self.last_line_s = max(self.last_line_s, now_s)

    def _finish(self) -> None:
        if len(self._watched) >= WATCHED_MINUTES:
            if self._active:
                self._remember(self._slot, len(self._active), self._lines)
            elif len(self._empty) < WEEKS * HOURS:
                self._empty.append(self._slot)
        self._watched, self._active, self._lines = set(), set(), 0

    def _remember(self, slot: int, minutes: int, lines: int) -> None:
        seen = self.minutes[slot]
        self.lines[slot] += (lines - self.lines[slot]) / min(WEEKS, len(seen) + 1)
        seen.append(minutes)
        del seen[:-WEEKS]

    def _slot_of(self, at_s: float) -> int:
        when = self.local(at_s)
        return when.tm_wday * 24 + when.tm_hour

    def _usual(self, slot: int) -> float:
        """The fewest minutes with lines that this hour ever had; of an hour that was seen once, any day's such hour."""
        seen = self.minutes[slot]
        if not seen:
            return 0.0
        if len(seen) > 1:
            return min(seen)
        return min(min(of_day) for day in range(7) if (of_day := self.minutes[day * 24 + slot % 24]))

    def missing(self, now_s: float) -> float:
        """How many minutes with lines should have been since the last one; 0.0 until a week was watched."""
        if not self.since_s or now_s - self.since_s < WEEK_S:
            return 0.0
        total, at = 0.0, max(self.last_line_s, self._begun_s, now_s - WEEK_S)
        while at < now_s:
            end = min(now_s, (at // 3_600 + 1) * 3_600)
            slot = self._slot_of(at)
            # The hours before and after too: clocks are put forward, and people are late.
            least = min(self._usual((slot + shift) % HOURS) for shift in (-1, 0, 1))
            total += least * (end - at) / 3_600
            at = end
        return total

    def is_silent(self, now_s: float) -> bool:
        """Whether lines should have come for some time and have not."""
        return now_s - self.last_line_s >= SILENT_S and self.missing(now_s) >= MISSING_MINUTES

    def per_hour(self, now_s: float) -> float:
        """The usual lines of this hour."""
        return self.lines[self._slot_of(now_s)]

    def learned_days(self, now_s: float) -> float:
        """How long it was watched."""
        return (now_s - self.since_s) / 86_400 if self.since_s else 0.0

    def as_json(self) -> dict[str, Any]:
        """To be stored; the hour that is being watched is not."""
        return {
            "minutes": self.minutes, "lines": [round(n, 1) for n in self.lines], "since_s": self.since_s,
            "last_line_s": self.last_line_s, "silent": self.silent,
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Rhythm:
        """From as_json()."""
        return cls(
            [list(map(int, seen)) for seen in values["minutes"]], list(map(float, values["lines"])),
            float(values["since_s"]), float(values["last_line_s"]), bool(values["silent"]),
        )  # fmt: skip


@dataclass
class SourceHabits:
    """What is usual for one source."""

    whole: Yield = field(default_factory=lambda: Yield(whole=True))
    programs: dict[str, Yield] = field(default_factory=dict)
    rhythm: Rhythm = field(default_factory=Rhythm)
    met: dict[str, int] = field(default_factory=dict)  # log source of rules -> when events of it last came, seconds
    #: Name of a program, "" for the source -> what is lost of it: see habits_keeper.
    lost: dict[str, dict[str, Any]] = field(default_factory=dict)

    def program(self, name: str) -> Yield:
        """The program's; the least seen one gives way when there are too many."""
        found = self.programs.get(name)
        if found is None:
            if len(self.programs) >= MAX_PROGRAMS:
                del self.programs[min(self.programs, key=lambda each: self.programs[each].lines)]
            found = self.programs[name] = Yield()
        return found

    def as_json(self) -> dict[str, Any]:
        """To be stored."""
        return {
            "whole": self.whole.as_json(),
            "programs": {name: each.as_json() for name, each in list(self.programs.items())},
            "rhythm": self.rhythm.as_json(),
            "met": dict(self.met),
            "lost": dict(self.lost),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SourceHabits:
        """From as_json(); what cannot be read is learned anew."""
        try:
            return cls(
                Yield.from_json(values["whole"]),
                {str(name): Yield.from_json(each) for name, each in values["programs"].items()},
                Rhythm.from_json(values["rhythm"]),
                {str(name): int(at) for name, at in values["met"].items()},
                dict(values["lost"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return cls()
