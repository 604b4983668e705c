"""The self-test: every rule fires on its own samples, every decoder reads its own, and what is missing has a name."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import Any

import pytest

from threatlens.coverage import Coverage, needs, source_name, try_all
from threatlens.coverage_apart import Order
from threatlens.coverage_keeper import AGAIN_S, DAY_S, PATIENCE_S, CoverageKeeper
from threatlens.decoders import DECODERS, SourceDecoder
from threatlens.decoders.source import Registry
from threatlens.detectors import load_tables
from threatlens.detectors.logsources import LogSources
from threatlens.detectors.rule import LogSource
from threatlens.event import EventFilter
from threatlens.habits_keeper import HabitKeeper
from threatlens.own_decoders import OwnDecoders
from threatlens.rule_library import RuleLibrary
from threatlens.store_accounts import Doer

RULE = """title: A door that opens
id: 7c2f0c5e-4a57-4f4c-9d7f-0d8c6d1f0001
level: high
logsource: {product: linux, service: doord}
detection: {sel: {message|contains: opened by}, condition: sel}
threatlens:
  explanation: A door.
  recommendations: [Close it.]
  matching: ["Nov 23 06:51:07 web1 doord[7]: front door opened by root"]
  decoys: ["Nov 23 06:51:07 web1 doord[7]: front door closed"]
"""
DECODER = "name: shop.gate\npattern: gate (?P<user>[a-z]+) refused\ncategory: authentication\n"
READ_AT_S = 1_795_700_000.0
SOMEBODY = Doer("lena", "192.0.2.7", "r-1")


class OneRegistry:
    """Own decoders, as the keeper asks for them."""

    folder = ""

    def __init__(self, *members: Any) -> None:
        self.of = Registry(members or DECODERS)

    def registry(self) -> Registry:
        return self.of


class Hands:
    """A clock that is moved by hand."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def library(settings: Any, store: Any) -> RuleLibrary:
    found = RuleLibrary(settings, store, roots=[os.path.join(settings.data, "rules")])
    os.makedirs(found.folder)
    found.save("door.yml", RULE)
    return found


def keeper(library: RuleLibrary, store: Any, registry: OneRegistry, folder: Any, hands: Hands) -> CoverageKeeper:
    habits = HabitKeeper(store, None)  # type: ignore[arg-type]

    def here(_order: Order, stopped: Any) -> Coverage | None:
        """In this process, which is quicker."""
        return (
            None if stopped(0.0) else try_all(library.loaded(), library.roots, registry.of, samples_folder=str(folder))
        )

    return CoverageKeeper(library, registry, habits, samples_folder=str(folder), trying=here, monotonic=hands)  # type: ignore[arg-type]


def never(_wait_s: float) -> bool:
    return False


def test_every_shipped_rule_and_decoder_passes_as_it_is_loaded(settings: Any, store: Any) -> None:
    library = RuleLibrary(settings, store)

    found = try_all(library.loaded(), library.roots, Registry(DECODERS))

    assert (found.failing, found.decoders_failing, found.untested) == ((), (), 0)
    assert found.rules > 250
    assert found.decoder_samples > 500
    assert found.sentence(["web"]).startswith(f"{found.rules} of {found.rules} rules can fire; ")
    assert not store.page(EventFilter(), limit=1), "nothing of it is stored"
    assert not store.detections(limit=1)
    assert not store.incidents(limit=1)


def test_what_no_source_provides_is_named(library: RuleLibrary, tmp_path: Any) -> None:
    found = try_all(library.loaded(), library.roots, Registry(DECODERS), samples_folder=str(tmp_path / "none"))

    assert found.sentence([]) == "1 of 1 rules can fire; 1 cannot here because no source provides linux doord"
    assert found.sentence(["linux doord"]) == "1 of 1 rules can fire"
    (rule,) = library.loaded().rules
    assert found.as_json([])["absent"] == {rule.id: "linux doord"}


def test_what_comes_is_found_by_what_was_stored(library: RuleLibrary, store: Any, tmp_path: Any) -> None:
    watch = keeper(library, store, OneRegistry(), tmp_path, Hands())
    watch.poll(never)
    assert watch._habits.provided() == frozenset()

    line = "Nov 23 06:51:07 web1 doord[7]: front door closed"
    watch._habits.take(1, [SourceDecoder().decode(line, READ_AT_S)], [line], 1)

    assert watch._habits.provided() == {"linux doord"}
    assert next(iter(watch.health())).reason == "1 of 1 rules can fire"


def test_a_rule_that_cannot_fire_degrades_health_by_its_name(library: RuleLibrary, store: Any, tmp_path: Any) -> None:
    watch = keeper(library, store, OneRegistry(), tmp_path, Hands())
    assert next(iter(watch.health())).state == "starting"
    watch.poll(never)
    assert next(iter(watch.health())).state == "ok"

    library.save("door.yml", RULE.replace("contains: opened by", "contains: opend by"))
    assert watch.poll(never)

    (part,) = watch.health()
    assert part.state == "degraded"
    assert "1 of 1 rules cannot fire: A door that opens (its own sample does not match)" in part.reason
    assert watch.as_json()["failing"][0]["name"] == "A door that opens"


def test_a_filter_that_holds_a_rule_back_is_found(library: RuleLibrary, store: Any, tmp_path: Any) -> None:
    library.save(
        "filter.yml",
        "title: Doors are fine\nid: 7c2f0c5e-4a57-4f4c-9d7f-0d8c6d1f0002\nlogsource: {product: linux, service: doord}\n"
        "filter:\n  rules: [7c2f0c5e-4a57-4f4c-9d7f-0d8c6d1f0001]\n  sel: {message|contains: door}\n"
        "  condition: not sel\n",
    )
    watch = keeper(library, store, OneRegistry(), tmp_path, Hands())
    watch.poll(never)
    assert "a filter may hold it back" in next(iter(watch.health())).reason


def test_it_is_tried_at_the_start_after_changes_and_once_a_day(library: RuleLibrary, store: Any, tmp_path: Any) -> None:
    hands, registry = Hands(), OneRegistry()
    watch = keeper(library, store, registry, tmp_path, hands)
    assert watch.poll(never)
    assert not watch.poll(never)

    registry.of = Registry(DECODERS)  # somebody made a decoder
    assert watch.poll(never)
    store.set_rule_states({"7c2f0c5e-4a57-4f4c-9d7f-0d8c6d1f0001": "off"}, SOMEBODY)
    library._forget()
    assert watch.poll(never)
    assert watch.newest is not None
    assert (watch.newest.rules, watch.newest.off) == (0, 1)
    hands.now += DAY_S
    assert watch.poll(never)
    assert not watch.poll(never)


def test_a_process_of_its_own_tries_what_is_loaded_own_decoders_lists_and_filters_too(
    settings: Any, library: RuleLibrary, store: Any, tmp_path: Any
) -> None:
    own = OwnDecoders(settings.decoders_folder)
    own.save(DECODER)
    library.save_list("doors", "front\n")
    library.save("front.yml", RULE.replace("0001", "0003").replace("contains: opened by", "contains|expand: '%doors%'"))
    library.save("back.yml", RULE.replace("0001", "0004").replace("contains: opened by", "contains: back door"))
    watch = CoverageKeeper(library, own, HabitKeeper(store, None), samples_folder=str(tmp_path))  # type: ignore[arg-type]

    assert watch.poll(threading.Event().wait)

    found = watch.newest
    assert found is not None
    assert found.rules == 3
    assert [failure.id[-1] for failure in found.failing] == ["4"]
    assert found.decoders == len(own.registry().by_name)
    assert found == try_all_again(found, library, own, tmp_path)


def try_all_again(found: Coverage, library: RuleLibrary, own: OwnDecoders, tmp_path: Any) -> Coverage:
    """The same in this process."""
    here = try_all(library.loaded(), library.roots, own.registry(), samples_folder=str(tmp_path))
    return replace(here, at_us=found.at_us, seconds=found.seconds)


def test_a_process_that_comes_to_nothing_is_tried_again_later_and_said(library: RuleLibrary, store: Any) -> None:
    hands = Hands()
    tried: list[Order] = []
    watch = CoverageKeeper(
        library, OneRegistry(), HabitKeeper(store, None), monotonic=hands,  # type: ignore[arg-type]
        trying=lambda order, _stopped: tried.append(order),  # type: ignore[arg-type, return-value]
    )  # fmt: skip
    assert not watch.poll(never)
    assert not watch.poll(never)
    assert len(tried) == 1
    hands.now += AGAIN_S
    assert not watch.poll(never)
    assert len(tried) == 2


def test_a_stop_ends_it(library: RuleLibrary, store: Any, tmp_path: Any) -> None:
    watch = keeper(library, store, OneRegistry(), tmp_path, Hands())
    assert not watch.poll(lambda _wait_s: True)
    assert watch.newest is None
    assert watch.poll(never), "it is tried again"


def test_a_decoder_that_reads_its_sample_otherwise_is_named(library: RuleLibrary, store: Any, tmp_path: Any) -> None:
    (tmp_path / "sshd.log").write_text(
        '# A wrong password.\n#= {"log.format": "sshd", "user.name": "bob"}\n'
        "Nov 23 06:51:07 web1 sshd[1]: Failed password for root from 203.0.113.9 port 5 ssh2\n"
    )
    watch = keeper(library, store, OneRegistry(), tmp_path, Hands())
    watch.poll(never)

    assert next(iter(watch.health())).reason == "formats that are not read as they should be: sshd"
    assert watch.newest is not None
    assert watch.newest.decoders_failing[0].reason == "line 3: user.name is 'root', not 'bob'"


def test_a_correlation_needs_what_the_rules_it_counts_need(settings: Any, store: Any) -> None:
    library = RuleLibrary(settings, store)
    loaded = library.loaded()
    named = {name: rule for rule in loaded.rules for name in (rule.id, rule.reference) if name}
    correlation = next(rule for rule in loaded.rules if rule.correlation is not None)

    bases = [named[name] for name in correlation.correlation.rules if named[name].correlation is None]
    assert {source_name(base.logsource) for base in bases} <= set(needs(correlation, named))
    assert source_name(LogSource("linux", None, "auditd")) == "linux auditd"


def test_log_sources_are_told_apart_by_what_events_carry() -> None:
    sources = LogSources(load_tables().logsources)
    line = "Nov 23 06:51:07 web1 sshd[1]: Failed password for root from 203.0.113.9 port 5 ssh2"
    kinds = sources.of(SourceDecoder().decode(line, READ_AT_S))
    assert kinds.meets(LogSource("linux", None, "sshd"))
    assert not kinds.meets(LogSource("linux", None, "auditd"))


def test_names_are_bounded_in_what_is_told() -> None:
    many = Coverage(0, 0.0, 9, (), 0, 0, 1, 1, (), {str(n): (f"linux s{n}",) for n in range(9)})
    assert many.sentence([]).endswith("no source provides linux s0, linux s1, linux s2, linux s3 and 5 more")


def test_lines_that_wait_for_room_go_before_the_trial_for_a_while(
    library: RuleLibrary, store: Any, tmp_path: Any
) -> None:
    hands = Hands()
    watch = keeper(library, store, OneRegistry(), tmp_path, hands)
    assert not watch.poll(never, busy=True)
    hands.now += PATIENCE_S - 1
    assert not watch.poll(never, busy=True)
    hands.now += 1
    assert watch.poll(never, busy=True), "a backlog that does not end is no reason never to try"
    hands.now += DAY_S
    assert not watch.poll(never, busy=True), "the next trial is put off anew"
    assert watch.poll(never)
