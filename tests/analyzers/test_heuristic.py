"""Severity and category by what the decoder said."""

from __future__ import annotations

import pytest

from threatlens.analyzers.heuristic import CATEGORIES, HIGHEST, category, severity
from threatlens.event import Decoded


def decoded(**fields) -> Decoded:
    return Decoded("x", None, "", {name.replace("__", "."): value for name, value in fields.items()})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 1),
        ({"log__level": "info"}, 1),
        ({"log__level": "error"}, 4),
        ({"log__level": "emergency"}, 6),
        ({"event__action": "ssh_login", "event__outcome": "failure"}, 4),
        ({"event__action": "ssh_login", "event__outcome": "success"}, 2),
        ({"event__action": "sudo_root", "event__outcome": "success"}, 3),
        ({"event__action": "sudo_denied", "event__outcome": "failure"}, 5),
        ({"event__action": "user_added", "event__outcome": "success"}, 5),
        ({"event__action": "kernel_oops", "event__outcome": "failure", "log__level": "critical"}, 5),
        ({"event__action": "firewall_deny", "event__outcome": "failure"}, 2),
        ({"event__action": "http_request", "event__outcome": "failure", "http__response__status_code": 404}, 2),
        ({"event__action": "http_request", "event__outcome": "failure", "http__response__status_code": 503}, 3),
        ({"event__action": "http_request", "event__outcome": "success", "http__response__status_code": 200}, 1),
        ({"event__action": ["a", "list"], "log__level": "warning"}, 3),
    ],
)
def test_severity(fields, expected):
    assert severity(decoded(**fields)) == expected
    assert severity(decoded(**fields)) == expected  # remembered


def test_no_single_line_reaches_eight():
    worst = decoded(event__action="kernel_panic", event__outcome="failure", log__level="emergency")
    assert severity(worst) == HIGHEST == 7


def test_words_invented_by_a_log_do_not_fill_the_memory():
    from threatlens.analyzers import heuristic

    for number in range(heuristic._MAX_KNOWN + 10):
        severity(decoded(log__level=f"level {number}"))
    assert len(heuristic._KNOWN) <= heuristic._MAX_KNOWN


@pytest.mark.parametrize(
    ("word", "expected"),
    [("web", "web"), (["iam", "process"], "iam"), ("nonsense", "other"), (None, "other"), ([], "other")],
)
def test_category(word, expected):
    assert category(decoded(**({} if word is None else {"event__category": word}))) == expected
    assert expected in CATEGORIES
