"""The state of correlations as rows: a snapshot now and then, and the inputs since, one row per batch.

Keys of rows are "<digest>:snapshot" and "<digest>:<number>", where the digest is that of the rule: a rule that has
changed begins anew, and the rows of its former self are deleted.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from threatlens.detectors.correlation import Correlator
from threatlens.detectors.linking import Linked
from threatlens.event import StateRow

#: A journal longer than both this and the number of groups is replaced by a snapshot; so is one of this many rows.
MIN_INPUTS = 4_000
MAX_ROWS = 300


class Journal:
    """What has happened to each correlation since its last row."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.pending: dict[int, list[Any]] = defaultdict(list)  # place -> inputs since changes() was asked
        self._rows: dict[int, list[str]] = defaultdict(list)  # place -> keys of the rows since its snapshot
        self._inputs: dict[int, int] = defaultdict(int)  # place -> inputs in those rows
        self._numbers: dict[int, int] = defaultdict(int)
        self._stale: list[tuple[str, str]] = []  # rows of rules that have changed or gone

    def closed(self, place: int, now_us: int) -> None:
        """Note that windows were closed at that event time."""
        self.pending[place].append([now_us])

    def rows(self, links: Sequence[Linked], correlators: Mapping[int, Correlator]) -> list[StateRow]:
        """The rows that bring what is stored up to now."""
        changed = [StateRow(rule_id, key, None) for rule_id, key in self._stale]
        self._stale = []
        for place, inputs in self.pending.items():
            rule = links[place].rule
            digest = rule.digest[:12]
            keys = self._rows[place]
            self._inputs[place] += len(inputs)
            groups = len(correlators[place].groups)
            if self._inputs[place] > max(MIN_INPUTS, groups) or len(keys) >= MAX_ROWS:
                changed.extend(StateRow(rule.id, key, None) for key in keys)
                changed.append(StateRow(rule.id, f"{digest}:snapshot", _packed(correlators[place].dump())))
                keys.clear()
                self._inputs[place] = 0
            else:
                self._numbers[place] += 1
                keys.append(f"{digest}:{self._numbers[place]:012d}")
                changed.append(StateRow(rule.id, keys[-1], _packed(inputs)))
        self.pending.clear()
        return changed

    def restore(self, rows: Iterable[StateRow], links: Sequence[Linked], correlators: Mapping[int, Correlator]) -> None:
        """Bring fresh correlators to what the rows say; rows that belong to none of them are to be deleted."""
        self._clear()
        places = {(links[place].rule.id, links[place].rule.digest[:12]): place for place in correlators}
        inputs: dict[int, list[tuple[int, list[Any]]]] = defaultdict(list)
        for row in rows:
            digest, _, number = row.key.partition(":")
            place = places.get((row.rule_id, digest))
            if place is None or row.payload is None:
                self._stale.append((row.rule_id, row.key))
            elif number == "snapshot":
                correlators[place].load(json.loads(row.payload))
            else:
                inputs[place].append((int(number), json.loads(row.payload)))
        for place, batches in inputs.items():
            batches.sort()
            self._numbers[place] = batches[-1][0]
            digest = links[place].rule.digest[:12]
            self._rows[place] = [f"{digest}:{number:012d}" for number, _ in batches]
            for _, given in batches:
                self._inputs[place] += len(given)
                for one in given:
                    if len(one) == 1:
                        correlators[place].close(one[0])
                    else:
                        group, time_us, rule, value = one
                        correlators[place].feed((tuple(group), time_us, rule, value))


def _packed(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # half a character, or a number of more than 64 bits
        return json.dumps(value, separators=(",", ":")).encode()
