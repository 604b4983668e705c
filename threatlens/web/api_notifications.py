"""The API's channels, notification rules and the history of messages. Secrets go in and never come out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel

from threatlens.clock import now_us
from threatlens.config_values import Channel, EmailChannel, NotificationRule, WebhookChannel
from threatlens.event import rfc3339
from threatlens.store_notifications import ChannelState
from threatlens.store_told import NotificationView
from threatlens.web.api_values import Hours, Level, MailAddress, Name, PlainText, SecretText, Url
from threatlens.web.auth import actor, record
from threatlens.web.context import services
from threatlens.web.notifications import try_channel
from threatlens.web.operations import DIGITS, Shape, created_at, operation
from threatlens.web.problems import ProblemError

Names = Annotated[list[PlainText], Field(max_length=1_000)]
Receivers = Annotated[list[MailAddress], Field(max_length=1_000)]
Minutes = Annotated[int, Field(ge=0, le=10_080)]
When = Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]
Kind = Literal["email", "slack", "webhook", "apprise"]


class Smtp(Shape):
    """The server that takes mail."""

    host: Annotated[str, Field(max_length=253)] | None = None
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    username: Annotated[str, Field(max_length=200)] | None = None
    password: SecretText | None = None
    tls: Literal["none", "starttls", "tls"] | None = None


class Calm(Shape):
    """How often and when a channel tells."""

    max_per_minute: Annotated[int, Field(ge=2, le=600)] | None = None
    quiet_hours: Hours | None = None
    quiet_below: Level | None = None


class ChannelChange(Calm):
    """What to change of a channel; the keys are those of threatlens.yaml. A secret that is left out stays."""

    name: Name | None = None
    to: Receivers | None = None
    sender: MailAddress | None = None
    smtp: Smtp | None = None
    url: Annotated[str, Field(max_length=4_096, description="write-only, but for a webhook's")] | None = None
    secret: SecretText | None = None


class NewEmail(Calm):
    """A channel by mail."""

    type: Literal["email"]
    name: Name
    to: Receivers
    sender: MailAddress | None = None
    smtp: Smtp | None = None


class NewSlack(Calm):
    """A channel to a Slack incoming webhook."""

    type: Literal["slack"]
    name: Name
    url: Annotated[Url, Field(description="write-only")]


class NewWebhook(Calm):
    """A channel by a signed request."""

    type: Literal["webhook"]
    name: Name
    url: Url
    secret: SecretText | None = None


class NewApprise(Calm):
    """A channel to any other service."""

    type: Literal["apprise"]
    name: Name
    url: Annotated[
        str, Field(pattern="^[A-Za-z][A-Za-z0-9]{1,20}://[!-~]{1,4000}$", description="of Apprise; write-only")
    ]


class NewChannel(RootModel[Annotated[NewEmail | NewSlack | NewWebhook | NewApprise, Field(discriminator="type")]]):
    """A channel to add."""


class ChannelShape(Shape):
    """A channel without its secrets, and how it is doing."""

    name: str
    type: Kind
    declared: Annotated[bool, Field(description="in threatlens.yaml; read-only here")]
    to: list[str]
    sender: str
    url: Annotated[str, Field(description="of a webhook; those of Slack and Apprise are secrets")]
    max_per_minute: int
    quiet_hours: str
    quiet_below: int
    failures: Annotated[int, Field(description="in a row")]
    disabled: Annotated[str, Field(description="why nothing is tried; empty: it works")]
    last_error: str
    last_ok_at: When


class ChannelList(Shape):
    """All channels."""

    channels: list[ChannelShape]


class TestResult(Shape):
    """What came of a test message."""

    delivered: bool
    detail: str
    transcript: Annotated[list[str], Field(description="what was said; secrets are masked")]
    milliseconds: int


class NotificationRuleChange(Shape):
    """What to change of a notification rule; the keys are those of threatlens.yaml."""

    name: Name | None = None
    min_severity: Level | None = None
    max_severity: Level | None = None
    categories: Annotated[list[Annotated[str, Field(max_length=60)]], Field(max_length=1_000)] | None = None
    sources: Names | None = None
    rules: Names | None = None
    hours: Hours | None = None
    cooldown_minutes: Minutes | None = None
    digest_minutes: Minutes | None = None
    channels: Names | None = None
    enabled: bool | None = None


class NewNotificationRule(NotificationRuleChange):
    """A notification rule to add."""

    name: Name
    channels: Names


class NotificationRuleShape(Shape):
    """A notification rule."""

    name: str
    declared: Annotated[bool, Field(description="in threatlens.yaml; read-only here")]
    min_severity: int
    max_severity: int
    categories: list[str]
    sources: list[str]
    rules: list[str]
    hours: str
    cooldown_minutes: int
    digest_minutes: int
    channels: list[str]
    enabled: bool


class NotificationRuleList(Shape):
    """All notification rules, in the order they are asked."""

    notification_rules: list[NotificationRuleShape]


class NotificationQuery(Shape):
    """Which messages."""

    status: Literal["pending", "sent", "unanswered", "failed", "suppressed"] | None = None
    channel: Annotated[str | None, Field(max_length=100)] = None
    before: Annotated[int | None, Field(ge=1, le=2**63 - 1), DIGITS] = None
    limit: Annotated[int, Field(ge=1, le=500), DIGITS] = 50


class NotificationShape(Shape):
    """One message and what became of it."""

    id: int
    event_id: int | None
    incident_id: int | None
    type: str
    channel: str
    rule: str
    status: str
    severity: int
    title: str
    count: Annotated[int, Field(description="matches it tells of")]
    tries: int
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    sent_at: When
    error_message: Annotated[str, Field(description="why; of a sent message: that its answer was not seen")]


class NotificationList(Shape):
    """Messages, the newest first."""

    notifications: list[NotificationShape]
    next: Annotated[int | None, Field(description="the `before` of the next page; null: there is none")]


@operation("GET", "/channels", role="viewer", summary="All channels, without their secrets", answer=ChannelList)
def list_channels() -> dict[str, Any]:
    """In the order of the configuration."""
    states = services().store.channel_states()
    return {"channels": [_channel(one, states) for one in services().config.config.channels]}


@operation("POST", "/channels", role="admin", summary="Add a channel", status=201, body=NewChannel, answer=ChannelShape)
def create_channel(body: NewChannel) -> dict[str, Any]:
    """Test it afterwards: only a message that arrives proves a channel."""
    made = services().config.put_named("channels", _values(body), author=actor().name)
    record("channel.create", made.name)
    created_at(f"/api/v1/channels/{made.name}")
    return _channel(_found_channel(made.name), {})


@operation("PATCH", "/channels/<name>", role="admin", summary="Change a channel", body=ChannelChange,
           answer=ChannelShape, problems=(404,))  # fmt: skip
def change_channel(name: str, body: ChannelChange) -> dict[str, Any]:
    """Only the keys given change."""
    present = _found_channel(name)
    values = {**_present(present), **_values(body)}
    changed = services().config.put_named("channels", values, name=name, author=actor().name)
    services().store.resume_channel(changed.name)
    record("channel.change", changed.name)
    return _channel(_found_channel(changed.name), services().store.channel_states())


@operation("DELETE", "/channels/<name>", role="admin", summary="Remove a channel", status=204, problems=(404, 409))
def delete_channel(name: str) -> None:
    """Not while a rule names it."""
    _found_channel(name)
    services().config.remove_named("channels", name, author=actor().name)
    record("channel.remove", name)


@operation("POST", "/channels/<name>/test", role="admin", summary="Really send a test message by a channel",
           answer=TestResult, problems=(404,))  # fmt: skip
def test_channel(name: str) -> dict[str, Any]:
    """The answer is 200 also when it did not arrive; `delivered` says."""
    tested = try_channel(_found_channel(name))
    record("channel.test", name, {"arrived": tested.ok})
    return {"delivered": tested.ok, "detail": tested.words, "transcript": list(tested.transcript),
            "milliseconds": tested.milliseconds}  # fmt: skip


@operation("GET", "/notification-rules", role="viewer", summary="All notification rules", answer=NotificationRuleList)
def list_notification_rules() -> dict[str, Any]:
    """In the order they are asked."""
    return {"notification_rules": [_rule(one) for one in services().config.config.notification_rules]}


@operation("POST", "/notification-rules", role="admin", summary="Add a notification rule", status=201,
           body=NewNotificationRule, answer=NotificationRuleShape)  # fmt: skip
def create_notification_rule(body: NewNotificationRule) -> dict[str, Any]:
    """It is in force at once."""
    made = services().config.put_named("notification_rules", _values(body), author=actor().name)
    record("notification_rule.create", made.name)
    created_at(f"/api/v1/notification-rules/{made.name}")
    return _rule(_found_rule(made.name))


@operation("PATCH", "/notification-rules/<name>", role="admin", summary="Change a notification rule",
           body=NotificationRuleChange, answer=NotificationRuleShape, problems=(404,))  # fmt: skip
def change_notification_rule(name: str, body: NotificationRuleChange) -> dict[str, Any]:
    """Only the keys given change."""
    present = {key: value for key, value in _rule(_found_rule(name)).items() if key != "declared" and value != ""}
    changed = services().config.put_named(
        "notification_rules", {**present, **_values(body)}, name=name, author=actor().name
    )
    record("notification_rule.change", changed.name)
    return _rule(_found_rule(changed.name))


@operation("DELETE", "/notification-rules/<name>", role="admin", summary="Remove a notification rule", status=204,
           problems=(404, 409))  # fmt: skip
def delete_notification_rule(name: str) -> None:
    """What it would have told is told no more."""
    _found_rule(name)
    services().config.remove_named("notification_rules", name, author=actor().name)
    record("notification_rule.remove", name)


@operation("GET", "/notifications", role="viewer", summary="Messages and what became of them", query=NotificationQuery,
           answer=NotificationList)  # fmt: skip
def list_notifications(query: NotificationQuery) -> dict[str, Any]:
    """The newest first."""
    rows = services().store.notifications(
        status=query.status or "", channel=query.channel or "", before=query.before, limit=query.limit + 1
    )
    shown = rows[: query.limit]
    return {"notifications": [_notification(row) for row in shown],
            "next": shown[-1].id if len(rows) > query.limit else None}  # fmt: skip


@operation("POST", "/notifications/<int:notification_id>/resend", role="analyst", status=204, problems=(404,),
           summary="Send a failed or unanswered message again")  # fmt: skip
def resend_notification(notification_id: int) -> None:
    """It is tried for another day."""
    if notification_id >= 2**63 or not services().store.resend(notification_id, now_us()):
        raise ProblemError(404, "There is no message with this id that failed or was not answered.")
    record("notification.resend", str(notification_id))


def _values(body: BaseModel) -> dict[str, Any]:
    return body.model_dump(exclude_none=True)


def _found_channel(name: str) -> Channel:
    found = next((one for one in services().config.config.channels if one.name == name), None)
    if found is None:
        raise ProblemError(404, "There is no channel of this name.")
    return found


def _found_rule(name: str) -> NotificationRule:
    found = next((one for one in services().config.config.notification_rules if one.name == name), None)
    if found is None:
        raise ProblemError(404, "There is no notification rule of this name.")
    return found


def _present(channel: Channel) -> dict[str, Any]:
    """A channel as the configuration takes it, without its secrets, which stay."""
    found: dict[str, Any] = {
        name: getattr(channel, name) for name in ("name", "type", "max_per_minute", "quiet_below", "quiet_hours")
    }
    if isinstance(channel, EmailChannel):
        server = channel.smtp
        found |= {"to": list(channel.to), "sender": channel.sender}
        found["smtp"] = {"host": server.host, "port": server.port, "username": server.username, "tls": server.tls}
    elif isinstance(channel, WebhookChannel):
        found["url"] = channel.url
    return {key: value for key, value in found.items() if value != ""}


def _channel(channel: Channel, states: Mapping[str, ChannelState]) -> dict[str, Any]:
    state = states.get(channel.name, ChannelState(channel.name))
    return {
        "name": channel.name,
        "type": channel.type,
        "declared": channel.name in services().config.declared("channels"),
        "to": list(channel.to) if isinstance(channel, EmailChannel) else [],
        "sender": channel.sender if isinstance(channel, EmailChannel) else "",
        "url": channel.url if isinstance(channel, WebhookChannel) else "",
        "max_per_minute": channel.max_per_minute,
        "quiet_hours": channel.quiet_hours,
        "quiet_below": channel.quiet_below,
        "failures": state.failures,
        "disabled": state.disabled,
        "last_error": state.last_error,
        "last_ok_at": rfc3339(state.last_ok_us) if state.last_ok_us else None,
    }


def _rule(rule: NotificationRule) -> dict[str, Any]:
    found = {name: getattr(rule, name) for name in NotificationRule.__slots__}
    found = {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
    return {**found, "declared": rule.name in services().config.declared("notification_rules")}


def _notification(row: NotificationView) -> dict[str, Any]:
    return {
        "id": row.id,
        "event_id": row.event_id or None,
        "incident_id": row.incident_id or None,
        "type": row.kind,
        "channel": row.channel,
        "rule": row.rule,
        "status": row.status,
        "severity": row.severity,
        "title": row.title,
        "count": row.n,
        "tries": row.tries,
        "created_at": rfc3339(row.created_at),
        "sent_at": rfc3339(row.sent_at) if row.sent_at else None,
        "error_message": row.error_message,
    }
