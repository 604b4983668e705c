"""The answer that carries an export: streamed, so many at once, and over when the reader goes."""

from __future__ import annotations

import threading

from flask import current_app
from werkzeug.wrappers import Response

from threatlens.event import EventFilter
from threatlens.exports import FORMS, file_name, pieces
from threatlens.models import now_us
from threatlens.web.auth import record
from threatlens.web.context import services
from threatlens.web.problems import ProblemError

#: Exports at once: each holds a thread of the web server while it lives, and pages need the rest.
MAX_AT_ONCE = 4


def stream(where: EventFilter, form: str, *, bom: bool, asked: str) -> Response:
    """The events as a file. `asked` is what was asked for, for the audit log. Raises ProblemError (429)."""
    places: threading.Semaphore = current_app.extensions.setdefault(
        "threatlens_exports", threading.BoundedSemaphore(MAX_AT_ONCE)
    )
    if not places.acquire(blocking=False):
        raise ProblemError(429, f"{MAX_AT_ONCE} exports are under way; ask again when one has ended.",
                           code="busy", headers={"Retry-After": "10"})  # fmt: skip
    try:
        record("events.export", form, {"filter": asked[:2_000]})
        response = Response(pieces(services().store, where, form, bom=bom), content_type=FORMS[form].media)
    except BaseException:
        places.release()
        raise
    response.call_on_close(places.release)
    response.headers["Content-Disposition"] = f"attachment; filename={file_name(form, now_us())}"
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # a proxy passes pieces on and does not collect the whole
    return response
