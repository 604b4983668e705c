"""Follower: what a process does that does not hold the lease, so that its pages are as live as the engine's.

The database says what is stored; Redis, where there is one, says when to look, and carries what is no event. Without
it, or while it is away, the database is asked ten times a second.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from threatlens.broadcaster import EventBroadcaster
from threatlens.event import EventFilter, EventUpdate
from threatlens.fanout import Fanout
from threatlens.store import EventStore

#: Seconds between two looks into the database: while nobody says when, and to be safe while somebody does.
FOLLOW_S, SAFE_S = 0.1, 1.0


class Follower:
    """Publishes what others have stored and told."""

    def __init__(self, store: EventStore, broadcaster: EventBroadcaster, fanout: Fanout) -> None:
        self._store = store
        self._broadcaster = broadcaster
        self._fanout = fanout
        self._woken = threading.Event()
        if fanout.used:
            broadcaster.tell = self._tell
            store.when_people_change = partial(fanout.tell, "people", latest=True)
            fanout.on("stored", self.wake)
            fanout.on("update", self._publish)
            fanout.on("people", self._forget)

    def wake(self, _last_id: object = None) -> None:
        """Look now."""
        self._woken.set()

    def run(self, is_over: Callable[[], bool]) -> None:
        """Follow the database until is_over()."""
        while not is_over():
            self._woken.wait(SAFE_S if self._fanout.hears else FOLLOW_S)
            self._woken.clear()
            self.look()

    def look(self) -> None:
        """Publish what was stored since the last look."""
        last_id = self._broadcaster.place().event_id
        while events := self._store.page(EventFilter(), after=last_id, limit=500):
            size = sum(len(event.raw) for event in events)
            self._broadcaster.publish(events[0].id, len(events), partial(list, events), size=size, tell=False)
            last_id = events[-1].id

    def _forget(self, _value: object) -> None:
        self._store.forget_people()
        self._store.forget_tokens()

    def _tell(self, news: int | EventUpdate) -> None:
        """Tell the others what this process publishes."""
        if isinstance(news, EventUpdate):
            update = [news.event_type, dict(news.data), news.timestamp_us, news.priority, news.id]
            self._fanout.tell("update", update)
        else:
            self._fanout.tell("stored", news, latest=True)

    def _publish(self, value: Any) -> None:
        if value is not None:
            self._broadcaster.publish_update(EventUpdate(*value), tell=False)
