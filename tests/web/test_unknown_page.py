"""From unknown lines to a decoder of one's own, in the browser."""

from __future__ import annotations

from typing import Any

import pytest
from accounts import log_in
from builders import Filler

from threatlens.decoders.drafting import draft

LINES = [f"zork <b>moved</b> {number} gremlins for user{number}" for number in range(3)]


@pytest.fixture
def client(app: Any, services: Any) -> Any:
    app.config["WTF_CSRF_ENABLED"] = False
    for line in LINES[:1]:
        services.store.template_id("zork <b>moved</b> <*> gremlins for <*>", sample=line, source_id=1)
    return log_in(app)


def test_a_decoder_is_drafted_tried_saved_exported_and_forgotten(client: Any, services: Any) -> None:
    page = client.get("/unknown").text
    assert "Draft a decoder" in page
    assert "<b>moved" not in page
    (shape,) = services.store.templates()
    drafted = client.post("/unknown/draft", data={"shape": str(shape.id)}).text
    assert "It reads 1 of" in drafted
    text = draft(LINES, "zork.moves").as_yaml()
    assert client.post("/unknown/decoders", data={"text": text}).status_code == 303
    assert [made.name for made in services.own_decoders.all()] == ["zork.moves"]
    export = client.get("/unknown/decoders/zork.moves.yml")
    assert export.text == text
    assert "zork.moves" in client.get("/unknown").text
    client.post("/unknown/decoders/zork.moves/remove")
    assert services.own_decoders.all() == ()


def test_a_decoder_for_a_program_is_tried_on_that_programs_lines(client: Any, services: Any) -> None:
    said = [f"moved {number} gremlins for user{number}" for number in range(3)]
    text = draft(said, "zork.moves").as_yaml().replace("samples:", "program: zorkd\nsamples:")
    assert "There is no line of" in client.post("/unknown/draft", data={"text": text}).text
    head = "Nov 23 06:51:07 web1"
    lines = [f"{head} zorkd[7]: {each}" for each in said]
    others = [f"{head} zorkd[7]: the grue is asleep", f"{head} other[7]: {said[0]}"]
    Filler(services.store).add(*lines, *others, log_format="syslog.rfc3164")
    page = client.post("/unknown/draft", data={"text": text}).text
    assert 'It reads 3 of 4 lines of <bdi class="log">zorkd</bdi> from which nothing is read:' in page
    assert page.count('<span class="found-fields"') == 3


def test_what_is_wrong_with_a_draft_is_said(client: Any, services: Any) -> None:
    assert "the pattern is none" in client.post("/unknown/decoders", data={"text": "name: a\npattern: (a"}).text
    assert "at least one line" in client.post("/unknown/draft", data={}).text
    assert services.own_decoders.all() == ()


def test_a_file_that_does_not_exist_is_not_exported(client: Any) -> None:
    assert client.get("/unknown/decoders/nothing.yml").status_code == 404
