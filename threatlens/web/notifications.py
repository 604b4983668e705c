"""Who is told what: the history of messages, channels, and the rules that choose."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from threatlens.analyzers.heuristic import CATEGORIES
from threatlens.channels.email import as_text
from threatlens.clock import now_us
from threatlens.config_values import Channel, NotificationRule
from threatlens.errors import ChannelError, ConfigError
from threatlens.notifications import Happening, after_quiet, within
from threatlens.notifications_words import from_json
from threatlens.store_notifications import ChannelState
from threatlens.web.auth import actor, doer, needs, record
from threatlens.web.context import services
from threatlens.web.event_filter import MAX_ID, whole
from threatlens.web.notification_forms import CHANNEL_FORMS, ChannelForm, RuleForm, channel_data, rule_data
from threatlens.web.overview import trust

PAGE = 50
STATUSES = ("pending", "sent", "unanswered", "failed", "suppressed")
#: What became of a message: words and tone.
STATE_WORDS = {
    "sent": ("Sent", "ok"), "pending": ("Waiting", "busy"), "failed": ("Failed", "bad"),
    "suppressed": ("Held back", "idle"), "unanswered": ("Sent, no answer seen", "warn"),
}  # fmt: skip

blueprint = Blueprint("notifications", __name__)


@dataclass(frozen=True, slots=True)
class Tested:
    """What came of a test."""

    ok: bool
    words: str
    transcript: Sequence[str]
    milliseconds: int


@blueprint.get("/notifications")
@needs("viewer")
def index() -> str:
    """History, channels and rules on one page."""
    before = request.args.get("before", type=whole)
    status = request.args.get("status", "")
    channel = request.args.get("channel", "")[:100]
    rows = services().store.notifications(
        status=status if status in STATUSES else "", channel=channel, before=before, limit=PAGE + 1
    )
    return render_template(
        "notifications/index.html", rows=rows[:PAGE], more=rows[PAGE - 1].id if len(rows) > PAGE else None,
        status=status, channel=channel, statuses=STATUSES, filtered=bool(status or channel or before),
        forms=True, trust=trust(),
        **_panel_values(),
    )  # fmt: skip


def panels() -> dict[str, str]:
    """The parts that are kept up to date."""
    rows = services().store.notifications(limit=PAGE)
    return {
        "channel-list": render_template("notifications/_channels.html", **_panel_values()),
        "notification-history": render_template(
            "notifications/_told.html", rows=rows, forms=False, filtered=False, now=now_us(), states=STATE_WORDS
        ),
    }


def _panel_values() -> dict[str, object]:
    config = services().config
    states = services().store.channel_states()
    now = now_us()
    return {
        "quiet": {
            one.name: after_quiet(one.quiet_hours, now)
            for one in config.config.channels
            if one.quiet_hours and within(one.quiet_hours, now)
        },
        "waiting": services().store.waiting(),
        "told_by_rules": _told_channels(),
        "states": STATE_WORDS,
        "channels": [(one, states.get(one.name, ChannelState(one.name))) for one in config.config.channels],
        "rules": config.config.notification_rules,
        "declared_channels": config.declared("channels"),
        "declared_rules": config.declared("notification_rules"),
        "kinds": {name: words for name, (_, words) in CHANNEL_FORMS.items()},
        "now": now,
    }


@blueprint.get("/notifications/<int:notification_id>")
@needs("viewer")
def detail(notification_id: int) -> str:
    """One message: its words, what became of it, and what was said on the way."""
    found = services().store.notification(notification_id) if notification_id <= MAX_ID else None
    if found is None:
        abort(404)
    row, payload = found
    return render_template(
        "notifications/detail.html", row=row, trust=trust(), now=now_us(), states=STATE_WORDS,
        text=as_text(from_json(json.loads(payload))) if payload else "",
    )  # fmt: skip


def _told_channels() -> set[str]:
    """The channels to which some rule, report or search goes."""
    config = services().config.config
    rules = {name for rule in config.notification_rules if rule.enabled for name in rule.channels}
    searches = {name for one in services().store.schedules() for name in one.channels}
    return rules | searches | set(config.reports.channels)


@blueprint.post("/notifications/<int:notification_id>/resend")
@needs("analyst")
def resend(notification_id: int) -> Response:
    """Send a message again that failed, or whose answer was not seen."""
    if notification_id > MAX_ID or not services().store.resend(notification_id, now_us()):
        abort(404)
    record("notification.resend", str(notification_id))
    flash("It is sent again.", "done")
    if incident_id := request.form.get("incident", type=whole):
        return redirect(url_for("incidents.detail", incident_id=incident_id), 303)
    return redirect(url_for("notifications.index"), 303)


# -- channels


@blueprint.route("/notifications/channels/add", methods=["GET", "POST"])
@needs("admin", fresh=True)
def add_channel() -> Response | str:
    """A new channel of the kind in the query."""
    kind = request.args.get("type", "email")
    if kind not in CHANNEL_FORMS:
        abort(404)
    form = CHANNEL_FORMS[kind][0]()
    if form.is_submitted() and form.validate():
        try:
            made = services().config.put_named("channels", form.values(), author=actor().name)
        except ConfigError as error:
            return _channel_page(form, kind, None, error=error)
        record("channel.create", made.name, {"type": kind})
        flash(f"{made.name} was saved. Test it now: only a message that arrives proves a channel.", "done")
        return redirect(url_for("notifications.edit_channel", name=made.name), 303)
    return _channel_page(form, kind, None)


@blueprint.route("/notifications/channels/<name>", methods=["GET", "POST"])
@needs("admin", fresh=True)
def edit_channel(name: str) -> Response | str:
    """A channel; its secrets are never shown, and stay unless others are typed."""
    channel = _channel(name)
    form = CHANNEL_FORMS[channel.type][0](data=channel_data(channel))
    if form.is_submitted() and form.validate():
        try:
            changed = services().config.put_named("channels", form.values(), name=name, author=actor().name)
        except ConfigError as error:
            return _channel_page(form, channel.type, channel, error=error)
        services().store.resume_channel(changed.name)
        record("channel.change", changed.name)
        flash(f"{changed.name} was changed.", "done")
        return redirect(url_for("notifications.edit_channel", name=changed.name), 303)
    return _channel_page(form, channel.type, channel)


@blueprint.post("/notifications/channels/<name>/test")
@needs("admin", fresh=True)
def test_channel(name: str) -> str:
    """Really send something, and show what was said."""
    channel = _channel(name)
    tested = try_channel(channel)
    record("channel.test", channel.name, {"arrived": tested.ok})
    form = CHANNEL_FORMS[channel.type][0](formdata=None, data=channel_data(channel))
    return _channel_page(form, channel.type, channel, tested=tested)


def try_channel(channel: Channel) -> Tested:
    """Send a test by this channel."""
    started = time.perf_counter()
    try:
        delivery = services().notifications.test(channel)
    except (ChannelError, ConfigError) as error:
        words = error.message if isinstance(error, ConfigError) else str(error)
        transcript = error.transcript if isinstance(error, ChannelError) else ()
        return Tested(False, words, transcript, round((time.perf_counter() - started) * 1000))
    return Tested(True, "It arrived.", delivery.transcript, round((time.perf_counter() - started) * 1000))


@blueprint.post("/notifications/channels/<name>/remove")
@needs("admin", fresh=True)
def remove_channel(name: str) -> Response:
    """Forget a channel."""
    return _remove("channels", name, "channel.remove")


@blueprint.post("/notifications/channels/<name>/resume")
@needs("analyst")
def resume_channel(name: str) -> Response:
    """Try a channel again that rests after failures."""
    channel = _channel(name)
    services().store.resume_channel(channel.name)
    record("channel.resume", channel.name)
    flash(f"{channel.name} is tried again now.", "done")
    return redirect(url_for("notifications.index"), 303)


@blueprint.post("/notifications/channels/<name>/withdraw")
@needs("admin", fresh=True)
def withdraw_answers(name: str) -> Response:
    """Let the links that this channel sent up to now do nothing any more."""
    channel = _channel(name)
    services().store.withdraw_answers(channel.name, doer(), now_us())
    flash("The links that were sent by this channel do nothing any more.", "done")
    return redirect(url_for("notifications.edit_channel", name=channel.name), 303)


# -- rules


def _asked_rule() -> dict[str, Any]:
    """What the link to the form of a new rule fills in."""
    args = request.args
    texts = (("name", "name"), ("source", "sources"), ("category", "categories"))
    found: dict[str, Any] = {key: ", ".join(args.getlist(name))[:500] for name, key in texts}
    found["channels"] = [name[:100] for name in args.getlist("channel")[:50]]
    for name in ("min_severity", "max_severity"):
        if 1 <= (level := args.get(name, 0, type=whole)) <= 10:
            found[name] = level
    return found


@blueprint.route("/notifications/rules/add", methods=["GET", "POST"])
@needs("admin", fresh=True)
def add_rule() -> Response | str:
    """A new rule."""
    form = RuleForm(data=_asked_rule())
    if form.is_submitted() and form.validate():
        try:
            made = services().config.put_named("notification_rules", form.values(), author=actor().name)
        except ConfigError as error:
            return _rule_page(form, None, error)
        record("notification_rule.create", made.name)
        flash(f"{made.name} is in force.", "done")
        return redirect(url_for("notifications.index"), 303)
    return _rule_page(form, None)


@blueprint.route("/notifications/rules/<name>", methods=["GET", "POST"])
@needs("admin", fresh=True)
def edit_rule(name: str) -> Response | str:
    """A rule."""
    rule = next((one for one in services().config.config.notification_rules if one.name == name), None)
    if rule is None:
        abort(404)
    form = RuleForm(data=rule_data(rule))
    if form.is_submitted() and form.validate():
        try:
            services().config.put_named("notification_rules", form.values(), name=name, author=actor().name)
        except ConfigError as error:
            return _rule_page(form, rule, error)
        record("notification_rule.change", name)
        flash(f"{name} was changed.", "done")
        return redirect(url_for("notifications.index"), 303)
    return _rule_page(form, rule)


@blueprint.post("/notifications/rules/<name>/remove")
@needs("admin", fresh=True)
def remove_rule(name: str) -> Response:
    """Forget a rule."""
    return _remove("notification_rules", name, "notification_rule.remove")


@blueprint.get("/notifications/preview")
@needs("viewer")
def preview() -> str:
    """Who would be told about an event of this severity, category and source."""
    severity = min(10, max(1, request.args.get("severity", 8, type=whole)))
    category = request.args.get("category", "authentication")[:60]
    source = request.args.get("source", "")[:100]
    told = services().notifications.recipients(Happening("preview", severity, "preview", category, source, now_us()))
    return render_template(
        "notifications/preview.html", told=told, severity=severity, category=category, source=source,
        sources=[view.source_name for view in services().store.sources()], categories=CATEGORIES, trust=trust(),
    )  # fmt: skip


def _channel(name: str) -> Channel:
    found = next((one for one in services().config.config.channels if one.name == name), None)
    if found is None:
        abort(404)
    return found


def _remove(kind: str, name: str, action: str) -> Response:
    try:
        services().config.remove_named(kind, name, author=actor().name)
    except ConfigError as error:
        flash(error.message[:1].upper() + error.message[1:], "error")
    else:
        record(action, name)
        flash(f"{name} was removed.", "done")
    return redirect(url_for("notifications.index"), 303)


def _channel_page(
    form: ChannelForm, kind: str, channel: Channel | None, *, tested: Tested | None = None,
    error: ConfigError | None = None,
) -> str:  # fmt: skip
    if error is not None and not form.blame(error):
        flash(str(error), "error")
    return render_template(
        "notifications/channel.html", form=form, kind=kind, words=CHANNEL_FORMS[kind][1], channel=channel,
        tested=tested, told=channel is not None and channel.name in _told_channels(),
        state=services().store.channel_states().get(channel.name if channel else "", ChannelState("")),
        declared=channel is not None and channel.name in services().config.declared("channels"), trust=trust(),
    )  # fmt: skip


def _rule_page(form: RuleForm, rule: NotificationRule | None, error: ConfigError | None = None) -> str:
    if error is not None and not form.blame(error):
        flash(str(error), "error")
    declared = rule is not None and rule.name in services().config.declared("notification_rules")
    form.offer(services().config.config.channels)
    return render_template("notifications/rule.html", form=form, rule=rule, declared=declared, trust=trust())
