"""Why, and why not: the first condition that fails, with the value that the event has there."""

from __future__ import annotations

import pytest
import yaml
from rule_texts import event, rule_set

from threatlens.detectors import DetectionEngine
from threatlens.detectors.explain import backtest, trace, verdict_of

RULE_ID = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def why(engine):
    def ask(detection: dict, fields: dict, message: str = ""):
        text = yaml.safe_dump(
            {"title": "T", "id": RULE_ID, "logsource": {"category": "test"}, "detection": detection}, sort_keys=False
        )
        return verdict_of(engine(text), RULE_ID, *event(fields, message=message))

    return ask


CASES = [
    ({"a": {"f": "x"}, "condition": "a"}, {"f": "y"}, "a: f is 'x': it is 'y'"),
    ({"a": {"f": "x"}, "condition": "a"}, {"g": "y"}, "a: f is 'x': the event has no such field"),
    ({"a": {"f": "x", "g|endswith": ["1", "2"]}, "condition": "a"}, {"f": "X", "g": "3"},
     "a: g ends with '1' or '2': it is '3'"),
    ({"a": {"f": "x"}, "no": {"g|contains": "bad"}, "condition": "a and not no"}, {"f": "x", "g": "so bad"},
     "no: must not hold: g contains 'bad'; it is 'so bad'"),
    ({"a": {"f": "x"}, "b": {"g": "y"}, "condition": "a or b"}, {"f": "1"},
     "a: f is 'x': it is '1' (nor do 1 alternatives)"),
    ({"a": {"f|gt": 5}, "condition": "a"}, {"f": 4}, "a: f > 5: it is '4'"),
    ({"a": {"f|re": "x+"}, "condition": "a"}, {"f": "y"}, "a: f matches 'x+': it is 'y'"),
    ({"a": {"f": "x*y"}, "condition": "a"}, {"f": "z"}, "a: f is like 'x*y': it is 'z'"),
    ({"a": {"f|exists": False}, "condition": "a"}, {"f": "z"}, "a: f does not exist: it is 'z'"),
    ({"a": {"f": None}, "condition": "a"}, {"f": "z"}, "a: f has no value: it is 'z'"),
    ({"a": ["word"], "condition": "a"}, {}, "a: any value contains 'word': no value does"),
    ({"a": {"f": ["1", "2", "3", "4", "5"]}, "condition": "a"}, {"f": "6"},
     "a: f is '1' or '2' or '3' or 2 others: it is '6'"),
]  # fmt: skip


@pytest.mark.parametrize(("detection", "fields", "said"), CASES, ids=lambda value: str(value)[:50])
def test_the_first_failing_condition_is_told_with_its_value(why, detection, fields, said):
    verdict = why(detection, fields)

    assert not verdict.matched
    assert str(verdict.failing) == said


def test_a_match_says_what_held(why):
    verdict = why({"a": {"f|contains": "b", "g": 1}, "condition": "a"}, {"f": "abc", "g": 1})

    assert verdict.matched
    assert [str(condition) for condition in verdict.conditions] == [
        "a: f contains 'b': it is 'abc'",
        "a: g is '1': it is '1'",
    ]


def test_a_rule_of_another_log_source_says_so(engine):
    text = yaml.safe_dump(
        {"title": "T", "id": RULE_ID, "logsource": {"product": "windows"},
         "detection": {"a": {"f": "x"}, "condition": "a"}}, sort_keys=False,
    )  # fmt: skip
    verdict = verdict_of(engine(text), RULE_ID, *event({"f": "x"}))

    assert not verdict.matched
    assert str(verdict.failing) == "log source is product windows: it is 'test'"


def test_a_rule_that_is_not_there_is_none(engine):
    assert verdict_of(engine(""), RULE_ID, *event({})) is None


STORY = """
title: Failed login
id: 11111111-1111-4111-8111-111111111111
name: failed
level: informational
logsource: {category: test}
detection: {a: {outcome: failure}, condition: a}
---
title: Other
id: 33333333-3333-4333-8333-333333333333
level: low
logsource: {category: test}
detection: {a: {outcome: failure, user: root}, condition: a}
---
title: Unrelated
id: 44444444-4444-4444-8444-444444444444
level: low
logsource: {category: test}
detection: {a: {outcome: something else}, condition: a}
---
title: Brute force
id: 22222222-2222-4222-8222-222222222222
level: high
correlation: {type: event_count, rules: failed, group-by: [ip], timespan: 1m, condition: {gte: 3}}
"""


def test_a_trace_shows_candidates_and_what_correlations_hold(engine):
    made = engine(STORY)
    events = [event({"outcome": "failure", "ip": "x"}, at_s=at) for at in range(2)]
    made.detect(events)
    found = trace(made, *events[0])

    assert found.logsources == ("test",)
    assert [(verdict.rule_name, verdict.matched) for verdict in found.verdicts] == [
        ("Failed login", True),
        ("Other", False),
    ]
    assert found.passed_over == 1
    (window,) = found.windows
    assert (window.rule_name, window.group, window.events, window.told) == ("Brute force", (("ip", "x"),), 2, 0)
    assert window.needed == "event_count gte 3 within 60 s"
    assert made.detect([event({"outcome": "failure", "ip": "x"}, at_s=3)]).matches, "tracing has changed nothing"


def test_a_backtest_says_where_a_rule_would_have_fired(tables):
    made = DetectionEngine(rule_set(STORY), tables)
    batches = [
        [event({"outcome": "failure", "ip": "x"}, at_s=at) for at in (10 * number, 10 * number + 1)]
        for number in range(3)
    ]

    assert [(number, match.positions[-1], match.count) for number, match in backtest(made, batches)] == [
        (1, 0, 3),
        (2, 1, 6),
    ]
