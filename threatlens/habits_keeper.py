"""HabitKeeper: learns what is usual for every source, remembers it over restarts, and raises what is not.

The thread that stores hands over what it stored, in order, and waits for nothing; `work`, a job, watches the hours,
writes down what was learned and raises alerts. What is not written when the process dies is a minute of learning.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from threatlens.analyzers.attack import DETECTION_LOST, SOURCE_SILENT
from threatlens.analyzers.patterns import TemplateTree
from threatlens.decoders.drafting import draft
from threatlens.detectors.logsources import LogSources
from threatlens.detectors.rule import LogSource
from threatlens.errors import DecoderError
from threatlens.event import Decoded, SourceStatus
from threatlens.habits import (
    ACTIONS,
    KINDS,
    LINES,
    LOGINS,
    MIN_LEARNED,
    NO_LINE,
    SourceHabits,
    Tally,
    Yield,
    action_name,
    action_parts,
)
from threatlens.health import BLIND, Component
from threatlens.own_alerts import OwnAlert, OwnAlerts
from threatlens.store import EventStore

log = logging.getLogger(__name__)

#: Lines that are looked at together: within them the order is not looked at.
SOMETHING = "something"  # is lost: no line is decoded
CHUNK = 64
#: Of a large batch more: it is a backlog, in which a hundred lines more or less do not matter.
LARGE, LARGE_CHUNK = 1_000, 256
#: Lines that were not understood of which a decoder is drafted, of each program.
SAMPLES, SAMPLE_CHARACTERS, SHAPES = 40, 1_000, 10
KEPT_OF_CHUNK = 8
SAVE_S = 60.0
#: A program of which fewer lines without an action were seen is new; one with that share of actions is understood.
NEW_LINES, UNDERSTOOD = 40, 0.2
#: Bytes of a source that may wait to be read without it being behind: a line that is being written.
WAITING_BYTES = 65_536
#: Programs and kinds of events that are remembered.
MAX_KNOWN = 20_000
#: A log source that gave nothing for this long is not there any more.
PROVIDED_S = 14 * 86_400
#: Formats whose log source is decided by more than format, category and program.
_MANIFOLD = ("windows", "json")
MANIFOLD_LOOKS = 4  # of one kind in a chunk
#: Words of lines about logins, whoever writes them.
_TELLING = re.compile(
    r"passw|authent|log[gi]?[ -]?[io]n|logged|publickey|credential|invalid user|accepted|denied", re.IGNORECASE
)

#: Words that tell how it ended: lines that differ in one say different things.
_ENDED = MappingProxyType(
    {
        "success": re.compile(r"\b(?:ok|yes|good|true|succe|accept|grant|allow|valid|approv)", re.IGNORECASE),
        "failure": re.compile(
            r"\b(?:no|not|bad|false|fail|unsucce|reject|den(?:y|ied)|refus|block|invalid|error|wrong|unknown)",
            re.IGNORECASE,
        ),
    }
)

#: Format, category, program, outcome, action.
Key = tuple[str, Any, Any, Any, Any]


class HabitKeeper:
    """One an engine. `take` is for the thread that stores, `work` for one other."""

    def __init__(
        self,
        store: EventStore,
        alerts: OwnAlerts,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        steady: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._alerts = alerts
        self._wall = wall
        self._monotonic = monotonic
        self._steady = steady
        self._lock = threading.Lock()
        self._habits: dict[int, SourceHabits] = {}
        self._lines: Counter[int] = Counter()  # of each source since the last look
        self._last_event: dict[int, int] = {}
        self._samples: dict[tuple[int, str], deque[tuple[str, str]]] = {}  # message and line
        self._changes: deque[tuple[int, str, str]] = deque(maxlen=1_000)  # source, program, "lost" or "found"
        self._known: dict[Key, tuple[str, ...]] = {}
        self._actions: dict[tuple[Any, ...], str] = {}
        self._sources: LogSources | None = None
        self._wanted: tuple[tuple[str, LogSource], ...] = ()
        self._saved_s = float("-inf")

    def load(self) -> None:
        """Go on from what is stored; raises StoreUnavailable."""
        found = {source_id: SourceHabits.from_json(values) for source_id, values in self._store.baselines().items()}
        with self._lock:
            self._habits = found

    def want(self, sources: LogSources, wanted: Mapping[str, LogSource]) -> None:
        """The log sources that rules ask for, by name: which of them come is remembered."""
        with self._lock:
            self._sources, self._wanted, self._known = sources, tuple(wanted.items()), {}

    def last_event(self, source_id: int) -> int:
        """The number of the newest event of a source since the start; 0: there was none."""
        return self._last_event.get(source_id, 0)

    # -- the thread that stores

    def take(self, source_id: int, decoded: Sequence[Decoded], lines: Sequence[str], last_event_id: int) -> None:
        """Events of one source that were just stored, in order, with their lines."""
        now = self._wall()
        with self._lock:
            habits = self._habits.setdefault(source_id, SourceHabits())
            self._lines[source_id] += len(decoded)
            self._last_event[source_id] = last_event_id
            size = CHUNK if len(decoded) < LARGE else LARGE_CHUNK
            for start in range(0, len(decoded), size):
                self._take_chunk(source_id, habits, decoded[start : start + size], lines[start : start + size], now)

    def _take_chunk(
        self, source_id: int, habits: SourceHabits, decoded: Sequence[Decoded], lines: Sequence[str], now: float
    ) -> None:
        keys: list[Key] = [  # once per line: values from JSON need not be text, that is seen to below
            (name, get("event.category"), get("process.name"), get("event.outcome"), get("event.action"))
            for name, get in [(one.format, one.fields.get) for one in decoded]
        ]
        try:
            counted = Counter(keys)
        except TypeError:  # a list, from a JSON document
            keys = [(key[0], str(key[1]), str(key[2]), str(key[3]), str(key[4] or "")) for key in keys]
            counted = Counter(keys)
        tallies: dict[str, _Row] = {}  # by program
        for key, n in counted.items():
            program = _program(key)
            row = tallies.get(program)
            if row is None:
                row = tallies[program] = _Row()
            row.add(key, n, self._action(key))
            for wanted in self._provided(key, keys, decoded):
                habits.met[wanted] = int(now)
        now_us, whole = int(now * 1e6), _Row()
        watched = set()  # programs of which lines are missing that are usually understood, or that are new
        for program, row in tallies.items():
            whole.join(row)
            known = habits.program(program) if program else habits.whole
            if row.of_kind[ACTIONS] < row.lines and _is_watched(program, known):
                watched.add(program)
            if program:
                self._judge(source_id, program, known, row.tally(), now_us)
        telling = self._keep_samples(source_id, watched, keys, decoded, lines) if watched else 0
        self._judge(source_id, "", habits.whole, whole.tally(telling), now_us)

    def _judge(self, source_id: int, program: str, known: Yield, tally: Tally, now_us: int) -> None:
        if change := known.take(tally, now_us):
            self._changes.append((source_id, program, change))

    def _keep_samples(
        self, source_id: int, watched: set[str], keys: Sequence[Key], decoded: Sequence[Decoded], lines: Sequence[str]
    ) -> int:
        """Remember some lines that should have been understood; how many of all of them speak of logins."""
        kept: Counter[str] = Counter()
        telling = 0
        for place, key in enumerate(keys):
            if key[4]:
                continue
            program = _program(key)
            if program not in watched or (not program and key[0] != "unknown"):
                continue
            message = decoded[place].message[:SAMPLE_CHARACTERS]
            telling += _TELLING.search(message) is not None
            if kept[program] < KEPT_OF_CHUNK:
                kept[program] += 1
                known = self._samples.get((source_id, program))
                if known is None:
                    if len(self._samples) >= MAX_KNOWN // SAMPLES:
                        self._samples.clear()
                    known = self._samples[source_id, program] = deque(maxlen=SAMPLES)
                known.append((message, lines[place][:SAMPLE_CHARACTERS]))
        return telling

    def _action(self, key: Key) -> str:
        """The action's name, "" without one."""
        if not key[4]:
            return ""
        found = self._actions.get(key[1:])
        if found is None:
            if len(self._actions) >= MAX_KNOWN:
                self._actions.clear()
            found = self._actions[key[1:]] = action_name(str(key[4]), str(key[3] or ""), str(key[1] or ""))
        return found

    def _provided(self, key: Key, keys: Sequence[Key], decoded: Sequence[Decoded]) -> tuple[str, ...]:
        """The names of the log sources that events of this kind are of."""
        if self._sources is None:
            return ()
        if key[0].startswith(_MANIFOLD):
            events = (one for one, of in zip(decoded, keys, strict=True) if of == key)
            return tuple({name for one in itertools.islice(events, MANIFOLD_LOOKS) for name in self._names(one)})
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            found = self._known[key] = self._names(decoded[keys.index(key)])
        return found

    def _names(self, one: Decoded) -> tuple[str, ...]:
        assert self._sources is not None  # noqa: S101 - the caller has looked
        kinds = self._sources.of(one)
        return tuple(name for name, wanted in self._wanted if kinds.meets(wanted))

    # -- the job

    def work(self, statuses: Sequence[SourceStatus], *, storing: bool) -> None:
        """Look at every source that is followed; raises StoreUnavailable, and the rest is done next time."""
        now = self._wall()
        names = {view.id: view.source_name for view in self._store.sources() if view.enabled}
        self._raise_changes(names)
        behind = {status.source_id for status in statuses if status.bytes_total > status.bytes_read + WAITING_BYTES}
        blind = {status.source_id for status in statuses if status.state in BLIND}
        with self._lock:
            lines, self._lines = self._lines, Counter()
            for source_id in names:
                habits = self._habits.setdefault(source_id, SourceHabits())
                well = storing and self._steady() and source_id not in blind and source_id not in behind
                habits.rhythm.watch(lines[source_id], now, well=well)
        if storing and self._steady():
            for source_id, name in names.items():
                if source_id not in behind:
                    self._look_for_silence(source_id, name, now)
        if self._monotonic() - self._saved_s >= SAVE_S:
            self._saved_s = self._monotonic()
            self.save()

    def save(self) -> None:
        """Write down what was learned; raises StoreUnavailable."""
        with self._lock:
            learned = [(source_id, habits.as_json()) for source_id, habits in self._habits.items()]
        for source_id, values in learned:
            self._store.write_baseline(source_id, values, int(self._wall() * 1e6))

    def _look_for_silence(self, source_id: int, name: str, now: float) -> None:
        rhythm = self._habits[source_id].rhythm
        since_us = int(rhythm.last_line_s * 1e6)
        if rhythm.silent and now - rhythm.last_line_s < SAVE_S:
            with self._lock:
                rhythm.silent = False
        elif not rhythm.silent and rhythm.is_silent(now):
            text = (
                f"No line since {_clock(rhythm.last_line_s)}. In every week so far at least {rhythm.missing(now):.0f}"
                " minutes of the time since then had lines."
            )
            event_id = self._last_event.get(source_id, 0)
            self._alerts.put(OwnAlert(SOURCE_SILENT, source_id, name, event_id, text, since_us))
            with self._lock:
                rhythm.silent = True

    def _raise_changes(self, names: Mapping[int, str]) -> None:
        while self._changes:
            source_id, program, change = self._changes[0]
            habits = self._habits[source_id]
            if source_id in names and change == "lost":
                self._raise_lost(source_id, names[source_id], program, habits)
            elif change == "found" and (lost := habits.lost.get(program)):
                self._alerts.note(int(lost["incident_id"]), f"{_subject(program)}: {lost['kind']} is read again.")
                with self._lock:
                    habits.lost.pop(program, None)
            self._changes.popleft()
        self._accept_closed()

    def _raise_lost(self, source_id: int, name: str, program: str, habits: SourceHabits) -> None:
        known = habits.programs.get(program, habits.whole) if program else habits.whole
        if (
            not known.lost
            or program in habits.lost
            or in_words(known.lost) in {x["kind"] for x in habits.lost.values()}
        ):
            return
        found = self._lost(source_id, program, known)
        shapes = "\n".join(f"{n} ×  {text}" for text, n in found["shapes"])
        text = (
            f"{_subject(program)}: usually {found['kind']} is read from {known.share_of(known.lost):.0%} of the lines;"
            f" of the last {known.run_of(known.lost)} from none.\nNew shapes:\n{shapes}"
        )
        event_id = self._last_event.get(source_id, 0)
        incident_id = self._alerts.put(OwnAlert(DETECTION_LOST, source_id, name, event_id, text, known.lost_us))
        with self._lock:
            habits.lost[program] = {**found, "incident_id": incident_id}
        log.warning("source %s: %s any more", name, _gone(found["kind"]))
        self.save()

    def _lost(self, source_id: int, program: str, known: Yield) -> dict[str, Any]:
        """What is lost, with the shapes of the lines that are not understood and a decoder drafted from them."""
        with self._lock:
            if not program:  # a program that was not there before, or lines that no decoder opens
                of_source = {name: each for (owner, name), each in self._samples.items() if owner == source_id}
                program = max(of_source, key=lambda name: _telling(of_source[name]), default="")
            samples = list(self._samples.get((source_id, program), ()))
        tree = TemplateTree()
        shapes = [tree.find(message).text for message, _ in samples]
        shapes = [tree.find(message).text for message, _ in samples]  # as they read once all were seen
        counted = Counter(shapes).most_common(SHAPES)
        text = ""
        if counted:
            first = _first_to_read([shape for shape, _ in counted], action_parts(known.lost)[1])
            alike = [pair for pair, shape in zip(samples, shapes, strict=True) if _says_the_same(first, shape)]
            text = self._draft(program, known.lost, [message if program else line for message, line in alike])
        return {"kind": in_words(known.lost), "since_us": known.lost_us, "shapes": counted, "draft": text}

    @staticmethod
    def _draft(program: str, lost: str, lines: Sequence[str]) -> str:
        name = "".join(c if c.isascii() and c.isalnum() else "_" for c in program.lower())[:20].lstrip("_0123456789")
        action, outcome, category = action_parts(lost)
        about = {} if lost == NO_LINE else {"action": action, "outcome": outcome, "category": category or "other"}
        try:
            made = draft(lines, f"own.{name or 'format'}")
            return dataclasses.replace(made, program=program, **about).as_yaml()  # type: ignore[arg-type]
        except DecoderError:
            return ""

    def _accept_closed(self) -> None:
        """Where somebody closed the incident, what comes now is as it is to be."""
        for habits in list(self._habits.values()):
            for program, lost in list(habits.lost.items()):
                incident = self._store.incident(int(lost["incident_id"])) if lost["incident_id"] else None
                if incident is not None and incident.status in ("closed", "false_positive"):
                    with self._lock:
                        known = habits.programs.get(program) if program else habits.whole
                        if known is not None:
                            known.forget()
                        del habits.lost[program]

    # -- what is said

    def health(self) -> Iterator[Component]:
        """The component `detection`: whether sources are understood and speak as usual."""
        names = {view.id: view.source_name for view in self._store.sources()}
        said = []
        for source_id, habits in list(self._habits.items()):
            name = names.get(source_id)
            if name is not None:
                said += [f"{name}: {_gone(lost['kind'])} any more" for lost in habits.lost.values()]
                said += [f"{name} is silent, as it never was at this hour"] if habits.rhythm.silent else []
        if said:
            reason = "; ".join(said[:3]) + (f"; and {len(said) - 3} more" if len(said) > 3 else "")
            yield Component("detection", "degraded", reason, "its incident says what to do")
        else:
            yield Component("detection", "ok", "sources are understood and speak as usual")

    def provided(self) -> frozenset[str]:
        """The log sources of rules of which events came lately, by name."""
        oldest = self._wall() - PROVIDED_S
        with self._lock:
            return frozenset(
                name for habits in self._habits.values() for name, at in habits.met.items() if at >= oldest
            )

    def as_json(self) -> dict[str, Any]:
        """What is usual, by the source's id, for pages and metrics."""
        now = self._wall()
        with self._lock:
            return {str(source_id): usual(habits, now) for source_id, habits in self._habits.items()}


def usual(habits: SourceHabits, now_s: float) -> dict[str, Any]:
    """What is usual for a source, for people."""
    whole, rhythm = habits.whole, habits.rhythm
    return {
        "learned_lines": round(whole.lines),
        "yields": {kind: round(whole.share(number), 4) for number, kind in enumerate(KINDS)},
        "lines_per_hour": round(rhythm.per_hour(now_s), 1),
        "learned_days": round(rhythm.learned_days(now_s), 2),
        "last_line_s": rhythm.last_line_s,
        "silent": rhythm.silent,
        "lost": [
            {"program": program, **{key: lost[key] for key in ("kind", "since_us", "incident_id")}}
            for program, lost in habits.lost.items()
        ],
    }


def _program(key: Key) -> str:
    return str(key[2])[:64] if key[2] else ""


def _is_watched(program: str, known: Yield) -> bool:
    """Whether lines without an action are remembered: of programs that have them usually, and of new ones."""
    if not program:
        return known.lines < MIN_LEARNED or known.share(LINES) > 1 - UNDERSTOOD / 2
    return known.share(ACTIONS) >= UNDERSTOOD or known.lines - known.of_kind[ACTIONS] < NEW_LINES


def _says_the_same(shape: str, other: str) -> bool:
    """Whether two shapes differ in who it is about, not in what happened: as many words, and of those that stand for
    themselves one differs at most, which tells no outcome.
    """
    words, others = shape.split(), other.split()
    if len(words) != len(others) or words[:1] != others[:1]:
        return False
    differ = [
        (one, two)
        for one, two in zip(words, others, strict=True)
        if one != two and "<*>" not in (one, two) and _key_of(one) != _key_of(two)
    ]
    return len(differ) <= 1 and not any(_ended(word) for pair in differ for word in pair)


def _ended(text: str) -> str:
    """The outcome of which the words speak, success or failure; "": of none, or of both."""
    spoken = [outcome for outcome, words in _ENDED.items() if words.search(text)]
    return spoken[0] if len(spoken) == 1 else ""


def _first_to_read(shapes: Sequence[str], outcome: str) -> str:
    """Of the shapes, the most frequent first, the one that tells of that outcome in words, else one that speaks of
    none.
    """
    told = [_ended(shape) for shape in shapes]
    return next(
        (shape for wanted in (outcome, "") for shape, said in zip(shapes, told, strict=True) if said == wanted),
        shapes[0],
    )


def _key_of(word: str) -> str:
    """The name in front of a value, "user=" of "user=root"; the word where there is none."""
    name, sign, _ = word.partition("=")
    return name + sign if sign else word


def _telling(samples: Iterable[tuple[str, str]]) -> int:
    return sum(_TELLING.search(message) is not None for message, _ in samples)


class _Row:
    """A tally that is being made."""

    def __init__(self) -> None:
        self.lines = 0
        self.of_kind = [0] * len(KINDS)
        self.actions: Counter[str] = Counter()

    def add(self, key: Key, n: int, action: str) -> None:
        self.lines += n
        self.of_kind[LINES] += n if key[0] != "unknown" else 0
        if action:
            self.of_kind[ACTIONS] += n
            self.of_kind[LOGINS] += n if "authentication" in action else 0
            self.actions[action] += n

    def join(self, other: _Row) -> None:
        self.lines += other.lines
        self.of_kind = [a + b for a, b in zip(self.of_kind, other.of_kind, strict=True)]
        self.actions.update(other.actions)

    def tally(self, fresh: int = 0) -> Tally:
        return Tally(self.lines, (self.of_kind[0], self.of_kind[1], self.of_kind[2]), self.actions, fresh)


def _gone(kind: str) -> str:
    """What in_words() names, as the beginning of a sentence that ends with "any more"."""
    return "nothing is read from its lines" if kind == SOMETHING else f"{kind} is not read"


def in_words(lost: str) -> str:
    """What is lost, for people."""
    action, outcome, _ = action_parts(lost)
    return SOMETHING if lost == NO_LINE else " ".join(part for part in (action, outcome) if part)


def _subject(program: str) -> str:
    return f"Program {program}" if program else "The source as a whole"


def _clock(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at_s))
