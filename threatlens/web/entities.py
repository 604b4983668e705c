"""Pages of addresses, users and hosts: everything that is known about one of them, from its first event to its last."""

from __future__ import annotations

import ipaddress
from collections import Counter

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from threatlens.clock import now_us
from threatlens.event import Event, EventFilter
from threatlens.event_match import FieldTest
from threatlens.web.auth import actor, doer, kept_within, needs
from threatlens.web.context import services
from threatlens.web.event_filter import term, whole
from threatlens.web.overview import trust

ROWS = 50
SAMPLE = 300  # newest events that the breakdown is made of
INCIDENTS = 20
BARS = 72
MAX_TEXT = 4_000  # characters of a note
#: The word in the address, the field, the short name in a query.
KINDS = {"address": ("source.ip", "src"), "user": ("user.name", "user"), "host": ("host.name", "host")}
#: What else is counted of the sample: field, heading, kind of a page of its own.
TOGETHER = (
    ("source.ip", "Addresses", "address"), ("user.name", "Users", "user"), ("host.name", "Hosts", "host"),
    ("event.action", "Actions", ""), ("url.original", "Paths", ""), ("process.name", "Processes", ""),
)  # fmt: skip

blueprint = Blueprint("entities", __name__)


@blueprint.get("/entities/<kind>/<path:value>")
@needs("viewer", confined=True)
def detail(kind: str, value: str) -> str | Response:
    """One of them, as a page or beside the page that names it."""
    field, name = _asked(kind, value)
    if kind == "address" and (same := str(ipaddress.ip_address(value))) != value:
        return redirect(url_for("entities.detail", kind=kind, value=same), 301)
    store = services().store
    query = term(name, value)
    where = kept_within(EventFilter(tests=(FieldTest(name, ":", (value,)),)))
    is_kept = bool(actor().sources)  # the rest is known of all sources together
    newest = store.page(where, limit=SAMPLE)
    oldest = store.page(where, after=0, limit=1)
    outcomes = Counter(str(event.fields.get("event.outcome", "")) for event in newest)
    incidents = [] if is_kept else [one for one in store.incidents(text=value, limit=INCIDENTS) if not one.is_test]
    beside = request.headers.get("HX-Target") == "peek-body"
    return render_template(
        "entities/_peek.html" if beside else "entities/detail.html",
        kind=kind,
        value=value,
        query=query,
        events=newest[:ROWS],
        first=oldest[0] if oldest else None,
        last=newest[0] if newest else None,
        sampled=len(newest),
        whole=len(newest) < SAMPLE and newest.stopped_at is None,
        outcomes=outcomes,
        slots=store.address_history(value, BARS) if kind == "address" and not is_kept else (),
        totals=store.address_totals(value) if kind == "address" and not is_kept else None,
        together=[(title, page, _counted(newest, other)) for other, title, page in TOGETHER if other != field],
        incidents=incidents,
        notes=[] if is_kept else store.entity_notes(field, value),
        may_act=actor().may("analyst") and not is_kept,
        trust=trust(),
    )


@blueprint.post("/entities/<kind>/<path:value>")
@needs("analyst")
def note(kind: str, value: str) -> Response:
    """Write something down about one of them, or take a note away."""
    field, _ = _asked(kind, value)
    text = request.form.get("text", "").strip()[:MAX_TEXT]
    gone = request.form.get("remove", 0, type=whole)
    if gone:
        if not services().store.remove_entity_note(gone, doer()):
            abort(404)
        flash("The note is gone; the audit log keeps its text.", "done")
    elif text:
        services().store.add_entity_note(field, value, doer(), text, now_us())
        flash("Noted.", "done")
    return redirect(url_for("entities.detail", kind=kind, value=value), 303)


def _asked(kind: str, value: str) -> tuple[str, str]:
    """The field and its short name in a query; 404 for what cannot be one of them."""
    if kind not in KINDS or len(value) > 300 or not value.strip() or not value.isprintable():
        abort(404)
    if kind == "address":
        try:
            ipaddress.ip_address(value)
        except ValueError:
            abort(404)
    return KINDS[kind]


def _counted(events: list[Event], field: str) -> list[tuple[str, int]]:
    return Counter(str(event.fields[field]) for event in events if field in event.fields).most_common(8)
