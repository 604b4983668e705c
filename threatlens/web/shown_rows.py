"""The rows that one browser shows: which of them are not any more what they were when it got them.

A match may be found for an event long after it was shown: a correlation that comes true, a threat list that grows. Only
rows that the browser may still have are read again, at most a frame of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from threatlens.event import Event, EventFilter, EventUpdate
from threatlens.store import EventStore

KEPT = 300  # more than a list holds
LONGEST = 50  # rows of a page
MOST = 50  # changed rows in one frame
MATCHES = 200  # newest matches that are looked at

State = tuple[int, int]


def state_of(event: Event) -> State:
    """What of a row changes after it was stored: its severity, and how many matches it is part of."""
    return event.severity, len(event.detections)


class ShownRows:
    """What one browser has, as far as it matters here."""

    def __init__(self, oldest: int | None, newest: int | None) -> None:
        """oldest, newest: the ids between which the rows lie that its page came with."""
        self._oldest, self._newest = oldest, newest
        self._states: OrderedDict[int, State | None] = OrderedDict()

    def at_first(self, store: EventStore, where: EventFilter) -> tuple[list[Event], int | None]:
        """The rows that the page came with and that matches are known for; some are newer than the page, maybe.

        And the event at which the time was up: what the page shows of older ones is not kept up to date. None: it was
        enough for all.
        """
        if self._oldest is None or self._newest is None:
            return [], None
        page = store.page(where, before=self._newest + 1, limit=LONGEST)
        found = [event for event in page if event.id >= self._oldest]
        stopped = page.stopped_at if page.stopped_at is not None and page.stopped_at > self._oldest else None
        for event in reversed(found):
            self._states[event.id] = None
        return [event for event in found if event.detections], stopped

    def note(self, events: Sequence[Event]) -> None:
        """The browser is sent these rows, newest first."""
        for event in reversed(events):
            self._states[event.id] = state_of(event)
        while len(self._states) > KEPT:
            self._states.popitem(last=False)

    def changed(self, store: EventStore, updates: Sequence[EventUpdate]) -> list[Event]:
        """The rows that these updates are about and that are another way now, newest first."""
        matches = [int(update.data["id"]) for update in updates if update.event_type == "detection"][-MATCHES:]
        if not matches or not self._states:
            return []
        ids = [number for number in store.events_matched(matches) if number in self._states][:MOST]
        return [event for event in store.events(ids) if state_of(event) != self._states[event.id]] if ids else []
