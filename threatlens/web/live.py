"""/ws/ui: the pages, kept up to date as fragments of HTML for the htmx ws extension.

On connecting, a page is painted as it is now; afterwards only what changed is sent: rows of new events on top of a
list, and panels whose HTML differs from what this browser was sent last. A browser that was away says the last event
it has, and gets the rest; one that was away too long gets the newest rows and a marked gap with a link to what lies
in it. One mechanism covers first load, reconnects, sleeping laptops and slow clients.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from flask import Blueprint, Flask, abort, g, get_template_attribute, render_template, request
from simple_websocket import ConnectionClosed

from threatlens.broadcaster import Batch, Place
from threatlens.clock import now_us
from threatlens.errors import QueryTimeout, StoreUnavailable
from threatlens.event import Event
from threatlens.store_watchers import BEAT_S
from threatlens.web import dashboard, events, health, incidents, notifications, sources
from threatlens.web.auth import Actor, actor, browser_actor, may_know, needs, still_there
from threatlens.web.context import services
from threatlens.web.event_filter import whole
from threatlens.web.overview import trust
from threatlens.web.presentation import moment, zone_name
from threatlens.web.seats import seats
from threatlens.web.security_headers import is_own_origin
from threatlens.web.shown_rows import ShownRows, state_of
from threatlens.web.socket_writer import SocketWriter
from threatlens.web.toasts import Toasts

FRAME_S = 0.25  # between two frames to one browser
FRAME_ROWS = 50
FLOOD_S = 0.5  # between two frames where rows have to be left out
CHECK_S = 0.25  # between two looks whether the session still holds
WAIT_S = 0.4  # for news, before looking at everything else
PANELS_S = 1.0  # between two looks at the panels
PANELS_IDLE_S = 5.0  # without new events: states change and relative times grow old
LINGER_S = 1.0  # for a browser to read why it is closed
MAX_PAINTED = 500  # different views whose panels are remembered
MAX_MESSAGES = 10  # from a browser between two frames; a page sends none
GOING_AWAY, UNACCEPTABLE, TRY_LATER, BROKEN, UNAUTHORISED = 1001, 1008, 1013, 1011, 4401

Panels = dict[str, str]  # id of an element: its inner HTML


def _trust_panel() -> Panels:
    known = trust()
    names = ("trust", "coverage", "open_incidents")
    return {name.replace("_", "-"): render_template(f"_{name}.html", trust=known).strip() for name in names}


#: The parameters of a page that decide what its panels show.
SHOWN_BY = frozenset(
    (
        "range",
        "q",
        "min_severity",
        "max_severity",
        "category",
        "source",
        "start",
        "end",
        "column",
        "status",
        "outcome",
        "incident",
    )
)

#: What is kept up to date on which page, beside rows of events.
PANELS: dict[str, tuple[Callable[[], Panels], ...]] = {
    "dashboard": (dashboard.panels, _trust_panel),
    "sources": (sources.panels, _trust_panel),
    "health": (health.panels, _trust_panel),
    "events": (events.panels, _trust_panel),
    "incidents": (incidents.panels, _trust_panel),
    "incident": (incidents.story_panels, _trust_panel),
    "notifications": (notifications.panels, _trust_panel),
    "other": (_trust_panel,),
}

#: Those of them that tell who else is there.
PERSONAL = frozenset(("incidents", "incident"))

#: Those of them that somebody may see who is kept to some sources.
CONFINED = frozenset(("events", "other"))


@dataclass
class LivePages:
    """What all browsers of one process share: what was rendered for any of them."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    rows: OrderedDict[tuple[object, ...], str] = field(default_factory=OrderedDict)
    panels: dict[tuple[str, ...], tuple[float, float, tuple[int, int], Panels]] = field(default_factory=dict)

    def row(self, event: Event, columns: tuple[str, ...]) -> str:
        """The HTML of one row, rendered once for all who see it below one path, in one zone, on one day."""
        today = moment(now_us()).date().isoformat()
        key = (event.id, *state_of(event), columns, request.script_root, zone_name(), today)
        with self.lock:
            known = self.rows.get(key)
        if known is None:
            known = str(get_template_attribute("events/_row.html", "row")(event, columns))
            with self.lock:
                self.rows[key] = known
                while len(self.rows) > 2_000:
                    self.rows.popitem(last=False)
        return known

    @staticmethod
    def _decided() -> int:
        """A number that changes with every decision about an incident, and when somebody comes or goes."""
        store = services().store
        return hash((store.incident_decisions(), *incidents.watchers().items()))

    def painted(self, page: str, last_id: int) -> Panels:
        """The panels of a page, rendered once for all who look at it alike; less often where that is expensive."""
        shown = sorted((name, value) for name, value in request.args.items(multi=True) if name in SHOWN_BY)
        key = (page, request.script_root, zone_name(), repr(shown), actor().role, *actor().sources)
        if page in PERSONAL:
            key = (*key, actor().name)
        now = time.monotonic()
        # What somebody has just decided must not be painted over with what was before it.
        state = (last_id, self._decided() if page in PERSONAL else 0)
        with self.lock:
            painted_s, cost_s, seen, panels = self.panels.get(key, (float("-inf"), 0.0, (-1, 0), {}))
            age_s = now - painted_s
            if seen[1] == state[1] and (
                age_s < max(PANELS_S, 20 * cost_s) or (seen == state and age_s < PANELS_IDLE_S)
            ):
                return panels
            # Whoever comes while it is painted takes the old one.
            self.panels[key] = (now, cost_s, (last_id, seen[1]), panels)
        panels = {name: html for paint in PANELS[page] for name, html in paint().items()}
        with self.lock:
            self.panels[key] = (now, time.monotonic() - now, state, panels)
            while len(self.panels) > MAX_PAINTED:
                self.panels.pop(next(iter(self.panels)))
        return panels


def register(app: Flask, sock: Any) -> None:
    """Add the socket to an application. `sock` is its flask_sock.Sock."""
    blueprint = Blueprint("live", __name__)
    blueprint.before_request(check_handshake)
    shared = LivePages()

    @needs("viewer")
    def ui(ws: Any) -> None:
        serve(ws, shared)

    sock.route("/ws/ui", bp=blueprint)(ui)
    app.register_blueprint(blueprint)


def check_handshake() -> None:
    """Refuse, before the connection is upgraded, what does not come from one of our own pages."""
    if not is_own_origin(request):
        abort(403, "The live feed is for the pages of this ThreatLens.")
    g.actor = browser_actor()
    if g.actor is None:
        abort(401)
    broadcaster = services().broadcaster
    for key in ("gunicorn.socket", "werkzeug.socket"):
        if key in request.environ:
            request.environ[key] = SocketWriter(request.environ[key], lambda: broadcaster.closed)
    # Compressed messages cost memory and time on both sides, and may be bombs: the extension is not offered.
    request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)


class GoodbyeError(Exception):
    """The connection ends, with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def serve(ws: Any, shared: LivePages) -> None:
    """One browser's live feed, until it leaves or the server stops."""
    room, who = seats(), actor()
    if not room.take(who.name):
        said_goodbye = _close(ws, TRY_LATER, "too many live pages are open")
        ws.sock.finish(ws.thread.join, 0, said_goodbye=said_goodbye)
        return
    said_goodbye = False
    feed = _Feed(ws, shared, who)
    try:
        feed.run()
    except GoodbyeError as goodbye:
        said_goodbye = _close(ws, goodbye.code, str(goodbye))
    except (QueryTimeout, StoreUnavailable):
        said_goodbye = _close(ws, BROKEN, "the database is busy")
    except (ConnectionClosed, OSError):
        pass  # the browser is gone
    finally:
        room.leave(who.name)
        feed.leave()
        ws.sock.finish(ws.thread.join, LINGER_S, said_goodbye=said_goodbye)


def _close(ws: Any, code: int, reason: str) -> bool:
    with suppress(ConnectionClosed, OSError):
        ws.close(code, reason)
        return True
    return False


class _Feed:
    """What one browser looks at, and what it has."""

    def __init__(self, ws: Any, shared: LivePages, who: Actor) -> None:
        self.ws = ws
        self.who = who
        self.checked_s = time.monotonic()
        self.shared = shared
        page = request.args.get("page", "")
        self.page = page if page in (CONFINED if who.sources else PANELS) else "other"
        self.view = dashboard.severe_view() if self.page == "dashboard" else events.asked_view()
        self.has_rows = self.page in ("dashboard", "events")
        self.shown = ShownRows(have_id(request.args.get("oldest", "")), have_id(request.args.get("have", "")))
        self.sent: dict[str, int] = {}  # panel: hash of its HTML
        self.looked_s = float("-inf")
        self.toasts = Toasts(is_analyst=who.may("analyst"), reading=request.args.get("incident", 0, type=whole))
        self.update_seq = 0
        self.is_flood = False
        self.incident = request.args.get("incident", 0, type=whole) if self.page == "incident" else 0
        self.said_s = float("-inf")  # when it last said that somebody looks at the incident

    def run(self) -> NoReturn:
        """Send what changes, at most one frame in FRAME_S."""
        broadcaster = services().broadcaster
        place = broadcaster.place()
        self.update_seq = place.update_seq
        at_first, stopped = self.shown.at_first(services().store, self.view.where)
        frame = self.changed_rows(at_first) + self.cut_off(stopped)
        if self.has_rows:
            frame += self.missed(have_id(request.args.get("have", "")), place.event_id)
        while not broadcaster.closed:
            self.check()
            self.beat()
            frame += self.changed_panels(place.event_id) + self.alerts()
            if frame:
                self.ws.send(frame)
                self.rest(FLOOD_S if self.is_flood else FRAME_S)
            if self.has_rows:
                batch = broadcaster.wait(place, min(WAIT_S, PANELS_S))
                place, frame = self.take(batch, place)
            else:
                self.rest(min(WAIT_S, PANELS_S))
                place, frame = broadcaster.place(), ""
        raise GoodbyeError(GOING_AWAY, "the server is stopping")

    def beat(self) -> None:
        """Say again and again that this person looks at the incident; a database that takes nothing does not matter."""
        if self.incident and self.who.user is not None and time.monotonic() - self.said_s >= BEAT_S:
            self.said_s = time.monotonic()
            with suppress(StoreUnavailable):
                services().store.watch_incident(self.incident, self.who.user.name, now_us())

    def leave(self) -> None:
        """Say that this person does not look at it any more."""
        if self.incident and self.who.user is not None:
            with suppress(StoreUnavailable):
                services().store.leave_incident(self.incident, self.who.user.name)

    def check(self) -> None:
        """Raises GoodbyeError once this browser's session has ended, or its role is another one."""
        if time.monotonic() - self.checked_s < CHECK_S:
            return
        self.checked_s = time.monotonic()
        now = still_there(self.who)
        if now is None or (now.role, now.sources) != (self.who.role, self.who.sources):
            raise GoodbyeError(UNAUTHORISED, "the session has ended")

    def take(self, batch: Batch, place: Place) -> tuple[Place, str]:
        """The rows of a batch, and the new place."""
        if batch.lapsed:
            now = services().broadcaster.place()
            return now, self.missed(place.event_id, now.event_id)
        if not batch.events:
            self.rest(0)
            return batch.place, ""
        found = [event for event in reversed(batch.events) if self.view.where.matches(event)]
        self.is_flood = len(found) > FRAME_ROWS
        if not found:
            self.rest(FRAME_S)
        return batch.place, self.rows(found[:FRAME_ROWS], more=max(len(found) - FRAME_ROWS, 0))

    def missed(self, have: int | None, upto: int) -> str:
        """Rows of what is stored after `have`, up to `upto`; the newest of them where they are too many."""
        if have is None or have >= upto:
            return ""
        newest = services().store.page(self.view.where, before=upto + 1, limit=FRAME_ROWS + 1)
        found = [event for event in newest if event.id > have]
        stopped = newest.stopped_at is not None and newest.stopped_at > have  # its time was up
        return self.rows(found[:FRAME_ROWS], more=-1 if stopped or len(found) > FRAME_ROWS else 0, upto=upto)

    def rows(self, events: Sequence[Event], *, more: int, upto: int = 0) -> str:
        """A frame with these events, newest first; more: how many are left out, -1 for nobody counted them.

        upto: the newest event that may be left out, where there may be none to show.
        """
        if not events and not more:
            return ""
        n = len(events)
        arrived = n + max(more, 0)
        parts = [f'<table hx-swap-oob="afterbegin:#arrived-rows"><tbody data-n="{arrived}">']
        parts += [self.shared.row(event, self.view.columns) for event in events]
        self.shown.note(events)
        if more:
            older = self.view.url(before=events[-1].id if events else upto + 1)
            parts.append(render_template("events/_gap.html", n=n, more=more, older=older, columns=self.view.columns))
        return "".join([*parts, "</tbody></table>"])

    def changed_rows(self, events: Sequence[Event]) -> str:
        """A frame with rows that this browser shows as they were before; the page puts them in their places."""
        if not events:
            return ""
        self.shown.note(events)
        rows = "".join(self.shared.row(event, self.view.columns) for event in events)
        return f'<table hx-swap-oob="innerHTML:#changed-rows"><tbody>{rows}</tbody></table>'

    def cut_off(self, stopped_at: int | None) -> str:
        """A frame that says how far the page's rows were looked at, where the time was up before the last of them."""
        event = None if stopped_at is None or self.page != "events" else services().store.event(stopped_at)
        if event is None or not may_know(event.source):
            return ""
        return render_template("events/_cut_off.html", event=event)

    def changed_panels(self, last_id: int) -> str:
        """The panels that differ from what this browser was sent last."""
        if time.monotonic() - self.looked_s < PANELS_S:
            return ""
        self.looked_s = time.monotonic()
        changed = []
        for name, html in self.shared.painted(self.page, last_id).items():
            if self.sent.get(name) != hash(html):
                self.sent[name] = hash(html)
                changed.append(f'<div id="{name}" hx-swap-oob="innerHTML">{html}</div>')
        return "".join(changed)

    def alerts(self) -> str:
        """What has become urgent since the last look, and rows that are not any more what they were."""
        updates, self.update_seq = services().broadcaster.updates_beyond(self.update_seq)
        if not updates:
            return ""
        changed = self.shown.changed(services().store, updates) if self.has_rows else ()
        changed = [event for event in changed if may_know(event.source)]
        # An incident may be about more than what somebody may know of who is kept to some sources.
        return self.changed_rows(changed) + ("" if self.who.sources else self.toasts.html(updates))

    def rest(self, seconds: float) -> None:
        """Wait, reading what the browser sends, which should be nothing."""
        until_s = time.monotonic() + seconds
        for _ in range(MAX_MESSAGES + 1):
            if self.ws.receive(timeout=max(until_s - time.monotonic(), 0)) is None:
                self.ws.sock.heard()
                return
        raise GoodbyeError(UNACCEPTABLE, "too many messages")


def have_id(text: str) -> int | None:
    """The last event a browser says it has."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
