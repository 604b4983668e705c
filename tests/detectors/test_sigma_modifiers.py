"""Every modifier, wildcard, escape and condition of the Sigma specification: what matches and what does not."""

from __future__ import annotations

import base64

import pytest
import yaml
from rule_texts import event

RULE = {
    "title": "Test",
    "id": "11111111-1111-4111-8111-111111111111",
    "level": "high",
    "logsource": {"category": "test"},
}
LISTS = {"admins": ("anna", "Ben"), "servers": ("srv1", "srv2"), "none": ()}


def rule_of(detection: dict) -> str:
    return yaml.safe_dump({**RULE, "detection": detection}, sort_keys=False)


@pytest.fixture
def matches(engine):
    def ask(selection, fields: dict, *, message: str = "") -> bool:
        made = engine(rule_of({"sel": selection, "condition": "sel"}), lists=LISTS)
        unfiltered = engine(rule_of({"sel": selection, "condition": "sel"}), lists=LISTS, prefilter=False)
        events = [event(fields, message=message)]
        found = bool(made.detect(events).matches)
        assert bool(unfiltered.detect(events).matches) is found, "the prefilter changes the answer"
        return found

    return ask


def encoded(text: str, encoding: str = "utf-8") -> str:
    return base64.b64encode(text.encode(encoding)).decode()


TABLE = [
    # plain values: whole value, any case, numbers as text, any of a list
    ({"f": "abc"}, {"f": "ABC"}, True),
    ({"f": "abc"}, {"f": "abcd"}, False),
    ({"f": "abc"}, {"g": "abc"}, False),
    ({"F": "abc"}, {"f": "abc"}, True),
    ({"f": 4624}, {"f": 4624}, True),
    ({"f": 4624}, {"f": "4624"}, True),
    ({"f": "4624"}, {"f": 4624}, True),
    ({"f": 4624}, {"f": 46241}, False),
    ({"f": True}, {"f": True}, True),
    ({"f": "true"}, {"f": True}, True),
    ({"f": ["a", "b"]}, {"f": "b"}, True),
    ({"f": ["a", "b"]}, {"f": "c"}, False),
    ({"f": ["a", "b", "c", "d", "e", "f"]}, {"f": "E"}, True),
    ({"f": "a", "g": "b"}, {"f": "a", "g": "b"}, True),
    ({"f": "a", "g": "b"}, {"f": "a", "g": "c"}, False),
    ([{"f": "a"}, {"g": "b"}], {"g": "b"}, True),
    ([{"f": "a", "g": "x"}, {"g": "b"}], {"f": "a"}, False),
    # several values of one field: any of them
    ({"f": "b"}, {"f": ["a", "b"]}, True),
    ({"f|contains": "xb"}, {"f": ["a", "xbx"]}, True),
    ({"f|startswith": "b"}, {"f": ["a", "bc"]}, True),
    ({"f|endswith": "c"}, {"f": ["a", "bc"]}, True),
    ({"f|re": "^b$"}, {"f": ["a", "b"]}, True),
    ({"f": ["a", "b", "c", "d", "e", "f"]}, {"f": ["x", "f"]}, True),
    ({"f|contains|all": ["a", "b"]}, {"f": ["xa", "xb"]}, True),
    ({"f|gt": 3}, {"f": ["1", "5"]}, True),
    # wildcards and escapes
    ({"f": "a*"}, {"f": "abc"}, True),
    ({"f": "*c"}, {"f": "abc"}, True),
    ({"f": "*b*"}, {"f": "abc"}, True),
    ({"f": "a*c"}, {"f": "abbc"}, True),
    ({"f": "a*c"}, {"f": "abbcd"}, False),
    ({"f": "a*b*c"}, {"f": "a1b2c"}, True),
    ({"f": "a*b*c"}, {"f": "a1c2b"}, False),
    ({"f": "*ab*ab"}, {"f": "ab ab"}, True),
    ({"f": "*ab*ab"}, {"f": "xab"}, False),
    ({"f": "a?c"}, {"f": "abc"}, True),
    ({"f": "a?c"}, {"f": "ac"}, False),
    ({"f": "a?c"}, {"f": "abbc"}, False),
    ({"f": "a\\*c"}, {"f": "a*c"}, True),
    ({"f": "a\\*c"}, {"f": "abc"}, False),
    ({"f": "a\\?c"}, {"f": "a?c"}, True),
    ({"f": "a\\?c"}, {"f": "abc"}, False),
    ({"f": "c:\\temp\\x"}, {"f": "C:\\Temp\\x"}, True),
    ({"f": "c:\\\\temp"}, {"f": "c:\\temp"}, True),
    ({"f": "\\\\\\\\host"}, {"f": "\\\\host"}, True),
    ({"f": "c:\\\\*"}, {"f": "c:\\anything"}, True),
    ({"f": "c:\\\\\\*"}, {"f": "c:\\*"}, True),
    ({"f": "c:\\\\\\*"}, {"f": "c:\\x"}, False),
    ({"f": "*"}, {"f": "anything"}, True),
    ({"f": "*"}, {"g": "x"}, False),
    ({"f": "line*end"}, {"f": "line\nend"}, True),
    # empty and null
    ({"f": ""}, {"f": ""}, True),
    ({"f": ""}, {"f": "x"}, False),
    ({"f": ""}, {"g": "x"}, False),
    ({"f": None}, {"g": "x"}, True),
    ({"f": None}, {"f": "x"}, False),
    ({"f": ["a", None]}, {"g": "x"}, True),
    ({"f": ["a", None]}, {"f": "b"}, False),
    # contains, startswith, endswith, all
    ({"f|contains": "b"}, {"f": "aBc"}, True),
    ({"f|contains": "b"}, {"f": "ac"}, False),
    ({"f|contains": "b?d"}, {"f": "abcde"}, True),
    ({"f|contains": ["x", "b"]}, {"f": "abc"}, True),
    ({"f|startswith": "ab"}, {"f": "ABC"}, True),
    ({"f|startswith": "b"}, {"f": "abc"}, False),
    ({"f|startswith": ["x", "ab"]}, {"f": "abc"}, True),
    ({"f|endswith": "bc"}, {"f": "aBC"}, True),
    ({"f|endswith": "b"}, {"f": "abc"}, False),
    ({"f|contains|all": ["a", "c"]}, {"f": "abc"}, True),
    ({"f|contains|all": ["a", "x"]}, {"f": "abc"}, False),
    ({"f|all": ["*a*", "*c"]}, {"f": "abc"}, True),
    # cased
    ({"f|cased": "Abc"}, {"f": "Abc"}, True),
    ({"f|cased": "Abc"}, {"f": "abc"}, False),
    ({"f|contains|cased": "BC"}, {"f": "aBCd"}, True),
    ({"f|contains|cased": "BC"}, {"f": "abcd"}, False),
    ({"f|startswith|cased": "A"}, {"f": "a"}, False),
    ({"f|endswith|cased": "C"}, {"f": "abC"}, True),
    ({"f|endswith|cased": "C"}, {"f": "abc"}, False),
    ({"f|contains|cased": "B?D"}, {"f": "aBxDe"}, True),
    ({"f|contains|cased": "B?D"}, {"f": "abxde"}, False),
    # exists
    ({"f|exists": True}, {"f": "x"}, True),
    ({"f|exists": True}, {"g": "x"}, False),
    ({"f|exists": False}, {"g": "x"}, True),
    ({"f|exists": False}, {"f": "x"}, False),
    ({"f|exists": True}, {"f": ""}, True),
    # numbers
    ({"f|gt": 5}, {"f": 6}, True),
    ({"f|gt": 5}, {"f": 5}, False),
    ({"f|gte": 5}, {"f": "5"}, True),
    ({"f|lt": 5}, {"f": 4.5}, True),
    ({"f|lt": 5}, {"f": 5}, False),
    ({"f|lte": 5}, {"f": 5}, True),
    ({"f|lt": 5}, {"f": "abc"}, False),
    ({"f|lt": 5}, {"g": 1}, False),
    ({"f|gte": 16}, {"f": "0x10"}, True),
    # neq
    ({"f|neq": "a"}, {"f": "b"}, True),
    ({"f|neq": "a"}, {"f": "A"}, False),
    ({"f|neq": ["a", "b"]}, {"f": "b"}, False),
    ({"f|neq": ["a", "b"]}, {"f": "c"}, True),
    ({"f|re|neq": "^a"}, {"f": "abc"}, False),
    ({"f|re|neq": "^a"}, {"f": "xyz"}, True),
    ({"f|cidr|neq": "192.0.2.0/24"}, {"f": "192.0.2.1"}, False),
    ({"f|cidr|neq": "192.0.2.0/24"}, {"f": "198.51.100.1"}, True),
    ({"f|contains|neq": "a"}, {"f": "xyz"}, True),
    ({"f|contains|neq": "a"}, {"f": "xaz"}, False),
    # cidr
    ({"f|cidr": "192.0.2.0/24"}, {"f": "192.0.2.77"}, True),
    ({"f|cidr": "192.0.2.0/24"}, {"f": "192.0.3.1"}, False),
    ({"f|cidr": ["10.0.0.0/8", "192.0.2.0/25"]}, {"f": "192.0.2.77"}, True),
    ({"f|cidr": "2001:db8::/32"}, {"f": "2001:db8:1::5"}, True),
    ({"f|cidr": "2001:db8::/32"}, {"f": "2001:db9::5"}, False),
    ({"f|cidr": "192.0.2.0/24"}, {"f": "::ffff:192.0.2.1"}, True),
    ({"f|cidr": "192.0.2.0/24"}, {"f": "192.0.2.x"}, False),
    ({"f|cidr": "192.0.2.0/24"}, {"g": "192.0.2.1"}, False),
    # re with flags
    ({"f|re": "a.c"}, {"f": "xabcx"}, True),
    ({"f|re": "^a.c$"}, {"f": "xabcx"}, False),
    ({"f|re": "ABC"}, {"f": "abc"}, False),
    ({"f|re|i": "ABC"}, {"f": "abc"}, True),
    ({"f|re": "a.c"}, {"f": "a\nc"}, False),
    ({"f|re|s": "a.c"}, {"f": "a\nc"}, True),
    ({"f|re": "^b$"}, {"f": "a\nb"}, False),
    ({"f|re|m": "^b$"}, {"f": "a\nb"}, True),
    ({"f|re|i|m|s": "^B.C$"}, {"f": "a\nb\nc"}, True),
    ({"f|re": ["x{3}", "[0-9]{4,}"]}, {"f": "ab1234"}, True),
    ({"f|re": "(?=.*a)b"}, {"f": "ba"}, True),
    ({"f|re": "\\\\temp\\\\[a-z]+"}, {"f": "c:\\temp\\abc"}, True),
    ({"f|re": ".*"}, {"g": "x"}, False),
    # base64, base64offset, utf16, wide
    ({"f|base64|contains": "hello"}, {"f": "x" + encoded("hello")}, True),
    ({"f|base64": "foobar"}, {"f": encoded("foobar")}, True),
    ({"f|base64offset|contains": "http://"}, {"f": encoded("xhttp://example")}, True),
    ({"f|base64offset|contains": "http://"}, {"f": encoded("xyhttp://example")}, True),
    ({"f|base64offset|contains": "http://"}, {"f": encoded("xyzhttp://example")}, True),
    ({"f|base64offset|contains": "http://"}, {"f": encoded("ftp://example")}, False),
    ({"f|wide|base64offset|contains": "ping"}, {"f": encoded("a ping 1", "utf-16-le")}, True),
    ({"f|utf16le|base64offset|contains": "ping"}, {"f": encoded("a ping 1", "utf-16-le")}, True),
    ({"f|utf16be|base64offset|contains": "ping"}, {"f": encoded("a ping 1", "utf-16-be")}, True),
    ({"f|utf16|base64|contains": "ping"}, {"f": encoded("\ufeffping", "utf-16-le")}, True),
    ({"f|wide|base64offset|contains": "ping"}, {"f": encoded("a ping 1")}, False),
    # windash
    ({"f|windash|contains": " -a"}, {"f": "cmd /a"}, True),
    ({"f|windash|contains": " -a"}, {"f": "cmd \u2013a"}, True),
    ({"f|windash|contains": " -a"}, {"f": "cmd \u2014a"}, True),
    ({"f|windash|contains": " -a"}, {"f": "cmd \u2015a"}, True),
    ({"f|windash|contains": " -a"}, {"f": "cmd +a"}, False),
    ({"f|windash|contains|all": [" -a", " -b"]}, {"f": "cmd /a -b"}, True),
    ({"f|windash|contains|all": [" -a", " -b"]}, {"f": "cmd /a"}, False),
    # fieldref
    ({"f|fieldref": "g"}, {"f": "Anna", "g": "anna"}, True),
    ({"f|fieldref": "g"}, {"f": "anna", "g": "ben"}, False),
    ({"f|fieldref": "g"}, {"f": "anna"}, False),
    ({"f|fieldref": ["g", "h"]}, {"f": "anna", "g": "ben", "h": "anna"}, True),
    ({"f|fieldref|neq": "g"}, {"f": "anna", "g": "ben"}, True),
    ({"f|fieldref|neq": "g"}, {"f": "anna", "g": "anna"}, False),
    ({"f|fieldref|startswith": "g"}, {"f": "annabel", "g": "anna"}, True),
    ({"f|fieldref|endswith": "g"}, {"f": "annabel", "g": "bel"}, True),
    ({"f|fieldref|contains": "g"}, {"f": "annabel", "g": "nab"}, True),
    # expand
    ({"f|expand": "%admins%"}, {"f": "ben"}, True),
    ({"f|expand": "%admins%"}, {"f": "carl"}, False),
    ({"f|expand": "%none%"}, {"f": "anna"}, False),
    ({"f|contains|expand": "%servers%.example"}, {"f": "x srv2.example y"}, True),
    ({"f|expand": "%admins%@%servers%"}, {"f": "anna@srv1"}, True),
    ({"f|expand": ["%admins%", "carl"]}, {"f": "carl"}, True),
    # parts of a time
    ({"f|minute": 5}, {"f": "2026-11-23T12:05:59Z"}, True),
    ({"f|hour": 12}, {"f": "2026-11-23T12:05:59Z"}, True),
    ({"f|day": 23}, {"f": "2026-11-23T12:05:59Z"}, True),
    ({"f|week": 48}, {"f": "2026-11-23T12:05:59Z"}, True),
    ({"f|month": 11}, {"f": "2026-11-23 12:05:59.123456789"}, True),
    ({"f|year": 2026}, {"f": "1795435559"}, True),
    ({"f|hour": 13}, {"f": "2026-11-23T12:05:59Z"}, False),
    ({"f|hour": 12}, {"f": "noon"}, False),
]  # fmt: skip


@pytest.mark.parametrize(("selection", "fields", "wanted"), TABLE, ids=lambda value: str(value)[:60])
def test_a_selection_matches(matches, selection, fields, wanted):
    assert matches(selection, fields) is wanted


KEYWORDS = [
    (["error"], "an ERROR occurred", True),
    (["error"], "all is well", False),
    (["disk", "error"], "an error occurred", True),
    ({"|all": ["disk", "error"]}, "an error on the disk", True),
    ({"|all": ["disk", "error"]}, "an error", False),
    (["err*red"], "an error occurred", True),
    (["err*xx"], "an error occurred", False),
    ({"|re": "e[r]{2}or"}, "an error occurred", True),
    ({"|cased": ["Error"]}, "an error occurred", False),
    ("error", "an error occurred", True),
    ([404], "status 404", True),
]


@pytest.mark.parametrize(("keywords", "message", "wanted"), KEYWORDS, ids=str)
def test_a_keyword_stands_anywhere_in_the_message(matches, keywords, message, wanted):
    assert matches(keywords, {}, message=message) is wanted


def test_a_keyword_stands_in_any_field(matches):
    assert matches(["mimikatz"], {"f": "c:\\Mimikatz.exe"}) is True


SELECTIONS = {
    "sel_a": {"f": "a"},
    "sel_b": {"g": "b"},
    "filter": {"h": "c"},
    "_hidden": {"f": "hidden"},
}
CONDITIONS = [
    ("sel_a and sel_b", {"f": "a", "g": "b"}, True),
    ("sel_a and sel_b", {"f": "a"}, False),
    ("sel_a or sel_b", {"g": "b"}, True),
    ("sel_a and not filter", {"f": "a"}, True),
    ("sel_a and not filter", {"f": "a", "h": "c"}, False),
    ("not sel_a", {"f": "x"}, True),
    ("1 of sel_*", {"g": "b"}, True),
    ("1 of sel_*", {"h": "c"}, False),
    ("any of sel_*", {"g": "b"}, True),
    ("all of sel_*", {"f": "a", "g": "b"}, True),
    ("all of sel_*", {"f": "a"}, False),
    ("1 of them", {"h": "c"}, True),
    ("1 of them", {"f": "hidden"}, False),
    ("all of them", {"f": "a", "g": "b", "h": "c"}, True),
    ("all of them", {"f": "a", "g": "b"}, False),
    ("all of sel_* and not 1 of filter*", {"f": "a", "g": "b"}, True),
    ("not (sel_a or sel_b)", {"f": "a"}, False),
    ("not (sel_a or sel_b)", {"f": "x"}, True),
    ("sel_a or sel_b and filter", {"f": "a"}, True),
    ("(sel_a or sel_b) and filter", {"f": "a"}, False),
    (["sel_a", "sel_b"], {"g": "b"}, True),
]


@pytest.mark.parametrize(("condition", "fields", "wanted"), CONDITIONS, ids=str)
def test_a_condition_holds(engine, condition, fields, wanted):
    made = engine(rule_of({**SELECTIONS, "condition": condition}))

    assert bool(made.detect([event(fields)]).matches) is wanted


FILTERED = (
    rule_of({"sel": {"f": "a"}, "condition": "sel"})
    + """---
title: Not on the test host
filter:
  rules: %s
  selection: {host.name: test1}
  condition: not selection
logsource: {category: test}
"""
)


@pytest.mark.parametrize(
    ("rules", "host", "wanted"),
    [
        ("any", "web1", True),
        ("any", "test1", False),
        ("[11111111-1111-4111-8111-111111111111]", "test1", False),
        ("[22222222-1111-4111-8111-111111111111]", "test1", True),
    ],
)
def test_a_filter_is_put_before_its_rules(engine, rules, host, wanted):
    text = FILTERED.replace("title: Not", "id: 22222222-2222-4222-8222-222222222222\ntitle: Not") % rules
    made = engine(text)

    assert bool(made.detect([event({"f": "a", "host.name": host})]).matches) is wanted


GLOBAL = """
action: global
title: Both
level: low
logsource: {category: test}
---
id: 11111111-1111-4111-8111-111111111111
detection: {sel: {f: a}, condition: sel}
---
id: 22222222-2222-4222-8222-222222222222
detection: {sel: {f: b}, condition: sel}
---
action: repeat
id: 33333333-3333-4333-8333-333333333333
level: high
---
action: reset
---
id: 44444444-4444-4444-8444-444444444444
title: Apart
level: medium
logsource: {category: test}
detection: {sel: {f: b}, condition: sel}
"""


def test_the_documents_of_an_old_collection_share_what_is_global(engine):
    found = engine(GLOBAL).detect([event({"f": "a"}), event({"f": "b"})]).matches

    assert [(match.rule_id[0], match.rule_name, match.level) for match in found] == [
        ("1", "Both", "low"), ("2", "Both", "low"), ("3", "Both", "high"), ("4", "Apart", "medium"),
    ]  # fmt: skip


def test_of_several_conditions_one_is_enough(engine):
    made = engine(rule_of({"sel_a": {"f": "a"}, "sel_b": {"g": "b"}, "condition": ["sel_a", "sel_b"]}))
    found = made.detect([event({"f": "a"}), event({"g": "b"}), event({"f": "a", "g": "b"}), event({"h": "c"})]).matches

    assert {match.positions for match in found} == {(0,), (1,), (2,)}


@pytest.mark.parametrize(
    ("logsource", "wanted"),
    [
        ({"category": "test"}, True),
        ({"category": "other"}, False),
        ({"service": "testd"}, True),
        ({"product": "linux", "category": "test"}, False),
        ({"category": "test", "service": "testd"}, True),
    ],
    ids=str,
)
def test_a_rule_is_asked_about_events_of_its_log_source(engine, logsource, wanted):
    made = engine(
        yaml.safe_dump({**RULE, "logsource": logsource, "detection": {"sel": {"f": "a"}, "condition": "sel"}})
    )

    assert bool(made.detect([event({"f": "a"}, log_format="testd")]).matches) is wanted
