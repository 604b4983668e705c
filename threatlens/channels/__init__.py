"""Who gets told: one file per kind of channel.

To add a kind: write its file with a class that has `name` and `send(message)`, list it here, give it its keys in
config_values.py and config_schema.py, and a test with a real receiver in tests/channels/.
"""

from __future__ import annotations

from threatlens.channels.apprise import AppriseNotifier
from threatlens.channels.base import (
    Attachment,
    Delivery,
    HttpClient,
    Message,
    NotificationChannel,
    OutboundClient,
    ServiceClient,
)
from threatlens.channels.email import EmailNotifier, MailServer
from threatlens.channels.slack import SlackNotifier
from threatlens.channels.webhook import WebhookNotifier

#: Every kind of channel, by its `type` in the configuration.
CHANNELS: dict[str, type] = {
    "email": EmailNotifier,
    "slack": SlackNotifier,
    "webhook": WebhookNotifier,
    "apprise": AppriseNotifier,
}

__all__ = [
    "CHANNELS",
    "AppriseNotifier",
    "Attachment",
    "Delivery",
    "EmailNotifier",
    "HttpClient",
    "MailServer",
    "Message",
    "NotificationChannel",
    "OutboundClient",
    "ServiceClient",
    "SlackNotifier",
    "WebhookNotifier",
]
