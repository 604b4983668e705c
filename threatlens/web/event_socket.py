"""/ws/events: what happens, as JSON, for programs.

A connection keeps its own place. Behind the ring it reads the database page by page, on the ring it waits for news;
what it has sent moves the place, so nothing is missed and nothing is sent twice, however slow the client is. Who is
asking is settled before the handshake is answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from flask import Blueprint, g, request
from flask_sock import Sock
from simple_websocket import ConnectionClosed, Server

from threatlens.broadcaster import EventBroadcaster, Place
from threatlens.clock import now_us
from threatlens.errors import QueryTimeout, StoreUnavailable
from threatlens.event import EventFilter, EventUpdate
from threatlens.query import to_query
from threatlens.store import EventStore
from threatlens.web.auth import Actor, actor, authenticate, bearer_token, browser_actor, needs, still_there
from threatlens.web.context import services
from threatlens.web.event_messages import (
    EVENT_ROLES,
    FrameCache,
    Message,
    MessageError,
    Subscribe,
    Unsubscribe,
    event_frame,
    frame,
    read_message,
    update_frame,
)
from threatlens.web.problems import ProblemError, answer_problem
from threatlens.web.seats import seats
from threatlens.web.socket_writer import SocketWriter

MAX_MESSAGE_BYTES = 4_096
MAX_ERRORS = 5
MESSAGES_PER_S = 10
MESSAGES_BURST = 20
PAGE = 500  # events read at once from the database
WAIT_S = 0.25  # between two looks at what the client says
CHECK_S = 0.25  # between two looks whether its token or session still holds
LINGER_S = 1.0  # for a client to read why it is closed

GOING_AWAY, UNSUPPORTED, POLICY, TOO_BIG, TRY_AGAIN, UNAUTHORISED = 1001, 1003, 1008, 1009, 1013, 4401


T = TypeVar("T")


class ClosingError(Exception):
    """The connection ends, with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Grant:
    """What a client may see."""

    event_types: frozenset[str] = frozenset()
    sources: tuple[str, ...] = ()  # names; empty: all

    @classmethod
    def of(cls, who: Actor) -> Grant:
        """What somebody may see."""
        if "read" not in who.scopes:
            return cls()
        return cls(frozenset(kind for kind, role in EVENT_ROLES.items() if who.may(role)), who.sources)


class Link(Protocol):
    """A WebSocket as the feed needs it. Both raise ConnectionClosed or OSError when the client is gone."""

    def receive(self, timeout: float) -> str | bytes | None:
        """The next message; None when there is none after `timeout` seconds."""

    def send_frames(self, frames: bytes) -> None:
        """Send these frames; waits for a slow client."""


class EventFeed:
    """One connection: what the client wants, and how far it has come."""

    def __init__(
        self,
        link: Link,
        store: EventStore,
        broadcaster: EventBroadcaster,
        cache: FrameCache,
        *,
        grant: Callable[[], Grant | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = link
        self._store = store
        self._broadcaster = broadcaster
        self._cache = cache
        self._look_up = grant
        self._grant = grant() or Grant()
        self._clock = clock
        self._types: frozenset[str] = frozenset()
        self._where = EventFilter()
        self._place = Place(0, 0)
        self._behind = False  # the next events are in the database, not on the ring
        self._errors = 0
        self._credit = float(MESSAGES_BURST)
        self._credit_at = self._checked_at = clock()

    def run(self) -> None:
        """Serve the connection until the client goes; raises ClosingError when it must be closed."""
        while True:
            self.hear(0 if self._types else WAIT_S)
            if self._broadcaster.closed:
                raise ClosingError(GOING_AWAY, "the server stops")
            if self._clock() - self._checked_at >= CHECK_S:
                self._checked_at = self._clock()
                self.check()
            if self._types:
                self.tell()

    def check(self) -> None:
        """Look again what the client may see; raises ClosingError when it may see nothing any longer."""
        now = self._look_up()
        if now is None:
            raise ClosingError(UNAUTHORISED, "the token or session has ended")
        if now != self._grant:
            self._grant = now
            self._types &= now.event_types

    # -- what the client says

    def hear(self, timeout_s: float) -> None:
        """Take everything that has come in; wait at most timeout_s for the first message."""
        message = self._link.receive(timeout_s)
        while message is not None:
            self._take(message)
            message = self._link.receive(0)

    def _take(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            raise ClosingError(UNSUPPORTED, "text only")
        if len(message.encode()) > MAX_MESSAGE_BYTES:
            raise ClosingError(TOO_BIG, f"at most {MAX_MESSAGE_BYTES} bytes")
        now = self._clock()
        self._credit = min(MESSAGES_BURST, self._credit + (now - self._credit_at) * MESSAGES_PER_S) - 1
        self._credit_at = now
        if self._credit < 0:
            self._say("error", {"code": "rate_limited", "message": f"At most {MESSAGES_PER_S} messages a second."})
            raise ClosingError(POLICY, "too many messages")
        try:
            self._act(read_message(message, now_us=now_us()))
        except MessageError as error:
            self._say("error", {"code": error.code, "message": str(error)})
            self._errors += 1
            if self._errors >= MAX_ERRORS:
                raise ClosingError(POLICY, "too many errors") from error

    def _act(self, message: Message) -> None:
        if isinstance(message, Subscribe):
            self._subscribe(message)
        elif isinstance(message, Unsubscribe):
            self._types -= message.event_types
            self._say("unsubscribed", {"event_types": sorted(self._types)})
        else:
            self._say("pong", {})

    def _subscribe(self, wanted: Subscribe) -> None:
        """A second subscription replaces types and filter and never moves the place back: nothing comes twice."""
        if not wanted.event_types <= self._grant.event_types:
            raise MessageError("forbidden", "You may not see updates of this type.")
        if self._grant.sources and not set(wanted.where.sources) <= set(self._grant.sources):
            raise MessageError("forbidden", "You may not see events of this source.")
        now = self._broadcaster.place()
        last_id = now.event_id
        if wanted.after is not None and wanted.after > last_id:
            last_id = self._patiently(self._store.last_id)
        if wanted.after is not None and wanted.after <= last_id:
            self._place = Place(max(wanted.after, self._place.event_id), now.update_seq)
        elif not self._types:
            self._place = now
        self._types, self._where = wanted.event_types, wanted.where
        self._say(
            "subscribed",
            {
                "event_types": sorted(self._types),
                "filter": to_query(self._where),
                "after": self._place.event_id,
            },
        )
        if wanted.after is not None and wanted.after > last_id:
            text = "There is no event with this id yet; only what comes from now on is sent."
            self._say("system_status", {"code": "after_beyond_last", "message": text, "last_id": last_id})

    # -- what the client is told

    def tell(self) -> None:
        """Send what is new, waiting a moment for it."""
        if self._behind and "new_event" in self._types:
            self._replay()
            return
        batch = self._broadcaster.wait(self._place, WAIT_S)
        frames = [update_frame(update) for update in batch.updates if self._may_see(update)]
        if "new_event" in self._types:
            frames += [self._cache.frame(event) for event in batch.events if self._wanted().matches(event)]
        if frames:
            self._link.send_frames(b"".join(frames))
        self._place, self._behind = batch.place, batch.lapsed
        if batch.lapsed and "new_event" not in self._types:
            self._place, self._behind = self._broadcaster.place(), False

    def _may_see(self, update: EventUpdate) -> bool:
        sources = self._grant.sources
        return update.event_type in self._types and (not sources or update.data.get("source") in sources)

    def _wanted(self) -> EventFilter:
        """The filter, within what the client may see."""
        return self._where.kept_to(self._grant.sources)

    def _replay(self) -> None:
        """One page from the database. The ring's end is noted first: a page that is not full reaches at least there."""
        end = self._broadcaster.place()
        events = self._patiently(lambda: self._store.page(self._wanted(), after=self._place.event_id, limit=PAGE))
        if events:
            self._link.send_frames(b"".join(event_frame(event) for event in events))
            self._place = self._place._replace(event_id=events[-1].id)
        if events.stopped_at is not None:
            self._place = self._place._replace(event_id=max(self._place.event_id, events.stopped_at))
        elif len(events) < PAGE:
            self._place = self._place._replace(event_id=max(self._place.event_id, end.event_id))
            self._behind = False

    def _patiently(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except (QueryTimeout, StoreUnavailable) as error:
            self._say("error", {"code": "unavailable", "message": "The events cannot be read now; come back later."})
            raise ClosingError(TRY_AGAIN, "the events cannot be read now") from error

    def _say(self, event_type: str, data: dict[str, object]) -> None:
        self._link.send_frames(frame(event_type, data, now_us()))


class _Connection:
    """The library's WebSocket with our writer under it."""

    def __init__(self, ws: Server) -> None:
        self._ws = ws
        self._writer: SocketWriter = ws.sock
        self._said_goodbye = False

    def receive(self, timeout: float) -> str | bytes | None:
        message: str | bytes | None = self._ws.receive(timeout=timeout)
        if message is None:
            self._writer.heard()
        return message

    def send_frames(self, frames: bytes) -> None:
        if not self._ws.connected:
            raise ConnectionClosed(self._ws.close_reason, self._ws.close_message)
        self._writer.send(frames)

    def close(self, code: int, reason: str) -> None:
        with suppress(ConnectionClosed, OSError):
            self._ws.close(code, reason)
            self._said_goodbye = True

    def finish(self, linger_s: float) -> None:
        self._writer.finish(self._ws.thread.join, linger_s, said_goodbye=self._said_goodbye)


def make_blueprint(sock: Sock) -> Blueprint:
    """/ws/events, on a blueprint of its own for each app; `sock` is the app's."""
    blueprint = Blueprint("event_socket", __name__)
    blueprint.register_error_handler(Exception, answer_problem)
    blueprint.before_request(check_client)
    cache = FrameCache()

    @needs("viewer", programs=True)
    def feed(ws: Server) -> None:
        serve(ws, cache)

    sock.route("/ws/events", bp=blueprint)(feed)
    return blueprint


def check_client() -> None:
    """Everything that can be refused is refused before the handshake is answered."""
    if request.query_string:
        raise ProblemError(400, "This address takes no parameters; the token goes into the Authorization header.")
    origin = request.headers.get("Origin")
    if origin is not None and origin.lower() != f"{request.scheme}://{request.host}".lower():
        raise ProblemError(403, "Pages of other origins may not connect.")
    # A page of ours brings its session; without an Origin only a token counts.
    g.actor = (browser_actor() if origin is not None and bearer_token() is None else None) or authenticate()
    if "read" not in actor().scopes:
        raise ProblemError(403, "This token may not read events.")
    broadcaster = services().broadcaster
    for key in ("gunicorn.socket", "werkzeug.socket"):
        if key in request.environ:
            request.environ[key] = SocketWriter(request.environ[key], lambda: broadcaster.closed)
    # Compressed messages cost memory and time on both sides, and may be bombs: the extension is not offered.
    request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)


def serve(ws: Server, cache: FrameCache) -> None:
    """One connection from its handshake to its end."""
    connection, room, who = _Connection(ws), seats(), actor()
    person = who.name if who.user is not None else ""
    seated = room.take(person)
    try:
        if seated:
            _feed(connection, cache, who).run()
        else:
            connection.close(TRY_AGAIN, "too many connections")
    except ClosingError as closing:
        connection.close(closing.code, str(closing))
    except (ConnectionClosed, OSError):
        pass  # the client is gone
    finally:
        if seated:
            room.leave(person)
        connection.finish(linger_s=LINGER_S if seated else 0)


def _feed(connection: _Connection, cache: FrameCache, who: Actor) -> EventFeed:
    def grant() -> Grant | None:
        now = still_there(who)
        return None if now is None else Grant.of(now)

    return EventFeed(connection, services().store, services().broadcaster, cache, grant=grant)
