"""The audit log for administrators: who did what, newest first, and whether its chain holds."""

from __future__ import annotations

from flask import Blueprint, Response, abort, render_template, request, stream_with_context

from threatlens.web.auth import needs, record
from threatlens.web.context import services
from threatlens.web.event_filter import whole
from threatlens.web.overview import trust
from threatlens.web.strict_json import dumps

ROWS = 100

blueprint = Blueprint("audit", __name__)


@blueprint.get("/settings/audit")
@needs("admin")
def index() -> str:
    """A page of entries; `verify` checks all of them."""
    before = request.args.get("before", type=whole)
    if before is None and "before" in request.args:
        abort(400)
    audit = services().store.audit
    action, actor = request.args.get("action", "")[:100], request.args.get("actor", "")[:100]
    entries = audit.page(before=before, limit=ROWS + 1, action=action, actor=actor)
    return render_template(
        "settings/audit.html",
        entries=entries[:ROWS],
        older=entries[ROWS - 1].id if len(entries) > ROWS else None,
        action=action,
        actor=actor,
        verified=audit.verify() if "verify" in request.args else None,
        trust=trust(),
    )


@blueprint.get("/settings/audit.ndjson")
@needs("admin", fresh=True)
def export() -> Response:
    """All of it, oldest first, a JSON object a line, each with its hash."""
    record("audit.exported")
    entries = services().store.audit.entries()
    lines = (dumps(entry.as_json()) + b"\n" for entry in entries)
    headers = {"Content-Disposition": 'attachment; filename="threatlens-audit.ndjson"'}
    return Response(stream_with_context(lines), mimetype="application/x-ndjson", headers=headers)
