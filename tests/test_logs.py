"""The own log: one line per message, nothing in it can act."""

from __future__ import annotations

import io
import json
import logging
from contextlib import contextmanager
from logging.handlers import MemoryHandler

import pytest

from threatlens import logs

HOSTILE = "%s%s%n %(name)s {0.__class__} {} ${jndi:ldap://x}"


@pytest.fixture
def stream():
    yield io.StringIO()
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, MemoryHandler):
            root.removeHandler(handler)


@contextmanager
def no_other_handlers():
    """pytest's own handlers refuse arguments that do not fit their format."""
    root = logging.getLogger()
    handlers, root.handlers[:] = root.handlers[:], []
    try:
        yield
    finally:
        root.handlers[:] = handlers


def last_json(stream):
    (line,) = stream.getvalue().splitlines()
    return json.loads(line)


def test_json_names_time_level_logger_and_what_is_extra(stream):
    logs.configure(stream, json=True)
    logging.getLogger("threatlens.x").warning("source %s is gone", "auth", extra={"source": "auth"})
    record = last_json(stream)
    assert record.pop("timestamp").endswith("+00:00")
    assert record == {
        "level": "WARNING",
        "logger": "threatlens.x",
        "message": "source auth is gone",
        "source": "auth",
    }


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("args", [(), ("x",), ("x", 1, 2, 3, 4, 5)])
def test_l22_r40_text_that_looks_like_a_format_stays_literal(stream, capsys, as_json, args):
    with no_other_handlers():
        logs.configure(stream, json=as_json)
        logging.getLogger("threatlens").info(HOSTILE, *args)
        logging.getLogger("threatlens").info("read %s", HOSTILE)
    first, second = stream.getvalue().splitlines()
    assert HOSTILE in first
    assert "read " + HOSTILE in second
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("as_json", [True, False])
def test_control_characters_cannot_begin_a_line_or_act_on_a_terminal(stream, as_json):
    logs.configure(stream, json=as_json)
    logging.getLogger("threatlens").error("a\r\nFAKE \x1b[31m \x00 \u202e \x85 \u2028 \udcff")
    (line,) = stream.getvalue().splitlines()
    message = json.loads(line)["message"] if as_json else line.partition(": ")[2]
    assert message == r"a\r\nFAKE \x1b[31m \x00 \u202e \x85 \u2028 \udcff"


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_is_kept_and_cannot_pass_for_a_message(stream, as_json):
    logs.configure(stream, json=as_json)
    try:
        int("x\n03:14:07 ERROR threatlens: forged \x1b[2J")
    except ValueError:
        logging.getLogger("threatlens").exception("failed")
    lines = stream.getvalue().splitlines()
    if as_json:
        assert "Traceback" in last_json(stream)["exception"]
    else:
        assert all(line.startswith("    | ") for line in lines[1:])
    assert "\x1b" not in stream.getvalue()


def test_a_long_message_is_cut_above_debug_only(stream):
    logs.configure(stream, json=True, level="DEBUG")
    logging.getLogger("threatlens").debug("x" * 5000)
    logging.getLogger("threatlens").info("x" * 5000)
    whole, cut = (json.loads(line)["message"] for line in stream.getvalue().splitlines())
    assert whole == "x" * 5000
    assert cut == "x" * 1000 + "... (5000 characters)"


def test_configuring_again_replaces_the_handler(stream):
    logs.configure(io.StringIO(), json=True)
    logs.configure(stream, json=False, level="WARNING")
    logging.getLogger("threatlens").info("quiet")
    logging.getLogger("threatlens").warning("once")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("WARNING threatlens: once")


def test_other_handlers_get_the_record_as_it_was(stream):
    logs.configure(stream, json=True)
    other = MemoryHandler(10)
    logging.getLogger().addHandler(other)
    logging.getLogger("threatlens").warning("a\n%s", "b")
    assert other.buffer[-1].getMessage() == "a\nb"


def test_a_stream_that_knows_only_ascii_gets_every_message(stream):
    raw = io.BytesIO()
    ascii_stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    logs.configure(ascii_stream, json=False)
    logging.getLogger("threatlens").info("käse")
    assert b"k\\xe4se" in raw.getvalue()
