"""The API's way in: data from other programs, acknowledged once it is durable and never before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from flask import request
from pydantic import Field

from threatlens.event import rfc3339
from threatlens.web.api_values import PlainText
from threatlens.web.auth import actor
from threatlens.web.context import services
from threatlens.web.ingest_archive import file_chunks
from threatlens.web.ingest_body import MAX_PACKED, array_lines, gunzip, read_chunks
from threatlens.web.operations import Shape, created_at, operation
from threatlens.web.problems import ProblemError

TEXT = {"", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded"}  # the last: curl's default
LINES = {"application/x-ndjson", "application/ndjson", "application/jsonl"}
GZIP = {"application/gzip", "application/x-gzip"}
MULTIPART_OVERHEAD = 64 * 1024  # bytes of boundaries and headers around a file
MEDIA = {
    "text/plain": {"type": "string", "minLength": 1, "description": "one line, one event; the file as it is"},
    "application/x-ndjson": {"type": "string", "minLength": 1, "description": "one JSON object a line"},
    "application/json": {
        "type": "array",
        "items": {"type": ["string", "object"]},
        "description": "one element, one event",
    },
    "application/gzip": {"type": "string", "contentMediaType": "application/gzip"},
    "multipart/form-data": {
        "type": "object",
        "properties": {
            "file": {
                "type": "string",
                "contentMediaType": "application/octet-stream",
                "description": "a log as it is, or in a gzip, tar, tar.gz or zip",
            }
        },
        "required": ["file"],
        "additionalProperties": False,
    },
}


class IngestQuery(Shape):
    """Where the data belongs."""

    source: Annotated[PlainText, Field(description="made when it is new")] = "api"
    format: Annotated[str, Field(min_length=1, max_length=100, description="a decoder's name, or auto")] = "auto"


class Accepted(Shape):
    """The data is durable."""

    ingestion_id: str
    accepted: Annotated[int, Field(description="lines")]


class IngestionShape(Shape):
    """How far an ingestion has come."""

    ingestion_id: str
    source: str
    state: Annotated[str, Field(description="accepted, processing or done")]
    accepted: Annotated[int, Field(description="lines")]
    size: Annotated[int, Field(description="bytes")]
    stored: Annotated[int, Field(description="bytes of those that are stored as events")]
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]


@operation("POST", "/ingest", role="analyst", summary="Hand in log lines", status=202, query=IngestQuery, media=MEDIA,
           answer=Accepted, problems=(409, 413, 415, 422, 429), scope="ingest", confined=True)  # fmt: skip
def ingest(query: IngestQuery) -> dict[str, Any]:
    """With an Idempotency-Key that was used before, the earlier ingestion is the answer and nothing is added."""
    if actor().sources and query.source not in actor().sources:
        raise ProblemError(403, "This token is for other sources.", field="source")
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= 200 and key.isprintable()):
        raise ProblemError(400, "The Idempotency-Key must have 1 to 200 printable characters.", field="Idempotency-Key")
    if query.format != "auto" and query.format not in services().own_decoders.formats():
        raise ProblemError(409, "There is no format of this name here.", code="unknown_format", field="format")
    made = services().ingestions.accept(
        _lines(), query.source, log_format=query.format, idempotency_key=key, author=actor().name
    )
    created_at(f"/api/v1/ingest/{made.id}")
    return {"ingestion_id": made.id, "accepted": made.accepted}


@operation("GET", "/ingest/<ingestion_id>", role="analyst", summary="How far an ingestion has come",
           answer=IngestionShape, problems=(404,), scope="ingest", confined=True)  # fmt: skip
def get_ingestion(ingestion_id: str) -> dict[str, Any]:
    """Done once every line of it is stored."""
    found = services().ingestions.get(ingestion_id)
    if found is None or (actor().sources and found.source not in actor().sources):
        raise ProblemError(404, "There is no ingestion with this id.")
    return {
        "ingestion_id": found.id,
        "source": found.source,
        "state": found.state,
        "accepted": found.accepted,
        "size": found.size,
        "stored": found.stored,
        "created_at": rfc3339(found.created_at),
    }


def _lines() -> Iterator[bytes]:
    """The body as lines, whatever it comes in; raises ProblemError (415) at once for what is not taken."""
    kind = request.mimetype
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", "x-gzip"}:
        raise ProblemError(415, "The Content-Encoding must be gzip or none.", headers={"Accept-Encoding": "gzip"})
    if kind not in TEXT | LINES | GZIP | {"application/json", "multipart/form-data"}:
        raise ProblemError(415, f"The body must be one of {', '.join(MEDIA)}.")
    if kind == "multipart/form-data":
        return _file(packed=encoding != "identity")
    is_empty = not request.content_length and "Transfer-Encoding" not in request.headers
    if is_empty and kind in TEXT | LINES and encoding == "identity":
        raise ProblemError(422, "There is nothing in the body.", field="body")
    request.max_content_length = MAX_PACKED
    chunks = read_chunks(request.stream, request.content_length)
    if encoding != "identity" or kind in GZIP:
        chunks = gunzip(chunks)
    return array_lines(chunks) if kind == "application/json" else chunks


def _file(*, packed: bool) -> Iterator[bytes]:
    """The one file of a form; what it is packed with is told by its first bytes."""
    if packed:
        raise ProblemError(415, "A form cannot be packed as a whole; pack the file in it.")
    request.max_content_length = MAX_PACKED + MULTIPART_OVERHEAD
    files = request.files
    if list(files) != ["file"] or len(files.getlist("file")) != 1 or request.form:
        raise ProblemError(422, "The form must hold one file named file and nothing else.", field="file")
    return file_chunks(files["file"].stream)
