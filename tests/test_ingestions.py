"""What is handed in is durable before it is acknowledged, and is handed in once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from threatlens.errors import IngestError
from threatlens.ingestions import Ingestions


@pytest.fixture
def ingestions(settings, store) -> Ingestions:
    return Ingestions(settings, store)


def spooled(settings) -> dict[str, bytes]:
    found = {}
    for folder, _, names in os.walk(settings.spool):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                found[name] = file.read()
    return found


def test_accepted_data_lies_in_the_spool_under_its_source(ingestions, settings, store):
    ingestion = ingestions.accept([b"one\ntw", b"o\nthr", b"ee"], "web")
    assert (ingestion.accepted, ingestion.state, ingestion.source) == (3, "accepted", "web")
    assert spooled(settings) == {ingestion.id + ".log": b"one\ntwo\nthree\n"}
    assert ingestions.get(ingestion.id).size == 14
    source = store.sources()[0]
    assert (source.source_name, source.kind) == ("web", "api")


def test_nothing_is_left_of_data_that_breaks_off(ingestions, settings, store):
    def chunks():
        yield b"one\n"
        raise IngestError("too large", status=413)

    with pytest.raises(IngestError, match="too large"):
        ingestions.accept(chunks(), "web")
    assert spooled(settings) == {}
    assert store.ingestion("id", "x") is None


def test_a_key_seen_before_returns_the_earlier_ingestion(ingestions, settings):
    first = ingestions.accept([b"one\n"], "web", idempotency_key="k")
    second = ingestions.accept([b"o", b"ne"], "web", idempotency_key="k")
    assert second.id == first.id
    with pytest.raises(IngestError, match="other data") as caught:
        ingestions.accept([b"one\n", b"two\n"], "web", idempotency_key="k")
    assert caught.value.status == 409
    assert list(spooled(settings).values()) == [b"one\n"]


def test_one_key_at_the_same_time_is_one_ingestion(ingestions, settings):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ingestions.accept([b"one\n"], "web", idempotency_key="k").id, range(8)))
    assert len(set(found)) == 1
    assert list(spooled(settings).values()) == [b"one\n"]


def test_a_full_spool_says_come_back(ingestions, monkeypatch):
    monkeypatch.setattr("threatlens.ingestions.MAX_SPOOL_BYTES", 3)
    ingestions.accept([b"four\n"], "web")
    with pytest.raises(IngestError) as error:
        ingestions.accept([b"more\n"], "web")
    assert (error.value.status, error.value.retry_after_s > 0) == (429, True)


def test_what_is_wholly_stored_is_settled(ingestions, settings, store):
    ingestion = ingestions.accept([b"one\n"], "web")
    (path,) = [os.path.join(folder, name) for folder, _, names in os.walk(settings.spool) for name in names]
    source = store.sources()[0]
    stream = store.create(source.id, path=path.encode(), device=1, inode=1, compressed=False, position=0)
    ingestions.settle()
    assert spooled(settings)
    assert store.rewind(stream, expected=0, position=2, fingerprint=b"")
    assert ingestions.get(ingestion.id).state == "processing"
    store.rewind(stream, expected=2, position=4, fingerprint=b"")
    ingestions.settle()
    done = ingestions.get(ingestion.id)
    assert (done.state, done.stored) == ("done", 4)
    assert spooled(settings) == {}


def test_a_kill_between_row_and_rename_loses_nothing(ingestions, settings):
    ingestion = ingestions.accept([b"one\n"], "web")
    (path,) = [os.path.join(folder, name) for folder, _, names in os.walk(settings.spool) for name in names]
    os.rename(path, path + ".part")
    ingestions.settle()
    assert spooled(settings) == {ingestion.id + ".log": b"one\n"}


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 101])
def test_a_source_name_is_checked(ingestions, name):
    with pytest.raises(IngestError, match="name"):
        ingestions.accept([b"one\n"], name)


def test_the_name_of_a_watched_file_is_taken(ingestions, store):
    store.put_internal_sources({"auth": "auth.log"}, "/var/log", kind="demo")
    with pytest.raises(IngestError, match="belongs to another source"):
        ingestions.accept([b"one\n"], "auth")


def test_nobody_fills_the_spool_alone_and_a_key_is_its_authors_own(ingestions, monkeypatch):
    monkeypatch.setattr("threatlens.ingestions.MAX_WAITING_BYTES", 10)
    hers = ingestions.accept([b"twenty bytes of hers\n"], "web", idempotency_key="k", author="user anna")
    with pytest.raises(IngestError, match="you handed in") as refusal:
        ingestions.accept([b"more\n"], "web", author="user anna")
    his = ingestions.accept([b"of his\n"], "web", idempotency_key="k", author="token ben")

    assert refusal.value.status == 429
    assert his.id != hers.id
    assert "anna" not in hers.id
    assert ingestions.accept([b"twenty bytes of hers\n"], "web", idempotency_key="k", author="user anna").id == hers.id
