"""The configuration as values: frozen, with the defaults that hold where nothing is said.

A secret is kept as what was written (`env:NAME`, `file:/path` or the secret itself) and resolved only where it is
used, so that it never stands in a log, an error or a page.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from threatlens.errors import ConfigError
from threatlens.outbound_urls import Network, Permissions
from threatlens.sources.base import LogSourceConfig
from threatlens.vault import PREFIX

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_SECRET_BYTES = 65_536


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A secret, or where it stands."""

    reference: str

    @property
    def is_clear(self) -> bool:
        """Whether the reference is the secret itself."""
        return not self.reference.startswith(("env:", "file:", PREFIX))

    @property
    def is_lost(self) -> bool:
        """Whether it was saved under a key that is gone."""
        return self.reference.startswith(PREFIX)

    def check(self) -> None:
        """Raise ConfigError where the reference cannot be one."""
        scheme, _, rest = self.reference.partition(":")
        if scheme == "env" and not _VARIABLE_NAME.fullmatch(rest):
            raise ConfigError("env: must be followed by the name of an environment variable")
        if scheme == "file" and (not rest.startswith("/") or rest.startswith("//")):
            raise ConfigError("file: must be followed by a whole path, from '/' on")

    def resolve(self, environ: Mapping[str, str] = os.environ) -> str:
        """The secret. Raises ConfigError naming the variable or the file that is missing or empty."""
        scheme, _, rest = self.reference.partition(":")
        if self.is_clear:
            return self.reference
        if self.is_lost:
            raise ConfigError("its secret was saved under a key that is gone; enter it again")
        if scheme == "env":
            value = environ.get(rest, "")
            if not value:
                raise ConfigError(f"the environment variable {rest} is not set")
            return value
        try:
            with open(rest, encoding="utf-8") as stream:
                value = stream.read(_MAX_SECRET_BYTES).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
            raise ConfigError(f"the secret in {rest} cannot be read: {reason}") from error
        if not value:
            raise ConfigError(f"the file {rest} holds no secret")
        return value

    def __repr__(self) -> str:
        return f"Secret({'...' if self.is_clear or self.is_lost else self.reference})"


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept."""

    events_days: int = 90
    metrics_days: int = 30
    max_database_gb: float = 10
    incidents_days: int = 365  # those that somebody is done with; attempts that nobody ever touched, too


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail is handed in."""

    host: str = "localhost"
    port: int = 25
    username: str = ""
    password: Secret | None = None
    tls: str = "none"  # or "starttls", "tls"


@dataclass(frozen=True, slots=True)
class EmailChannel:
    """Notifications by mail."""

    name: str
    to: tuple[str, ...]
    sender: str = ""
    smtp: SmtpServer = field(default_factory=SmtpServer)
    max_per_minute: int = 6  # messages; what comes above is counted in one of them
    quiet_hours: str = ""  # "22:00-07:00", local time: what is less severe waits for their end
    quiet_below: int = 9
    type: str = "email"


@dataclass(frozen=True, slots=True)
class SlackChannel:
    """Notifications to a Slack incoming webhook, whose URL is a secret."""

    name: str
    url: Secret
    max_per_minute: int = 6
    quiet_hours: str = ""
    quiet_below: int = 9
    type: str = "slack"


@dataclass(frozen=True, slots=True)
class WebhookChannel:
    """Notifications by a signed request."""

    name: str
    url: str
    secret: Secret | None = None
    max_per_minute: int = 6
    quiet_hours: str = ""
    quiet_below: int = 9
    type: str = "webhook"


@dataclass(frozen=True, slots=True)
class AppriseChannel:
    """Notifications to a service that Apprise knows, whose URL is a secret."""

    name: str
    url: Secret
    max_per_minute: int = 6
    quiet_hours: str = ""
    quiet_below: int = 9
    type: str = "apprise"


Channel = EmailChannel | SlackChannel | WebhookChannel | AppriseChannel


@dataclass(frozen=True, slots=True)
class NotificationRule:
    """Which events are told to which channels."""

    name: str
    channels: tuple[str, ...]
    min_severity: int = 1
    max_severity: int = 10
    categories: tuple[str, ...] = ()  # any of them; empty: all
    sources: tuple[str, ...] = ()  # names of log sources, any of them; empty: all
    rules: tuple[str, ...] = ()  # ids of detection rules, any of them; empty: all
    hours: str = ""  # "08:00-18:00", local time: not told outside; empty: always
    cooldown_minutes: int = 15  # between two messages about one thing
    digest_minutes: int = 0  # gather everything and tell it that often; 0: tell it as it comes
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class AnswerConfig:
    """Links in messages with which an incident is acknowledged or muted without logging in."""

    enabled: bool = True
    valid_hours: int = 72
    mute_hours: int = 24  # how long what such a link mutes stays quiet


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """Which reports are made by themselves, and who gets them."""

    daily: bool = True
    weekly: bool = False  # from Monday to Sunday
    monthly: bool = False
    timezone: str = ""  # whose midnights count; empty: the machine's
    keep_days: int = 400  # 0: for ever
    channels: tuple[str, ...] = ()  # that are told; mail carries the PDF


@dataclass(frozen=True, slots=True)
class LlmConfig:
    """The language model, if one is used."""

    enabled: bool = False
    provider: str = "openai"
    base_url: str = ""
    model: str = ""
    api_key: Secret | None = None
    hourly_budget: int = 30  # requests, those that are tried again counted each
    input_price: float = 0.0  # money for a million tokens
    output_price: float = 0.0
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class HeartbeatConfig:
    """The address that is called while all is well; when the calls stop, whoever answers there raises an alarm."""

    url: Secret | None = None  # none: nobody is called; whoever knows it can call there too
    minutes: int = 5  # between two calls


@dataclass(frozen=True, slots=True)
class ThreatListConfig:
    """A list of what is bad that is followed at its URL."""

    name: str
    url: str
    every_hours: int = 6  # between two looks at it


@dataclass(frozen=True, slots=True)
class BackupConfig:
    """Backups that are made by themselves."""

    folder: str = ""  # absolute; empty: none is made
    every_hours: int = 24
    keep: int = 7  # of the newest


@dataclass(frozen=True, slots=True)
class MonitoringConfig:
    """Everything an operator may change while ThreatLens runs."""

    allowed_roots: tuple[str, ...] = ("/var/log",)  # real paths
    allow_root_filesystem: bool = False
    sources: tuple[LogSourceConfig, ...] = ()  # of files, by id; disabled ones too
    processing_batch_size: int = 2000  # lines
    max_queue_size: int = 50_000  # entries
    health_check_interval: int = 30  # seconds
    retention: Retention = field(default_factory=Retention)
    channels: tuple[Channel, ...] = ()
    notification_rules: tuple[NotificationRule, ...] = ()
    threat_lists: tuple[ThreatListConfig, ...] = ()
    answers: AnswerConfig = field(default_factory=AnswerConfig)
    reports: ReportConfig = field(default_factory=ReportConfig)
    llm: LlmConfig = field(default_factory=LlmConfig)
    heartbeat: HeartbeatConfig = field(default_factory=HeartbeatConfig)
    backup: BackupConfig = field(default_factory=BackupConfig)
    allowed_private_networks: tuple[Network, ...] = ()
    allowed_ports: tuple[int, ...] = ()  # of public addresses, beside the web's own

    @property
    def outbound(self) -> Permissions:
        """What outgoing requests may reach."""
        return Permissions(self.allowed_private_networks, frozenset(self.allowed_ports))


def plain(value: Any, *, secret: Callable[[Secret], str | None] = lambda secret: secret.reference) -> Any:
    """A value as a configuration file would say it: secrets as `secret` says, what is empty is left out."""
    if isinstance(value, Secret):
        return secret(value)
    if dataclasses.is_dataclass(value):
        value = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        items = {key: plain(item, secret=secret) for key, item in value.items() if item not in ("", None)}
        return {key: item for key, item in items.items() if item is not None}
    if isinstance(value, tuple):
        return [plain(item, secret=secret) for item in value]
    if isinstance(value, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        return str(value)
    return value
