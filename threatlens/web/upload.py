"""Files and pasted lines that somebody wants to look into: each case is a source of its own, beside the live ones."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from threatlens.errors import IngestError
from threatlens.ingestions import Ingestion
from threatlens.sources.base import CASE_PREFIX
from threatlens.web.auth import actor, needs, record
from threatlens.web.context import services
from threatlens.web.ingest_archive import file_chunks
from threatlens.web.ingest_body import MAX_PACKED
from threatlens.web.overview import trust

MAX_FILES = 20
OVERHEAD = 1 << 20  # bytes of a form around its files
MAX_NAME = 60  # characters

blueprint = Blueprint("upload", __name__)


@blueprint.url_value_preprocessor
def allow_files(endpoint: str | None, _values: dict[str, Any] | None) -> None:
    """A form with files is larger than others; said before anything reads it."""
    if endpoint == "upload.send":
        request.max_content_length = MAX_PACKED + OVERHEAD


@blueprint.get("/upload")
@needs("analyst")
def index() -> str:
    """The form, and how far what was handed in has come."""
    found = _ingestions()
    if request.headers.get("HX-Request") == "true":
        return render_template("upload/_state.html", ingestions=found, ids=_ids())
    return render_template(
        "upload/index.html", ingestions=found, ids=_ids(), cases=_cases(), limit=MAX_PACKED, trust=trust()
    )


@blueprint.post("/upload")
@needs("analyst")
def send() -> Response:
    """Take files or pasted lines into a case."""
    name = re.sub(r"[^\w .-]", "", request.form.get("case", "")).strip()[:MAX_NAME]
    files = [file for file in request.files.getlist("file") if file.filename][:MAX_FILES]
    pasted = request.form.get("lines", "").replace("\r\n", "\n").strip("\n")
    ids: list[str] = []
    case, author = CASE_PREFIX + name, actor().name
    if not name or not (files or pasted):
        flash("A case has a name, and files or lines.", "error")
    else:
        try:
            for file in files:
                made = services().ingestions.accept(file_chunks(file.stream), case, author=author)
                ids.append(made.id)
            if pasted:
                text = pasted.encode("utf-8", "replace")
                ids.append(services().ingestions.accept([text], case, author=author).id)
        except IngestError as error:
            flash(f"Not everything was taken: {error}.", "error")
        if ids:
            record("case.upload", case, {"files": len(files), "pasted": bool(pasted)})
    for file in request.files.getlist("file"):
        file.close()
    address = url_for("upload.index", id=ids)
    if request.headers.get("HX-Request") == "true":
        answer = make_response("", 204)
        answer.headers["HX-Redirect"] = address
        return answer
    return redirect(address, 303)


def _ids() -> list[str]:
    return request.args.getlist("id")[: MAX_FILES + 1]


def _ingestions() -> list[Ingestion]:
    return [found for each in _ids() if (found := services().ingestions.get(each[:100])) is not None]


def _cases() -> list[tuple[Any, int]]:
    """Each case, and how often a rule matched in it."""
    store = services().store
    return [
        (source, store.detections_of_source(source.id))
        for source in store.sources()
        if source.source_name.startswith(CASE_PREFIX)
    ]
