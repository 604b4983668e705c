"""RuleLibrary: the rules that ThreatLens ships and the user's own in the data folder, read again when they change.

Loading and compiling happen in whoever calls poll(), never in the thread that stores: that one is handed a finished
engine. A rule that cannot run is a problem with file and line and harms no other.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from threatlens.analyzers.novelty import KINDS, LEVEL
from threatlens.analyzers.volume import LEVEL as VOLUME_LEVEL
from threatlens.analyzers.volume import RULES as VOLUME_RULES
from threatlens.detectors import (
    BUILTIN,
    DetectionEngine,
    Problem,
    Rule,
    RuleSet,
    compile_text,
    load_rules,
    load_tables,
)
from threatlens.detectors.documents import DocumentError, read_documents
from threatlens.detectors.geo import GeoFolder
from threatlens.detectors.lists import load_lists
from threatlens.detectors.threats import ThreatLists
from threatlens.durable import put_in_place
from threatlens.errors import RuleFileError
from threatlens.settings import Settings
from threatlens.store import EventStore

#: Seconds between two looks at the folder by pages.
LOOK_S = 1.0
MAX_LIST_BYTES = 1 << 20
_LIST_NAME = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,100}\.ya?ml")


@dataclass(frozen=True, slots=True)
class Advice:
    """What a rule says to people."""

    title: str
    level: str
    description: str = ""
    explanation: str = ""
    recommendations: tuple[str, ...] = ()
    false_positives: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was read, and from which state of the files."""

    rules: tuple[Rule, ...]
    problems: tuple[Problem, ...]
    off: frozenset[str]
    lists: Mapping[str, tuple[str, ...]]
    fingerprint: tuple[Any, ...]


class RuleLibrary:
    """One a process; may be asked by several threads."""

    def __init__(
        self,
        settings: Settings,
        store: EventStore,
        *,
        roots: Sequence[str] | None = None,
        geo: GeoFolder | None = None,
        own: Mapping[str, Advice] = MappingProxyType({}),
    ) -> None:
        """own: what ThreatLens says about alerts that come of no rule's file, by their rule_id."""
        self.folder = os.path.join(settings.data, "rules")
        self.lists_folder = os.path.join(self.folder, "lists")
        self.roots = tuple(roots) if roots is not None else (BUILTIN, self.folder)
        self.cache = os.path.join(settings.data, "cache", "rules.json")
        self._store = store
        self.geo = geo if geo is not None else GeoFolder(os.path.join(settings.data, "geo"))
        self._lock = threading.Lock()
        self._loaded: Loaded | None = None
        self._looked_s = float("-inf")
        self._advice: dict[tuple[str, int], dict[str, Advice]] = {}
        self._own = own
        self._tracer: tuple[tuple[Any, ...], DetectionEngine] | None = None

    # -- what is there

    def loaded(self) -> Loaded:
        """The rules as the files are now, or were a second ago; raises StoreUnavailable."""
        with self._lock:
            if self._loaded is None or time.monotonic() - self._looked_s > LOOK_S:
                self._looked_s = time.monotonic()
                self._read()
            assert self._loaded is not None  # noqa: S101 - _read() has set it
            return self._loaded

    def _read(self) -> bool:
        states = self._store.rule_states()
        off = frozenset(rule_id for rule_id, state in states.items() if state == "off")
        fingerprint = (self._files(), off)
        if self._loaded is not None and fingerprint == self._loaded.fingerprint:
            return False
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        found = load_rules(self.roots, cache=self.cache)
        self._loaded = Loaded(found.rules, found.problems, off, self._lists(), fingerprint)
        return True

    def _files(self) -> tuple[tuple[str, int, int], ...]:
        """Name, time and size of every file that matters."""
        found = []
        for root in self.roots:
            for folder, folders, names in os.walk(root):
                folders.sort()
                for name in sorted(names):
                    path = os.path.join(folder, name)
                    try:
                        status = os.stat(path)
                    except OSError:
                        continue
                    found.append((path, status.st_mtime_ns, status.st_size))
        return (*found, *self.geo.files)

    def _lists(self) -> dict[str, tuple[str, ...]]:
        lists = {}
        if os.path.isdir(self.lists_folder):
            for name in sorted(os.listdir(self.lists_folder)):
                if name.endswith(".txt"):
                    lists[name[:-4]] = self.list_entries(name[:-4])
        return lists

    def engine(self, *, only: str = "") -> DetectionEngine:
        """A new engine with the rules that are not off; with `only`, that rule and what it counts, on or off."""
        loaded = self.loaded()
        rules = tuple(rule for rule in loaded.rules if rule.id not in loaded.off)
        if only:
            rules = tuple(family(loaded.rules, only))
        threats, geo = (None, None) if only else (self._threats(), self.geo)
        return DetectionEngine(
            RuleSet(rules, loaded.problems),
            load_tables(),
            lists=loaded.lists,
            threats=threats,
            enrich=geo.enrich if geo is not None and geo.current() is not None else None,
        )

    def tracer(self) -> DetectionEngine:
        """An engine with the rules as they are now, for one who asks about single events; it remembers nothing."""
        fingerprint = self.loaded().fingerprint
        with self._lock:
            known = self._tracer
        if known is None or known[0] != fingerprint:
            known = (fingerprint, self.engine())
            with self._lock:
                self._tracer = known
        return known[1].twin()

    def _threats(self) -> ThreatLists | None:
        """The lists of what is bad, from the folder "threats" beside the rules; None without one."""
        folder = os.path.join(self.folder, "threats")
        return ThreatLists(load_lists(folder)) if os.path.isdir(folder) else None

    def rule(self, rule_id: str) -> Rule | None:
        """One rule by its id."""
        return next((rule for rule in self.loaded().rules if rule.id == rule_id), None)

    def is_own(self, path: str) -> bool:
        """Whether the file is the user's, to be edited."""
        return os.path.realpath(path).startswith(os.path.join(os.path.realpath(self.folder), ""))

    def short_path(self, path: str) -> str:
        """The file as pages name it, without the machine's folders."""
        for root, name in ((BUILTIN, "shipped"), (self.folder, "rules")):
            if path.startswith(root + os.sep):
                return os.path.join(name, os.path.relpath(path, root))
        return os.path.basename(path)

    def text(self, rule: Rule) -> str:
        """The rule's file; "" when it cannot be read."""
        try:
            with open(rule.path, encoding="utf-8", errors="replace") as file:
                return file.read(1 << 20)
        except OSError:
            return ""

    def advice(self, rule_id: str) -> Advice | None:
        """What a rule says to people; None for one that is gone."""
        if rule_id in self._own:
            return self._own[rule_id]
        for novel_id, title, _, explanation in KINDS.values():
            if novel_id == rule_id:
                recommendation = (
                    "Ask the person. If it was them, close this; if not, end the session and change the password."
                )
                return Advice(title, LEVEL, "", explanation, (recommendation,) if "login" in title.lower() else ())
        volume = VOLUME_RULES.get(rule_id)
        if volume is not None:
            return Advice(volume.title, VOLUME_LEVEL, "", volume.explanation, volume.recommendations)
        rule = self.rule(rule_id)
        if rule is None:
            return None
        try:
            key = (rule.path, os.stat(rule.path).st_mtime_ns)
            known = self._advice.get(key)
            if known is None:
                with open(rule.path, "rb") as file:
                    known = {str(document.value.get("id", "")): _advice(document.value) for document in
                             read_documents(file.read())}  # fmt: skip
                if len(self._advice) > 2_000:
                    self._advice.clear()
                self._advice[key] = known
        except (OSError, DocumentError):
            known = {}
        return known.get(rule_id) or Advice(rule.name, rule.level)

    # -- changes by people

    def check(self, text: str, *, path: str = "rule.yml") -> tuple[tuple[Rule, ...], tuple[Problem, ...]]:
        """What a text would load as, saved nowhere; rules of other files can be referred to."""
        rules, problems = compile_text(text, path)
        if not rules and not problems:
            problems.append(Problem(path, 0, "holds no rule"))
        names = [rule.id for rule in rules]
        loaded = self.loaded()
        others = tuple(rule for rule in loaded.rules if rule.id not in names)
        linked = DetectionEngine(RuleSet((*rules, *others)), load_tables(), lists=loaded.lists)
        problems += [problem for problem in linked.problems if problem.rule_id in names]
        return tuple(rules), tuple(problems)

    def save(self, name: str, text: str) -> tuple[Rule, ...]:
        """Write a file of rules into the user's folder; raises RuleFileError for what cannot be a rule file."""
        if not _FILE_NAME.fullmatch(name):
            msg = "the file's name has letters, digits, dots, - and _ and ends in .yml"
            raise RuleFileError(msg)
        rules, problems = self.check(text, path=name)
        broken = [problem for problem in problems if problem.broken]
        if broken:
            raise RuleFileError(f"line {broken[0].line}: {broken[0].reason}" if broken[0].line else broken[0].reason)
        path = os.path.join(self.folder, name)
        elsewhere = {
            rule.id: rule for rule in self.loaded().rules if os.path.realpath(rule.path) != os.path.realpath(path)
        }
        for rule in rules:
            if rule.id in elsewhere:
                where = self.short_path(elsewhere[rule.id].path)
                raise RuleFileError(f"the id {rule.id} belongs to the rule in {where}; a copy needs an id of its own")
        self._write(path, text.encode("utf-8", "replace"))
        return rules

    def remove(self, rule: Rule) -> None:
        """Delete the user's file that holds this rule; raises RuleFileError for a shipped one."""
        if not self.is_own(rule.path):
            msg = "a shipped rule cannot be removed; switch it off"
            raise RuleFileError(msg)
        os.unlink(rule.path)
        self._forget()

    def list_entries(self, name: str) -> tuple[str, ...]:
        """The entries of a list that rules expand, without empty lines and comments."""
        try:
            with open(os.path.join(self.lists_folder, name + ".txt"), encoding="utf-8", errors="replace") as file:
                lines = file.read(MAX_LIST_BYTES).splitlines()
        except OSError:
            return ()
        return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))

    def save_list(self, name: str, text: str) -> None:
        """Write a list; raises RuleFileError for a name that cannot be one."""
        if not _LIST_NAME.fullmatch(name) or name.startswith("."):
            msg = "the list's name has letters, digits, dots, - and _"
            raise RuleFileError(msg)
        if len(text.encode("utf-8", "replace")) > MAX_LIST_BYTES:
            msg = f"a list may have {MAX_LIST_BYTES:,} bytes"
            raise RuleFileError(msg)
        os.makedirs(self.lists_folder, mode=0o700, exist_ok=True)
        self._write(os.path.join(self.lists_folder, name + ".txt"), text.encode("utf-8", "replace"))

    def _write(self, path: str, content: bytes) -> None:
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        temporary = f"{path}.{os.getpid()}.part"
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        put_in_place(temporary, path)
        self._forget()

    def _forget(self) -> None:
        with self._lock:
            self._looked_s = float("-inf")


class RuleWatch:
    """Hands a new engine over whenever the rules have changed."""

    def __init__(self, library: RuleLibrary, offer: Callable[[DetectionEngine], None]) -> None:
        self._library = library
        self._offer = offer
        self._fingerprint: tuple[Any, ...] = ()

    def poll(self) -> bool:
        """Look at the rules; whether they have changed."""
        fingerprint = self._library.loaded().fingerprint
        if fingerprint == self._fingerprint:
            return False
        self._offer(self._library.engine())
        self._fingerprint = fingerprint
        return True


def family(rules: Sequence[Rule], rule_id: str) -> list[Rule]:
    """This rule and, for a correlation, the rules that it counts, and those that they count."""
    by_reference = {reference: rule for rule in rules for reference in (rule.reference, rule.id) if reference}
    found: dict[str, Rule] = {}
    waiting = [rule_id]
    while waiting:
        rule = by_reference.get(waiting.pop())
        if rule is not None and rule.id not in found:
            found[rule.id] = rule
            waiting += rule.correlation.rules if rule.correlation else ()
    return list(found.values()) + [rule for rule in rules if rule.kind == "filter"]


def _advice(document: Mapping[str, Any]) -> Advice:
    extra = document.get("threatlens")
    extra = extra if isinstance(extra, dict) else {}
    return Advice(
        str(document.get("title", "")),
        str(document.get("level", "")),
        str(document.get("description", "") or ""),
        str(extra.get("explanation", "") or ""),
        _texts(extra.get("recommendations")),
        _texts(document.get("falsepositives")),
        _texts(document.get("references")),
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(each) for each in value) if isinstance(value, list) else ()
