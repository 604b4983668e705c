"""The ring: nothing is queued per reader, nobody misses or repeats an event without being told."""

from __future__ import annotations

import threading

from builders import NOW_US

from threatlens.broadcaster import EventBroadcaster, Place
from threatlens.event import Event, EventUpdate


def events(first: int, count: int) -> list[Event]:
    return [
        Event(number, NOW_US, NOW_US, "auth", 1, "", "other", 2, "sshd", "m", "m", {})
        for number in range(first, first + count)
    ]


def publish(ring: EventBroadcaster, first: int, count: int) -> None:
    ring.publish(first, count, lambda: events(first, count))


def ids(batch):
    return [event.id for event in batch.events]


def test_a_reader_gets_what_lies_beyond_its_place_and_only_that():
    ring = EventBroadcaster()
    publish(ring, 1, 3)
    publish(ring, 4, 2)
    batch = ring.wait(Place(2, 0), 0)
    assert ids(batch) == [3, 4, 5]
    assert ids(ring.wait(batch.place, 0)) == []


def test_a_slow_reader_is_told_that_it_fell_off_and_costs_no_memory():
    ring = EventBroadcaster(max_events=10)
    for first in range(1, 101, 5):
        publish(ring, first, 5)
    lapsed = ring.wait(Place(3, 0), 0)
    assert lapsed.lapsed
    assert lapsed.place.event_id == 3
    assert ids(ring.wait(Place(90, 0), 0)) == list(range(91, 101))


def test_long_lines_take_no_more_memory_than_many_short_ones():
    ring = EventBroadcaster(max_bytes=1_000)
    for first in range(1, 21, 5):
        ring.publish(first, 5, lambda first=first: events(first, 5), size=400)
    assert ring.wait(Place(9, 0), 0).lapsed
    assert ids(ring.wait(Place(10, 0), 0)) == list(range(11, 21))


def test_a_batch_larger_than_the_ring_is_kept_whole():
    ring = EventBroadcaster(max_events=10)
    publish(ring, 1, 50)
    assert len(ring.wait(Place(0, 0), 0).events) == 50


def test_events_are_made_once_and_only_when_somebody_looks():
    ring = EventBroadcaster()
    made = []
    ring.publish(1, 1, lambda: made.append(1) or events(1, 1))
    assert made == []
    ring.wait(Place(0, 0), 0)
    ring.wait(Place(0, 0), 0)
    assert made == [1]


def test_a_waiting_reader_wakes_for_an_event():
    ring = EventBroadcaster()
    found = []
    reader = threading.Thread(target=lambda: found.append(ring.wait(Place(0, 0), 60)))
    reader.start()
    publish(ring, 1, 1)
    reader.join(60)
    assert ids(found[0]) == [1]


def test_updates_have_places_of_their_own():
    ring = EventBroadcaster()
    ring.publish_update(EventUpdate("system_status", {"n": 1}, NOW_US))
    batch = ring.wait(Place(0, 0), 0)
    assert [update.data["n"] for update in batch.updates] == [1]
    assert ring.wait(batch.place, 0).updates == ()


def test_what_was_stored_before_the_ring_began_is_in_the_database_only():
    ring = EventBroadcaster()
    ring.begin(100)
    assert ring.place() == Place(100, 0)
    publish(ring, 101, 1)
    assert ring.wait(Place(50, 0), 0).lapsed
    assert ids(ring.wait(Place(100, 0), 0)) == [101]


def test_ids_that_were_published_already_are_not_published_again():
    ring = EventBroadcaster()
    publish(ring, 1, 3)
    publish(ring, 1, 3)
    assert ids(ring.wait(Place(0, 0), 0)) == [1, 2, 3]


def test_closing_wakes_everybody():
    ring = EventBroadcaster()
    done = threading.Event()
    reader = threading.Thread(target=lambda: (ring.wait(Place(0, 0), 60), done.set()))
    reader.start()
    ring.close()
    assert done.wait(60)
    reader.join(60)
    assert ring.closed
