"""What browsers report about the content security policy: a line in our own log each, a few a minute, and no more.

A report is text from a browser, which shows what a log line may have tried: it is cut, and never stored.
"""

from __future__ import annotations

import logging

from flask import Blueprint, Response, abort, request

from threatlens.errors import QueryError
from threatlens.web.auth import needs
from threatlens.web.gate import Refusals
from threatlens.web.security_headers import REPORTS
from threatlens.web.strict_json import loads

logger = logging.getLogger(__name__)

MAX_BYTES = 16 * 1024
KINDS = {"application/csp-report", "application/reports+json", "application/json"}
TOLD = ("blockedURL", "blocked-uri", "effectiveDirective", "effective-directive", "violated-directive", "documentURL",
        "document-uri", "sourceFile", "source-file", "lineNumber", "line-number")  # fmt: skip


def make_blueprint() -> Blueprint:
    """/csp-reports, with a limit of its own for each app."""
    blueprint = Blueprint("csp_reports", __name__)
    limit = Refusals()

    @blueprint.post(REPORTS)
    @needs("viewer", confined=True)
    def take() -> Response:
        """Reports in either of the two forms that browsers send."""
        if request.mimetype not in KINDS:
            abort(415)
        request.max_content_length = MAX_BYTES
        if not limit.take("reports"):
            return Response(status=429, headers={"Retry-After": "60"})
        try:
            document = loads(request.get_data(cache=False))
        except QueryError as error:
            abort(400, str(error))
        for report in (document if isinstance(document, list) else [document])[:10]:
            logger.warning("the content security policy stopped something: %s", _told(report))
        return Response(status=204)

    return blueprint


def _told(report: object) -> dict[str, str]:
    body = report.get("body", report.get("csp-report", {})) if isinstance(report, dict) else {}
    return {name: str(body[name])[:200] for name in TOLD if name in body} if isinstance(body, dict) else {}
