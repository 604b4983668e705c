from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threatlens.errors import QueryError
from threatlens.event import EventFilter
from threatlens.event_match import FieldTest
from threatlens.query import both, hint, parse_query, parse_time, to_query

NOW_US = 1_795_000_000_000_000
HOUR_US = 3_600_000_000


def parse(text: str) -> EventFilter:
    return parse_query(text, now_us=NOW_US)


def asks(name: str, operator: str, *values: str, negated: bool = False) -> EventFilter:
    return EventFilter(tests=(FieldTest(name, operator, values, negated),))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", EventFilter()),
        (" \t ", EventFilter()),
        ("failed ROOT", EventFilter(words=("failed", "ROOT"))),
        ('"failed password" root', EventFilter(words=("failed password", "root"))),
        (r'"a \"b\" \\c"', EventFilter(words=(r'a "b" \c',))),
        ('""', EventFilter()),
        ("severity>=7", EventFilter(min_severity=7)),
        ("sev>7", EventFilter(min_severity=8)),
        ("SEVERITY<=3", EventFilter(max_severity=3)),
        ("severity<3", EventFilter(max_severity=2)),
        ("severity:5", EventFilter(min_severity=5, max_severity=5)),
        ("severity=5..7", EventFilter(min_severity=5, max_severity=7)),
        ("severity>=3 severity<=6", EventFilter(min_severity=3, max_severity=6)),
        ("source:auth", EventFilter(sources=("auth",))),
        ('source:"my app"', EventFilter(sources=("my app",))),
        ("source:(auth,nginx)", EventFilter(sources=("auth", "nginx"))),
        ("source:( auth , nginx )", EventFilter(sources=("auth", "nginx"))),
        ("source:auth,nginx", EventFilter(sources=("auth", "nginx"))),
        ("source:(a,b) source:(b,c)", EventFilter(sources=("b",))),
        ("category:Web", EventFilter(categories=("web",))),
        ("after:-2h", EventFilter(start_us=NOW_US - 2 * HOUR_US)),
        ("before:30m", EventFilter(end_us=NOW_US - HOUR_US // 2)),
        ("after:1970-01-02", EventFilter(start_us=24 * HOUR_US)),
        ("after:1970-01-01T02:00:00+01:00", EventFilter(start_us=HOUR_US)),
        ('before:"1970-01-01 01:00:00.5"', EventFilter(end_us=HOUR_US + 500_000)),
        ("after:1970-01-01 after:1970-01-02", EventFilter(start_us=24 * HOUR_US)),
        ("10:20:30 fe80::1 pam_unix(sshd:auth): 1=1-- * %_", EventFilter(
            words=("10:20:30", "fe80::1", "pam_unix(sshd:auth):", "1=1--", "*", "%_"))),
        ("NEAR(a b)", EventFilter(words=("NEAR(a", "b)"))),
        ("ip:10.0.0.0/8", asks("ip", ":", "10.0.0.0/8")),
        ("10.0.0.0/8 2001:db8::/32", both(asks("ip", ":", "10.0.0.0/8"), asks("ip", ":", "2001:db8::/32"))),
        ("-192.0.2.*", asks("ip", ":", "192.0.2.*", negated=True)),
        ("10/8 1.2.3.4/x failed* 203.0.113.9", EventFilter(words=("10/8", "1.2.3.4/x", "failed", "203.0.113.9"))),
        ("http://example.org/a", EventFilter(words=("http://example.org/a",))),
        ("severity > 7", EventFilter(min_severity=8)),
        ("severity: >=7", EventFilter(min_severity=7)),
        ("severity:high", EventFilter(min_severity=7, max_severity=8)),
        ("sev>medium", EventFilter(min_severity=7)),
        ("severity:medium..critical", EventFilter(min_severity=5, max_severity=10)),
        ("-severity:low", asks("severity", ":", "3..4", negated=True)),
        ("status:>=500", asks("status", ">=", "500")),
        ("user == root", asks("user", ":", "root")),
        ("user != root", asks("user", ":", "root", negated=True)),
        ("a AND b && c", EventFilter(words=("a", "b", "c"))),
        ("error OR warn", asks("", ":", "error", "warn")),
        ('x "a b" OR c || d', both(EventFilter(words=("x",)), asks("", ":", "a b", "c", "d"))),
        ("user:root OR user:admin", asks("user", ":", "root", "admin")),
        ("source:a OR source:b", EventFilter(sources=("a", "b"))),
        ("ip:2001:db8::1", asks("ip", ":", "2001:db8::1")),
        ("-user:root", asks("user", ":", "root", negated=True)),
        ("!user:(root,admin)", asks("user", ":", "root", "admin", negated=True)),
        ("NOT user=root", asks("user", ":", "root", negated=True)),
        ("status>=500", asks("status", ">=", "500")),
        ("http.response.status_code:400..499", asks("http.response.status_code", ":", "400..499")),
        ("has:source.geo", asks("has", "has", "source.geo")),
        ("-has:user", asks("has", "has", "user", negated=True)),
        ("-noise", asks("", ":", "noise", negated=True)),
        ('-"a b"', asks("", ":", "a b", negated=True)),
        ("-severity>=7", asks("severity", ">=", "7", negated=True)),
        ("source:web*", asks("source", ":", "web*")),
        ("-source:auth", asks("source", ":", "auth", negated=True)),
        ("-after:1970-01-02", EventFilter(end_us=24 * HOUR_US)),
        ("user:root user:root", asks("user", ":", "root")),
        ('severity>=7 source:auth ip:10.0.0.0/8 -user:root "failed password" has:source.geo after:-2h', EventFilter(
            min_severity=7, sources=("auth",), start_us=NOW_US - 2 * HOUR_US, words=("failed password",),
            tests=(FieldTest("ip", ":", ("10.0.0.0/8",)), FieldTest("user", ":", ("root",), negated=True),
                   FieldTest("has", "has", ("source.geo",))))),
    ],
)  # fmt: skip
def test_a_query_is_the_filter_it_says(text: str, where: EventFilter) -> None:
    assert parse(text) == where


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a:1 OR b", "Column 1: OR stands between words, or between values of one field"),
        ("user:a OR ip:192.0.2.1", "Column 1: OR stands between words"),
        ("user:a OR -user:b", "Column 1: OR stands between words"),
        ("a OR", 'Column 3: "OR" has no meaning here'),
        ("a AND b OR c", "Column 3: AND and OR beside each other can be read in two ways"),
        ("since:-1h", 'unknown field "since"; did you mean "after"?'),
        ("msg:failed", '"msg" is no field: words of the line are written as they are'),
        ('user:"root', "Column 6: the quotation mark is never closed"),
        ("usr:root", "Column 1: unknown field \"usr\"; did you mean \"user\"? To find it as text, "),
        ("made.up:1", "Column 1: unknown field \"made.up\""),
        ("has:nothing", 'Column 5: "has" takes the name of a field'),
        ("status>=many", 'Column 9: ">=" compares with one number, as in status>=400'),
        ("status>4,5", 'Column 8: ">" compares with one number'),
        ('"unterminated', "Column 1: the quotation mark is never closed"),
        ('a\nb "c', "Column 5: the quotation mark is never closed"),
        ("NOT", 'Column 1: "NOT" has no meaning'),
        ("(a b)", 'Column 1: "(" can only hold a list'),
        ("severity:eleven", 'Column 10: severity is a whole number from 1 to 10, or low, medium, high or critical'),
        ("severity:11", "Column 10: severity is a whole number"),
        ("severity:٣", "Column 10: severity is a whole number"),
        ("severity>10", "no event has severity >10"),
        ("severity:7..5", "no event has severity :7..5"),
        ("severity>=5..7", 'a range goes with ":" only'),
        ("severity:4,6", "Column 12: severity takes one number or a range"),
        ("source>a", '">" does not go with source'),
        ("source:a source:b", "No event has two values of source; for any of several write source:(a,b)"),
        ("source:", "Column 8: a value is missing"),
        ("source:(a", "a list is not closed"),
        ("source:()", 'Column 9: ")" cannot stand here; a value'),
        ('"a"b', 'Column 4: "b" cannot stand here; a space'),
        ("after:yesterday", 'Column 7: "yesterday" is not a time; write -2h'),
        ("after:2026-13-01", "is not a time"),
        ("a\x00b", "Column 2: a character that is not text"),
        ("\ud800", "Column 1: a character that is not text"),
        ("x" * 2001, "2001 characters; at most 2000"),
        ("x " * 51, "51 terms; at most 50"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_what_and_where(text: str, says: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text)
    assert says in str(caught.value)


PIECES = st.sampled_from(
    ["severity", "sev", ">=", "<", ":", "=", "..", "7", "10", "source", "(", ")", ",", '"', "\\", " ", "-2h", "after",
     "before", "user", "has", "status", "10.0.0.0/8", "*", "!",
     "http.request.method", "2026-11-23", "category", "a", "AND", " OR ", "NOT", "!=", "==", "high", "b*", "-",
     "\n", "\x1d", "٣", "9" * 9]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join)))
def test_any_text_is_a_filter_or_a_query_error(text: str) -> None:
    try:
        where = parse(text)
    except QueryError as error:
        assert str(error)  # noqa: PT017 - only whether anything else is raised matters
        return
    assert parse(to_query(where)) == where


@given(
    st.builds(
        EventFilter,
        min_severity=st.integers(1, 10),
        max_severity=st.integers(1, 10),
        sources=st.lists(st.text(st.characters(min_codepoint=32, codec="utf-8"), min_size=1, max_size=20),
                         max_size=3, unique=True).map(tuple),
        start_us=st.none() | st.integers(0, 4_000_000_000_000_000),
        end_us=st.none() | st.integers(0, 4_000_000_000_000_000),
        words=st.lists(st.sampled_from(['a"b', "c\\", "x y", "-z", "AND", "é"]), max_size=3).map(tuple),
    )
)  # fmt: skip
def test_a_filter_written_as_a_query_reads_back_the_same(where: EventFilter) -> None:
    assert parse(to_query(where)) == where


@given(
    st.builds(
        FieldTest,
        st.sampled_from(["user", "ip", "source", "url.original"]),
        st.just(":"),
        st.lists(st.text(st.characters(min_codepoint=32, codec="utf-8"), max_size=12), min_size=1, max_size=3,
                 unique=True).map(tuple),
        st.just(True),
    )
)  # fmt: skip
def test_a_test_of_a_field_written_as_a_query_reads_back_the_same(test: FieldTest) -> None:
    assert parse(to_query(EventFilter(tests=(test,)))).tests == (test,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("last hour", "after:-1h"),
        ("past 24h failed", "after:-1h"),
        ("today", "after:-1h"),
        ("error or warn", "OR in capitals"),
        ("not root", "NOT in capitals"),
        ("'failed password'", "double quotes"),
        ("/fail.*/", "Regular expressions"),
        ("*fail", "from its beginning"),
        ("user:root | head 5", "Nothing is piped"),
        ("failed password", ""),
        ("last login", ""),
        ("/var/log", ""),
    ],
)
def test_what_was_maybe_meant_otherwise_is_said(text: str, says: str) -> None:
    parse(text)
    assert says in hint(text)
    assert bool(says) == bool(hint(text))


def test_a_mistake_knows_its_place_to_be_underlined() -> None:
    with pytest.raises(QueryError) as caught:
        parse("failed usr:root")
    assert (caught.value.column, caught.value.length) == (8, 3)


def test_two_filters_together_want_what_both_want() -> None:
    left = EventFilter(min_severity=3, categories=("web", "network"), start_us=5, words=("a",))
    right = EventFilter(max_severity=8, categories=("network",), start_us=7, end_us=9, words=("b",))

    assert both(left, right) == EventFilter(3, 8, ("network",), (), 7, 9, ("a", "b"))


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "99999999w"])
def test_the_ends_of_time_do_not_overflow(text: str) -> None:
    start_us = parse_time(text, now_us=NOW_US)

    assert parse(to_query(EventFilter(start_us=start_us))).start_us == start_us
