"""Rows U of the hostile inputs: rules that are broken, hostile or about ourselves, fed in for real."""

from __future__ import annotations

import os
import time

import pytest
from rule_texts import event, rule_set
from test_bad_rules import GOOD, detection, rule

from threatlens.analyzers.advice import as_text, filled
from threatlens.detectors import DetectionEngine, load_rules

CORRELATION = """title: Many
id: 22222222-2222-4222-8222-222222222222
level: high
correlation:
  type: event_count
  rules: [99999999-9999-4999-8999-999999999999]
  group-by: [f]
  timespan: {span}
  condition: {{gte: {n}}}
"""


def many(span: str = "1m", n: str = "5") -> str:
    return GOOD + "---\n" + CORRELATION.format(span=span, n=n)


REFUSED = {
    "U01 open": rule(detection=detection("{f|re: '('}")),
    "U01 named twice": rule(detection=detection("{f|re: '(?P<a>x)(?P<a>y)'}")),
    "U01 backreference": rule(detection=detection(r"{f|re: '(a)\1'}")),
    "U02": rule(detection=detection("{f|re: '(a|a)*b(?=c)'}")),
    "U04 missing": rule(id=""),
    "U04 path": rule(id="../x"),
    "U04 markup": rule(id="<b>"),
    "U04 long": rule(id="x" * 10_000),
    "U05 level": rule(level="critical!!"),
    "U05 number": rule(level="999"),
    "U05 null": rule(level="null"),
    "U05 window": many(span="0s"),
    "U05 window of a thousand years": many(span="1000y"),
    "U05 threshold": many(n="many"),
    "U08 modifier": rule(detection=detection("{f|magic: x}")),
    "U09": rule(detection=detection("{f: x}", "a | count() by ip > 5")),
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_u01_u02_u04_u05_u08_u09_a_bad_rule_is_refused_with_its_place_and_harms_no_other(tables, tmp_path, text):
    (tmp_path / "bad.yml").write_text(text)
    (tmp_path / "good.yml").write_text(GOOD.replace("9999-9999", "9999-8888").replace("title: Good", "title: Other"))
    loaded = load_rules([str(tmp_path)])
    made = DetectionEngine(loaded, tables)

    problems = [*loaded.problems, *made.problems]
    assert problems
    assert all(os.path.basename(each.path) == "bad.yml" and each.reason for each in problems)
    assert "Other" in [one.name for one in made.rules]
    assert [match.rule_name for match in made.detect([event({"f": "x"})]).matches][-1:] == ["Other"]


def test_u02_what_could_backtrack_runs_in_time_that_grows_with_the_text(tables):
    for pattern in ("(a|a)*b", "(.*)*x", r"^(\\w+\\s?)*$"):
        made = DetectionEngine(rule_set(rule(detection=detection(f'{{f|re: "{pattern}"}}'))), tables)
        started = time.thread_time()
        made.detect([event({"f": "a" * 20_000 + "!"})])
        assert time.thread_time() - started < 5


def test_u03_ten_thousand_rules_load_or_are_told_and_one_of_a_megabyte_is_refused(tmp_path):
    one = rule().replace("title: Bad", "title: Bad %d").replace("11111111-1111-4111-8111-111111111111", "%s")
    for file in range(10):
        documents = [one % (n, f"11111111-1111-4111-8111-{file * 1000 + n:012}") for n in range(200)]
        (tmp_path / f"{file}.yml").write_text("---\n".join(documents))
    (tmp_path / "large.yml").write_text(rule() + "#" * 1_100_000)
    started = time.thread_time()
    found = load_rules([str(tmp_path)])
    assert time.thread_time() - started < 30
    assert len(found.rules) == 2_000
    assert [os.path.basename(problem.path) for problem in found.problems] == ["large.yml"]


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}", "{event.__init__.__globals__}", "{0.__class__}", "{user.name!r:>{width}}",
        "{user.name.__class__}", "%(user.name)s {} {", "{% import os %}",
    ],
)  # fmt: skip
def test_u06_a_template_reads_fields_and_nothing_else(template):
    text = as_text(filled(template, {"user.name": "value", "width": 9}))
    assert "class '" not in text
    assert "object at" not in text
    assert "value" not in text


def test_u06_a_known_field_is_still_filled_in():
    assert as_text(filled("{user.name} came", {"user.name": "anna"})) == "anna came"


def test_u07_a_rule_about_a_field_that_never_exists_loads_and_never_matches(tables):
    made = DetectionEngine(rule_set(rule(detection=detection("{no.such.field: x}"))), tables)
    made.detect([event({"f": "x"})] * 100)
    assert [one.name for one in made.rules] == ["Bad"]
    assert made.hits == {}


def test_u08_one_of_them_and_not_is_whole_or_nothing(tables):
    text = rule(detection="\n  a: {f: x}\n  b: {g: y}\n  x: {h: z}\n  condition: 1 of a* and not x")
    made = DetectionEngine(rule_set(text), tables)
    assert made.detect([event({"f": "x"})]).matches
    assert not made.detect([event({"f": "x", "h": "z"})]).matches


def test_u10_rules_about_our_own_alerts_do_not_feed_each_other(tables):
    """What a rule raises is no event: two rules about each other see the line that named them, and no more."""
    first = rule(title="First alarm", detection=detection("{message|contains: 'Second alarm'}"))
    second = rule(
        title="Second alarm",
        id="11111111-1111-4111-8111-111111111112",
        detection=detection("{message|contains: 'First alarm'}"),
    )
    made = DetectionEngine(rule_set(first + "---\n" + second), tables)
    found = made.detect([event({}, message="notified: First alarm, Second alarm")]).matches
    assert sorted(match.rule_name for match in found) == ["First alarm", "Second alarm"]
    assert made.detect([]).matches == ()
    assert made.finish().matches == ()


def test_u11_a_file_that_goes_while_it_is_read_leaves_the_others(tmp_path):
    (tmp_path / "outside.yml").write_text(GOOD)
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "link.yml").symlink_to(tmp_path / "outside.yml")
    (folder / "dangling.yml").symlink_to(tmp_path / "nowhere.yml")
    (folder / "own.yml").write_text(rule())
    found = load_rules([str(folder)])
    assert [one.name for one in found.rules] == ["Bad"]
    assert all(problem.reason for problem in found.problems)


def test_u12_a_rule_that_matches_every_line_is_told_of_in_sum(tables):
    made = DetectionEngine(rule_set(rule(detection=detection("{f|exists: true}"))), tables)
    found = made.detect([event({"f": str(n)}) for n in range(2_000)]).matches
    assert len(found) == 100
    assert sum(match.count for match in found) == 2_000
