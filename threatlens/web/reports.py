"""Reports: the list, each as a page and as a PDF, and making one of any days."""

from __future__ import annotations

import datetime as dt

from flask import Blueprint, abort, flash, redirect, render_template, request, send_file, url_for
from werkzeug.wrappers import Response

from threatlens.errors import ReportError
from threatlens.reports import zone_of
from threatlens.store_reports import ReportView
from threatlens.web.auth import needs, record
from threatlens.web.context import services
from threatlens.web.event_filter import MAX_ID
from threatlens.web.overview import trust
from threatlens.web.search_schedules import all_schedules, told_when

blueprint = Blueprint("reports", __name__)


@blueprint.get("/reports")
@needs("viewer")
def index() -> str:
    """All that are kept."""
    settings = services().config.config.reports
    today = dt.datetime.now(zone_of(settings)).date()
    return render_template(
        "reports/index.html", reports=services().store.reports(limit=400), settings=settings,
        zone=str(zone_of(settings)),
        today=today, yesterday=today - dt.timedelta(days=1), trust=trust(), schedules=all_schedules(),
        owners={user.id: user.name for user in services().store.users()}, when=told_when,
    )  # fmt: skip


@blueprint.post("/reports")
@needs("analyst")
def make() -> Response:
    """A report of some local days, both included."""
    try:
        first = dt.date.fromisoformat(request.form.get("first", ""))
        last = dt.date.fromisoformat(request.form.get("last", ""))
        report_id = services().reporter.make_range(first, last + dt.timedelta(days=1))
    except (ValueError, OverflowError):  # no days, or those at the ends of the calendar
        flash("Name two days, such as 2026-11-24.", "error")
        return redirect(url_for("reports.index"), 303)
    except ReportError as error:
        flash(str(error)[:1].upper() + str(error)[1:] + ".", "error")
        return redirect(url_for("reports.index"), 303)
    record("report.make", f"{first} to {last}")
    return redirect(url_for("reports.show", report_id=report_id), 303)


@blueprint.get("/reports/<int:report_id>")
@needs("viewer")
def show(report_id: int) -> str:
    """One report as a page."""
    found = services().store.report(report_id) if report_id <= MAX_ID else None
    if found is None or found[0].state != "done":
        abort(404)
    view, data = found
    highest = max((sum(bar["by_severity"].values()) for bar in data["trend"]), default=0)
    return render_template("reports/show.html", report=view, data=data, highest=highest, bands=bands, trust=trust())


@blueprint.get("/reports/<int:report_id>/pdf")
@needs("viewer")
def pdf(report_id: int) -> Response:
    """One report as a PDF."""
    found = services().store.report(report_id) if report_id <= MAX_ID else None
    if found is None:
        abort(404)
    record("report.download", found[0].file)
    return pdf_response(found[0])


def pdf_response(view: ReportView) -> Response:
    """The file of a report; 404 where there is none."""
    if view.state != "done" or not view.file:
        abort(404)
    try:
        return send_file(services().reporter.path(view.file), "application/pdf", download_name=view.file)
    except FileNotFoundError:
        abort(404)


@blueprint.post("/reports/<int:report_id>/again")
@needs("analyst")
def again(report_id: int) -> Response:
    """Let a report that failed be made once more."""
    if report_id > MAX_ID or not services().store.again(report_id):
        abort(404)
    record("report.again", str(report_id))
    flash("It is made again within a minute.", "done")
    return redirect(url_for("reports.index"), 303)


def bands(by_severity: dict[str, int]) -> list[int]:
    """Counts of severities 1-2, 3-4, 5-6, 7-8, 9-10."""
    return [sum(by_severity.get(str(n), 0) for n in (2 * band - 1, 2 * band)) for band in range(1, 6)]
