"""Slack's incoming webhooks, with Block Kit; Mattermost and Rocket.Chat take the same.

Slack reads `&`, `<` and `>` as its own markup (https://docs.slack.dev/messaging/formatting-message-text): they are
escaped, so that a log line can neither link nor call `<!channel>`. Texts that are ours alone are not marked up either.
"""

from __future__ import annotations

import json
from typing import Any

from threatlens.channels.base import Delivery, HttpClient, Message, delivered, how_bad, ways
from threatlens.errors import ChannelError, OutboundError
from threatlens.handing_over import Note

_HEADER, _SECTION, _FIELD, _FIELDS = 150, 2_900, 1_900, 10  # Slack's limits on characters and numbers, with room
_ZERO_WIDTH = "\u200b"


class SlackNotifier:
    """Posts to one incoming webhook; its URL is the secret."""

    def __init__(self, name: str, url: str, client: HttpClient) -> None:
        self.name = name
        self._url = url
        self._client = client

    def send(self, message: Message, note: Note | None = None) -> Delivery:
        """Deliver; raises ChannelError."""
        body = json.dumps(payload(message), ensure_ascii=False).encode("utf-8", "replace")
        said = (f"> POST, {len(body)} bytes of JSON",)
        try:
            answer = self._client.request(
                "POST", self._url, headers={"content-type": "application/json"}, content=body, note=note
            )
        except OutboundError as error:
            raise ChannelError(str(error), permanent=error.permanent, transcript=said) from error
        return delivered(answer, said)


def payload(message: Message) -> dict[str, Any]:
    """The document for Slack: blocks, and the text that is shown where there are none."""
    title = f"{message.severity}/10 {message.title}"
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": _cut(_quiet(title), _HEADER), "emoji": False}}
    ]
    opening = [f"{how_bad(message.severity)}. {message.lead}".rstrip(), message.text]
    said = [f"{topic}: {text}" for topic, text in message.says]
    opening += said[:1]
    blocks.append({"type": "section", "text": _plain("\n".join(filter(None, opening)), _SECTION)})
    if message.todo:
        numbered = (f"{number}. {text}" for number, text in enumerate(message.todo, 1))
        blocks.append({"type": "section", "text": _plain("\n".join(["What to do:", *numbered]), _SECTION)})
    if links := ways(message):
        blocks.append({"type": "actions", "elements": [_button(*each, place) for place, each in enumerate(links[:5])]})
    if said[1:]:
        blocks.append({"type": "section", "text": _plain("\n".join(said[1:]), _SECTION)})
    facts = message.facts[:_FIELDS]
    if facts:
        fields = [_plain(f"{name}: {value}", _FIELD) for name, value in facts]
        blocks.append({"type": "section", "fields": fields})
    if message.samples:
        lines = _cut("\n".join(line.replace("`", "'") for line in message.samples), _SECTION - 8)
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": f"```{escaped(lines)}```"}})
    return {"text": _cut(escaped(title), _SECTION), "blocks": blocks, "unfurl_links": False, "unfurl_media": False}


def _button(words: str, url: str, place: int) -> dict[str, Any]:
    """The first leads to the page and stands out; the others answer."""
    button = {"type": "button", "text": {"type": "plain_text", "text": _cut(words, 70), "emoji": False}, "url": url}
    return {**button, "style": "primary"} if place == 0 else button


def escaped(text: str) -> str:
    """Text that Slack shows as it is: no links, no mentions."""
    return _quiet(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _quiet(text: str) -> str:
    """Without anything that calls people: @channel, @here, @everyone."""
    return text.replace("@", "@" + _ZERO_WIDTH)


def _plain(text: str, longest: int) -> dict[str, Any]:
    """A text that is not marked up, whatever stands in it."""
    return {"type": "plain_text", "text": _cut(_quiet(text), longest), "emoji": False}


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
