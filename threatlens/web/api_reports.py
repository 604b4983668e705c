"""The API's reports: which there are, and each as a PDF."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import Field
from werkzeug.wrappers import Response

from threatlens.errors import ReportError
from threatlens.event import rfc3339
from threatlens.web.api_values import DAY
from threatlens.web.auth import record
from threatlens.web.context import services
from threatlens.web.operations import DIGITS, Shape, operation
from threatlens.web.problems import ProblemError
from threatlens.web.reports import pdf_response

Kind = Literal["daily", "weekly", "monthly", "range"]


class ReportQuery(Shape):
    """Which reports."""

    kind: Kind | None = None
    limit: Annotated[int, Field(ge=1, le=500), DIGITS] = 50


class DayQuery(Shape):
    """Which day."""

    date: Annotated[str, Field(json_schema_extra={"format": "date"}, pattern=DAY)]


class ReportShape(Shape):
    """One report."""

    id: int
    kind: Kind
    day: Annotated[str, Field(json_schema_extra={"format": "date"}, description="the local day it begins on")]
    start: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    end: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    timezone: str
    state: Literal["making", "done", "failed"]
    headline: str
    size: Annotated[int, Field(description="bytes of the PDF")]
    error: str


class ReportList(Shape):
    """Reports, the newest first."""

    reports: list[ReportShape]


@operation("GET", "/reports", role="viewer", summary="All reports that are kept", query=ReportQuery, answer=ReportList)
def list_reports(query: ReportQuery) -> dict[str, Any]:
    """The newest first."""
    found = services().store.reports(query.kind or "", query.limit)
    return {
        "reports": [
            {"id": one.id, "kind": one.kind, "day": one.day, "start": rfc3339(one.start_us), "end": rfc3339(one.end_us),
             "timezone": one.zone, "state": one.state, "headline": one.headline, "size": one.size, "error": one.error}
            for one in found
        ]
    }  # fmt: skip


@operation("GET", "/reports/daily", role="viewer", summary="The PDF of a day", query=DayQuery, file="application/pdf",
           problems=(404, 503))  # fmt: skip
def get_daily_report(query: DayQuery) -> Response:
    """Of a local day of the zone that the reports are made in. One that is not there is made now."""
    try:
        report_id = services().reporter.of_day(dt.date.fromisoformat(query.date))
    except ReportError as error:
        raise ProblemError(503, "The report of this day could not be made; the page Reports says why.") from error
    found = services().store.report(report_id) if report_id is not None else None
    if found is None:
        raise ProblemError(404, "Nothing is stored of this day.")
    record("report.download", found[0].file)
    return pdf_response(found[0])
