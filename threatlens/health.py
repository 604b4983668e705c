"""HealthMonitor: how every part of ThreatLens is doing, why, and what to do about it.

Two kinds of looks make one picture: what the engine measures about itself every second, and what is asked of the
machine every health_check_interval seconds, with the same checks as `threatlens doctor`. A detector that is blind must
say so: whatever keeps lines from being seen, understood, stored or told of is a state here.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from threatlens.config import ConfigManager
from threatlens.doctor import Finding, Probes, run_checks
from threatlens.errors import ThreatLensError
from threatlens.event import SourceStatus
from threatlens.fanout import Fanout
from threatlens.ingestion_queue import QueueStats
from threatlens.rule_library import RuleLibrary
from threatlens.settings import Settings
from threatlens.store import EventStore
from threatlens.store_health import StateChange

#: From well to worst.
STATES = ("off", "ok", "starting", "degraded", "failed")
#: Of them, those that are as it should be.
FINE = frozenset({"off", "ok", "starting"})
#: Seconds that the rules may take to be loaded; so long, lines wait for them.
RULES_PATIENCE_S = 60.0
#: Seconds that reading may wait for the queue before it is said to be full.
QUEUE_PATIENCE_S = 5.0
#: Seconds by which the wall clock may differ from the monotonic one between two looks, and how long a step is shown.
STEP_S, STEP_SHOWN_S = 30.0, 3_600.0
MEMORY_SHARE = 0.9
#: States of a source in which lines may go unseen.
BLIND = frozenset({"missing", "no_permission", "refused", "error"})
#: Parts that must be well, or the dead man's switch is let go; of others a failure alone counts.
ESSENTIAL = frozenset({"engine", "database", "queue", "rules", "sources"})
#: Findings of the doctor that are components of their own; the others belong to the one that is named.
_COMPONENT_OF = {"data folder": "disk", "secrets": "configuration"}


@dataclass(frozen=True, slots=True)
class Component:
    """How one part is doing."""

    name: str
    state: str  # one of STATES
    reason: str = ""  # one sentence
    remedy: str = ""  # a sentence or an exact command


@dataclass(frozen=True, slots=True)
class Facts:
    """What the engine measures about itself."""

    lines_per_s: float
    unavailable: str  # why the database takes nothing: disk_full, busy, away; "": it does
    disk_full: bool
    queue: QueueStats
    statuses: Sequence[SourceStatus]
    rules_ready: bool
    rule_failures: int  # batches


class Part(Protocol):
    """Something that knows how it is doing."""

    def health(self) -> Iterable[Component]: ...


def worst(components: Iterable[Component]) -> str:
    """ok, degraded or failed: the state of all of them together."""
    return max((each.state for each in components if each.state not in FINE), key=STATES.index, default="ok")


def is_well(components: Sequence[Mapping[str, Any]]) -> bool:
    """Whether lines are seen, stored and held against the rules; components as as_json() has them, none: it is not."""
    return bool(components) and not any(
        each["state"] == "failed" or (each["state"] == "degraded" and each["name"] in ESSENTIAL) for each in components
    )


def memory_bytes(pid: str = "self") -> int:
    """Resident memory of a process; 0: unknown."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def memory_limit() -> int:
    """How much memory this process and its like may use together; 0: no limit is known."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                text = file.read().strip()
        except OSError:
            continue
        return int(text) if text.isdigit() and int(text) < 1 << 50 else 0
    return 0


class ClockWatch:
    """Notices that the wall clock was moved. For any thread: who asks whether it was is not told of yesterday."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset = wall() - monotonic()
        self._step_s, self._stepped_at = 0.0, float("-inf")
        self._lock = threading.Lock()

    def look(self) -> Component:
        """The component `clock`."""
        if self.steady:
            return Component("clock", "ok")
        direction = "forwards" if self._step_s > 0 else "backwards"
        reason = f"moved {direction} by {_span(abs(self._step_s))}; times of reading before and after differ"
        return Component("clock", "degraded", reason, "sudo timedatectl set-ntp true")

    @property
    def steady(self) -> bool:
        """Whether it was not moved within the last hour."""
        with self._lock:
            now = self._monotonic()
            offset = self._wall() - now
            step = offset - self._offset
            self._offset = offset
            if abs(step) > STEP_S:
                self._step_s, self._stepped_at = step, now
            return now - self._stepped_at > STEP_SHOWN_S


class HealthMonitor:
    """One a process. `look` and `measure` are for one thread each."""

    def __init__(
        self,
        settings: Settings,
        store: EventStore,
        config: ConfigManager,
        rules: RuleLibrary,
        *,
        parts: Sequence[Part] = (),
        probes: Probes | None = None,
        clock: ClockWatch | None = None,
        fanout: Fanout | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._store = store
        self._config = config
        self._rules = rules
        self._parts = tuple(parts)
        # What is stored is checked once, at the start and by `threatlens doctor`: it takes minutes for a large file.
        # Redis is in use, so its state is known at any time.
        self._probes = replace(probes or Probes(), database_problems=lambda _path: [], ping=None)
        self._fanout = fanout
        self.clock = clock or ClockWatch()
        self._monotonic = monotonic
        self._asked: tuple[Component, ...] = ()
        self._states: dict[str, str] = {}
        self._changes: deque[StateChange] = deque(maxlen=1_000)
        self._lock = threading.Lock()
        self._waiting_since: float | None = None
        self._rules_due: float | None = None
        self._failures_seen = 0

    # -- every second

    def measure(self, facts: Facts, now_us: int) -> list[Component]:
        """All components as of now, each once: the worst that is known of it."""
        found: dict[str, Component] = {}
        for component in (*self._asked, *self._measured(facts)):
            known = found.get(component.name)
            if known is None or STATES.index(component.state) > STATES.index(known.state):
                found[component.name] = component
        components = [found[name] for name in sorted(found)]
        for component in components:
            before = self._states.get(component.name)
            if before != component.state:
                self._states[component.name] = component.state
                if before is not None or component.state not in FINE:
                    change = StateChange(now_us, component.name, component.state, component.reason)
                    with self._lock:
                        self._changes.append(change)
        return components

    def _measured(self, facts: Facts) -> Iterator[Component]:
        yield Component("engine", "ok", f"{facts.lines_per_s:.0f} lines a second")
        yield self._queue(facts.queue)
        yield from _database(facts)
        yield self.clock.look()
        yield from redis_component(self._fanout)
        yield _memory()
        yield _sources(facts.statuses)
        yield self._rule_state(facts)
        for warning in sorted({warning for status in facts.statuses for warning in status.warnings}):
            if "inotify" in warning:
                yield Component("inotify", "degraded", warning)
            elif "too many open files" in warning:
                yield Component("open files", "degraded", warning)

    def _queue(self, queue: QueueStats) -> Component:
        now = self._monotonic()
        full = f"{queue.lines:,} of {queue.max_lines:,} lines"
        if not queue.waiting:
            self._waiting_since = None
            return Component("queue", "ok", full)
        if self._waiting_since is None:
            self._waiting_since = now
        if now - self._waiting_since < QUEUE_PATIENCE_S:
            return Component("queue", "ok", full)
        reason = f"full ({full}): reading waits, and the files are the buffer"
        return Component("queue", "degraded", reason, "nothing is lost; if it stays so, watch less or give more cores")

    def _rule_state(self, facts: Facts) -> Component:
        if not facts.rules_ready:
            now = self._monotonic()
            if self._rules_due is None:
                self._rules_due = now + RULES_PATIENCE_S
            if now < self._rules_due:
                return Component("rules", "starting", "being loaded; lines wait for them")
            return Component("rules", "degraded", "not loaded yet; lines are stored without them", "look into the log")
        if facts.rule_failures > self._failures_seen:
            reason = f"failed on {facts.rule_failures} batches, which are stored without them; the log has the details"
            return Component("rules", "degraded", reason, "look at what changed in your own rules last")
        return Component("rules", "ok")

    # -- every health_check_interval seconds

    def look(self) -> None:
        """Ask the machine and the database, and write down what changed."""
        asked = list(_of_findings(run_checks(self._settings, self._config, probes=self._probes)))
        for ask in (self._channels, self._reports, self._rules_loaded, self._decoders, self._model):
            try:
                asked += ask()
            except ThreatLensError as error:
                asked.append(Component("database", "degraded", str(error)))
        for part in self._parts:
            try:
                asked += part.health()
            except ThreatLensError as error:
                asked.append(Component("database", "degraded", str(error)))
        self._asked = tuple(asked)
        self.write_changes()

    def ask(self, part: Part) -> None:
        """Ask one of the parts again, before its turn; what the last look did not meet waits for the next one."""
        try:
            fresh = {component.name: component for component in part.health()}
        except ThreatLensError:
            return  # the look says so
        self._asked = tuple(fresh.get(component.name, component) for component in self._asked)

    def write_changes(self) -> None:
        """Store what changed since the last time; raises StoreUnavailable, and then it waits for the next time."""
        with self._lock:
            changes = list(self._changes)
        if changes:
            self._store.write_changes(changes)
            with self._lock:
                for _ in changes:
                    self._changes.popleft()

    def _channels(self) -> Iterator[Component]:
        names = {channel.name for channel in self._config.config.channels}
        if not names:
            yield Component("channels", "off", "no channel is set up: nobody is told")
            return
        states = [state for name, state in self._store.channel_states().items() if name in names]
        broken = [state for state in states if state.disabled or state.failures]
        for state in broken:
            reason = state.disabled or f"{state.failures} tries in a row failed: {state.last_error}"
            yield Component("channels", "degraded", f"{state.channel}: {reason}", "use its test button")
        if not broken:
            yield Component("channels", "ok", f"{len(names)} channels")

    def _reports(self) -> Iterator[Component]:
        newest = self._store.reports(limit=1)
        if newest and newest[0].state == "failed":
            yield Component("reports", "degraded", f"{newest[0].kind} of {newest[0].day}: {newest[0].error}")
        elif newest:
            yield Component("reports", "ok", f"{newest[0].kind} of {newest[0].day}")
        else:
            yield Component("reports", "off", "none was made yet")

    def _rules_loaded(self) -> Iterator[Component]:
        loaded = self._rules.loaded()
        broken = [problem for problem in loaded.problems if problem.broken]
        if broken:
            reason = f"{len(broken)} cannot be read, the first: {self._rules.short_path(broken[0].path)}"
            yield Component(
                "rules", "degraded", f"{reason}: {broken[0].reason}", "python -m threatlens rules check DIR"
            )
        else:
            active = sum(rule.id not in loaded.off for rule in loaded.rules)
            yield Component("rules", "ok", f"{active} rules")

    def _decoders(self) -> Iterator[Component]:
        sources = self._store.sources()
        events, unknown = sum(view.events for view in sources), sum(view.unknown for view in sources)
        share = f"{100 * (events - unknown) / events:.1f} % of {events:,} events decoded" if events else "no lines yet"
        yield Component("decoders", "ok", share)

    def _model(self) -> Iterator[Component]:
        llm = self._config.config.llm
        yield Component("model", "ok" if llm.enabled else "off", llm.model if llm.enabled else "not used")


def _of_findings(findings: Iterable[Finding]) -> Iterator[Component]:
    """The doctor's findings as components; sources say more themselves."""
    for finding in findings:
        if not finding.name.startswith("source ") and finding.name != "engine":
            name = _COMPONENT_OF.get(finding.name, finding.name)
            yield Component(name, "ok" if finding.ok else "degraded", finding.detail, finding.remedy)


def _database(facts: Facts) -> Iterator[Component]:
    if facts.disk_full or facts.unavailable == "disk_full":
        reason = "disk_full: events wait in their files; pages still answer"
        yield Component("disk", "failed", reason, "free space; storing goes on by itself")
    if facts.unavailable and facts.unavailable != "disk_full":
        reason = {"busy": "locked by another program"}.get(facts.unavailable, "does not answer")
        yield Component("database", "failed", f"{reason}; events wait in their files", "close what holds it open")
    else:
        yield Component("database", "ok")


def redis_component(fanout: Fanout | None) -> Iterator[Component]:
    """The component `redis`, where there is one."""
    if fanout is not None and fanout.used:
        reason, remedy = fanout.problem()
        yield Component("redis", "degraded" if reason else "ok", reason or fanout.name, remedy)


def _memory() -> Component:
    used, limit = memory_bytes(), memory_limit()
    shown = f"{used / 2**20:.0f} MiB" + (f" of {limit / 2**20:.0f}" if limit else "")
    if limit and used > MEMORY_SHARE * limit:
        return Component("memory", "degraded", shown, "raise the limit, or lower max_queue_size")
    return Component("memory", "ok", shown)


def _sources(statuses: Sequence[SourceStatus]) -> Component:
    blind = [status for status in statuses if status.state in BLIND]
    if blind:
        names = ", ".join(status.source_name for status in blind[:3])
        reason = f"{len(blind)} of {len(statuses)} cannot be read: {names}"
        return Component("sources", "degraded", reason, blind[0].remedy)
    return Component("sources", "ok" if statuses else "off", f"{len(statuses)} followed" if statuses else "none")


def as_json(components: Iterable[Component]) -> list[dict[str, Any]]:
    """Their shape in the API, on the sockets and for other processes."""
    return [asdict(component) for component in components]


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}{'s' if seconds >= 1.5 * size else ''}"
    return f"{seconds:.0f} seconds"
