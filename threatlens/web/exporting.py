"""The answer that carries an export: streamed, so many at once, followed and cancelled, over when the reader goes."""

from __future__ import annotations

from typing import cast

from flask import current_app
from werkzeug.wrappers import Response

from threatlens.clock import now_us
from threatlens.event import EventFilter
from threatlens.exports import FORMS, Exports, file_name, pieces
from threatlens.web.auth import actor, record
from threatlens.web.context import services
from threatlens.web.problems import ProblemError

#: Exports at once: each holds a thread of the web server while it lives, and pages need the rest.
MAX_AT_ONCE = 4
#: Of one person or token: who reads slowly, or not at all, keeps nobody else waiting.
MAX_OF_ONE = 2


def exports() -> Exports:
    """Those of this process that are under way."""
    return cast("Exports", current_app.extensions.setdefault("threatlens_exports", Exports(MAX_AT_ONCE, MAX_OF_ONE)))


def stream(where: EventFilter, form: str, *, bom: bool, asked: str) -> Response:
    """The events as a file. `asked` is what was asked for, for the audit log. Raises ProblemError (429)."""
    places = exports()
    export = places.begin(actor().name, form, asked)
    if export is None:
        words = f"{MAX_OF_ONE} exports of yours, or {MAX_AT_ONCE} in all, are under way; ask again when one has ended."
        raise ProblemError(429, words,
                           code="busy", headers={"Retry-After": "10"})  # fmt: skip
    try:
        record("events.export", form, {"filter": asked[:2_000]})
        body = pieces(services().store, where, form, bom=bom, export=export)
        response = Response(body, content_type=FORMS[form].media)
    except BaseException:
        places.end(export)
        raise
    response.call_on_close(lambda: places.end(export))
    response.headers["Content-Disposition"] = f"attachment; filename={file_name(form, now_us())}"
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # a proxy passes pieces on and does not collect the whole
    return response
