"""How many steps a backtracking matcher takes for a pattern and a line, and lines that make it take many.

`re` does not tell its steps, and seconds differ between machines. This matcher reads the pattern as `re` has parsed it,
tries what `re` tries in the same order, and counts the characters that it looks at.
"""

from __future__ import annotations

import re
import re._constants as sre
import re._parser as parser
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

#: Whether the rest of a pattern matches from a place in the line.
Rest = Callable[[int], bool]
Fits = Callable[[str], bool]
MANY = 20  # a repeat that may take so much can take a line of usual length
_PROBES = "a0 .:Z-_/\"x\t{}[]()<>=,;|@'\\"
_CLASSES = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}


class TooManySteps(Exception):
    """The cap was reached."""


class Matcher:
    """One pattern, by greedy and lazy repeats with backtracking."""

    def __init__(self, pattern: str, flags: int, way: str) -> None:
        """`way`: fullmatch, match or search."""
        self.tree = parser.parse(pattern, flags)
        self._flags = self.tree.state.flags
        self._line = ""
        self._steps = self._cap = 0
        self._everywhere = way == "search"
        to_the_end = way == "fullmatch"
        self._match = self._sequence(list(self.tree), lambda at: not to_the_end or at == len(self._line))

    def steps(self, line: str, cap: int) -> int:
        """The steps that a line takes, at most `cap`."""
        try:
            self.matches(line, cap)
        except TooManySteps:
            return cap
        return self._steps

    def matches(self, line: str, cap: int = 1_000_000) -> bool:
        """Whether the pattern matches; raises TooManySteps."""
        self._line, self._steps, self._cap = line, 0, cap
        return any(self._match(start) for start in range(len(line) + 1 if self._everywhere else 1))

    def _step(self, number: int = 1) -> None:
        self._steps += number
        if self._steps >= self._cap:
            raise TooManySteps

    def _sequence(self, items: list[Any], rest: Rest) -> Rest:
        for operation, argument in reversed(items):
            rest = self._piece(operation, argument, rest)
        return rest

    def _piece(self, operation: Any, argument: Any, rest: Rest) -> Rest:
        fits = one_character(operation, argument, self._flags)
        if fits is not None:
            match = self._character(fits, rest)
            if operation is sre.LITERAL and not self._flags & re.IGNORECASE:
                match.literal = chr(argument)  # type: ignore[attr-defined]
            return match
        if operation is sre.SUBPATTERN:
            return self._sequence(list(argument[3]), rest)
        if operation is sre.ATOMIC_GROUP:
            return self._apart(list(argument), rest)
        if operation is sre.BRANCH:
            ways = [self._sequence(list(way), rest) for way in argument[1]]
            return lambda at: any(way(at) for way in ways)
        if operation in (sre.ASSERT, sre.ASSERT_NOT):
            return self._look(argument, operation is sre.ASSERT, rest)
        if operation is sre.AT:
            return self._at(argument, rest)
        return self._repeat(operation, *argument, rest)

    def _character(self, fits: Fits, rest: Rest) -> Rest:
        def match(at: int) -> bool:
            self._step()
            return at < len(self._line) and fits(self._line[at]) and rest(at + 1)

        return match

    def _apart(self, items: list[Any], rest: Rest) -> Rest:
        ends: list[int] = []

        def stop(at: int) -> bool:
            ends.append(at)
            return True

        inner = self._sequence(items, stop)
        return lambda at: inner(at) and rest(ends.pop())

    def _look(self, argument: Any, wanted: bool, rest: Rest) -> Rest:
        direction, items = argument
        inner = self._sequence(list(items), lambda at: True)
        back = items.getwidth()[0] if direction < 0 else 0

        def match(at: int) -> bool:
            self._step()
            return (at >= back and inner(at - back)) == wanted and rest(at)

        return match

    def _at(self, where: Any, rest: Rest) -> Rest:
        def word(at: int) -> bool:
            return 0 <= at < len(self._line) and (self._line[at].isalnum() or self._line[at] == "_")

        def match(at: int) -> bool:
            self._step()
            if where in (sre.AT_BOUNDARY, sre.AT_NON_BOUNDARY):
                fits = (word(at - 1) != word(at)) == (where is sre.AT_BOUNDARY)
            elif where in (sre.AT_BEGINNING, sre.AT_BEGINNING_STRING):
                fits = at == 0 or (bool(self._flags & re.MULTILINE) and self._line[at - 1] == "\n")
            else:
                fits = at == len(self._line)
            return fits and rest(at)

        return match

    def _repeat(self, operation: Any, low: int, high: Any, body: Any, rest: Rest) -> Rest:
        if operation is sre.POSSESSIVE_REPEAT:
            return self._apart([(sre.MAX_REPEAT, (low, high, body))], rest)
        most = 1 << 30 if high is sre.MAXREPEAT else int(high)
        greedy = operation is sre.MAX_REPEAT
        fits = one_character(*body[0], self._flags) if len(body) == 1 else None
        if fits is not None:
            return self._longest(fits, low, most, rest) if greedy else self._shortest(fits, low, most, rest)

        turns: list[tuple[int, int]] = []  # of the turns under way: where each began and how many came before

        def again(reached: int) -> bool:
            began, done = turns.pop()
            fits = (reached > began or done < low) and turn(reached, done + 1)
            turns.append((began, done))
            return fits

        once = self._sequence(list(body), again)

        def more(at: int, done: int) -> bool:
            turns.append((at, done))
            fits = once(at)
            turns.pop()
            return fits

        def turn(at: int, done: int) -> bool:
            self._step()
            if done < low:
                return more(at, done)
            if greedy:
                return (done < most and more(at, done)) or rest(at)
            return rest(at) or (done < most and more(at, done))

        return lambda at: turn(at, 0)

    def _longest(self, fits: Fits, low: int, most: int, rest: Rest) -> Rest:
        def match(at: int) -> bool:
            line, end = self._line, at
            limit = min(len(line), at + most)
            while end < limit and fits(line[end]):
                end += 1
            self._step(end - at + 1)
            literal = getattr(rest, "literal", "")
            reached = end
            while reached >= at + low:
                if literal:  # as `re` does: go on to where what follows can be
                    found = line.rfind(literal, at + low, reached + 1)
                    self._step(reached - max(found, at + low - 1))
                    if found < 0:
                        return False
                    reached = found
                if rest(reached):
                    return True
                reached -= 1
            return False

        return match

    def _shortest(self, fits: Fits, low: int, most: int, rest: Rest) -> Rest:
        def match(at: int) -> bool:
            line, limit = self._line, min(len(self._line), at + most)
            for reached in range(at, limit + 1):
                self._step()
                if reached - at >= low and rest(reached):
                    return True
                if reached == limit or not fits(line[reached]):
                    return False
            return False

        return match


def one_character(operation: Any, argument: Any, flags: int) -> Fits | None:
    """The test of a piece that takes exactly one character; None for any other piece."""
    if operation is sre.LITERAL:
        wanted = chr(argument)
        if flags & re.IGNORECASE:
            return lambda char: char.lower() == wanted.lower()
        return wanted.__eq__
    if operation is sre.NOT_LITERAL:
        return chr(argument).__ne__
    if operation is sre.ANY:
        return (lambda char: True) if flags & re.DOTALL else "\n".__ne__
    if operation is sre.IN:
        return cache(lambda char: _in_class(argument, char, bool(flags & re.IGNORECASE)))
    return None


def _in_class(members: Any, char: str, ignore_case: bool) -> bool:
    negated = hit = False
    ways = {char, char.lower(), char.upper()} if ignore_case else {char}
    for kind, value in members:
        if kind is sre.NEGATE:
            negated = True
        elif kind is sre.LITERAL:
            hit |= chr(value) in ways
        elif kind is sre.RANGE:
            hit |= any(value[0] <= ord(way[0]) <= value[1] for way in ways)
        elif kind is sre.CATEGORY:
            hit |= re.match(_CLASSES[value], char, re.ASCII) is not None
    return hit != negated


class Evil:
    """What leads a pattern far before it fails: each of its loops fed again and again."""

    def __init__(self, tree: Any) -> None:
        self._flags = tree.state.flags
        self._loops: list[tuple[int, int]] = []  # where a loop and one turn of it stand in the sample
        self._of_parts = False  # whether a loop takes more than one character in a turn
        self._sample = ""
        self._write(list(tree))

    def parts(self) -> list[tuple[str, str]]:
        """(what stands in front, what is repeated), each once."""
        found: dict[tuple[str, str], None] = {}
        for place, (at, end) in enumerate(self._loops):
            tail = self._sample[at:]
            behind = self._sample[end:]
            between = behind[: max(0, self._loops[place + 1][0] - end)] if place + 1 < len(self._loops) else ""
            for unit in (self._sample[at:end] or "a", between, behind[:12], tail[:24], behind):
                if unit:
                    found[self._sample[:at], unit] = None
        return list(found)

    @property
    def may_run_long(self) -> bool:
        """A pattern with a single loop over characters tries each place once: it cannot."""
        return len(self._loops) > 1 or self._of_parts

    def _write(self, items: list[Any]) -> None:
        for operation, argument in items:
            if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
                low, high, body = argument
                at = len(self._sample)
                for _ in range(max(low, 1)):
                    self._write(list(body))
                if high is sre.MAXREPEAT or high >= MANY:
                    self._loops.append((at, len(self._sample)))
                    self._of_parts |= len(body) > 1 or one_character(*body[0], self._flags) is None
            elif operation is sre.SUBPATTERN:
                self._write(list(argument[3]))
            elif operation is sre.ATOMIC_GROUP:
                self._write(list(argument))
            elif operation is sre.BRANCH:
                self._write(list(argument[1][0]))
            elif operation is sre.LITERAL:
                self._sample += chr(argument)
            elif (fits := one_character(operation, argument, self._flags)) is not None:
                self._sample += next((probe for probe in _PROBES if fits(probe)), "a")


def runs_long(pattern: str, flags: int, way: str, chars: int = 40) -> Iterator[tuple[str, str, list[int]]]:
    """The evil lines that a pattern takes too many steps for: what stands in front, what is repeated, and the steps for
    that many characters, for twice and for four times as many.

    Twice the characters may take twice the steps; three times is too much. Lines that take few steps for each
    character are not looked at further, as more of the same cost as little."""
    matcher = Matcher(pattern, flags, way)
    evil = Evil(matcher.tree)
    for front, unit in evil.parts() if evil.may_run_long or way == "search" else ():
        counts = []
        for length in (2 * chars, chars, 4 * chars):
            line = front + unit * (length // len(unit) + 1) + "\0"
            counts.append(matcher.steps(line, 400 * length))
            if len(counts) == 1 and counts[0] < 6 * len(line):
                break
        else:
            middle, low, high = counts
            if high >= 400 * 4 * chars or high - middle > 3 * max(middle - low, 1):
                yield front, unit, [low, middle, high]
