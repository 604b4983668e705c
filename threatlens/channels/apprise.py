"""Any service that Apprise knows (github.com/caronc/apprise): Teams, Discord, Telegram, ntfy, Gotify, Matrix and more.

Its URL is the secret. What is told is plain text: services that have a markup of their own get it escaped by the
library, and nothing in it calls anybody.
"""

from __future__ import annotations

from threatlens.channels.base import PERMANENT, Delivery, Message, ServiceClient
from threatlens.channels.email import as_text
from threatlens.errors import ChannelError
from threatlens.handing_over import Note

_ZERO_WIDTH = "\u200b"


class AppriseNotifier:
    """Tells one service."""

    def __init__(self, name: str, url: str, client: ServiceClient) -> None:
        self.name = name
        self._url = url
        self._client = client

    def send(self, message: Message, note: Note | None = None) -> Delivery:
        """Deliver; raises ChannelError."""
        kind = "failure" if message.severity >= 7 else "warning" if message.severity >= 4 else "info"
        file = message.attachments[0] if message.attachments else None
        told = self._client.tell(
            self._url,
            title=quiet(f"{message.severity}/10 {message.title}"),
            body=quiet(as_text(message)),
            kind=kind,
            attachment=(file.name, file.media_type, file.content) if file else None,
            note=note,
        )
        if told.delivered:
            return Delivery(told.transcript)
        raise ChannelError(told.problem, permanent=told.final or told.status in PERMANENT, transcript=told.transcript)


def quiet(text: str) -> str:
    """Without anything that calls people: @everyone, @here, a name."""
    return text.replace("@", "@" + _ZERO_WIDTH)
