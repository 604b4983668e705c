"""Secrets that stand in log lines do not leave the machine; the rest of a line does."""

from __future__ import annotations

import pytest

from threatlens.redaction import masked


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("password=hunter2 rest", "hunter2"),
        ('{"api_key": "abc-def-123", "user": "x"}', "abc-def-123"),
        ("Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.abc", "eyJhbGci"),
        ("authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("pushed with ghp_0123456789abcdefghij0123", "ghp_0123"),
        ("postgres://app:s3cret@db/x", "s3cret"),
        ("paid with 4111 1111 1111 1111 today", "4111 1111"),
        ("key AKIAIOSFODNN7EXAMPLE used", "AKIAIOSF"),
    ],
)
def test_a_secret_is_masked(line, secret):
    assert secret not in masked(line)
    assert "***" in masked(line)


@pytest.mark.parametrize(
    "line",
    [
        "Failed password for invalid user admin from 203.0.113.9 port 52144 ssh2",
        "GET /login?next=/ HTTP/1.1 200 1234567890123",
        "kernel: [12345.678901] DPT=22 LEN=60",
    ],
)
def test_an_ordinary_line_stays_as_it_is(line):
    assert masked(line) == line
