"""Signed webhooks, after the Standard Webhooks specification (standardwebhooks.com).

A message is one JSON document `{"type", "timestamp", "data"}`. `webhook-id` is the message's key, the same for every
try; `webhook-signature` holds one signature for each secret, so that a secret can be changed without a gap: write the
new one, then the old one, with a space between, and take the old one away once the receiver knows the new one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable

from threatlens.channels.base import Delivery, HttpClient, Message, delivered
from threatlens.errors import ChannelError, OutboundError
from threatlens.handing_over import Note

SECRET_PREFIX = "whsec_"  # noqa: S105  (how the specification marks a secret, no secret itself)


class WebhookNotifier:
    """POSTs to one URL. `secrets` are `whsec_...` texts, the newest first; none: unsigned."""

    def __init__(
        self,
        name: str,
        url: str,
        secrets: tuple[str, ...],
        client: HttpClient,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self._url = url
        self._secrets = secrets
        self._client = client
        self._clock = clock

    def send(self, message: Message, note: Note | None = None) -> Delivery:
        """Deliver; raises ChannelError."""
        body = json.dumps(payload(message), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        at = str(int(self._clock()))
        headers = {
            "content-type": "application/json",
            "webhook-id": message.key,
            "webhook-timestamp": at,
            "idempotency-key": message.key,
        }
        if self._secrets:
            headers["webhook-signature"] = signatures(self._secrets, message.key, at, body)
        said = (f"> POST, {len(body)} bytes of JSON, {'signed' if self._secrets else 'not signed'}",)
        try:
            answer = self._client.request("POST", self._url, headers=headers, content=body, note=note)
        except OutboundError as error:
            raise ChannelError(str(error), permanent=error.permanent, transcript=said) from error
        return delivered(answer, said)


def payload(message: Message) -> dict[str, object]:
    """The document that a receiver gets."""
    data = {
        "title": message.title,
        "severity": message.severity,
        "lead": message.lead,
        "text": message.text,
        "says": dict(message.says),
        "todo": list(message.todo),
        "facts": dict(message.facts),
        "samples": list(message.samples),
        "thread": message.thread,
        "url": message.url,
        "links": dict(message.links),
        **message.data,
    }
    return {"type": f"threatlens.{message.kind}", "timestamp": message.timestamp, "data": data}


def signatures(secrets: tuple[str, ...], message_id: str, at: str, body: bytes) -> str:
    """The webhook-signature header: `v1,<base64>` for each secret. Raises ChannelError for one that is none."""
    signed = b".".join((message_id.encode(), at.encode(), body))
    found = (hmac.new(signing_key(secret), signed, hashlib.sha256).digest() for secret in secrets)
    return " ".join("v1," + base64.b64encode(each).decode() for each in found)


def signing_key(secret: str) -> bytes:
    """The bytes of a `whsec_` secret; a secret without that mark is taken as it is written. Raises ChannelError."""
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        msg = "the secret is not base64 behind whsec_"
        raise ChannelError(msg, permanent=True) from error
