"""What a link in a message leads to: a page that asks, and does it when its button is pressed. No login is needed.

Mail programs and chat services open links by themselves, so that nothing is done by opening one.
"""

from __future__ import annotations

import math

from flask import Blueprint, make_response, render_template, request
from werkzeug.wrappers import Response

from threatlens.answers import ACKNOWLEDGE, MUTE, Answer, muted_rules
from threatlens.clock import now_us
from threatlens.errors import AnswerError
from threatlens.store_accounts import Doer
from threatlens.store_answers import Asked
from threatlens.store_incidents import OPEN, Incident
from threatlens.store_mutes import Mute
from threatlens.web.auth import PUBLIC, client_address, needs
from threatlens.web.context import services
from threatlens.web.limits import network
from threatlens.web.problems import request_id

HOUR_US = 3_600_000_000
#: Why a link does nothing: status and words.
REFUSED = {
    "unknown": (404, "This link is none of ours. Its message, its channel or the key that signed it may be gone."),
    "expired": (410, "This link is too old. Open the incident in ThreatLens instead."),
    "used": (410, "This link was used already. Each does its work once."),
    "withdrawn": (410, "The links of this channel were withdrawn. Open the incident in ThreatLens instead."),
}  # fmt: skip


def make_blueprint() -> Blueprint:
    """/answer/<token>; a blueprint of its own, as no form of ours is behind what its buttons send."""
    blueprint = Blueprint("answers", __name__)

    @blueprint.route("/answer/<token>", methods=["GET", "POST"])
    @needs(PUBLIC)
    def page(token: str) -> Response:
        """GET asks, POST does."""
        limits, tries = services().limits, [("link", network(client_address()))]
        if (wait_s := limits.wait_s(tries)) > 0:
            answer = _page(429, "Wait a while", "Too many links that are none came from your address.")
            answer.headers["Retry-After"] = str(math.ceil(wait_s))
            return answer
        try:
            asked_for, asked, incident = _read(token)
            if request.method == "POST":
                return _do(asked_for, asked, incident)
        except AnswerError as error:
            if str(error) == "unknown":
                limits.begin(tries)
            status, words = REFUSED[str(error)]
            return _page(status, "This link does nothing", words)
        return _page(200, "Acknowledge it?" if asked_for.action == ACKNOWLEDGE else "Mute it?", "",
                     answer=asked_for, incident=incident)  # fmt: skip

    return blueprint


def _read(token: str) -> tuple[Answer, Asked, Incident]:
    """What the link asks for, the message that it stood in and the incident. Raises AnswerError."""
    found = services().answers.read(token, now_us())
    asked = services().store.asked(found.notification_id, found.incident_id, found.action)
    if asked.used:
        raise AnswerError("used")
    incident = services().store.incident(found.incident_id)
    if incident is None or asked.channel not in {one.name for one in services().config.config.channels}:
        raise AnswerError("unknown")
    return found, asked, incident


def _do(answer: Answer, asked: Asked, incident: Incident) -> Response:
    """Do it; whoever holds the link is known by its channel."""
    store, now = services().store, now_us()
    doer = Doer(f"channel {asked.channel}", client_address(), request_id())
    if answer.action == MUTE:
        hours = services().config.config.answers.mute_hours
        store.mute_from_message(answer.notification_id, incident.id, _mutes(incident, doer, now, hours), doer, now)
        return _page(200, "It is muted", f"What made this incident stays quiet for {hours} hours. It can be ended "
                     "on the rules page.", incident=incident)  # fmt: skip
    if store.acknowledge_from_message(answer.notification_id, incident.id, doer, now):
        return _page(200, "It is acknowledged", "You are told of it again only if something succeeds.",
                     incident=incident)  # fmt: skip
    return _page(200, "Nothing to do", "Somebody has taken care of it already.", incident=incident)


def _mutes(incident: Incident, doer: Doer, now: int, hours: int) -> list[Mute]:
    """One for each rule of the incident, about its subject alone: another attacker, or another rule, is still told."""
    kind, value = incident.subject
    scope = {name: value if kind == name else "" for name in ("source.ip", "user.name", "host.name", "log.source")}
    return [
        Mute(
            0, rule_id, scope["source.ip"], scope["user.name"], scope["log.source"], scope["host.name"],
            "by a link in a message", doer.name, incident.id, now, now + hours * HOUR_US, 0, 0,
        )
        for rule_id, _ in muted_rules(incident)
    ]  # fmt: skip


def _page(
    status: int, title: str, words: str, *, answer: Answer | None = None, incident: Incident | None = None
) -> Response:
    rules = [name for _, name in muted_rules(incident)] if incident is not None else []
    page = render_template(
        "answers/page.html", heading=title, words=words, answer=answer, incident=incident, rules=rules,
        is_open=incident is not None and incident.status == OPEN,
        mute_hours=services().config.config.answers.mute_hours,
    )  # fmt: skip
    response = make_response(page, status)
    response.headers["X-Robots-Tag"] = "noindex"
    return response
