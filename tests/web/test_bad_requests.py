"""Requests that break the rules of HTTP or of ours, sent to a running ThreatLens as bytes, with no proxy before it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from served import Served

from threatlens.web.security_headers import HEADERS

HOST = b"Host: localhost\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST
JSON = b"POST /api/v1/tokens HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
TWICE = b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"
INNER = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
CLOSE = b"Connection: close\r\n\r\n"
MIB = 1 << 20


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"^HTTP/1\.[01] (\d+) ", answer, re.MULTILINE)]


#: What is sent -> the statuses of which one is the only answer. TOKEN stands for a good one.
REFUSED: dict[str, tuple[bytes, set[int]]] = {
    "another host": (b"GET /login HTTP/1.1\r\nHost: evil.example\r\n\r\n", {400}),
    "two hosts": (b"GET /login HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n\r\n", {400}),
    "no host": (b"GET /login HTTP/1.1\r\n\r\n", {400}),
    **{
        f"static {path}": (b"GET " + path.encode() + b" HTTP/1.1\r\n" + HOST + CLOSE, {303, 404, 400})
        for path in (
            "/static/../threatlens.db", "/static/%2e%2e%2fthreatlens.db", "/static/..%5cthreatlens.db",
            "/static//etc/passwd", "/static/%00", "/static/%2fetc%2fpasswd", "/static/....//threatlens.db",
        )
    },
    **{
        f"authorization {number}": (
            b"GET /api/v1/events HTTP/1.1\r\n" + HOST + value + b"Connection: close\r\n\r\n", {401},
        )
        for number, value in enumerate((
            b"", b"Authorization:\r\n", b"Authorization: Bearer\r\n", b"Authorization: Bearer ''\r\n",
            b"Authorization: Basic dGw6dGw=\r\n", b"Authorization: Bearer tl_\xff\xfe\r\n",
            b"Authorization: Bearer tl_" + b"A" * 43 + b"\r\n", b"Authorization: Bearer tl_" + b"A" * 8000 + b"\r\n",
            b"Authorization: Bearer TOKEN\r\nAuthorization: Bearer TOKEN\r\n",
            b"Authorization: Bearer TOKEN x\r\n", b"Authorization: Bearer  TOKEN\r\n",
        ))
    },
    "authorization of 1 MB": (
        b"GET /api/v1/events HTTP/1.1\r\n" + HOST + b"Authorization: Bearer tl_" + b"A" * MIB + b"\r\n\r\n", {400, 431},
    ),
    "CL.TE": (JSON + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER, {400, 401}),
    "TE.CL": (JSON + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + INNER, {400, 401}),
    "xchunked": (JSON + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + INNER, {400, 401, 501}),
    "chunked twice": (JSON + TWICE + b"\r\n0\r\n\r\n" + INNER, {400, 501}),
    "a blank before the colon": (JSON + b"Content-Length : 0\r\n\r\n" + INNER, {400}),
    "a folded header": (GET + b"X: a\r\n b\r\n\r\n", {400}),
    "a bare LF": (b"GET /healthz HTTP/1.1\nHost: localhost\nX: y\r\n\r\n", {400}),
    "two lengths": (JSON + b"Content-Length: 0\r\nContent-Length: 30\r\n\r\n" + INNER, {400}),
    "a length with a sign": (JSON + b"Content-Length: +0\r\n\r\n" + INNER, {400}),
    "a NUL in a header": (GET + b"X: a\0b\r\n\r\n", {400}),
    "a CR in a header": (GET + b"X: a\rb\r\n\r\n", {400}),
    "a header without a name": (GET + b": a\r\n\r\n", {400}),
    "200 headers": (GET + b"X: y\r\n" * 200 + b"\r\n", {400, 431}),
    "a header of 9 KB": (GET + b"X: " + b"y" * 9_000 + b"\r\n\r\n", {400, 431}),
    "a line of 5 KB": (b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", {400, 414}),
    "a version that is none": (b"GET / HTTP/9.1\r\n" + HOST + b"\r\n", {400, 505}),
    **{
        f"method {method}": (
            method.encode() + b" /api/v1/events HTTP/1.1\r\n" + HOST + b"Authorization: Bearer TOKEN\r\n"
            b"Connection: close\r\n\r\n", {405},
        )
        for method in ("TRACE", "CONNECT", "PROPFIND", "FOO")
    },
    "a length of 10 GB": (JSON + b"Authorization: Bearer TOKEN\r\nContent-Length: 10000000000\r\n\r\n{}", {400, 413}),
    "100,000 fields": (
        b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: 1188890\r\n\r\n" + b"&".join(b"field%d=x" % number for number in range(100_000)),
        {400, 403, 413},
    ),
    "10,000 fields of a multipart form": (
        b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Type: multipart/form-data; boundary=b\r\nConnection: close\r\n"
        b"Content-Length: 550000\r\n\r\n" + b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 10_000,
        {400, 403, 413},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_request_that_breaks_the_rules_has_one_answer_which_refuses_it(served: Served, name: str) -> None:
    text, expected = REFUSED[name]

    answer = served.raw(text.replace(b"TOKEN", served.token.encode()))

    assert len(statuses(answer)) == 1, answer[:2000]
    assert statuses(answer)[0] in expected, answer[:500]
    assert not re.search(rb"Traceback|File \"|/threatlens/|root:|SELECT |gunicorn/", answer)
    assert statuses(served.raw(GET + b"Connection: close\r\n\r\n")) == [200]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"GET <script>alert(1)</script>\r\n\r\n", 400),
        (b"GET / HTTP/9.1\r\n" + HOST + b"\r\n", 400),
        (GET + b"X : y\r\n\r\n", 400),
        (GET + b"X: " + b"y" * 9_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (JSON + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    ],
)
def test_what_is_refused_before_it_is_a_request_is_answered_with_all_headers(
    served: Served, text: bytes, status: int
) -> None:
    head, _, body = served.raw(text).partition(b"\r\n\r\n")
    names = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])

    assert statuses(head) == [status], head
    assert HEADERS.items() <= names.items()
    assert names["Cache-Control"] == "no-store"
    assert names["Content-Type"] == "application/problem+json"
    assert len(body) == int(names["Content-Length"])
    assert json.loads(body)["status"] == status
    assert b"script" not in body, "nothing of what was sent is sent back"


def test_a_body_without_end_is_cut_off_and_costs_no_memory(served: Served) -> None:
    before = served.memory()
    head = (
        b"POST /api/v1/ingest?source=x HTTP/1.1\r\n" + HOST + b"Authorization: Bearer " + served.token.encode()
        + b"\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    )  # fmt: skip
    chunk = b"100000\r\n" + b"x" * MIB + b"\r\n"

    answer = served.raw(head, *[chunk] * 60)

    assert statuses(answer) in ([413], []), "it may close before the answer is read"
    assert served.memory() - before < 40 * MIB
    assert [path for path in Path(served.data, "spool").rglob("*") if path.is_file()] == []


def test_what_a_client_says_about_its_host_is_in_no_link(served: Served) -> None:
    answer = served.raw(
        b"GET /events HTTP/1.1\r\n" + HOST + b"X-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\n"
        b"X-Forwarded-Prefix: /evil\r\nConnection: close\r\n\r\n"
    )
    assert statuses(answer) == [303]
    assert b"evil" not in answer


def test_no_header_says_which_path_is_asked_for(served: Served) -> None:
    """Else whoever gets one past a proxy gets past its rules about paths."""
    for name in (b"PATH_INFO", b"Path-Info", b"X-Original-URL", b"X-Rewrite-URL"):
        answer = served.raw(GET + name + b": /login\r\nConnection: close\r\n\r\n")
        assert statuses(answer) == [200]
        assert answer.endswith(b'{"status":"degraded"}\n') or b'"status":"ok"' in answer, answer


def test_a_token_in_an_address_is_in_no_log(served: Served) -> None:
    handshake = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    handshake += b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    for path in (b"/ws/events?token=", b"/api/v1/events?token=", b"/events?token="):
        answer = served.raw(b"GET " + path + served.token.encode() + b" HTTP/1.1\r\n" + HOST + handshake + b"\r\n")
        assert statuses(answer)[0] in {303, 400, 401}
    written = [path.read_bytes() for path in Path(served.data).rglob("*") if path.is_file()]
    assert [text for text in (*written, Path(served.log).read_bytes()) if served.token.encode() in text] == []


def test_bad_json_is_refused_as_a_whole(served: Served) -> None:
    for body in (
        b"[" * 100_000, b'{"name": 1e400}', b'{"name":"a","name":"b","role":"viewer"}', b'{"name":"\\ud800"}',
        b"\xef\xbb\xbf{}", '{"name":"a","role":"viewer"}'.encode("utf-16"), b'{"name":"a","role":"viewer"',
    ):  # fmt: skip
        head = JSON + b"Authorization: Bearer " + served.token.encode() + b"\r\nConnection: close\r\n"
        answer = served.raw(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert statuses(answer) == [400], body[:50]
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 400
