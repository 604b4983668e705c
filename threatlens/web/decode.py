"""A tester: paste lines, see what the pipeline would make of them and why. Nothing is stored."""

from __future__ import annotations

import time
from typing import NamedTuple

from flask import Blueprint, render_template, request

from threatlens.analyzers.heuristic import category, severity
from threatlens.decoders import Explanation, SourceDecoder, explain
from threatlens.decoders.spans import Piece, pieces
from threatlens.event import FLAG_NAMES, Decoded
from threatlens.web.auth import needs
from threatlens.web.context import services
from threatlens.web.overview import trust

MAX_LINES = 20
MAX_CHARS = 65_536

blueprint = Blueprint("decode", __name__)


class Read(NamedTuple):
    """One line as it would be stored, and how it came to that."""

    decoded: Decoded
    severity: int
    category: str
    flags: tuple[str, ...]
    pieces: list[Piece]
    fields: list[tuple[str, str]]
    why: Explanation


@blueprint.route("/decode", methods=["GET", "POST"])
@needs("viewer")
def index() -> str:
    """The form; below it what the lines in it are read as."""
    given = request.form if request.method == "POST" else request.args
    text = given.get("lines", "")[:MAX_CHARS]
    log_format = given.get("format", "auto")
    zone = given.get("timezone", "") or "UTC"
    problem = ""
    found: list[Read] = []
    try:
        found = _read(text, log_format, zone)
    except ValueError as error:
        problem = f"{error}"
    return render_template(
        "decode/index.html",
        text=text,
        chosen=log_format,
        zone=zone,
        formats=sorted(services().own_decoders.formats()),
        problem=problem,
        found=found,
        most=MAX_LINES,
        trust=trust(),
    )


def _read(text: str, log_format: str, zone: str) -> list[Read]:
    """The lines, decoded in their order; raises ValueError for a format or a zone that does not exist."""
    registry = services().own_decoders.registry()
    decoder = SourceDecoder(format=log_format, timezone=zone, registry=registry)
    now = time.time()
    found: list[Read] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if not line.strip() or len(found) == MAX_LINES:
            continue
        decoded = decoder.decode(line, now)
        found.append(
            Read(
                decoded,
                severity(decoded),
                category(decoded),
                tuple(name for bit, name in FLAG_NAMES.items() if decoded.flags & bit),
                pieces(line, decoded.fields),
                [(name, _text(value)) for name, value in decoded.fields.items()],
                explain(line, now, decoded.format, registry),
            )
        )
    return found


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
