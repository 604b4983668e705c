"""Lines that no decoder knows, grouped by their shape."""

from __future__ import annotations

from flask import Blueprint, render_template

from threatlens.web.auth import needs
from threatlens.web.context import services
from threatlens.web.event_filter import quoted
from threatlens.web.overview import trust

SHAPES = 200
MIN_WORD = 3  # letters; shorter words of a shape say little

blueprint = Blueprint("unknown", __name__)


@blueprint.get("/unknown")
@needs("viewer")
def index() -> str:
    """The shapes, the most frequent first."""
    shapes = services().store.templates(limit=SHAPES)
    sources = services().store.sources()
    return render_template(
        "unknown/index.html",
        shapes=[(shape, search_for(shape.text)) for shape in shapes],
        unknown=sum(source.unknown for source in sources),
        events=sum(source.events for source in sources),
        trust=trust(),
    )


def search_for(text: str) -> str:
    """A query for the lines of a shape: its longest words that never vary."""
    words = sorted({word for word in text.replace("<*>", " ").split() if len(word) >= MIN_WORD}, key=len)
    return " ".join(quoted(word) for word in words[-3:])
