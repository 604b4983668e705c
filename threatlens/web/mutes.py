"""Mutes: a form that shows first what it would have hidden, and the choices that one click takes."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask_wtf import FlaskForm
from werkzeug.wrappers import Response
from wtforms import IntegerField, SelectChoice, SelectField, SelectMultipleField, StringField
from wtforms.validators import DataRequired, Length, NumberRange, ValidationError

from threatlens.clock import now_us
from threatlens.detection import muted_by
from threatlens.incidents import timeline
from threatlens.mutes import (
    DAY_US,
    LASTING,
    MOST_COUNT,
    QUICK,
    SUBJECTS,
    USUAL_COUNT,
    expires_us,
    lasting_words,
    of_incident,
    until_words,
    waiting,
)
from threatlens.store_incidents import Incident
from threatlens.store_mutes import MORE, Mute
from threatlens.web.auth import doer, needs
from threatlens.web.context import services
from threatlens.web.event_filter import MAX_ID
from threatlens.web.overview import trust
from threatlens.web.presentation import plural, zone

PREVIEW_US = 30 * DAY_US
#: The parts of a scope: the name in the form and in links, what it is called.
SCOPE = {
    "rule": "The rule", "source.ip": "The address or network", "user.name": "The user", "host.name": "The host",
    "source": "The source",
}  # fmt: skip

blueprint = Blueprint("mutes", __name__)


def choices(names: Sequence[str] = QUICK) -> list[tuple[str, str]]:
    """How long a mute may last: the word in the form, and how a button says it where the person is."""
    now = now_us()
    return [(name, lasting_words(name, now, zone())) for name in names]


def mute_incidents(incidents: Sequence[Incident], choice: str) -> list[int]:
    """Keep each of them quiet, as one click asks; the ids of the incidents. 400 for a choice that there is not."""
    if choice not in QUICK:
        abort(400)
    now = now_us()
    words = lasting_words(choice, now, zone())
    wanted = [(of_incident(one, choice, doer().name, now, zone()), words) for one in incidents]
    if wanted:
        services().store.add_mutes(wanted, doer())
        muted_words = words if words.startswith("until") else f"for {words}"
        flash(f"{plural(len(wanted), 'incident is', 'incidents are')} muted {muted_words}.", "done")
    return [one.id for one in incidents]


class MuteForm(FlaskForm):  # type: ignore[misc]
    """What is kept quiet, and until when."""

    scope = SelectMultipleField(
        "Only where all of this fits",
        [DataRequired("Choose at least one part of the scope; a mute of everything hides attacks.")],
        choices=[SelectChoice(name, words) for name, words in SCOPE.items()],
    )
    rule = SelectField(SCOPE["rule"])
    address = StringField(SCOPE["source.ip"], [Length(max=200)], name="source.ip")
    user = StringField(SCOPE["user.name"], [Length(max=200)], name="user.name")
    host = StringField(SCOPE["host.name"], [Length(max=200)], name="host.name")
    source = SelectField(SCOPE["source"], validate_choice=False)
    lasting = SelectField("For how long")
    count = IntegerField(
        "How many more", [NumberRange(1, MOST_COUNT, f"A number from 1 to {MOST_COUNT:,}.")], default=USUAL_COUNT,
        description="Of so many further matches the last one is told.",
    )  # fmt: skip
    reason = StringField("Why", [Length(max=500)])

    def chosen(self, name: str) -> str:
        """The value of a part of the scope; "" where it is not ticked."""
        parts = {"rule": self.rule, "source.ip": self.address, "user.name": self.user, "host.name": self.host,
                 "source": self.source}  # fmt: skip
        return (parts[name].data or "").strip() if name in (self.scope.data or ()) else ""

    def validate_scope(self, _field: Any) -> None:
        """Something of what is ticked must have a value."""
        if not any(map(self.chosen, SCOPE)):
            raise ValidationError("Say what is to be quiet; a mute of everything hides attacks.")

    def validate_address(self, _field: Any) -> None:
        """An address or a network, and not every address."""
        if error := network_error(self.chosen("source.ip")):
            raise ValidationError(error)


def network_error(text: str) -> str:
    """What is wrong with the address or network of a mute; "": nothing, or there is none."""
    try:
        every = bool(text) and ipaddress.ip_network(text, strict=False).prefixlen == 0
    except ValueError:
        return "The address is neither an address nor a network such as 203.0.113.0/24."
    return "That network is every address; a mute of everything hides attacks." if every else ""


@blueprint.route("/incidents/<int:incident_id>/mute", methods=["GET", "POST"])
@needs("analyst")
def mute(incident_id: int) -> Response | str:
    """Keep matches like these quiet for a while; what it would have hidden is shown first."""
    incident = services().store.incident(incident_id) if incident_id <= MAX_ID else None
    if incident is None:
        abort(404)
    form = _form(incident)
    now = now_us()
    is_valid = form.validate()
    wanted = _wanted(form, incident, now)
    if request.method == "POST" and request.form.get("do") == "mute" and is_valid:
        until = until_words(wanted, now, zone())
        mute_id = services().store.add_mute(wanted, doer(), until)
        flash(f"Mute {mute_id} is in force {until}. It can be ended on the rules page.", "done")
        return redirect(url_for("incidents.detail", incident_id=incident.id), 303)
    hidden = [] if not is_valid else [
        view for view, source in services().store.recent_detections(now - PREVIEW_US) if muted_by(wanted, view, source)
    ]  # fmt: skip
    return render_template(
        "incidents/mute.html", incident=incident, form=form, is_valid=is_valid, hidden=hidden, wanted=wanted,
        until=until_words(wanted, now, zone()), trust=trust(),
    )  # fmt: skip


def _form(incident: Incident) -> MuteForm:
    """The form as it was sent, or as a link fills it in; what neither says is the incident's own."""
    kind, _ = incident.subject
    values = dict(reversed(list(incident.entities)))
    worst = max(incident.members.values(), key=lambda member: member.severity)
    part = {"log.source": "source"}.get(kind, kind if kind in SUBJECTS else "rule")
    own: dict[str, Any] = {
        "scope": [part], "rule": worst.rule_id, "address": values.get("source.ip", ""), "lasting": "7d",
        "user": values.get("user.name", ""), "host": values.get("host.name", ""),
        "source": values.get("log.source", ""), "count": USUAL_COUNT, "reason": "",
    }  # fmt: skip
    if request.method == "GET":
        given: dict[str, Any] = {
            field: request.args[name]
            for field, name in {"rule": "rule", "address": "source.ip", "user": "user.name", "host": "host.name",
                                "source": "source", "lasting": "lasting"}.items() if name in request.args
        }  # fmt: skip
        if "scope" in request.args:
            given["scope"] = request.args.getlist("scope")
        form = MuteForm(formdata=None, data={**own, **given}, meta={"csrf": False})
    else:
        form = MuteForm(data=own)
    form.rule.choices = [(member.rule_id, member.rule_name) for member in timeline(incident.members.values())]
    form.source.choices = [(one.source_name, one.source_name) for one in services().store.sources()]
    form.lasting.choices = [(name, "until so many more come" if name == MORE else words) for name, words in
                            choices(LASTING)]  # fmt: skip
    return form


def _wanted(form: MuteForm, incident: Incident, now: int) -> Mute:
    choice = form.lasting.data if form.lasting.data in LASTING else "7d"
    rule, address, user, source, host = map(form.chosen, ("rule", "source.ip", "user.name", "source", "host.name"))
    plain = Mute(
        0, rule, address, user, source, host, (form.reason.data or "").strip(), doer().name, incident.id, now,
        expires_us(choice, now, zone()), 0, 0,
    )  # fmt: skip
    return waiting(plain, choice, incident, form.count.data or USUAL_COUNT)
