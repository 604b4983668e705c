"""What a rule file may hold, and what becomes of the others: a mistake names file and line and harms no other rule."""

from __future__ import annotations

import itertools
import os
import re
import time

import pytest
from rule_texts import event, rule_set

from threatlens.detectors import DetectionEngine, compile_text, load_rules
from threatlens.detectors.patterns import BACKTRACKED_CHARS, compile_search, refusal

GOOD = """title: Good
id: 99999999-9999-4999-8999-999999999999
level: high
logsource: {category: test}
detection: {a: {f: x}, condition: a}
"""


def rule(**parts: str) -> str:
    lines = {
        "title": "Bad", "id": "11111111-1111-4111-8111-111111111111", "level": "high",
        "logsource": "{category: test}", "detection": "{a: {f: x}, condition: a}", **parts,
    }  # fmt: skip
    return "".join(f"{key}: {value}\n" for key, value in lines.items() if value)


def detection(selection: str, condition: str = "a") -> str:
    return f"\n  a: {selection}\n  condition: {condition}"


BROKEN = [
    # a regular expression that is none
    (rule(detection=detection("{f|re: '('}")), 6, "is not valid"),
    (rule(detection=detection("{f|re: '(?P<a>x)(?P<a>y)'}")), 6, "is not valid"),
    (rule(detection=detection("{f|re: '['}")), 6, "is not valid"),
    # ids
    (rule(id=""), 1, "has no id"),
    (rule(id="../x"), 2, "id must be a UUID"),
    (rule(id="<b>"), 2, "id must be a UUID"),
    (rule(id="x" * 10_000), 2, "id must be a UUID"),
    (rule(id="5"), 2, "id must be a UUID"),
    # severity
    (rule(level="critical!!"), 3, "must be one of"),
    (rule(level="999"), 3, "must be one of"),
    (rule(level="null"), 3, "must be one of"),
    # modifiers and conditions
    (rule(detection=detection("{f|magic: x}")), 6, "Unknown modifier"),
    (rule(detection=detection("{f: x}", "a and b")), 7, "which is no selection"),
    (rule(detection=detection("{f: x}", "1 of b*")), 7, "names no selection"),
    (rule(detection=detection("{f: x}", "a and (")), 7, "Expected"),
    (rule(detection=detection("{f: x}", "a b")), 7, "Expected"),
    (rule(detection="{a: {f: x}}"), 5, "condition"),
    (rule(detection="{condition: a}"), 5, "No detections"),
    (rule(detection=detection("{f|cidr: 300.0.0.0/8}")), 6, "CIDR"),
    (rule(detection=detection("{f|gt: many}")), 6, "incompatible"),
    (rule(detection=detection("{f|base64: 'a*b'}")), 6, "wildcards"),
    (rule(detection=""), 1, "has no detection"),
    (rule(logsource=""), 4, "log source"),
    (rule(title=""), 1, "has no title"),
    # YAML
    ("title: [", 2, "is not YAML"),
    ("- a\n- b\n", 1, "keys with values"),
    (GOOD.replace("level: high", "level: high\nlevel: low"), 4, "twice"),
    (rule(detection="!!python/object/apply:os.system ['true']"), 5, "is not YAML"),
    ("a: &a [x, x]\nb: &b [*a, *a]\n" + "".join(
        f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in itertools.pairwise("bcdefghi")
    ), 1, "more than"),
    ("a: " + "[" * 40 + "]" * 40, 1, "nested deeper"),
    ("title: a\0b", 1, "is not YAML"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "said"), BROKEN, ids=lambda value: str(value)[:60])
def test_a_broken_rule_says_what_is_wrong_and_where(tables, text, line, said):
    (problem,) = rule_set(text).problems

    assert problem.broken
    assert said in problem.reason
    assert abs(problem.line - line) <= 1
    assert "\n" not in str(problem)


UNSUPPORTED = [
    (rule(detection=detection("{f|re: '(a+)+(?=b)'}")), "can be made to run without end"),
    (rule(detection=detection(r"{f|re: '(a)\1'}")), "can be made to run without end"),
    (rule(detection=detection("{f|re: '(?<=a.*)b'}")), "not valid"),
    (rule(detection=detection("{f: x}", "a | count() by ip > 5")), "replaced by Sigma correlations"),
    (rule(detection=detection("{f|expand: '%nobody%'}")), "needs the list 'nobody'"),
    (rule(detection=detection("{f|hour|gte: 5}")), ""),
]


@pytest.mark.parametrize(("text", "said"), UNSUPPORTED, ids=lambda value: str(value)[-60:])
def test_a_rule_that_cannot_run_is_refused_as_a_whole_with_the_reason(tables, text, said):
    made = DetectionEngine(rule_set(text), tables)

    (problem,) = made.problems
    assert said in problem.reason
    assert not made.rules


def test_a_broken_file_harms_no_other(load):
    found = load(good=GOOD, bad="title: [", worse=rule(level="999"))

    assert [one.name for one in found.rules] == ["Good"]
    assert sorted(os.path.basename(problem.path) for problem in found.problems) == ["bad.yml", "worse.yml"]


def test_a_broken_document_harms_no_other_of_its_file(load):
    found = load(both=rule(level="999") + "---\n" + GOOD)

    assert [one.name for one in found.rules] == ["Good"]
    assert [problem.line for problem in found.problems] == [3]


def test_the_second_rule_of_an_id_is_a_problem(load):
    found = load(a=GOOD, b=GOOD)

    assert len(found.rules) == 1
    (problem,) = found.problems
    assert problem.path.endswith("b.yml")
    assert "a.yml:1" in problem.reason


def test_a_file_of_more_than_a_megabyte_is_refused(load):
    (problem,) = load(big=GOOD + "# " + "x" * (1 << 20)).problems

    assert "1,048,576" in problem.reason


def test_more_files_than_there_may_be_are_told(load, monkeypatch):
    monkeypatch.setattr("threatlens.detectors.loading.MAX_FILES", 2)
    found = load(**{f"r{number}": GOOD.replace("9999-8", f"999{number}-8") for number in range(4)})

    assert any("the first 2 are read" in problem.reason for problem in found.problems)


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "secret.yml").write_text(GOOD)
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "link.yml").symlink_to(tmp_path / "secret.yml")
    os.mkfifo(tmp_path / "rules" / "pipe.yml")
    found = load_rules([str(tmp_path / "rules")])

    assert not found.rules
    assert [problem.reason.split()[0:3] for problem in found.problems] == [["is", "a", "link"], ["is", "not", "a"]]


def test_a_folder_that_is_not_there_is_a_problem():
    (problem,) = load_rules(["/nowhere"]).problems

    assert problem.reason == "does not exist"


def test_what_was_compiled_is_read_from_the_cache(tmp_path, load, monkeypatch):
    first = load(good=GOOD)
    monkeypatch.setattr("threatlens.detectors.loading._compile", lambda paths: pytest.fail(f"compiled {paths}"))

    assert load() == first


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"x": 5}', b"\xff\xfe"])
def test_a_damaged_cache_is_made_again(tmp_path, load, damage):
    first = load(good=GOOD)
    (tmp_path / "cache" / "rules.json").write_bytes(damage)

    assert load() == first


def test_a_cache_can_execute_nothing(tmp_path, load, tables):
    load(good=GOOD)
    cache = tmp_path / "cache" / "rules.json"
    evil = "x') or __import__('os').abort() or ('"
    cache.write_text(cache.read_text().replace('[\\"x\\"]', f'[\\"{evil}\\"]'))
    made = DetectionEngine(load(), tables)

    assert made.rules
    assert not made.detect([event({"f": "x"})]).matches
    assert made.detect([event({"f": evil})]).matches


@pytest.mark.parametrize(
    "text",
    ["x') or __import__('os').abort() or ('", 'x"""', "\\", "{0}", "{event.__init__}", "\x00", "\n'"],
)
def test_texts_and_names_of_a_rule_are_never_code(tables, text):
    import json

    quoted = json.dumps(text)
    for selection in (f"{{f: {quoted}}}", f"{{{quoted}: x}}", f"{{f|contains: [{quoted}, y]}}", f"[{quoted}]"):
        found = rule_set(rule(detection=detection(selection)))
        made = DetectionEngine(found, tables, prefilter=False)
        made.detect([event({"f": text, text.lower(): "x"}, message=text)])
        assert made.rules or found.problems


RISKY = ["(a|a)*b", "(.*)*x", r"^(\w+\s?)*$", "(a+)+$", "(x+x+)+y", ".*.*.*=.*", "([a-z]+)*[0-9]", "(a|aa)+$"]


@pytest.mark.parametrize("pattern", RISKY)
def test_a_pattern_that_backtracks_runs_in_linear_time(pattern):
    search = compile_search(pattern, "")
    for text in ("a" * 50_000 + "!", "x" * 50_000, "a b " * 12_000 + "!"):
        started = time.thread_time()
        search(text)
        assert time.thread_time() - started < 5


@pytest.mark.parametrize("pattern", [r"(?!x)^(\w+\s?)*$", "(?=a)(.*)*x", r"(a*)\1*b", "(?=a).*.*x"])
def test_a_pattern_that_only_backtracking_can_run_is_refused_if_it_is_dangerous(pattern):
    assert "run without end" in refusal(pattern, "")


def test_a_pattern_with_look_around_runs_on_a_short_text(engine):
    search = compile_search("(?=.*a)b", "")

    assert search("ba")
    assert not search("x" * BACKTRACKED_CHARS + "ba")


def test_a_rule_that_takes_too_long_is_switched_off_and_says_so(tables):
    ticks = itertools.count()
    slow = lambda: next(ticks) * 0.06  # noqa: E731
    made = DetectionEngine(rule_set(GOOD), tables, clock=slow, cpu_clock=slow)
    first = made.detect([event({"f": "x"})] * 2)
    found = made.detect([event({"f": "x"})])

    assert len(first.matches) == 2
    assert not first.disabled
    (problem,) = found.disabled
    assert "took longer than 50 ms on 3 events and is off" in problem.reason
    assert made.off == {problem.rule_id: problem}
    assert not made.detect([event({"f": "x"})]).matches


def test_no_rule_is_switched_off_because_the_machine_stands_still(tables):
    ticks = itertools.count()
    made = DetectionEngine(rule_set(GOOD), tables, clock=lambda: next(ticks) * 0.06)
    assert len(made.detect([event({"f": "x"})] * 5).matches) == 5
    assert not made.off


def test_a_rule_that_matches_every_line_is_told_of_in_sum(engine):
    found = engine(GOOD).detect([event({"f": "x"}, at_s=at) for at in range(2_000)])

    assert len(found.matches) == 100
    assert sum(match.count for match in found.matches) == 2_000
    assert found.matches[-1].positions == tuple(range(99, 2_000))
    assert found.matches[-1].timestamp_us == 1_999_000_000


def test_a_rule_about_a_field_that_never_exists_loads_and_has_no_hits(engine):
    made = engine(GOOD.replace("f: x", "no.such.field: x"))
    made.detect([event({"f": "x"})])

    assert made.hits["99999999-9999-4999-8999-999999999999"] == 0


def test_a_text_is_compiled_without_being_a_file():
    rules, problems = compile_text(GOOD + "---\n" + rule(level="5"), "mine.yml")

    assert [one.name for one in rules] == ["Good"]
    assert [str(problem).split(":")[0:2] for problem in problems] == [["mine.yml", "9"]]


@pytest.mark.parametrize("value", ["x" * 70_000, "a\x1fb", "\ud800", "İ", "ß" * 100, ""])
def test_any_value_of_an_event_can_be_asked_about(engine, value):
    text = rule(detection=detection("{f|re: '.'}", "a or b or c or d")).rstrip() + (
        "\n  b: {f|contains: xx}\n  c: [word]\n  d: {f: 'x*y*z'}\n"
    )
    made = engine(text)
    made.detect([event({"f": value, "g": [value, value]}, message=value)])


def test_problems_hold_one_line_each():
    for text, *_ in BROKEN:
        for problem in rule_set(text).problems:
            assert not re.search(r"[\n\r]", str(problem))
