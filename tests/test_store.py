"""The transaction: everything of a batch or nothing, and a position that only its owner can move."""

from __future__ import annotations

import pytest
from builders import NOW_US, Filler
from sqlalchemy.exc import IntegrityError

from threatlens.errors import NotOurs, StoreUnavailable
from threatlens.event import EventFilter
from threatlens.store import DeadLetter, EventRow, EventStore, Move
from threatlens.store_database import Database, connect
from threatlens.store_search import text_of

pytestmark = pytest.mark.both_databases


def row(raw: str | bytes = "line", **changes) -> EventRow:
    plain = EventRow(NOW_US, NOW_US // 1000, 1, 1, 2, 3, 2, 0, 0, 0, None, None, None, None, 10, 1, 0, raw)
    return plain._replace(**changes)


def move(stream_id: int, start: int, end: int, events: int = 1) -> Move:
    return Move(stream_id, 1, start, end, b"print", events, 0, events, 0)


@pytest.fixture
def stream(store: EventStore) -> int:
    source_id = store.put_api_source("auth", "auto")
    return store.create(source_id, path=b"/x", device=1, inode=1, compressed=False, position=0)


def stored(store: EventStore) -> list[tuple]:
    with store.database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT id, raw, encoding FROM events ORDER BY id")
        return [(row[0], text_of(row[1], None) if row[2] is None else row[1]) for row in rows]


def test_ids_are_consecutive_and_increase(store, stream):
    assert store.commit([row("a"), row("b")], [move(stream, 0, 4, 2)]) == 1
    assert store.commit([row("c")], [move(stream, 4, 6)]) == 3
    assert stored(store) == [(1, "a"), (2, "b"), (3, "c")]


def test_a_batch_that_begins_elsewhere_than_the_position_stores_nothing(store, stream):
    store.commit([row("a")], [move(stream, 0, 2)])
    with pytest.raises(NotOurs) as refusal:
        store.commit([row("a")], [move(stream, 0, 2)])
    assert refusal.value.stream_ids == {stream}
    assert stored(store) == [(1, "a")]
    assert store.position(stream) == 2


def test_one_refused_stream_refuses_the_whole_batch_and_is_named_alone(store, stream):
    other = store.create(1, path=b"/y", device=1, inode=2, compressed=False, position=0)
    with pytest.raises(NotOurs) as refusal:
        store.commit([row("a"), row("b")], [move(stream, 0, 2), move(other, 7, 9)])
    assert refusal.value.stream_ids == {other}
    assert stored(store) == []
    assert store.position(stream) == 0


def test_a_row_that_fails_leaves_neither_rows_nor_positions(store, stream):
    with pytest.raises(IntegrityError, match=r"(?i)not.null"):
        store.commit([row("a"), row(None)], [move(stream, 0, 4, 2)])  # type: ignore[arg-type]
    assert stored(store) == []
    assert store.position(stream) == 0


def test_a_locked_database_is_unavailable_not_broken(store, stream, monkeypatch):
    writing = store.database.writing
    monkeypatch.setattr(store.database, "writing", lambda: writing(busy_ms=1))
    with writing(), pytest.raises(StoreUnavailable) as error:
        store.commit([row("a")], [move(stream, 0, 2)])
    assert error.value.reason == "busy"
    assert store.commit([row("a")], [move(stream, 0, 2)]) == 1


def test_bytes_that_are_not_text_are_kept_exactly(store, stream):
    raw = b"caf\xe9 \xff\x00 end"
    store.commit([row(raw, encoding="latin-1")], [move(stream, 0, 2)])
    assert stored(store) == [(1, raw)]
    event = store.event(1)
    assert event is not None
    assert event.raw == raw.decode("latin-1")


def test_the_ledger_merges_runs_that_touch_and_balances(store, stream):
    store.commit([row("a"), row("b")], [move(stream, 0, 4, 2)])
    store.commit([row("c")], [move(stream, 4, 6)])
    store.commit([], [Move(stream, 1, 6, 7, b"p", 1, 1, 0, 0)])
    with store.database.reading() as connection:
        runs = connection.exec_driver_sql(
            "SELECT stream_id, start_offset, end_offset, lines, blank_lines, first_event_id, last_event_id"
            " FROM raw_logs"
        ).all()
    assert [tuple(run) for run in runs] == [(stream, 0, 7, 4, 1, 1, 3)]
    source = store.source(1)
    assert (source.lines, source.blank_lines, source.events, source.bytes) == (4, 1, 3, 7)


def test_a_rewind_needs_the_expected_position(store, stream):
    store.commit([row("a")], [move(stream, 0, 9)])
    assert not store.rewind(stream, expected=8, position=5, fingerprint=b"")
    assert store.position(stream) == 9
    assert store.rewind(stream, expected=9, position=5, fingerprint=b"x")
    assert store.position(stream) == 5


def test_streams_remember_what_carries_them(store, stream):
    store.rebind(stream, path=b"/x.1\xff", device=3, inode=4, compressed=True)
    (state,) = store.streams()
    assert (state.path, state.device, state.inode, state.compressed, state.retired) == (b"/x.1\xff", 3, 4, True, False)
    store.rename([(stream, b"/x.3")])
    (state,) = store.streams()
    assert (state.path, state.inode, state.compressed) == (b"/x.3", 4, True)
    store.retire(stream)
    (state,) = store.streams()
    assert (state.inode, state.retired) == (0, True)
    store.rebind(stream, path=b"/x.2", device=3, inode=5, compressed=False)
    (state,) = store.streams()
    assert (state.inode, state.retired) == (5, False)


def test_a_dead_letter_can_become_an_event_later(store, stream):
    letter = DeadLetter(1, stream, 0, "/x", b"bad \xff", "utf-8", "too bad")
    store.commit([], [move(stream, 0, 6, 0)], dead=[letter])
    (shown,) = store.dead_letters()
    assert (shown.source, shown.raw, shown.error, shown.event_id) == ("auth", "bad \ufffd", "too bad", 0)
    assert store.request_replay(shown.id)
    assert [asked[0] for asked in store.asked_replays()] == [shown.id]
    first = store.commit([row(b"bad \xff")], [], replayed=[shown.id])
    assert store.dead_letters()[0].event_id == first
    assert not store.request_replay(shown.id)


def test_a_row_can_be_tried_without_storing_it(store, stream):
    assert store.refusal(row("fine")) is None
    assert "not-null" in (store.refusal(row(None)) or "").lower().replace("not null", "not-null")  # type: ignore[arg-type]
    assert stored(store) == []


def test_names_are_numbers_that_stay(store):
    first = store.name_id("category", "web")
    assert store.name_id("category", "web") == first
    assert store.name_id("format", "web") != first
    assert EventStore(store.database.engine).name_id("category", "web") == first


def test_shapes_are_bounded(store, monkeypatch):
    monkeypatch.setattr("threatlens.store.MAX_TEMPLATES", 2)
    numbers = [store.template_id(text, sample=text, source_id=1) for text in ("a", "b", "c", "a")]
    assert numbers == [1, 2, 0, 1]


def test_tokens_are_checked_by_hash_and_end_at_once(store):
    token = store.create_token("cron", "viewer")
    assert token.startswith("tl_")
    view = store.check_token(token)
    assert view is not None
    assert (view.name, view.role) == ("cron", "viewer")
    with store.database.reading() as connection:
        assert token not in str(connection.exec_driver_sql("SELECT * FROM api_tokens").all())
    assert store.check_token(token[:-1] + ("A" if token[-1] != "A" else "B")) is None
    assert store.check_token("tl_\u00e9") is None
    assert store.revoke_token(view.id)
    assert store.check_token(token) is None
    assert not store.revoke_token(view.id)


@pytest.mark.parametrize(("name", "role"), [("x", "root"), ("", "admin"), ("a\nb", "admin"), ("x" * 101, "admin")])
def test_a_token_needs_a_name_and_a_role(store, name, role):
    with pytest.raises(Exception, match="must"):
        store.create_token(name, role)


def test_a_token_name_is_taken_once(store):
    store.create_token("cron", "viewer")
    with pytest.raises(Exception, match="already"):
        store.create_token("cron", "admin")


def test_the_wrong_token_costs_no_look_at_the_disk(store):
    store.create_token("cron", "viewer")
    store.check_token("tl_" + "x" * 43)
    store.database = None  # any further look would fail
    assert store.check_token("tl_" + "y" * 43) is None
    assert store.check_token("nonsense") is None


def test_the_status_of_a_source_is_what_the_monitor_last_said(store, filler: Filler):
    filler.add("x", source="web")
    from threatlens.event import SourceStatus

    source = store.sources()[0]
    store.write_source_status([SourceStatus(source.id, "web", "no_permission", "may not", "chmod", 1, 10, 5)])
    seen = store.source(source.id)
    assert (seen.state, seen.state_reason, seen.remedy, seen.file_size) == ("no_permission", "may not", "chmod", 10)
    assert EventFilter().matches(store.page(EventFilter())[0])


def test_only_where_a_file_begins_need_not_be_on_the_disk_at_once(tmp_path):
    """The files show it again; what was stored after it is kept with it only, as there is one log of transactions."""
    database = Database(connect(f"sqlite:///{tmp_path}/synced.db"))
    levels = []
    for synced in (True, False, True):
        with database.writing(synced=synced) as connection:
            levels.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())
    database.engine.dispose()
    assert levels == [2, 1, 2]  # FULL, NORMAL
