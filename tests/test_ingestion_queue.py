"""The queue: bounded, prioritised, fair, and without a way to drop anything."""

from __future__ import annotations

import threading

import pytest
from builders import entry

from threatlens.ingestion_queue import RealtimeIngestionQueue


def drain(queue: RealtimeIngestionQueue) -> list[bytes]:
    found = []
    while batch := queue.take(1, timeout_s=0):
        found += [item.content for item in batch]
    return found


def test_entries_of_one_source_keep_their_order():
    queue = RealtimeIngestionQueue()
    for number in range(50):
        queue.put(entry(b"%d\n" % number))
    assert drain(queue) == [b"%d\n" % number for number in range(50)]


def test_a_batch_of_long_lines_has_fewer_of_them():
    queue = RealtimeIngestionQueue()
    for _ in range(20):
        queue.put(entry(b"x" * 400_000 + b"\n"))
    assert [len(queue.take(2000, timeout_s=0)) for _ in range(4)] == [3, 3, 3, 3]


def test_urgent_sources_go_first():
    queue = RealtimeIngestionQueue()
    queue.put(entry(b"slow\n", source_id=1, priority=9))
    queue.put(entry(b"fast\n", source_id=2, priority=1))
    assert drain(queue) == [b"fast\n", b"slow\n"]


def test_sources_of_one_priority_take_turns():
    queue = RealtimeIngestionQueue()
    for number in range(3):
        queue.put(entry(b"a%d\n" % number, source_id=1))
    for number in range(3):
        queue.put(entry(b"b%d\n" % number, source_id=2))
    assert drain(queue) == [b"a0\n", b"b0\n", b"a1\n", b"b1\n", b"a2\n", b"b2\n"]


def test_a_flood_in_an_urgent_source_starves_nobody():
    queue = RealtimeIngestionQueue()
    queue.put(entry(b"patient\n", source_id=2, priority=10))
    for _ in range(100):
        queue.put(entry(b"flood\n", source_id=1, priority=1))
    assert b"patient\n" in drain(queue)[:8]


@pytest.mark.parametrize(("max_lines", "max_bytes"), [(3, 10**9), (10**9, 6)])
def test_a_full_queue_makes_the_reader_wait_and_then_takes_everything(max_lines, max_bytes):
    queue = RealtimeIngestionQueue(max_lines=max_lines, max_bytes=max_bytes)
    taken = []
    reader = threading.Thread(target=lambda: [taken.append(queue.put(entry(b"%d\n" % n))) for n in range(9)])
    reader.start()
    found = []
    while len(found) < 9:
        batch = queue.take(1, timeout_s=60)
        assert batch, "the reader gave up"
        found += [item.content for item in batch]
        stats = queue.stats()
        assert stats.lines <= max_lines
        assert stats.bytes <= max_bytes
    reader.join(60)
    assert taken == [True] * 9
    assert found == [b"%d\n" % n for n in range(9)]


def test_an_entry_larger_than_the_bound_passes_alone():
    queue = RealtimeIngestionQueue(max_lines=2)
    assert queue.put(entry(b"1\n2\n3\n"))
    assert [item.lines for item in queue.take(10, timeout_s=0)] == [3]


def test_a_closed_queue_takes_nothing_and_lets_everybody_go():
    queue = RealtimeIngestionQueue(max_lines=1)
    queue.put(entry(b"1\n"))
    answers = []
    reader = threading.Thread(target=lambda: answers.append(queue.put(entry(b"2\n"))))
    reader.start()
    queue.close()
    reader.join(60)
    assert answers == [False]
    assert queue.take(10, timeout_s=5) == []


def test_forgetting_streams_gives_their_room_back():
    queue = RealtimeIngestionQueue(max_lines=4)
    queue.put(entry(b"a\n", stream_id=1))
    queue.put(entry(b"b\n", stream_id=2))
    queue.put(entry(b"c\n", stream_id=1))
    queue.forget(frozenset({1}))
    stats = queue.stats()
    assert (stats.entries, stats.lines, stats.bytes) == (1, 1, 2)
    assert drain(queue) == [b"b\n"]


def test_a_batch_has_about_as_many_lines_as_asked_for():
    queue = RealtimeIngestionQueue()
    for _ in range(10):
        queue.put(entry(b"x\ny\n"))
    assert sum(item.lines for item in queue.take(5, timeout_s=0)) == 6
