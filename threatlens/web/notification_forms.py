"""The forms of channels and notification rules. What may be in them is decided by the configuration alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flask_wtf import FlaskForm
from wtforms import (
    BooleanField,
    IntegerField,
    PasswordField,
    SelectChoice,
    SelectField,
    SelectMultipleField,
    StringField,
)
from wtforms.validators import Optional, ValidationError

from threatlens.analyzers.heuristic import CATEGORIES
from threatlens.config_values import Channel, EmailChannel, NotificationRule, WebhookChannel
from threatlens.errors import ConfigError

#: What a secret's field says when there is one that stays unless another is typed.
KEPT = "kept; type to replace it"
_RULE = NotificationRule("", ())


class _NamedForm(FlaskForm):  # type: ignore[misc]
    name = StringField("Name", description="Short and unique; rules and the history call it so.")

    def blame(self, error: ConfigError) -> bool:
        """Show the error beside the field it is about; False when it is about none."""
        name = next((part for part in reversed(error.key.split(".")) if part in self._fields), None)
        if name is None:
            return False
        self._fields[name].errors = [*self._fields[name].errors, f"{error.message[:1].upper()}{error.message[1:]}"]
        return True


class ChannelForm(_NamedForm):
    """What every kind of channel has."""

    max_per_minute = IntegerField(
        "Messages a minute", [Optional()], default=6, description="What comes above is counted in one of them."
    )
    quiet_hours = StringField("Quiet hours", description="Local time, such as 22:00-07:00; messages wait for its end.")
    quiet_below = IntegerField("Loud from severity", [Optional()], default=9, description="These do not wait.")

    def values(self) -> dict[str, Any]:
        """The fields as the configuration takes them."""
        found: dict[str, Any] = {"name": self.name.data or ""}
        for field in (self.max_per_minute, self.quiet_below):
            if field.data is not None:
                found[field.short_name] = field.data
        if self.quiet_hours.data:
            found["quiet_hours"] = self.quiet_hours.data
        return found


class EmailForm(ChannelForm):
    """E-mail."""

    to = StringField("To", description="Addresses, with commas between: ops@example.org, ana@example.org")
    sender = StringField(
        "From", description="An address that the mail server lets you send from. Empty: threatlens@ and the server."
    )
    host = StringField("Mail server", default="localhost", description="Its name, such as smtp.example.org")
    port = IntegerField("Port", [Optional()], default=25, description="25 within one's own network, else 587 or 465.")
    tls = SelectField(
        "Encryption",
        description="With a user name: never none, the password could be read on its way.",
        choices=[
            SelectChoice("none", "none"),
            SelectChoice("starttls", "STARTTLS (often port 587)"),
            SelectChoice("tls", "TLS (often port 465)"),
        ],
    )
    username = StringField("User name", description="Empty: no log-in.")
    password = PasswordField("Password", description="Many providers want an app password here, not the account's.")

    def values(self) -> dict[str, Any]:
        smtp = {
            "host": self.host.data or "localhost",
            "port": self.port.data or 25,
            "username": self.username.data or "",
            "tls": self.tls.data,
            "password": self.password.data or "",
        }
        smtp = {key: value for key, value in smtp.items() if value != ""}
        found = {**super().values(), "type": "email", "to": _listed(self.to.data), "smtp": smtp}
        return {**found, "sender": self.sender.data} if self.sender.data else found


class SlackForm(ChannelForm):
    """Slack."""

    url = PasswordField(
        "Webhook URL",
        description="Such as https://hooks.slack.com/services/T0…/B0…/… (Slack: Apps, Incoming Webhooks). A secret.",
    )

    def values(self) -> dict[str, Any]:
        url = {"url": self.url.data} if self.url.data else {}
        return {**super().values(), "type": "slack", **url}


class WebhookForm(ChannelForm):
    """A signed webhook."""

    url = StringField(
        "URL",
        description="Such as https://hooks.example.org/threatlens. It gets JSON by POST, as Standard Webhooks says.",
    )
    secret = PasswordField(
        "Secret",
        description="Signs each request; make one with: echo whsec_$(openssl rand -base64 32). "
        "While it changes: the new one, a space, the old one. Empty: not signed.",
    )

    def values(self) -> dict[str, Any]:
        secret = {"secret": self.secret.data} if self.secret.data else {}
        return {**super().values(), "type": "webhook", "url": self.url.data or "", **secret}


class AppriseForm(ChannelForm):
    """A service that Apprise knows."""

    url = PasswordField(
        "Apprise URL",
        description="Such as ntfy://ntfy.sh/topic, tgram://token/chat or discord://id/token: appriseit.com has all. "
        "The URL is a secret.",
    )

    def values(self) -> dict[str, Any]:
        url = {"url": self.url.data} if self.url.data else {}
        return {**super().values(), "type": "apprise", **url}


#: By type: the form, and what a person calls it.
CHANNEL_FORMS: Mapping[str, tuple[type[ChannelForm], str]] = {
    "email": (EmailForm, "E-mail"),
    "slack": (SlackForm, "Slack"),
    "webhook": (WebhookForm, "Webhook"),
    "apprise": (AppriseForm, "Apprise"),
}


def channel_data(channel: Channel) -> dict[str, Any]:
    """What the form of a channel shows; never its secrets."""
    data: dict[str, Any] = {
        name: getattr(channel, name) for name in ("name", "max_per_minute", "quiet_hours", "quiet_below")
    }
    if isinstance(channel, EmailChannel):
        server = channel.smtp
        data |= {"to": ", ".join(channel.to), "sender": channel.sender, "host": server.host, "port": server.port}
        data |= {"tls": server.tls, "username": server.username}
    elif isinstance(channel, WebhookChannel):
        data["url"] = channel.url
    return data


class RuleForm(_NamedForm):
    """One notification rule; the fields are named as the keys of threatlens.yaml."""

    min_severity = IntegerField("From severity", [Optional()], default=8)
    max_severity = IntegerField("To severity", [Optional()], default=10)
    channels = SelectMultipleField("Tell", validate_choice=False)
    categories = StringField("Categories", description=f"Empty: all. Known: {', '.join(CATEGORIES)}.")
    sources = StringField("Sources", description="Names of log sources. Empty: all.")
    rules = StringField("Detection rules", description="Their ids. Empty: all, and what no rule found.")
    hours = StringField("Only at", description="Local time, such as 08:00-18:00. Empty: always.")
    cooldown_minutes = IntegerField(
        "Again after", [Optional()], default=_RULE.cooldown_minutes,
        description="Minutes between two messages about one thing; the next one says how many more there were.",
    )  # fmt: skip
    digest_minutes = IntegerField(
        "Gather for", [Optional()], default=0, description="Minutes; everything is told together. 0: as it comes."
    )
    enabled = BooleanField("In force", default=True)

    def offer(self, channels: Iterable[Channel]) -> None:
        """The channels to tick: those that exist, and after them what is chosen and does not exist."""
        kinds = {one.name: CHANNEL_FORMS[one.type][1] for one in channels}
        chosen = dict.fromkeys(self.channels.data or ())
        self.channels.choices = [*kinds.items(), *((name, "") for name in chosen if name not in kinds)]

    def validate_channels(self, field: SelectMultipleField) -> None:
        """A rule without any tells nobody, and one would not notice."""
        if not field.data:
            raise ValidationError("Tick at least one channel.")

    def values(self) -> dict[str, Any]:
        """The fields as the configuration takes them; what was left empty takes its default."""
        found: dict[str, Any] = {"name": self.name.data or "", "enabled": bool(self.enabled.data)}
        found["channels"] = list(self.channels.data or ())
        for name in ("categories", "sources", "rules"):
            found[name] = _listed(self._fields[name].data)
        for name in ("min_severity", "max_severity", "cooldown_minutes", "digest_minutes"):
            value = self._fields[name].data
            found[name] = getattr(_RULE, name) if value is None else value
        if self.hours.data:
            found["hours"] = self.hours.data
        return found


def rule_data(rule: NotificationRule) -> dict[str, Any]:
    """What the form of a rule shows."""
    data = {name: getattr(rule, name) for name in NotificationRule.__slots__}
    lists = {name: ", ".join(value) for name, value in data.items() if isinstance(value, tuple)}
    return {**data, **lists, "channels": list(rule.channels)}


def _listed(text: str | None) -> list[str]:
    return [part for part in (each.strip() for each in (text or "").split(",")) if part]
