"""Threat lists that come from URLs and stay fresh, and past events that turn out to be hits when a list grows.

A list from a URL is a file of the folder rules/threats like any other: a whole, readable answer replaces it in one
step, and whatever else comes back leaves the last good copy in force. Entries that are new, in a file of whatever
origin, are compared with the events that are stored, from the newest to the oldest, a slice at a time; where the
comparison is stands in the database, with what it found.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from threatlens.analyzers.severity import of_event, raised, total
from threatlens.config_values import ThreatListConfig
from threatlens.detectors.lists import SUFFIXES, parse_list
from threatlens.detectors.threats import RULE_ID, ThreatLists
from threatlens.durable import put_in_place
from threatlens.errors import ConfigError, OutboundError
from threatlens.event import Decoded
from threatlens.incidents import Finding
from threatlens.outbound import Answer, Limits
from threatlens.outbound_urls import Permissions, check_url
from threatlens.raising import Late, Raiser
from threatlens.store import EventStore
from threatlens.store_accounts import Doer
from threatlens.store_threats import WAITING, ListPass, Past, ThreatList, move_list_pass

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,79}")
MAX_LISTS = 100
LEAST_EVERY_S, MOST_EVERY_S = 900, 30 * 86_400
FIRST_RETRY_S = 300
LIMITS = Limits(total_s=120, body_bytes=64 << 20, redirects=3)
#: Of what stands in a list so much must be entries, or it is something else: a page that says "log in".
LEAST_SHARE = 0.5
#: Events that are compared with new entries, the newest ones.
MOST_EVENTS = 2_000_000
SLICE = 1_000
#: A changed file is compared with past events once the rules have taken it over for those that come.
SETTLE_US = 15_000_000


class Client(Protocol):
    """The guarded way out."""

    def download(
        self, url: str, path: str, *, headers: Mapping[str, str] | None = None, limits: Limits | None = None
    ) -> Answer: ...


class ThreatListKeeper:
    """One a process. add(), remove() and refresh() are for any thread, tend() for one."""

    def __init__(
        self,
        folder: str,
        cache: str,
        store: EventStore,
        client: Client,
        raiser: Raiser,
        permissions: Callable[[], Permissions],
        *,
        declared: Callable[[], Sequence[ThreatListConfig] | None] = lambda: None,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        monotonic: Callable[[], float] = time.monotonic,
        limits: Limits = LIMITS,
    ) -> None:
        """folder: rules/threats; cache: a folder for what is needed between two looks; declared: the lists that the
        configuration names, None while that is not known."""
        self._folder = folder
        self._cache = cache
        self._store = store
        self._client = client
        self._raiser = raiser
        self._permissions = permissions
        self._declared = declared
        self._clock_us = clock_us
        self._monotonic = monotonic
        self._limits = limits
        self._pass_lists: tuple[int, ThreatLists, tuple[str, ...]] | None = None  # of the pass that began then

    # -- what people do

    def add(self, name: str, url: str, every_s: int, doer: Doer) -> None:
        """Follow the list at this URL; raises ConfigError with the reason why not."""
        if not NAME.fullmatch(name):
            raise ConfigError("the name has letters, digits, dots, - and _", key="name")
        if not LEAST_EVERY_S <= every_s <= MOST_EVERY_S:
            raise ConfigError(f"a list is fetched every {LEAST_EVERY_S // 60} minutes at most, every 30 days at least")
        try:
            check_url(url, self._permissions())
        except ConfigError as error:
            raise ConfigError(error.message, key="url") from error
        if len(self._store.threat_lists()) >= MAX_LISTS:
            raise ConfigError(f"there are {MAX_LISTS} lists already")
        if any(os.path.lexists(self._path(name, suffix)) for suffix in SUFFIXES):
            raise ConfigError(f"there is a file of the name {name} in rules/threats", key="name")
        if not self._store.put_threat_list(name, url, every_s, doer):
            raise ConfigError(f"there is a list of the name {name}", key="name")

    def remove(self, name: str, doer: Doer) -> bool:
        """Forget a list that came from a URL, with its file; False: there is none of this name. Raises ConfigError for
        one that the configuration declares."""
        known = {each.name: each for each in self._store.threat_lists()}.get(name)
        if known is None or not known.url:
            return False
        if known.declared:
            raise ConfigError("it is declared in the configuration file; take it out there")
        return self._remove(known, doer)

    def _remove(self, known: ThreatList, doer: Doer | None) -> bool:
        name = known.name
        if not self._store.remove_threat_list(name, doer):
            return False
        for path in (self._path(name, _suffix(known.url)), self._known(name), self._new(name)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        return True

    # -- the job

    def tend(self, stopped: Callable[[], bool] = lambda: False, budget_s: float = 1.0) -> None:
        """Fetch what is due, notice files that have changed, and go on comparing, for about so long."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        os.makedirs(self._cache, mode=0o700, exist_ok=True)
        self._follow_declared()
        for each in self._store.threat_lists():
            early_us = each.next_at - self._clock_us()
            if each.url and not 0 < early_us <= each.every_s * 1_000_000 and not stopped():  # or the clock was put back
                self._fetch(each)
        self._notice_files()
        self._look_back(stopped, self._monotonic() + budget_s)

    def _follow_declared(self) -> None:
        """The lists that the configuration names are followed as it says, and those that it names no more are not."""
        declared = self._declared()
        if declared is None:
            return
        known = {each.name: each for each in self._store.threat_lists()}
        for one in declared:
            every_s, there = one.every_hours * 3600, known.get(one.name)
            if there is None:
                self._store.put_threat_list(one.name, one.url, every_s, declared=True)
            elif (there.url, there.every_s, there.declared) != (one.url, every_s, 1):
                # Another URL: nothing that is known about the copy holds for what stands there.
                anew = {"etag": "", "last_modified": "", "next_at": 0, "failures": 0} if there.url != one.url else {}
                self._store.change_threat_list(one.name, url=one.url, every_s=every_s, declared=1, **anew)
        names = {one.name for one in declared}
        for there in known.values():
            if there.declared and there.name not in names:
                self._remove(there, None)

    def _fetch(self, each: ThreatList) -> None:
        now, got = self._clock_us(), os.path.join(self._cache, f"{each.name}.got")
        path = self._path(each.name, _suffix(each.url))
        headers = {}
        if os.path.exists(path):
            asked = {"if-none-match": each.etag, "if-modified-since": each.last_modified}
            headers = {name: value for name, value in asked.items() if value}
        try:
            answer = self._client.download(each.url, got, headers=headers, limits=self._limits)
            if answer.status == 304:
                self._succeeded(each, now)
                return
            self._check(answer, got, each)
            put_in_place(got, path)
        except (OutboundError, ConfigError, OSError) as error:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(got)
            wait_s = min(each.every_s, FIRST_RETRY_S * 2 ** min(each.failures, 10))
            reason = (str(error) or type(error).__name__)[:300]
            log.warning("the list %s could not be fetched: %s; the last copy stays", each.name, reason)
            self._store.change_threat_list(
                each.name, failures=each.failures + 1, error=reason, next_at=now + wait_s * 1_000_000
            )
            return
        self._succeeded(
            each,
            now,
            etag=_short(answer.headers.get("etag")),
            last_modified=_short(answer.headers.get("last-modified")),
        )

    def _succeeded(self, each: ThreatList, now: int, **more: str) -> None:
        due = now + each.every_s * 1_000_000
        self._store.change_threat_list(each.name, checked_at=now, next_at=due, failures=0, error="", **more)

    @staticmethod
    def _check(answer: Answer, path: str, each: ThreatList) -> None:
        """Raises ConfigError for an answer that is no list."""
        if answer.status != 200:
            raise ConfigError(f"it answered with status {answer.status}")
        entries = _entries(path, csv_file=_suffix(each.url) == ".csv")
        found = ThreatLists({each.name: entries})
        if found.entries == found.ignored:
            raise ConfigError("what it answered holds no address, network, domain or hash")
        if found.ignored > LEAST_SHARE * found.entries:
            raise ConfigError(
                f"what it answered is no list: {found.ignored:,} of {found.entries:,} lines are none of those"
            )

    # -- files

    def _notice_files(self) -> None:
        known = {each.name: each for each in self._store.threat_lists()}
        found: dict[str, tuple[str, str]] = {}
        for entry in sorted(os.scandir(self._folder), key=lambda entry: entry.name):
            name, suffix = os.path.splitext(entry.name)
            if suffix in SUFFIXES and NAME.fullmatch(name) and entry.is_file():
                status = entry.stat()
                found[name] = (entry.path, f"{status.st_mtime_ns}:{status.st_size}")
        for name, (path, seen) in found.items():
            if name not in known and len(known) < MAX_LISTS:
                self._store.put_threat_list(name, "", 0)
                known[name] = next(each for each in self._store.threat_lists() if each.name == name)
            if name in known and known[name].seen != seen:
                self._take_over(known[name], path, seen)
        for name, each in known.items():
            if name not in found and not each.url:
                self._store.remove_threat_list(name)
                for gone in (self._known(name), self._new(name)):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(gone)

    def _take_over(self, each: ThreatList, path: str, seen: str) -> None:
        """A file has changed: what is new in it is to be compared with past events."""
        entries = _entries(path, csv_file=path.endswith(".csv"))
        before = set(_entries(self._known(each.name)))
        new = [entry for entry in entries if entry not in before]
        waiting = _entries(self._new(each.name)) if each.pending else ()
        _write(self._new(each.name), dict.fromkeys((*waiting, *new)))
        self._store.change_threat_list(
            each.name,
            seen=seen,
            entries=len(entries),
            ignored=ThreatLists({each.name: entries}).ignored,
            added=len(new),
            changed_at=self._clock_us(),
            pending=WAITING if new else each.pending,
        )
        # Last: a crash before this finds some entries new once more, and those that are marked stay as they are.
        _write(self._known(each.name), entries)

    # -- past events

    def _look_back(self, stopped: Callable[[], bool], deadline: float) -> None:
        current = self._store.list_pass()
        if current is None or current.ended_at:
            now = self._clock_us()
            waiting = [each for each in self._store.threat_lists() if each.pending]
            if not waiting or any(each.changed_at > now - SETTLE_US for each in waiting):
                return
            self._store.begin_list_pass([each.name for each in waiting], MOST_EVENTS)
            current = self._store.list_pass()
        while current is not None and not current.ended_at and not stopped():
            self._slice(current)
            current = self._store.list_pass()
            if self._monotonic() > deadline:
                return

    def _slice(self, current: ListPass) -> None:
        lists, names = self._of_pass(current)
        past = self._store.past_events(current.next_id, current.low_id, SLICE)
        held = [each for each in past if lists.may_hold(each.raw, each.source_ip)]
        decoded = self._store.decoded(held)
        found = self._late(lists, names, held, decoded)
        marked: dict[str, int] = {}
        for late in found:
            name = late.finding.match.rule_id.removeprefix(RULE_ID)
            marked[name] = marked.get(name, 0) + len(late.event_ids)
        next_id = past[-1].event_id - 1 if past else current.low_id - 1
        ended = self._clock_us() if next_id < current.low_id or not past else 0
        self._raiser.raise_all(
            found,
            lambda connection: move_list_pass(connection, current.next_id, next_id, len(past), marked, ended_at=ended),
        )
        if ended:
            self._pass_lists = None
            for each in self._store.threat_lists():
                if not each.pending:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self._new(each.name))

    def _of_pass(self, current: ListPass) -> tuple[ThreatLists, tuple[str, ...]]:
        """The new entries that this pass is about; read once."""
        if self._pass_lists is None or self._pass_lists[0] != current.started_at:
            names = tuple(each.name for each in self._store.threat_lists() if each.pending)
            lists = ThreatLists({name: _entries(self._new(name)) for name in names})
            self._pass_lists = (current.started_at, lists, names)
        return self._pass_lists[1:]

    def _late(
        self, lists: ThreatLists, names: Sequence[str], past: Sequence[Past], decoded: Sequence[Decoded]
    ) -> list[Late]:
        """The hits of one slice, the oldest event first, without those that are stored."""
        order = range(len(past) - 1, -1, -1)
        matches = lists.matches([(decoded[at], past[at].timestamp_us) for at in order])
        ids = [past[at].event_id for at in order]
        already = self._store.marked_already(ids, [RULE_ID + name for name in names]) if matches else set()
        found = []
        for hit in matches:
            places = [at for at in hit.positions if (ids[at], hit.rule_id) not in already]
            by_source: dict[int, list[int]] = {}
            for at in places:
                by_source.setdefault(past[order[at]].source_id, []).append(at)
            for of_source in by_source.values():
                last = past[order[of_source[-1]]]
                event = decoded[order[of_source[-1]]]
                match = replace(hit, count=len(of_source), positions=())
                outcome = str(event.fields.get("event.outcome", ""))
                ends = (last.event_id, ids[of_source[0]])
                finding = Finding(match, *ends, last.source_id, outcome, last.category)
                event_ids = tuple(ids[at] for at in of_source)
                severities = tuple((ids[at], total(of_event(decoded[order[at]], [raised(hit)]))) for at in of_source)
                found.append(Late(finding, event_ids, event, last.source, last.case, severities))
        return found

    def _path(self, name: str, suffix: str) -> str:
        return os.path.join(self._folder, name + suffix)

    def _known(self, name: str) -> str:
        return os.path.join(self._cache, name + ".known")

    def _new(self, name: str) -> str:
        return os.path.join(self._cache, name + ".new")


def _suffix(url: str) -> str:
    return ".csv" if url.partition("?")[0].lower().endswith(".csv") else ".txt"


def _short(header: str | None) -> str:
    """A header as it is sent back; one that is absurd is not."""
    return header if header is not None and len(header) <= 200 and header.isprintable() else ""


def _entries(path: str, *, csv_file: bool = False) -> tuple[str, ...]:
    """The entries of a file; none without it."""
    try:
        with open(path, "rb") as file:
            return parse_list(file.read(LIMITS.body_bytes).decode("utf-8", "replace"), csv_file=csv_file)
    except FileNotFoundError:
        return ()


def _write(path: str, entries: Iterable[str]) -> None:
    temporary = f"{path}.{os.getpid()}.part"
    with open(temporary, "w", encoding="utf-8") as file:
        file.writelines(entry + "\n" for entry in entries)
        file.flush()
        os.fsync(file.fileno())
    put_in_place(temporary, path)
