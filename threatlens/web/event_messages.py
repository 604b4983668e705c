"""The messages of /ws/events: what a client may say, read strictly, and the frames that answer.

A frame is made as bytes here, once, and sent to every client that wants it: the server's frames carry no mask, so they
are the same for all.
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from threatlens.errors import QueryError
from threatlens.event import Event, EventFilter, EventUpdate, rfc3339
from threatlens.query import parse_query
from threatlens.web.strict_json import dumps, loads

EVENT_TYPES = ("new_event", "detection", "incident", "analysis_complete", "notification", "system_status")
#: The least role that each needs.
EVENT_ROLES = dict.fromkeys(EVENT_TYPES, "viewer") | {"notification": "analyst"}
MAX_DEPTH = 4
LAST_ID = 2**62  # beyond any event, and one more still fits the database's integers


class MessageError(Exception):
    """A message cannot be understood. The client must act; the connection stays."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Wanted: these types of update, of the events those that the filter finds, stored since `after`."""

    event_types: frozenset[str]
    where: EventFilter
    after: int | None  # None: only what comes from now on


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """These types are wanted no longer."""

    event_types: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ping:
    """Is anybody there?"""


Message = Subscribe | Unsubscribe | Ping


def read_message(text: str, *, now_us: int) -> Message:
    """What a client says; raises MessageError. now_us is what relative times in a filter count from."""
    try:
        document = loads(text, max_depth=MAX_DEPTH)
    except QueryError as error:
        raise MessageError("invalid_json", str(error)) from error
    if not isinstance(document, dict):
        raise MessageError("invalid_message", "A message is a JSON object.")
    action = document.get("action")
    if action == "subscribe":
        _only(document, {"action", "event_types", "filter", "after"})
        types = _event_types(document.get("event_types"))
        return Subscribe(types, _filter(document.get("filter"), now_us), _after(document.get("after")))
    if action == "unsubscribe":
        _only(document, {"action", "event_types"})
        named = "event_types" in document
        return Unsubscribe(_event_types(document["event_types"]) if named else frozenset(EVENT_TYPES))
    if action == "ping":
        _only(document, {"action"})
        return Ping()
    raise MessageError("unknown_action", "The action is one of subscribe, unsubscribe, ping.")


def _only(document: dict[str, Any], known: set[str]) -> None:
    unknown = sorted(set(document) - known)
    if unknown:
        raise MessageError("invalid_message", f"There is no key {unknown[0][:60]!r} in this message.")


def _event_types(value: Any) -> frozenset[str]:
    if not (isinstance(value, list) and 0 < len(value) <= len(EVENT_TYPES)) or any(
        each not in EVENT_TYPES for each in value if isinstance(each, str)
    ):
        raise MessageError("invalid_event_types", f"event_types is a list of some of {', '.join(EVENT_TYPES)}.")
    if not all(isinstance(each, str) for each in value):
        raise MessageError("invalid_event_types", "event_types is a list of strings.")
    return frozenset(value)


def _filter(value: Any, now_us: int) -> EventFilter:
    if value is None:
        return EventFilter()
    if not isinstance(value, str):
        raise MessageError("invalid_filter", "filter is a query, or null.")
    try:
        return parse_query(value, now_us=now_us)
    except QueryError as error:
        raise MessageError("invalid_filter", str(error)) from error


def _after(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LAST_ID:
        raise MessageError("invalid_after", "after is the id of an event, 0, or null.")
    return value


def frame(event_type: str, data: Any, timestamp_us: int, *, event_id: int | None = None, priority: int = 5) -> bytes:
    """One update as a WebSocket text frame."""
    document = {
        "event_type": event_type,
        "id": event_id,
        "data": data,
        "timestamp": rfc3339(timestamp_us),
        "priority": priority,
    }
    payload = dumps(document)
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload


def event_frame(event: Event) -> bytes:
    """A new event, as urgent as it is severe."""
    return frame("new_event", event.as_json(), event.ingested_us, event_id=event.id, priority=event.severity)


def update_frame(update: EventUpdate) -> bytes:
    """Anything else that happened."""
    return frame(update.event_type, update.data, update.timestamp_us, event_id=update.id, priority=update.priority)


class FrameCache:
    """The frames of the newest events, made once for all clients; bounded in bytes."""

    def __init__(self, max_bytes: int = 16 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._frames: OrderedDict[int, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def frame(self, event: Event) -> bytes:
        """The frame of this event."""
        known = self._frames.get(event.id)
        if known is not None:
            return known
        with self._lock:
            known = self._frames.get(event.id)
            if known is None:
                known = self._frames[event.id] = event_frame(event)
                self._bytes += len(known)
                while self._bytes > self._max_bytes and len(self._frames) > 1:
                    self._bytes -= len(self._frames.popitem(last=False)[1])
            return known
