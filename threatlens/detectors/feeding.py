"""What a match of a rule gives the correlations that it is for: the group that the event is of, and a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from threatlens.detectors.fields import View
from threatlens.detectors.linking import Linked
from threatlens.detectors.predicates import Get, each
from threatlens.detectors.rule import Correlation


class Feeder(NamedTuple):
    """From a rule to one of its correlations. Fields are given as the names to look under, in order."""

    place: int  # of the correlation in the engine
    among: int  # the rule's place among the rules of the correlation
    key: int  # the same for all feeders that group by the same names
    names: tuple[tuple[str, ...], ...]  # of the group-by fields
    counted: tuple[tuple[str, ...], ...]  # of the fields whose values are counted or added up
    value_key: int  # the same for all feeders that read the same value
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
