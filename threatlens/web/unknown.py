"""Lines that no decoder knows, grouped by their shape, and the decoders that people draft from them."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from flask import Blueprint, Response, abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from threatlens.decoders import Attempt, SourceDecoder, explain
from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.drafting import MAX_FILE, draft, member_of, parse
from threatlens.decoders.source import Registry
from threatlens.errors import DecoderError
from threatlens.event import Decoded, EventFilter
from threatlens.event_match import FieldTest
from threatlens.store_reading import TemplateView
from threatlens.web.auth import needs, record
from threatlens.web.context import services
from threatlens.web.event_filter import quoted, whole
from threatlens.web.overview import trust

SHAPES = 200
COMPARED = 12  # shapes whose nearest format is looked for
MIN_WORD = 3  # letters; shorter words of a shape say little
TRIED = 300  # stored lines that a draft is tried on
SHOWN = 10  # of those, shown

blueprint = Blueprint("unknown", __name__)


class Trial(NamedTuple):
    """A draft on stored lines."""

    program: str  # whose lines they are; "": lines that no decoder knows
    tried: int  # lines looked at
    read: int  # of those, read by the draft
    lines: list[tuple[str, Decoded]]  # the first of them


@blueprint.get("/unknown")
@needs("viewer")
def index() -> str:
    """The shapes, the most frequent first."""
    shapes = services().store.templates(limit=SHAPES)
    sources = services().store.sources()
    own = services().own_decoders
    registry = own.registry()
    return render_template(
        "unknown/index.html",
        shapes=[_shown(shape, registry, near=place < COMPARED) for place, shape in enumerate(shapes)],
        unknown=sum(source.unknown for source in sources),
        events=sum(source.events for source in sources),
        decoders=own.all(),
        problems=own.problems,
        trust=trust(),
    )


@blueprint.post("/unknown/draft")
@needs("analyst")
def make_draft() -> str:
    """A decoder for the chosen shapes, or the one in the form again, tried on stored lines."""
    text = request.form.get("text", "")
    problem = ""
    if not text:
        chosen = set(request.form.getlist("shape", type=whole)[:50])
        samples = [shape.sample for shape in services().store.templates(limit=SHAPES) if shape.id in chosen]
        try:
            text = draft(samples).as_yaml()
        except DecoderError as error:
            problem = str(error)
    return _draft_page(text.replace("\r\n", "\n"), problem)


@blueprint.post("/unknown/decoders")
@needs("admin")
def save() -> AnyResponse | str:
    """Keep the decoder of the form; it reads lines from the next batch on."""
    text = request.form.get("text", "").replace("\r\n", "\n")
    try:
        made = services().own_decoders.save(text)
    except DecoderError as error:
        return _draft_page(text, str(error))
    record("decoder.save", made.name, {"program": made.program})
    flash(f"{made.name} reads lines from now on.", "done")
    return redirect(url_for("unknown.index"), 303)


@blueprint.get("/unknown/decoders/<name>.yml")
@needs("viewer")
def export(name: str) -> Response:
    """A decoder's file."""
    made = next((own for own in services().own_decoders.all() if own.name == name), None)
    if made is None:
        abort(404)
    headers = {"Content-Disposition": f'attachment; filename="{made.name}.yml"'}
    return Response(made.as_yaml(), mimetype="application/yaml", headers=headers)


@blueprint.post("/unknown/decoders/<name>/remove")
@needs("admin")
def remove(name: str) -> AnyResponse:
    """Forget a decoder."""
    services().own_decoders.remove(name)
    record("decoder.remove", name, {})
    flash(f"{name} is forgotten.", "done")
    return redirect(url_for("unknown.index"), 303)


def _draft_page(text: str, problem: str) -> str:
    trial = None
    if text and not problem:
        try:
            trial = _try(text)
        except DecoderError as error:
            problem = str(error)
    return render_template(
        "unknown/draft.html", text=text[:MAX_FILE], problem=problem, trial=trial, shown=SHOWN, trust=trust()
    )


def _try(text: str) -> Trial:
    """What the decoder makes of the newest lines that it is for; raises DecoderError."""
    made = parse(text)
    member = member_of(made)
    decoder = SourceDecoder(registry=Registry([*services().own_decoders.registry().by_name.values(), member]))
    now = time.time()
    if made.program:  # its samples are messages, without what stands before them in a line
        of_program = EventFilter(tests=(FieldTest("process.name", ":", (made.program,)),))
        stored = services().store.page(of_program, limit=TRIED)
        lines = [event.raw for event in stored if not event.fields.get("event.action")]
    else:
        stored = services().store.page(EventFilter(), limit=TRIED)
        unknown = [shape.sample for shape in services().store.templates(limit=SHAPES)]
        lines = [*made.samples, *(event.raw for event in stored if event.format == "unknown"), *unknown]
    lines = list(dict.fromkeys(lines))
    read = []
    for line in lines:
        decoded = decoder.decode(line, now)
        fits = decoded.format == made.name
        if fits and isinstance(member, MessageDecoder):  # a line of its program is its own, read or not
            fits = member.read(decoded.message, {})
        if fits:
            read.append((line, decoded))
    return Trial(made.program, len(lines), len(read), read[:SHOWN])


def _shown(shape: TemplateView, registry: Registry, *, near: bool) -> tuple[Any, ...]:
    """A shape, a search for it, and of the first ones the nearest format and what a language model said."""
    if not near:
        return shape, search_for(shape.text), None, None
    return shape, search_for(shape.text), _nearest(registry, shape), services().store.analysis_of_shape(shape.id)


def _nearest(registry: Registry, shape: TemplateView) -> Attempt | None:
    """The known format that the shape's sample is most like; None: it is like none."""
    attempts = explain(shape.sample[:500], 0.0, "unknown", registry).attempts
    return attempts[0] if attempts and attempts[0].read > 1 else None


def search_for(text: str) -> str:
    """A query for the lines of a shape: its longest words that never vary."""
    words = sorted({word for word in text.replace("<*>", " ").split() if len(word) >= MIN_WORD}, key=len)
    return " ".join(quoted(word) for word in words[-3:])
