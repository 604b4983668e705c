"""The prefilter changes what is asked, never what is found: over all shipped rules and every sample line there is."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import rule_texts

from threatlens.decoders import SourceDecoder
from threatlens.detectors import BUILTIN, DetectionEngine, load_rules
from threatlens.detectors.literals import Rarity, pattern_literals, required
from threatlens.detectors.samples import read_samples

SAMPLES = Path(__file__).parent.parent / "samples"
READ_AT_S = 1_795_420_000.0


def sample_lines() -> list[str]:
    lines = [
        line
        for path in sorted(SAMPLES.glob("*.log"))
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if line and not line.startswith("# ") and not line.startswith("#=")
    ]
    return lines + [line for one in read_samples(BUILTIN) for each in (*one.matching, *one.decoys) for line in each]


def test_what_is_found_with_the_prefilter_is_what_is_found_without(tables):
    rules = load_rules([BUILTIN])
    decoder = SourceDecoder()
    decoded = [decoder.decode(line, READ_AT_S) for line in sample_lines()]
    events = [(one, one.timestamp_us or int(READ_AT_S * 1e6)) for one in decoded]
    quick = DetectionEngine(rules, tables, digest_above=1 << 30)
    slow = DetectionEngine(rules, tables, digest_above=1 << 30, prefilter=False)

    found = quick.detect(events).matches
    assert len(found) > 100
    assert found == slow.detect(events).matches


def test_what_is_found_with_plans_is_what_is_found_without(tables, monkeypatch):
    monkeypatch.setattr("threatlens.detectors.plans.BUILD_AFTER", 1)
    monkeypatch.setattr("threatlens.detectors.plans.PER_RULE", 0)
    monkeypatch.setattr("threatlens.detectors.plans.MAX_PLANS", 1_000)
    rules = load_rules([BUILTIN])
    decoder = SourceDecoder()
    decoded = [decoder.decode(line, READ_AT_S) for line in sample_lines()[::6]]
    events = [(one, one.timestamp_us or int(READ_AT_S * 1e6)) for one in decoded]
    quick = DetectionEngine(rules, tables, digest_above=1 << 30)
    slow = DetectionEngine(rules, tables, digest_above=1 << 30, prefilter=False)

    for _ in range(2):  # the second time values are known
        found = quick.detect(events).matches
        assert len(found) > 50
        assert found == slow.detect(events).matches
    assert quick.plan_count > 50


def test_a_log_that_invents_kinds_of_events_gets_no_plans(tables):
    engine = DetectionEngine(load_rules([BUILTIN]), tables)
    for number in range(200):
        line = f'{{"event": {{"action": "a{number}"}}, "http": {{"request": {{"method": "M{number}"}}}}}}'
        engine.detect([(SourceDecoder(format="json").decode(line, READ_AT_S), int(READ_AT_S * 1e6))])

    assert engine.plan_count == 0


def test_values_of_every_kind_are_told_apart(engine):
    made = engine(NUMBERS)
    values = ["1", 1, True, ["1", "x"], "1\x1fx", 1.0, ["true"], False, "1", 1, True, ["1", "x"]]
    found = [
        (repr(value), [match.rule_name for match in made.detect([rule_texts.event({"a.b": value})]).matches])
        for _ in range(120)
        for value in values
    ]

    assert made.plan_count == 1
    assert found == found[: len(values)] * 120
    assert dict(found) == {
        "'1'": ["One"], "1": ["One"], "True": ["Truth"], "['1', 'x']": ["One"], "'1\\x1fx'": [], "1.0": [],
        "['true']": ["Truth"], "False": [],
    }  # fmt: skip


NUMBERS = """
title: One
id: 11111111-1111-4111-8111-111111111111
logsource: {category: test}
detection:
  selection: {a.b: '1'}
  condition: selection
---
title: Truth
id: 22222222-2222-4222-8222-222222222222
logsource: {category: test}
detection:
  selection: {a.b: 'true'}
  condition: selection
"""


def rule(condition: str, **selections: str) -> list:
    text = "\n".join(f"  {name}: {value}" for name, value in selections.items())
    made = rule_texts.rule_set(
        f"title: T\nid: 11111111-1111-4111-8111-111111111111\nlogsource: {{category: test}}\n"
        f"detection:\n{text}\n  condition: {condition}\n"
    )
    return json.loads(made.rules[0].tree)


@pytest.mark.parametrize(
    ("condition", "selections", "wanted"),
    [
        ("a", {"a": "{f: Rare}"}, {"rare"}),
        ("a", {"a": "{f: [one, two]}"}, {"one", "two"}),
        ("a", {"a": "{f|contains: [rare, so rare it is]}"}, {"rare"}),
        ("a or b", {"a": "{f: one}", "b": "{f: two}"}, {"one", "two"}),
        ("a and not b", {"a": "{f: one}", "b": "{f: two}"}, {"one"}),
        ("a and b", {"a": "{f: common}", "b": "{f: seldom}"}, {"seldom"}),
        ("not a", {"a": "{f: one}"}, None),
        ("a or not b", {"a": "{f: one}", "b": "{f: two}"}, None),
        ("a", {"a": "{f: null}"}, None),
        ("a", {"a": "{f: ''}"}, None),
        ("a", {"a": "{f: '*'}"}, None),
        ("a", {"a": "{f|gt: 5}"}, None),
        ("a", {"a": "{f|exists: true}"}, None),
        ("a", {"a": "{f: 'x*longest part*y'}"}, {"longest part"}),
        ("a", {"a": "{f|re: 'begin(x|y)+ending'}"}, {"ending"}),
        ("a", {"a": "{f|re: 'ten|[a-z]'}"}, None),
        ("a", {"a": "{f|re: 'seven|eleven'}"}, {"seven", "eleven"}),
        ("a", {"a": "[keyword]"}, {"keyword"}),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),
)
def test_the_rarest_certain_texts_are_looked_for(condition, selections, wanted):
    rarity = Rarity(["a common word", "common", "begin"])
    found = required(rule(condition, **selections), rarity)

    assert (None if found is None else set(found)) == wanted


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("abc", [{"abc"}]),
        ("ab?c", [{"a"}, {"c"}]),
        ("(abc)+x", [{"abc"}, {"x"}]),
        ("(abc)*xyz", [{"xyz"}]),
        ("one|two", [{"one", "two"}]),
        ("(one|two[0-9]+three)x", [{"one", "three"}, {"x"}]),
        ("(one|.*)x", [{"x"}]),
        ("ab[cd]ef", [{"ab"}, {"c", "d"}, {"ef"}]),
        ("ab[^c]ef", [{"ab"}, {"ef"}]),
        ("(?i:abc)", [{"abc"}]),
        ("(?=abc)", []),
        ("(?!abc)def", [{"def"}]),
        ("^abc$", [{"abc"}]),
        ("(", []),
    ],
)
def test_texts_of_a_pattern_are_those_that_every_match_holds(pattern, wanted):
    assert pattern_literals(pattern, "") == wanted


MESSAGES = """
title: Answer
id: 11111111-1111-4111-8111-111111111111
logsource: {category: test}
detection:
  selection: {message|contains: 'code 42'}
  condition: selection
---
title: None but zero
id: 22222222-2222-4222-8222-222222222222
logsource: {category: test}
detection:
  selection: {message|contains: 'code'}
  other: {message|contains: 'code 00'}
  condition: selection and not other
"""


def test_messages_that_differ_in_a_number_alone_are_told_apart(engine):
    made = engine(MESSAGES)
    found = [
        (number, [match.rule_name for match in made.detect([rule_texts.event({"message": f"code {number}"})]).matches])
        for _ in range(100)
        for number in ("42", "00", "41", "\u0664\u0662")
    ]

    assert made.plan_count == 1
    assert found == found[:4] * 100
    assert dict(found)["42"] == ["Answer", "None but zero"]
    assert dict(found)["00"] == []
    assert dict(found)["41"] == dict(found)["\u0664\u0662"] == ["None but zero"]


NETWORKS = """
title: Near
id: 11111111-1111-4111-8111-111111111111
logsource: {category: test}
detection:
  selection: {source.network: 192.0.0.0/16}
  condition: selection
---
title: Six
id: 22222222-2222-4222-8222-222222222222
logsource: {category: test}
detection:
  selection: {source.network|startswith: '2001:db8:'}
  condition: selection
---
title: Placed
id: 33333333-3333-4333-8333-333333333333
logsource: {category: test}
detection:
  selection: {source.network|exists: true}
  condition: selection
"""


def test_the_network_of_an_address_is_a_field_for_rules(engine):
    made = engine(NETWORKS)
    addresses = ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::7", "198.51.100.7", "no address", ["192.0.2.7"]]
    found = [
        (str(one), {match.rule_name for match in made.detect([rule_texts.event({"source.ip": one})]).matches})
        for _ in range(100)
        for one in addresses
    ]

    assert made.plan_count == 1
    assert found == found[:6] * 100
    assert [names for _, names in found[:6]] == [
        {"Near", "Placed"}, {"Near", "Placed"}, {"Six", "Placed"}, {"Placed"}, set(), set(),
    ]  # fmt: skip
    assert not made.detect([rule_texts.event({"user.name": "anna"})]).matches


PROCESSES = """
title: Two fields
id: 11111111-1111-4111-8111-111111111111
logsource: {product: windows, category: process_creation}
detection:
  program: {Image|endswith: '\\cmd.exe'}
  command: {CommandLine|contains: ' /c dir'}
  condition: program and command
---
title: Nothing certain
id: 22222222-2222-4222-8222-222222222222
logsource: {product: windows, category: process_creation}
detection:
  known: {Image|contains: '\\windows\\'}
  quiet: {CommandLine: ''}
  condition: not (known or quiet)
---
title: Itself
id: 33333333-3333-4333-8333-333333333333
logsource: {product: windows, category: process_creation}
detection:
  same: {Image|fieldref: ParentImage}
  empty: {CommandLine|re: '^.$'}
  condition: same and not empty
---
title: Anywhere
id: 44444444-4444-4444-8444-444444444444
logsource: {product: windows, category: process_creation}
detection:
  anywhere: ['needle']
  program: {Image: '*'}
  condition: anywhere and program
"""


def test_rules_about_several_fields_are_found_whatever_is_remembered_of_each(tables, monkeypatch):
    monkeypatch.setattr("threatlens.detectors.plans.MAX_FIELD_VALUES", 3)
    rules = rule_texts.rule_set(PROCESSES)
    quick = DetectionEngine(rules, tables, digest_above=1 << 30)
    slow = DetectionEngine(rules, tables, digest_above=1 << 30, prefilter=False)
    decoder = SourceDecoder()
    programs = ["C:\\Windows\\cmd.exe", "c:\\other\\CMD.EXE", "x", ""]
    commands: list[object] = ["cmd /c dir", "cmd /C DIR needle", "y", "", ["", "a /c dir"], []]
    events = []
    for program, parent, command, other in itertools.product(programs, programs[1:], commands, ["", "z /c dir"]):
        line = json.dumps(
            {
                "Event": {
                    "System": {"EventID": 1, "Channel": "Microsoft-Windows-Sysmon/Operational"},
                    "EventData": {"Image": program, "ParentImage": parent, "CommandLine": command},
                }
            }
        )
        decoded = decoder.decode(line, READ_AT_S)
        fields = {**decoded.fields, "process.executable": "D:\\cmd.exe", "process.command_line": other}
        events.append((decoded._replace(fields=fields), int(READ_AT_S * 1e6)))

    for _ in range(3):
        found = quick.detect(events).matches
        assert {match.rule_name for match in found} == {"Two fields", "Nothing certain", "Itself", "Anywhere"}
        assert found == slow.detect(events).matches
    assert quick.plan_count
