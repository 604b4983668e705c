"""Every kind of correlation of the Sigma specification, written from it: what fires, when, and for which group."""

from __future__ import annotations

import random

import pytest
from rule_texts import event

BASES = """
title: A
id: aaaaaaaa-1111-4111-8111-111111111111
name: a
level: informational
logsource: {category: test}
detection: {sel: {kind: a}, condition: sel}
---
title: B
id: bbbbbbbb-1111-4111-8111-111111111111
name: b
level: informational
logsource: {category: test}
detection: {sel: {kind: b}, condition: sel}
---
title: C
id: cccccccc-1111-4111-8111-111111111111
name: c
level: informational
logsource: {category: test}
detection: {sel: {kind: c}, condition: sel}
---
title: Together
id: 22222222-2222-4222-8222-222222222222
level: high
correlation:
"""


def correlation(text: str) -> str:
    return BASES + "\n".join("  " + line for line in text.strip().splitlines()) + "\n"


def happen(kinds: str, *, step_s: float = 1.0, **fields):
    """One event per letter, a second apart."""
    return [event({"kind": kind, "ip": "x", **fields}, at_s=number * step_s) for number, kind in enumerate(kinds)]


COUNT = "type: event_count\nrules: a\ngroup-by: ip\ntimespan: 10s\ncondition: {%s}"
TEMPORAL = "type: temporal\nrules: [a, b, c]\ngroup-by: [ip]\ntimespan: 10s"
ORDERED = "type: temporal_ordered\nrules: [a, b, c]\ngroup-by: [ip]\ntimespan: 10s"

FIRES = [
    (COUNT % "gte: 3", "aa", 1, False),
    (COUNT % "gte: 3", "aaa", 1, True),
    (COUNT % "gt: 3", "aaa", 1, False),
    (COUNT % "gt: 3", "aaaa", 1, True),
    (COUNT % "gte: 3", "aba", 1, False),
    (COUNT % "gte: 3", "aaa", 4.9, True),
    (COUNT % "gte: 3", "aaa", 5.1, False),
    (COUNT.replace("rules: a", "rules: [a, b]") % "gte: 3", "aba", 1, True),
    # judged when the window is over
    (COUNT % "eq: 2", "aa", 1, True),
    (COUNT % "eq: 2", "aaa", 1, False),
    (COUNT % "neq: 2", "aaa", 1, True),
    (COUNT % "lt: 3", "aa", 1, True),
    (COUNT % "lt: 3", "aaa", 1, False),
    (COUNT % "lte: 3", "aaa", 1, True),
    # temporal: all of them, in any order
    (TEMPORAL, "abc", 1, True),
    (TEMPORAL, "cba", 1, True),
    (TEMPORAL, "aabb", 1, False),
    (TEMPORAL, "abc", 6, False),
    (TEMPORAL, "bbbbbbbbbac", 1, True),
    # temporal_ordered: in the order of the list, others may come between
    (ORDERED, "abc", 1, True),
    (ORDERED, "aabxbc", 1, True),
    (ORDERED, "cba", 1, False),
    (ORDERED, "acb", 1, False),
    (ORDERED, "acbc", 1, True),
    (ORDERED, "abc", 6, False),
    # extended conditions
    ("type: temporal\ngroup-by: [ip]\ntimespan: 10s\ncondition: a and b", "ba", 1, True),
    ("type: temporal\ngroup-by: [ip]\ntimespan: 10s\ncondition: a and (b or c)", "ac", 1, True),
    ("type: temporal\ngroup-by: [ip]\ntimespan: 10s\ncondition: a and (b or c)", "bc", 1, False),
    ("type: temporal\ngroup-by: [ip]\ntimespan: 10s\ncondition: a and not b", "a", 1, True),
    ("type: temporal\ngroup-by: [ip]\ntimespan: 10s\ncondition: c and not b", "bc", 1, False),
    ("type: temporal_ordered\ngroup-by: [ip]\ntimespan: 10s\ncondition: a and b", "ab", 1, True),
    ("type: temporal_ordered\ngroup-by: [ip]\ntimespan: 10s\ncondition: a and b", "ba", 1, False),
    # no group-by: all events are one group
    ("type: event_count\nrules: a\ntimespan: 10s\ncondition: {gte: 3}", "aaa", 1, True),
]


@pytest.mark.parametrize(("text", "kinds", "step_s", "wanted"), FIRES, ids=lambda value: str(value)[:40])
def test_a_correlation_fires(engine, text, kinds, step_s, wanted):
    made = engine(correlation(text))
    matches = [*made.detect(happen(kinds, step_s=step_s)).matches, *made.finish().matches]

    assert any(match.rule_name == "Together" for match in matches) is wanted
    asked = text.partition("rules: ")[2].partition("\n")[0]
    assert not [match for match in matches if match.rule_name.lower() in asked], "what it is about is not told of"


VALUES = [
    ("value_count", "gte: 3, field: v", ["x", "y", "z"], True),
    ("value_count", "gte: 3, field: v", ["x", "y", "y", "x"], False),
    ("value_count", "gte: 3, field: v", ["x", "y", None], False),
    ("value_sum", "gte: 100, field: v", [50, 49], False),
    ("value_sum", "gte: 100, field: v", [50, 49.5, 0.5], True),
    ("value_sum", "gt: 100, field: v", ["abc", 101], True),
    ("value_avg", "gt: 10, field: v", [10, 10, 9], False),
    ("value_avg", "gt: 10, field: v", [5, 16], True),
    ("value_avg", "lt: 3, field: v", [2, 2], True),
    ("value_median", "gte: 5, field: v", [1, 2, 9], False),
    ("value_median", "gte: 5, field: v", [1, 5, 9], True),
    ("value_median", "gte: 5, field: v", [1, 9], True),
    ("value_percentile", "gte: 9, field: v, percentile: 90", [1, 1, 1, 1], False),
    ("value_percentile", "gte: 9, field: v, percentile: 90", [1, 2, 3, 4, 100], True),
    ("value_count", "gte: 2, field: [v, kind]", ["x", "x"], False),
    ("value_count", "gte: 2, field: [v, kind]", ["x", "y"], True),
]


@pytest.mark.parametrize(("kind", "condition", "values", "wanted"), VALUES, ids=str)
def test_values_are_counted_and_added_up(engine, kind, condition, values, wanted):
    made = engine(correlation(f"type: {kind}\nrules: a\ngroup-by: ip\ntimespan: 1m\ncondition: {{{condition}}}"))
    fields = [{"kind": "a", "ip": "x"} | ({} if value is None else {"v": value}) for value in values]
    events = [event(each, at_s=number) for number, each in enumerate(fields)]

    assert bool([*made.detect(events).matches, *made.finish().matches]) is wanted


def test_groups_are_kept_apart(engine):
    made = engine(correlation(COUNT % "gte: 2"))
    events = [event({"kind": "a", "ip": ip}, at_s=at) for at, ip in enumerate("xyxy")]

    assert [match.group for match in made.detect(events).matches] == [(("ip", "x"),), (("ip", "y"),)]


def test_an_event_without_the_field_of_a_group_is_in_no_group(engine):
    made = engine(correlation(COUNT % "gte: 2"))

    assert not made.detect([event({"kind": "a"}, at_s=at) for at in range(5)]).matches


def test_an_alias_brings_fields_of_different_names_together(engine):
    text = "type: temporal\nrules: [a, b]\ngroup-by: [who]\ntimespan: 10s\naliases: {who: {a: src, b: dst}}"
    made = engine(correlation(text))
    one, other = event({"kind": "a", "src": "x"}), event({"kind": "b", "src": "y", "dst": "x"})

    (match,) = made.detect([one, other]).matches
    assert match.group == (("who", "x"),)


def test_generate_tells_of_the_rules_as_well(engine):
    made = engine(correlation(COUNT % "gte: 2" + "\ngenerate: true"))

    assert [match.rule_name for match in made.detect(happen("aa")).matches] == ["A", "A", "Together"]


@pytest.mark.parametrize("text", [COUNT % "gte: 3", TEMPORAL, ORDERED])
def test_late_lines_take_their_place(engine, text):
    """In whatever order the lines arrive, the group fires."""
    rng = random.Random(3)
    kinds = "aaa" if "count" in text else "abc"
    for _ in range(20):
        events = happen(kinds, step_s=3)
        rng.shuffle(events)
        assert engine(correlation(text)).detect(events).matches


def test_a_late_line_completes_a_window_that_lies_back(engine):
    made = engine(correlation(COUNT % "gte: 3"))
    at = [0, 5, 15, 2]

    (match,) = made.detect([event({"kind": "a", "ip": "x"}, at_s=second) for second in at]).matches
    assert (match.first_us, match.timestamp_us) == (0, 5_000_000)


def test_a_line_that_is_far_behind_does_not_open_a_new_attack(engine):
    made = engine(correlation(COUNT % "gte: 3"))
    made.detect([event({"kind": "a", "ip": "x"}, at_s=1_000 + at) for at in range(2)])

    assert not made.detect([event({"kind": "a", "ip": "x"}, at_s=0)]).matches


def test_a_new_attack_after_a_pause_is_told_of_anew(engine):
    made = engine(correlation(COUNT % "gte: 3"))
    first = made.detect(happen("aaa")).matches
    second = made.detect([event({"kind": "a", "ip": "x"}, at_s=100 + at) for at in range(3)]).matches

    assert [(match.count, match.again) for match in (*first, *second)] == [(3, False), (3, False)]


def test_a_steady_attack_is_told_of_once_per_window(engine):
    made = engine(correlation(COUNT % "gte: 3"))
    events = [event({"kind": "a", "ip": "x"}, at_s=at) for at in range(1000)]
    matches = made.detect(events).matches

    assert not matches[0].again
    assert all(match.again for match in matches[1:])
    assert 90 <= len(matches) <= 110


PROBLEMS = [
    ("type: event_count\nrules: nobody\ntimespan: 10s\ncondition: {gte: 3}", "'nobody'"),
    ("type: event_count\nrules: a\ntimespan: 0s\ncondition: {gte: 3}", "greater than zero"),
    ("type: event_count\nrules: a\ntimespan: 1000y\ncondition: {gte: 3}", "at most 366 days"),
    ("type: event_count\nrules: a\ntimespan: 10s\ncondition: {gte: -1}", "from 1 to"),
    ("type: event_count\nrules: a\ntimespan: 10s\ncondition: {gte: 0}", "from 1 to"),
    ("type: event_count\nrules: a\ntimespan: 10s\ncondition: {gte: 1e12}", "from 1 to"),
    ("type: event_count\nrules: a\ncondition: {gte: 3}", "without timespan"),
    ("type: value_count\nrules: a\ntimespan: 10s\ncondition: {gte: 3}", "without field reference"),
    ("type: magic\nrules: a\ntimespan: 10s\ncondition: {gte: 3}", "correlation type"),
    ("type: temporal\ntimespan: 10s\ncondition: a and (b", "extended condition"),
    ("type: temporal\nrules: [a, 22222222-2222-4222-8222-222222222222]\ntimespan: 10s", "about itself"),
    ("type: value_percentile\nrules: a\ntimespan: 10s\ncondition: {gte: 3, field: v, percentile: 101}", "0 to 100"),
]


@pytest.mark.parametrize(("text", "said"), PROBLEMS, ids=lambda value: str(value)[:50])
def test_a_correlation_that_cannot_run_says_why(tables, text, said):
    from rule_texts import rule_set

    from threatlens.detectors import DetectionEngine

    made = DetectionEngine(rule_set(correlation(text)), tables)

    (problem,) = made.problems
    assert said in problem.reason
    assert problem.line >= 22
    assert len(made.rules) == 3


@pytest.mark.parametrize(
    ("timespan", "seconds"),
    [("90s", 90), ("5m", 300), ("3h", 3 * 3600), ("2d", 2 * 86_400), ("1w", 7 * 86_400)],
)
def test_a_timespan_has_a_unit(engine, timespan, seconds):
    text = correlation(f"type: event_count\nrules: a\ngroup-by: [ip]\ntimespan: {timespan}\ncondition: {{gte: 2}}")

    assert engine(text).detect(happen("aa", step_s=seconds - 1)).matches
    assert not engine(text).detect(happen("aa", step_s=seconds + 1)).matches


def test_rules_of_a_correlation_are_named_by_name_or_id(engine):
    for reference in ("a", "aaaaaaaa-1111-4111-8111-111111111111"):
        text = correlation(f"type: event_count\nrules: [{reference}]\ntimespan: 10s\ncondition: {{gte: 2}}")
        assert engine(text).detect(happen("aa")).matches


ABOVE = """
type: event_count
rules: a
group-by: [ip]
timespan: 10s
condition: {gte: 3}
---
title: Again and again, then in
id: 33333333-3333-4333-8333-333333333333
level: critical
correlation:
  type: temporal_ordered
  rules: [22222222-2222-4222-8222-222222222222, b]
  group-by: [ip]
  timespan: 1m
"""


def test_a_correlation_may_be_about_another(engine):
    text = BASES + "  " + ABOVE.strip().replace("\n", "\n  ", 4) + "\n"
    names = {match.rule_name for match in engine(text).detect(happen("aaab")).matches}

    assert "Again and again, then in" in names
    assert "Again and again, then in" not in {m.rule_name for m in engine(text).detect(happen("baaa")).matches}
    assert "Again and again, then in" not in {m.rule_name for m in engine(text).detect(happen("aab")).matches}
