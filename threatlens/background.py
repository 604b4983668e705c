"""BackgroundProcessor: every thread and every scheduled job starts and stops here, and nowhere else.

Exactly one engine works on a database: the process that holds the lease (flock on engine.lock in the data folder).
It follows files, processes and writes. Every other process asks for the lease once a second, so that it takes over
when the holder dies, and until then follows the database to feed its own pages.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from apscheduler.jobstores.base import JobLookupError

from threatlens.background_following import Follower
from threatlens.background_lease import Lease, Rate, write_json
from threatlens.background_timers import scheduler
from threatlens.broadcaster import EventBroadcaster
from threatlens.clock import now_us
from threatlens.config import ConfigManager
from threatlens.courtesy import Courtesy
from threatlens.demo import DEMO_SOURCES, DemoWriter
from threatlens.detection import Decisions, Detector
from threatlens.errors import StoreUnavailable, ThreatLensError
from threatlens.event import EventUpdate, SourceStatus
from threatlens.fanout import Fanout
from threatlens.health import Facts, HealthMonitor, is_well
from threatlens.health_disk import DiskGuard
from threatlens.health_status import measurements, status_document
from threatlens.health_upkeep import Upkeep
from threatlens.ingestion_queue import RealtimeIngestionQueue
from threatlens.ingestions import Ingestions
from threatlens.language_model import LanguageModel
from threatlens.notifications import NotificationManager
from threatlens.own_alerts import lines_removed
from threatlens.own_decoders import OwnDecoders
from threatlens.processor import QueueProcessor
from threatlens.processor_open import OpenEvents
from threatlens.reports import Reporter
from threatlens.reports_searches import SearchReporter
from threatlens.rule_library import RuleLibrary, RuleWatch
from threatlens.settings import Settings
from threatlens.sources.file import LogFileMonitor
from threatlens.sources.salvage import Salvage
from threatlens.spare_memory import give_back
from threatlens.store import EventStore
from threatlens.threat_lists import ThreatListKeeper
from threatlens.volumes import VolumeWatch

log = logging.getLogger(__name__)

#: Seconds between two requests for the lease.
LEASE_S = 1.0
STATUS_S, CONFIG_S, RULES_S, HOUSEKEEPING_S, METRICS_S, OUTBOX_S, REPORTS_S = 1.0, 1.0, 2.0, 10.0, 60.0, 1.0, 60.0
HABITS_S, COVERAGE_S, COVERAGE_FIRST_S = 5.0, 2.0, 30.0
LISTS_S, VOLUMES_S, SPARE_S = 5.0, 120.0, 30.0
MODEL_S = 5.0  # between two looks whether a language model has something to explain
EMIT_S = 0.1  # that reading waits for room in the queue before it looks for new files again
#: Seconds that threads are given to end when the process stops.
STOP_S = 4.0


@dataclass
class _Engine:
    """What runs while this process holds the lease."""

    queue: RealtimeIngestionQueue
    processor: QueueProcessor
    monitor: LogFileMonitor
    detector: Detector
    watch: RuleWatch
    guard: DiskGuard
    decided: tuple[Any, ...] = ()
    ended: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(0)
    )  # released by each step of the processor
    rate: Rate = field(default_factory=Rate)
    internal: tuple[int, int] = (0, 0)
    written: dict[int, tuple[Any, ...]] = field(default_factory=dict)


class BackgroundProcessor:
    """The engine, or, without the lease, a follower of it."""

    def __init__(
        self,
        settings: Settings,
        store: EventStore,
        config: ConfigManager,
        broadcaster: EventBroadcaster,
        ingestions: Ingestions,
        notifications: NotificationManager,
        reporter: Reporter,
        searches: SearchReporter,
        rules: RuleLibrary,
        own_decoders: OwnDecoders,
        health: HealthMonitor,
        language_model: LanguageModel,
        upkeep: Upkeep,
        threat_lists: ThreatListKeeper,
        volumes: VolumeWatch,
        courtesy: Courtesy,
        fanout: Fanout,
    ) -> None:
        self._settings = settings
        self._store = store
        self._config = config
        self._broadcaster = broadcaster
        self._ingestions = ingestions
        self._notifications = notifications
        self._reporter = reporter
        self._searches = searches
        self._rules = rules
        self._language_model = language_model
        self._own_decoders = own_decoders
        self._health = health
        self._upkeep = upkeep
        self._threat_lists = threat_lists
        self._volumes = volumes
        self._courtesy = courtesy
        self._fanout = fanout
        self._follower = Follower(store, broadcaster, fanout)
        self.status: dict[str, Any] = {}  # what the engine last said about itself, if it runs here
        self._lease = Lease(settings.lease_path)
        self._stopping = threading.Event()
        self._scheduler = scheduler()
        self._engine: _Engine | None = None
        self._threads: list[threading.Thread] = []
        self._only: frozenset[int] | None = None

    # -- life

    def start(self, only_sources: frozenset[int] | None = None) -> None:
        """Start the scheduler; the engine too, if the lease is free. With only_sources it follows nothing else."""
        self._only = only_sources
        sys.setswitchinterval(0.0005)  # pages, decoding and storing take short turns
        self._broadcaster.begin(self._store.last_id())
        self._every(HOUSEKEEPING_S, self._write_use)
        self._every(SPARE_S, give_back)
        self._scheduler.start()
        if self._fanout.used:
            for step in (self._fanout.listen, self._fanout.send):
                self._thread(f"fan-out {step.__name__}", self._again_and_again, step, self.stopped)
        self._ask_for_lease()
        if not self.is_engine:
            log.info("%s; this process follows it and takes over when it ends", self._owner_words())
            self._every(LEASE_S, self._ask_for_lease)  # not before: starting an engine may take longer than that
            self._every(CONFIG_S, self._config.poll)
            self._thread("follower", self._again_and_again, self._follower.run, self._follows_no_longer)
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 50, 50)  # a collection holds up every thread: many short ones

    def request_stop(self) -> None:
        """Everything is told to end; may be called in a signal handler, returns at once."""
        self._stopping.set()
        self._broadcaster.closed = True
        threading.Thread(target=self._wake_everybody, daemon=True).start()

    def stop(self) -> None:
        """End every thread; the batch in work is finished, what only waits is left in the files."""
        self._stopping.set()
        self._wake_everybody()
        deadline = time.monotonic() + STOP_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        engine, self._engine = self._engine, None
        if engine is not None:
            for _ in range(2):
                engine.ended.acquire(timeout=max(0.0, deadline - time.monotonic()))
            engine.monitor.close()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        with contextlib.suppress(ThreatLensError):
            self._write_use()
            if engine is not None:
                self._upkeep.habits.save()
        self._store.database.let_go()
        self._lease.release()

    def _wake_everybody(self) -> None:
        self._broadcaster.close()
        self._fanout.close()
        self._follower.wake()
        if self._engine is not None:
            self._engine.queue.close()
            self._engine.monitor.stop()

    @property
    def is_engine(self) -> bool:
        """Whether this process follows files and writes."""
        return self._engine is not None

    def owner(self) -> int:
        """The process id of the engine; 0: unknown."""
        return self._lease.owner()

    def _owner_words(self) -> str:
        """Who runs the engine."""
        if self._lease.acquire():  # so nobody on this machine does
            self._lease.release()
            return f"the engine runs at {self._store.database.held_by() or 'another machine'}"
        return f"process {self.owner()} runs the engine"

    def stopped(self, wait_s: float) -> bool:
        """Wait this long, or until stopping; whether we are."""
        return self._stopping.wait(wait_s) if wait_s else self._stopping.is_set()

    # -- the engine

    def _ask_for_lease(self) -> None:
        if self._engine is None and not self._stopping.is_set() and self._lease.acquire():
            if not self._store.database.hold():
                self._lease.release()
                return
            self._follower.look()  # nobody else stores from here on
            log.info("this process runs the engine")
            self._start_engine()

    def _keep_lease(self) -> None:
        """PostgreSQL forgets who runs the engine when the connection is lost; who has lost it to another ends."""
        if not self._store.database.hold():
            log.error("another machine runs the engine on this database; this one ends, and follows when it is back")
            os.kill(os.getpid(), signal.SIGTERM)

    def _start_engine(self) -> None:
        if self._settings.demo:
            self._store.put_internal_sources(DEMO_SOURCES, self._settings.demo_folder, kind="demo")
            with contextlib.suppress(OSError):  # its thread says so
                DemoWriter(self._settings.demo_folder).begin()
        monitoring = self._config.load_config()
        queue = RealtimeIngestionQueue(max_lines=monitoring.max_queue_size)
        detector = Detector(self._store)
        guard = DiskGuard(os.path.dirname(self._settings.database_path))
        guard.check()
        self._store.when_full = guard.needed
        processor = QueueProcessor(
            queue,
            self._store,
            self._broadcaster,
            on_refused=self._forget_streams,
            notifications=self._notifications,
            detector=detector,
            guard=guard,
            courtesy=self._courtesy,
            own_decoders=self._own_decoders,
            habits=self._upkeep.habits,
        )
        processor.recall_shapes()
        self._upkeep.habits.load()
        monitor = LogFileMonitor(
            emit=partial(queue.put, timeout_s=EMIT_S),
            book=self._store,
            forbidden=self._settings.own_files,
            open_lines=OpenEvents(self._own_decoders),
            salvage=Salvage(self._settings.salvage_folder, make_room=guard.filled),
        )
        monitor.losses.keep_in(self._settings.losses_path)
        engine = _Engine(queue, processor, monitor, detector, RuleWatch(self._rules, detector.offer), guard)
        self._apply_config(engine)
        self._engine = engine
        for step in (processor.prepare, processor.finish):
            self._scheduler.add_job(_guarded(self._consume), args=(engine, step), executor="engine", id=step.__name__)
        self._thread("monitor", self._again_and_again, monitor.run)
        if self._settings.demo:
            self._thread("demo", self._again_and_again, DemoWriter(self._settings.demo_folder).run, self.stopped)
        self._follower.wake()
        for waiting in (self._config.poll, self._ask_for_lease):
            with contextlib.suppress(JobLookupError):
                self._scheduler.remove_job(waiting.__name__)
        self._every(LEASE_S, self._keep_lease)
        self._every(CONFIG_S, self._reload_config, engine)
        self._thread("rules", self._again_and_again, self._follow_rules, engine)
        self._thread("coverage", self._again_and_again, self._keep_coverage, engine)
        self._every(STATUS_S, self._write_status, engine)
        _guarded(self._write_status)(engine)
        self._every(self._config.config.health_check_interval, self._health.look)
        self._scheduler.add_job(_guarded(self._health.look), id="first look")
        self._every(HOUSEKEEPING_S, self._keep_house, engine)
        self._every(METRICS_S, self._write_metrics)
        self._every(HABITS_S, self._keep_habits, engine)
        self._every(HOUSEKEEPING_S, self._forget_old)
        self._every(HOUSEKEEPING_S, self._call_home)
        self._every(METRICS_S, self._upkeep.backups.make_due)
        self._every(OUTBOX_S, self._empty_outbox)
        self._every(REPORTS_S, self._make_reports)
        self._every(REPORTS_S, self._searches.send_due)
        self._every(MODEL_S, self._ask_model)
        self._every(LISTS_S, self._tend_lists)
        self._every(VOLUMES_S, self._look_at_volumes)

    def _consume(self, engine: _Engine, step: Callable[[Callable[[float], bool]], None]) -> None:
        """One step of the processor, for as long as we run; after a failure that nothing foresaw it begins again."""
        wait_s = 0.5
        try:
            while not _guarded(step)(self.stopped) and not self.stopped(wait_s):
                wait_s = min(10.0, wait_s * 2)
                # The batch that was in its hands is gone from memory, not from the files: read it again.
                self._forget_streams(frozenset(state.stream_id for state in self._store.streams()))
        finally:
            engine.ended.release()

    def _again_and_again(self, target: Callable[..., object], *args: object) -> None:
        """Run this for as long as we run; after a failure that nothing foresaw it begins again."""
        while not self.stopped(0):
            if not _guarded(target)(*args):
                self.stopped(1.0)

    def _forget_streams(self, stream_ids: frozenset[int]) -> None:
        engine = self._engine
        if engine is not None:
            engine.queue.forget(stream_ids)
            for stream_id in stream_ids:
                engine.monitor.reset_stream(stream_id)

    def _apply_config(self, engine: _Engine) -> None:
        monitoring = self._config.config
        engine.internal = self._store.internal_version()
        configured = self._config.get_log_sources()
        sources = [*configured, *self._store.internal_sources(self._settings)]
        self._say_refused({source.source_id for source in configured})
        if self._only is not None:
            sources = [source for source in sources if source.source_id in self._only]
        engine.processor.batch_lines = monitoring.processing_batch_size
        engine.queue.resize(monitoring.max_queue_size)
        engine.processor.set_sources(sources, self._store.learned())
        engine.monitor.set_sources(sources)

    def _say_refused(self, configured: set[int]) -> None:
        """A saved source that the configuration in force leaves out says so instead of looking well."""
        refused = [
            SourceStatus(view.id, view.source_name, "refused", "the configuration in force does not allow this path",
                         "add its folder to allowed_roots, or remove the source")
            for view in self._store.sources()
            if view.kind == "file" and view.enabled and view.id not in configured
        ]  # fmt: skip
        if refused:
            self._store.write_source_status(refused)

    # -- jobs

    def _reload_config(self, engine: _Engine) -> None:
        changed = self._config.poll()
        if changed or self._store.internal_version() != engine.internal:
            self._apply_config(engine)

    def _follow_rules(self, engine: _Engine) -> None:
        """Hand over rules and what people decided about them when they change."""
        while True:
            decided = self._store.decisions_version()
            if decided != engine.decided:
                engine.detector.decide(
                    Decisions(self._store.rule_states(), self._store.mutes(now=now_us()), self._store.rule_exceptions())
                )
                engine.decided = decided
            engine.watch.poll()
            if self.stopped(RULES_S):
                return

    def _follows_no_longer(self) -> bool:
        return self._engine is not None or self.stopped(0)

    def _write_status(self, engine: _Engine) -> None:
        """Say how things are: the state of every source into the database where it changed, the rest into a file."""
        statuses = engine.monitor.statuses()
        changed = [status for status in statuses if engine.written.get(status.source_id) != _comparable(status)]
        processor, disk_full = engine.processor, engine.guard.check()
        engine.rate.add(time.monotonic(), processor.state.lines)
        facts = Facts(
            engine.rate.per_second, processor.state.unavailable, disk_full, engine.queue.stats(), statuses,
            engine.detector.is_ready, engine.detector.failures,
        )  # fmt: skip
        document = status_document(facts, processor.state, self._health.measure(facts, now_us()), now_us())
        self._broadcaster.publish_update(EventUpdate("system_status", document, now_us(), priority=9))
        skews = {str(source_id): skew for source_id, skew in processor.zones.skews().items()}
        habits, coverage = self._upkeep.habits.as_json(), self._upkeep.coverage.as_json()
        more = {
            "skews": skews,
            "habits": habits,
            "coverage": coverage,
            "counts": {**processor.counts.as_json(), "groups_evicted": engine.detector.evicted},
        }
        self.status = {**document, **more}
        self._fanout.tell_status(self.status)
        with contextlib.suppress(OSError):  # a full disk: this process still knows
            write_json(self._settings.status_path, self.status)
        if changed:
            self._store.write_source_status(changed)
            engine.written.update((status.source_id, _comparable(status)) for status in changed)

    def _keep_habits(self, engine: _Engine) -> None:
        losses = engine.monitor.losses
        while losses:
            loss = losses[0]
            self._upkeep.alerts.put(lines_removed(loss, self._upkeep.habits.last_event(loss.source_id)))
            losses.popleft()
        self._upkeep.habits.work(engine.monitor.statuses(), storing=not engine.processor.state.unavailable)
        self._health.ask(self._upkeep.habits)

    def _keep_coverage(self, engine: _Engine) -> None:
        """Have the samples of rules and decoders tried when it is time; lines that waited for a start, or wait for
        room, go first."""
        wait_s = COVERAGE_FIRST_S
        while not self.stopped(wait_s):
            wait_s = COVERAGE_S
            if engine.detector.is_ready:
                self._upkeep.coverage.poll(self.stopped, busy=engine.queue.stats().waiting)

    def _keep_house(self, engine: _Engine) -> None:
        self._ingestions.settle()
        engine.processor.replay()
        self._store.forget_novelties()
        if not engine.queue.stats().entries:
            self._store.merge_words()

    def _empty_outbox(self) -> None:
        """Start a job for each channel that has something to send; one that hangs holds up no other."""
        for channel in self._notifications.channels_with_work():
            self._scheduler.add_job(
                _guarded(self._notifications.deliver),
                args=(channel, self._stopping.is_set),
                executor="channels",
                id=f"channel {channel}",
                replace_existing=True,
            )

    def _write_use(self) -> None:
        """When sessions and tokens were last used; every process knows its own."""
        self._store.write_token_use()
        self._store.write_session_use(now_us(), **self._settings.session_limits)

    def _ask_model(self) -> None:
        self._language_model.run(self._stopping.is_set)

    def _tend_lists(self) -> None:
        self._threat_lists.tend(self._stopping.is_set)

    def _look_at_volumes(self) -> None:
        self._volumes.look()

    def _make_reports(self) -> None:
        self._reporter.make_due()

    def _forget_old(self) -> None:
        self._upkeep.retention.work(self.stopped)

    def _call_home(self) -> None:
        """The dead man's switch: no call unless everything is well."""
        self._upkeep.heartbeat.beat(well=is_well(self.status.get("components", ())))

    def _write_metrics(self) -> None:
        self._store.write_metrics(measurements(self.status, self._store, self._settings.database_path))

    # -- plumbing

    def _every(self, seconds: float, job: Callable[..., object], *args: object) -> None:
        self._scheduler.add_job(_guarded(job), "interval", seconds=seconds, args=args, id=job.__name__)

    def _thread(self, name: str, target: Callable[..., object], *args: object) -> None:
        thread = threading.Thread(target=_guarded(target), args=args, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()


def _comparable(status: Any) -> tuple[Any, ...]:
    return (status.state, status.reason, status.remedy, status.files, status.bytes_total)


def _guarded(job: Callable[..., object]) -> Callable[..., bool]:
    """The wrapper of every job and thread: a failure is logged and ends nothing else. True: it ended by itself."""

    def run(*args: object) -> bool:
        try:
            job(*args)
        except StoreUnavailable as error:
            log.warning("%s: %s", getattr(job, "__name__", job), error)
            return False
        except Exception:
            log.exception("%s failed", getattr(job, "__name__", job))
            return False
        return True

    return run
