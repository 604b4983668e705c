from __future__ import annotations

import collections
import gzip
import io
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from programs import Program

from threatlens import ingestions
from threatlens.errors import IngestError
from threatlens.web import ingest_body
from threatlens.web.ingest_body import array_lines, gunzip

LINES = b"Nov 24 00:00:00 web1 app: one\nNov 24 00:00:01 web1 app: two\n"


@pytest.fixture
def shipper(app: Any) -> Program:
    return Program(app, "analyst")


def post(shipper: Program, data: Any, kind: str | None = "text/plain", query: str = "", **headers: str) -> Any:
    return shipper.call(
        "POST",
        f"/ingest{query}",
        data=data,
        content_type=kind,
        headers={k.replace("_", "-"): v for k, v in headers.items()},
    )


def spooled(app: Any) -> list[bytes]:
    """What lies in the spool, by order of names."""
    found = []
    for folder, _folders, files in os.walk(app.extensions["threatlens"].settings.spool):
        for name in sorted(files):
            with open(os.path.join(folder, name), "rb") as file:
                found.append(file.read())
    return found


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "text/plain; charset=utf-8", "application/x-ndjson", None, "application/x-www-form-urlencoded"],
)
def test_text_is_kept_byte_for_byte(app: Any, shipper: Program, kind: str | None) -> None:
    answer = post(shipper, LINES + b"\xff\xfe last", kind, "?source=app")

    assert answer.status_code == 202
    assert answer.json["accepted"] == 3
    assert spooled(app) == [LINES + b"\xff\xfe last\n"]
    state = shipper.call("GET", f"/ingest/{answer.json['ingestion_id']}").json
    assert (state["state"], state["source"], state["accepted"]) == ("accepted", "app", 3)
    assert answer.headers["Location"].endswith(state["ingestion_id"])


def test_an_array_is_one_line_for_each_element_with_its_own_text(app: Any, shipper: Program) -> None:
    body = (
        b' [ "plain \\u00e9" , {"b": 1.0, "a":12345678901234567890123, "a":2},\n {"x":\n1}, "two\\nlines", "end\\n"]\n'
    )

    answer = post(shipper, body, "application/json")

    assert (answer.status_code, answer.json["accepted"]) == (202, 5)
    assert spooled(app)[0].decode().splitlines() == [
        "plain é",
        '{"b": 1.0, "a":12345678901234567890123, "a":2}',
        '{"x": 1}',
        '{"message": "two\\nlines"}',
        "end",
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_an_array_reads_the_same_however_it_is_cut(size: int) -> None:
    elements = ["é" * 20, {"k": ["[", "]", '"', {"n": None}]}, "", {"long": "x" * 500}]
    body = json.dumps(elements, ensure_ascii=False).encode()
    chunks = [body[start : start + size] for start in range(0, len(body), size)]

    lines = [line.decode().rstrip("\n") for line in array_lines(chunks)]

    assert lines == [each if isinstance(each, str) else json.dumps(each) for each in elements]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{}", 422),
        (b"null", 422),
        (b"\xef\xbb\xbf[]", 422),
        (b"[1]", 422),
        (b"[[]]", 422),
        (b'["a"', 400),
        (b'["a" "b"]', 400),
        (b'["a",]', 422),
        (b'["a"] x', 400),
        (b'["\xff"]', 400),
        (b'[{"a": NaN}]', 400),
        (b'[{"a": }]', 400),
        (b'["\\ud800"]', 400),
        (b'[{"a":' + b"[" * 100_000, 400),
        ('["a"]'.encode("utf-16"), 400),
        (b'["' + b"x" * 1_200_000 + b'"]', 400),
    ],
)
def test_an_array_that_is_none_leaves_nothing_behind(app: Any, shipper: Program, body: bytes, status: int) -> None:
    answer = post(shipper, body, "application/json")

    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    assert spooled(app) == []


def test_an_empty_array_is_taken(shipper: Program) -> None:
    assert post(shipper, b"[]", "application/json").json["accepted"] == 0


@pytest.mark.parametrize(
    ("kind", "headers"),
    [("text/plain", {"Content_Encoding": "gzip"}), ("application/gzip", {})],
)
def test_gzip_is_unpacked(app: Any, shipper: Program, kind: str, headers: dict[str, str]) -> None:
    two_members = gzip.compress(LINES[:20]) + gzip.compress(LINES[20:])

    assert post(shipper, two_members, kind, **headers).status_code == 202
    assert spooled(app) == [LINES]


def test_a_packed_array_is_unpacked_and_read(app: Any, shipper: Program) -> None:
    answer = post(shipper, gzip.compress(b'["a","b"]'), "application/json", Content_Encoding="gzip")

    assert answer.json["accepted"] == 2
    assert spooled(app) == [b"a\nb\n"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"not a gzip", 400),
        (gzip.compress(LINES)[:-3], 400),
        (gzip.compress(LINES) + b"trailing", 400),
        (gzip.compress(b"\n" * 20_000_000), 413),
    ],
    ids=["empty", "no gzip", "cut off", "more behind it", "bomb"],
)
def test_a_broken_gzip_or_a_bomb_leaves_nothing_behind(app: Any, shipper: Program, data: bytes, status: int) -> None:
    assert post(shipper, data, Content_Encoding="gzip").status_code == status
    assert spooled(app) == []


def test_a_bomb_is_noticed_before_it_is_unpacked() -> None:
    bomb = gzip.compress(b"\n" * 200_000_000, compresslevel=1)
    unpacked = 0

    with pytest.raises(IngestError) as caught:  # noqa: PT012 - what came before the error is counted
        for piece in gunzip([bomb]):
            unpacked += len(piece)

    assert caught.value.status == 413
    assert unpacked < ingest_body.MAX_RATIO * len(bomb) + ingest_body.RATIO_FROM


def test_a_body_beyond_the_limit_is_refused(app: Any, shipper: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threatlens.web.api_ingest.MAX_PACKED", 1000)

    assert post(shipper, b"x" * 1001).status_code == 413
    assert post(shipper, b"x" * 999 + b"\n").status_code == 202
    assert len(spooled(app)) == 1


def test_a_body_of_unknown_length_is_counted_while_it_is_read() -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return b"x" * size

    taken: Iterator[bytes] = ingest_body.read_chunks(Endless())  # type: ignore[arg-type]
    with pytest.raises(IngestError) as caught:
        collections.deque(taken, maxlen=0)
    assert caught.value.status == 413


def test_a_body_that_is_cut_off_is_not_acknowledged() -> None:
    with pytest.raises(IngestError) as caught:
        list(ingest_body.read_chunks(io.BytesIO(b"abc"), 100))
    assert caught.value.status == 400


@pytest.mark.parametrize("packed", [False, True])
def test_a_form_holds_one_file(app: Any, shipper: Program, packed: bool) -> None:
    content = gzip.compress(LINES) if packed else LINES

    answer = post(shipper, {"file": (io.BytesIO(content), "../../evil.log")}, "multipart/form-data")

    assert answer.json["accepted"] == 2
    assert spooled(app) == [LINES]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"other": (io.BytesIO(LINES), "a")},
        {"file": [(io.BytesIO(LINES), "a"), (io.BytesIO(LINES), "b")]},
        {"file": (io.BytesIO(LINES), "a"), "more": "x"},
    ],
)
def test_any_other_form_is_refused(app: Any, shipper: Program, data: Any) -> None:
    assert post(shipper, data, "multipart/form-data").status_code == 422
    assert spooled(app) == []


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("image/png", {}),
        ("application/xml", {}),
        ("text/plain", {"Content_Encoding": "br"}),
        ("text/plain", {"Content_Encoding": "gzip, gzip"}),
    ],
)
def test_other_kinds_of_body_are_refused(app: Any, shipper: Program, kind: str, headers: dict[str, str]) -> None:
    assert post(shipper, LINES, kind, **headers).status_code == 415
    assert spooled(app) == []


def test_the_same_key_again_adds_nothing(app: Any, shipper: Program) -> None:
    first = post(shipper, LINES, Idempotency_Key="k1")
    again = post(shipper, LINES, Idempotency_Key="k1")
    other = post(shipper, LINES, Idempotency_Key="k2")

    assert first.json == again.json
    assert other.json["ingestion_id"] != first.json["ingestion_id"]
    assert len(spooled(app)) == 2
    assert post(shipper, LINES, Idempotency_Key="").status_code == 400


def test_a_full_spool_asks_to_come_back(shipper: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingestions, "MAX_SPOOL_BYTES", -1)

    answer = post(shipper, LINES)

    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?source=", 400),
        ("?source=" + "x" * 101, 400),
        ("?source=a%00b", 400),
        ("?source=a%E2%80%AEb", 400),
        ("?source=test+attack", 409),
        ("?source=a&source=b", 400),
        ("?format=klingon", 409),
        ("?unknown=1", 400),
    ],
)
def test_where_the_data_belongs_must_be_sayable(app: Any, shipper: Program, query: str, status: int) -> None:
    assert post(shipper, LINES, query=query).status_code == status
    assert spooled(app) == []


def test_a_viewer_may_not_hand_in(app: Any) -> None:
    assert post(Program(app, "viewer"), LINES).status_code == 403
    assert spooled(app) == []


def test_an_unknown_ingestion_is_a_404(shipper: Program) -> None:
    assert shipper.call("GET", "/ingest/none").status_code == 404
