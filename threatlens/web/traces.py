"""Why and why not: everything that the rules say about one stored event, asked again now."""

from __future__ import annotations

import re

from flask import Blueprint, abort, render_template

from threatlens.decoders.spans import pieces
from threatlens.detectors import trace
from threatlens.event import Decoded
from threatlens.web.auth import needs
from threatlens.web.context import services
from threatlens.web.event_filter import MAX_ID
from threatlens.web.overview import trust

SHOWN = 200  # rules that did not match
#: What a correlation counts and how it compares, in Sigma's words and in ours.
COUNTED = {"event_count": "events", "value_count": "different values"}
COMPARED = {"gte": "at least", "gt": "more than", "lte": "at most", "lt": "fewer than", "eq": "exactly"}

blueprint = Blueprint("traces", __name__)


@blueprint.get("/events/<int:event_id>/trace")
@needs("viewer")
def show(event_id: int) -> str:
    """From the bytes to what was raised."""
    store, library = services().store, services().rules
    event = store.event(event_id) if event_id <= MAX_ID else None
    if event is None:
        abort(404)
    decoded = Decoded(event.format, event.timestamp_us, event.message, event.fields)
    found = trace(library.tracer(), decoded, event.timestamp_us, store.states_of)
    missed = [verdict for verdict in found.verdicts if not verdict.matched]
    return render_template(
        "traces/show.html",
        event=event,
        size=len(event.raw.encode("utf-8", "replace")),
        pieces=pieces(event.raw, event.fields),
        trace=found,
        matched=[verdict for verdict in found.verdicts if verdict.matched],
        missed=missed[:SHOWN],
        more=max(0, len(missed) - SHOWN),
        states=store.rule_states(),
        needed=needed,
        trust=trust(),
    )


def needed(condition: str) -> str:
    """What a correlation waits for, in plain words; its own where there are none."""
    found = re.fullmatch(r"(\w+) (\w+) (\S+) (within .+)", condition)
    if found is None or found[1] not in COUNTED or found[2] not in COMPARED:
        return condition
    return f"{COMPARED[found[2]]} {found[3]} {COUNTED[found[1]]} {found[4]}"
