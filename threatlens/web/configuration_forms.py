"""The form of the settings that an operator changes; what may stand in them is decided by the configuration alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from flask_wtf import FlaskForm
from wtforms import (
    BooleanField,
    DecimalField,
    IntegerField,
    PasswordField,
    SelectMultipleField,
    StringField,
    TextAreaField,
)
from wtforms.validators import InputRequired

from threatlens.config_values import MonitoringConfig, plain
from threatlens.errors import ConfigError

#: The fields by the section of threatlens.yaml they stand in; "": at the top.
SECTIONS = {
    "retention": ("events_days", "incidents_days", "metrics_days", "max_database_gb"),
    "reports": ("daily", "weekly", "monthly", "timezone", "keep_days", "channels"),
    "answers": ("enabled", "valid_hours", "mute_hours"),
    "heartbeat": ("url", "minutes"),
    "": ("processing_batch_size", "max_queue_size", "health_check_interval", "allowed_private_networks"),
}


class SettingsForm(FlaskForm):  # type: ignore[misc]
    """The fields are named as the keys of threatlens.yaml."""

    events_days = IntegerField("Keep events for", [InputRequired()], description="Days. Older ones are removed.")
    incidents_days = IntegerField(
        "Keep incidents for", [InputRequired()], description="Days, once somebody is done with them."
    )
    metrics_days = IntegerField("Keep measurements for", [InputRequired()], description="Days.")
    max_database_gb = DecimalField(
        "Largest database", [InputRequired()], places=None, description="GB. The oldest events go first."
    )
    daily = BooleanField("A report for every day")
    weekly = BooleanField("For every week")
    monthly = BooleanField("For every month")
    timezone = StringField("Time zone of reports", description="Whose midnights count. Empty: this machine's.")
    keep_days = IntegerField("Keep reports for", [InputRequired()], description="Days. 0: for ever.")
    channels = SelectMultipleField("Tell of reports by", validate_choice=False)
    enabled = BooleanField("Links in messages acknowledge and mute without a login")
    valid_hours = IntegerField("Such links work for", [InputRequired()], description="Hours. Each works once.")
    mute_hours = IntegerField("What they mute is quiet for", [InputRequired()], description="Hours.")
    url = PasswordField(
        "Address to call while all is well",
        description="Such as https://hc-ping.com/… of Healthchecks: when the calls stop, it raises an alarm. A secret.",
    )
    minutes = IntegerField("Call it every", [InputRequired()], description="Minutes.")
    silenced = BooleanField("Call nobody any more")
    processing_batch_size = IntegerField("Lines at once", [InputRequired()], description="1 to 20,000.")
    max_queue_size = IntegerField(
        "Lines that wait", [InputRequired()], description="When so many wait, reading pauses; the files hold the rest."
    )
    health_check_interval = IntegerField("Look at ourselves every", [InputRequired()], description="Seconds.")
    allowed_private_networks = TextAreaField(
        "Private networks that may be reached",
        description="One a line, such as 10.0.0.0/8. Webhooks, chats and other services go nowhere else inside.",
    )

    def __init__(self, config: MonitoringConfig, declared: Collection[str]) -> None:
        self._config = config
        self.declared = frozenset(name for name in self.names() if self.key_of(name) in declared)
        super().__init__(data=shown(config))
        known = [channel.name for channel in config.channels]
        self.channels.choices = [(name, name) for name in dict.fromkeys((*known, *config.reports.channels))]

    @staticmethod
    def names() -> list[str]:
        """All fields."""
        return [name for names in SECTIONS.values() for name in names]

    @staticmethod
    def key_of(name: str) -> str:
        """The key of a field, dotted."""
        section = next(section for section, names in SECTIONS.items() if name in names)
        return f"{section}.{name}" if section else name

    def changes(self) -> dict[str, Any]:
        """What is not as it is in force, as ConfigManager.change_settings takes it."""
        before = shown(self._config)
        found: dict[str, Any] = {}
        for section, names in SECTIONS.items():
            changed = {name: self._value(name) for name in names if self._is_changed(name, before[name])}
            if section and changed:
                found[section] = changed
            elif changed:
                found |= changed
        if self.silenced.data and "url" not in self.declared:
            found["heartbeat"] = {**found.get("heartbeat", {}), "url": None}
        return found

    def blame(self, error: ConfigError) -> bool:
        """Show the error beside the field it is about; False when it is about none."""
        for name in error.key.split("."):
            if name in self._fields:
                self._fields[name].errors = [
                    *self._fields[name].errors,
                    f"{error.message[:1].upper()}{error.message[1:]}",
                ]
                return True
        return False

    def _is_changed(self, name: str, before: Any) -> bool:
        if name in self.declared:
            return False
        value = self._value(name)
        return bool(value != (before.splitlines() if name == "allowed_private_networks" else before))

    def _value(self, name: str) -> Any:
        data = self._fields[name].data
        if name == "allowed_private_networks":
            return (data or "").split()
        return float(data) if name == "max_database_gb" else data or "" if name == "url" else data


def shown(config: MonitoringConfig) -> dict[str, Any]:
    """What the form shows of the configuration in force."""
    values = {name: getattr(config.retention, name) for name in SECTIONS["retention"]}
    values |= {name: getattr(config.reports, name) for name in SECTIONS["reports"]}
    values |= {name: getattr(config.answers, name) for name in SECTIONS["answers"]}
    values |= {name: getattr(config, name) for name in SECTIONS[""]}
    values |= {"url": "", "minutes": config.heartbeat.minutes}  # the address is never shown
    values["channels"] = list(config.reports.channels)
    values["allowed_private_networks"] = "\n".join(plain(config.allowed_private_networks))
    return values
