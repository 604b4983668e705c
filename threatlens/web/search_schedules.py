"""Saved searches that are sent by mail: the form of one, sending it now, and the list beside the reports."""

from __future__ import annotations

from flask import Blueprint, abort, flash, redirect, render_template, url_for
from flask_wtf import FlaskForm
from werkzeug.wrappers import Response
from wtforms import SelectChoice, SelectField, SelectMultipleField
from wtforms.validators import InputRequired
from wtforms.widgets import CheckboxInput, ListWidget

from threatlens.config_values import EmailChannel
from threatlens.errors import ReportError
from threatlens.reports import zone_of
from threatlens.reports_searches import FORM_NAMES, ROLE, words
from threatlens.store_searches import SavedSearch, Schedule
from threatlens.web.auth import actor, needs, record
from threatlens.web.context import services
from threatlens.web.event_filter import MAX_ID
from threatlens.web.overview import trust

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

blueprint = Blueprint("search_schedules", __name__)


class ScheduleForm(FlaskForm):  # type: ignore[misc]
    """When a search is sent, and to whom."""

    every = SelectField("How often", choices=[SelectChoice("day", "every day"), SelectChoice("week", "every week")])
    weekday = SelectField(
        "On", coerce=int, choices=[SelectChoice(number, name) for number, name in enumerate(DAYS)],
        description="Where it is every week.",
    )  # fmt: skip
    hour = SelectField("At", coerce=int, choices=[SelectChoice(hour, f"{hour:02}:00") for hour in range(24)])
    form = SelectField(
        "File that goes with it", choices=[SelectChoice(name, about) for name, about in FORM_NAMES.items()]
    )
    channels = SelectMultipleField(
        "To", [InputRequired("Choose at least one.")], widget=ListWidget(prefix_label=False),
        option_widget=CheckboxInput(),
    )  # fmt: skip


@blueprint.route("/searches/<int:search_id>/send", methods=["GET", "POST"])
@needs(ROLE, confined=True)
def edit(search_id: int) -> str | Response:
    """When one of one's own is sent."""
    search, schedule = _own(search_id)
    data = {"every": "day", "weekday": 0, "hour": 7, "form": "csv", "channels": []}
    if schedule is not None:
        data = {name: getattr(schedule, name) for name in data}
    form = ScheduleForm(data=data)
    form.channels.choices = _mail_channels()
    if form.validate_on_submit():
        chosen = tuple(form.channels.data)
        asked = Schedule(search.id, form.every.data, form.weekday.data, form.hour.data, form.form.data, chosen, 0, 0)
        begin(search.name, asked)
        flash(f"{search.name} is sent {told_when(asked)}.", "done")
        return redirect(url_for("search_schedules.edit", search_id=search_id), 303)
    return render_template(
        "searches/send.html", form=form, search=search, schedule=schedule, asked=words(search.params),
        zone=str(zone_of(services().config.config.reports)), when=told_when, trust=trust(),
    )  # fmt: skip


@blueprint.post("/searches/<int:search_id>/send/now")
@needs(ROLE, confined=True)
def now(search_id: int) -> Response:
    """Send the last day or week up to now, too."""
    search, schedule = _own(search_id)
    if schedule is None:
        abort(404)
    try:
        services().searches.send_now(schedule)
        record("search.send_now", search.name)
        flash("It is on its way.", "done")
    except ReportError as error:
        flash(f"It is not sent: {error}.", "error")
    return redirect(url_for("search_schedules.edit", search_id=search_id), 303)


@blueprint.post("/searches/<int:search_id>/send/stop")
@needs(ROLE, confined=True)
def stop(search_id: int) -> Response:
    """Send it no longer: one's own, or as an administrator anybody's."""
    found = next((one for one in all_schedules() if one.search_id == search_id), None)
    if found is None or not services().store.remove_schedule(search_id):
        abort(404)
    record("search.unschedule", found.name)
    flash(f"{found.name} is sent no longer.", "done")
    return redirect(url_for("reports.index" if not actor().sources else "events.index"), 303)


def begin(name: str, asked: Schedule) -> None:
    """Send the search of this name so from now on, and write down that it is."""
    services().searches.begin(asked)
    record("search.schedule", name, {
        "every": asked.every, "hour": asked.hour, "form": asked.form, "channels": list(asked.channels),
        **({"weekday": DAYS[asked.weekday]} if asked.every == "week" else {}),
    })  # fmt: skip


def all_schedules() -> list[Schedule]:
    """What is sent: one's own; for administrators everybody's."""
    who = actor()
    if who.user is None:
        return []
    return services().store.schedules(user_id=0 if who.may("admin") and not who.sources else who.user.id)


def told_when(one: Schedule) -> str:
    """When it is sent, in words."""
    return f"every {'day' if one.every == 'day' else DAYS[one.weekday]} at {one.hour:02}:00"


def _mail_channels() -> list[SelectChoice]:
    return [
        SelectChoice(one.name, f"{one.name}: {', '.join(one.to)}")
        for one in services().config.config.channels
        if isinstance(one, EmailChannel)
    ]


def _own(search_id: int) -> tuple[SavedSearch, Schedule | None]:
    """One of one's own searches, and when it is sent."""
    user = actor().user
    if user is None or search_id > MAX_ID:
        abort(404)
    store = services().store
    search = next((one for one in store.saved_searches(user.id) if one.id == search_id), None)
    if search is None:
        abort(404)
    return search, next((one for one in store.schedules(user_id=user.id) if one.search_id == search_id), None)
