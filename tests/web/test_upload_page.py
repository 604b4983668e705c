"""What is uploaded becomes a case of its own, exactly once, and nothing else."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from accounts import log_in

LINE = b"Nov 23 06:51:07 web1 sshd[4211]: Failed password for root from 203.0.113.9 port 52144 ssh2\n"


@pytest.fixture
def client(app: Any) -> Any:
    app.config["WTF_CSRF_ENABLED"] = False
    return log_in(app, "analyst")


def send(client: Any, *files: tuple[bytes, str], **form: str) -> Any:
    parts = [f'--b\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{form[key]}\r\n'.encode() for key in form]
    for content, name in files:
        head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return client.post("/upload", data=b"".join([*parts, b"--b--\r\n"]), content_type="multipart/form-data; boundary=b")


def test_files_archives_and_pasted_lines_become_one_case(client: Any, services: Any) -> None:
    answer = send(client, (LINE * 3, "auth.log"), (gzip.compress(LINE * 4), "old.gz"), case="march", lines="a\r\nb")
    assert answer.status_code == 303
    page = client.get(answer.headers["Location"]).text
    assert page.count("case march") >= 3
    assert [source.source_name for source in services.store.sources()] == ["case march"]
    for words in ("3 lines", "4 lines", "2 lines"):
        assert words in page


def test_a_file_larger_than_other_forms_is_taken(client: Any) -> None:
    assert "id=" in send(client, (LINE * 20_000, "auth.log"), case="big").headers["Location"]


@pytest.mark.parametrize("form", [{"case": ""}, {"case": "<>"}, {"case": "x"}])
def test_without_a_name_or_content_nothing_is_stored(client: Any, services: Any, form: dict[str, str]) -> None:
    assert send(client, **form).headers["Location"] == "/upload"
    assert services.store.sources() == []


def test_an_archive_that_is_refused_says_why(client: Any, services: Any) -> None:
    send(client, (b"BZh91AY&SY" + b"x" * 600, "a.bz2"), case="x")
    assert "Not everything was taken" in client.get("/upload").text


def test_the_browser_is_told_where_the_state_is(client: Any) -> None:
    answer = client.post("/upload", data={"case": "x", "lines": "a"}, headers={"HX-Request": "true"})
    state = client.get(answer.headers["HX-Redirect"], headers={"HX-Request": "true"}).text
    assert "1 line for" in state
    assert "every 1s" in state


def test_viewers_do_not_upload(app: Any) -> None:
    assert log_in(app, "viewer").get("/upload").status_code == 403
