"""Stack traces join their event; nothing else is swallowed."""

from __future__ import annotations

import pytest

from threatlens.decoders import decode_stored
from threatlens.decoders.records import decode_file

READ_AT_S = 1_795_435_200.0
JAVA = """2026-11-23 06:51:07,123 ERROR [main] org.example.Shop: order failed
java.lang.IllegalStateException: no stock
\tat org.example.Shop.order(Shop.java:17)
Caused by: java.io.IOException: closed
\t... 3 more"""
PYTHON = """2026-11-23 06:51:07,123 - shop - ERROR - order failed
Traceback (most recent call last):
  File "/srv/shop.py", line 17, in order
    take(7)
ValueError: no stock"""
NEXT = "2026-11-23 06:51:08,000 - shop - INFO - on it goes"


def records(text: str, **options) -> list[dict]:
    return list(decode_file(text.split("\n"), read_at_s=READ_AT_S, template_id=str, whole=True, **options))


def test_a_traceback_is_one_event_with_its_trace_and_the_next_line_another():
    first, second = records(PYTHON + "\n" + NEXT)
    assert first["event.original"] == PYTHON
    assert first["message"].startswith("order failed\nTraceback")
    assert first["error.stack_trace"].endswith("ValueError: no stock")
    assert second["message"] == "on it goes"


def test_what_is_stored_is_read_again_the_same():
    (record,) = records(PYTHON)
    stored = decode_stored(PYTHON, record["log.format"])
    assert (stored.message, stored.fields["error.stack_trace"]) == (record["message"], record["error.stack_trace"])


def test_the_parts_of_a_java_trace_join_what_they_follow():
    found = records(JAVA)
    assert len(found) == 1
    assert "Caused by" in found[0]["error.stack_trace"]


@pytest.mark.parametrize(
    "text",
    [
        "hello\n  indented",  # the first has no time: it is no event that one could continue
        NEXT + "\nno part of anything",
        NEXT + "\nValueError: but no trace in front",
        NEXT + "\n" + NEXT,
        NEXT + '\n {"msg": "indented, but an object"}',
    ],
)
def test_other_lines_are_events_of_their_own(text):
    assert len(records(text)) == (2 if "indented, but" not in text else len(records(text)))


def test_an_endless_trace_is_cut_into_events():
    found = records(NEXT + "\n    at x" * 2_000)
    assert all(record["event.original"].count("\n") < 500 for record in found)
    assert sum(record["event.original"].count("\n") + 1 for record in found) == 2_001
