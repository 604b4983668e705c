"""Answers from a message: links that acknowledge or mute the one incident a message is about, without logging in.

Whoever holds a link may do that one thing, once, for a few days; so a link is signed with a key of its own purpose,
names the message it stood in, and is never stored. Following it only asks: mail scanners open every link they see.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from threatlens.config_values import AnswerConfig
from threatlens.errors import AnswerError
from threatlens.store_incidents import Incident
from threatlens.vault import derived

PURPOSE = "links in messages"
PATH = "/answer"
HOUR_US = 3_600_000_000
#: What a link may do: its letter in the link, its name, the words in a message.
ACKNOWLEDGE, MUTE = "acknowledge", "mute"
ACTIONS: Mapping[str, str] = MappingProxyType({"a": ACKNOWLEDGE, "m": MUTE})
WORDS: Mapping[str, str] = MappingProxyType({ACKNOWLEDGE: "Acknowledge", MUTE: "Mute"})
#: Rules of an incident that one answer mutes, the worst first.
MOST_RULES = 20
_SIGNATURE_BYTES = 24
_TOKEN = re.compile(r"([am])([0-9a-f]{1,15})\.([0-9a-f]{1,15})\.([0-9a-f]{1,12})\.([A-Za-z0-9_-]{32})")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a link says."""

    action: str
    notification_id: int
    incident_id: int
    expires_s: int


class AnswerLinks:
    """Writes links and reads them. `keys` are the installation's: a link goes with the key that signed it."""

    def __init__(self, keys: Callable[[], Sequence[str]], base_url: str, config: Callable[[], AnswerConfig]) -> None:
        self._keys = keys
        self._base_url = base_url.rstrip("/")
        self._config = config

    def links(self, notification_id: int, incident_id: int, made_us: int) -> tuple[tuple[str, str], ...]:
        """(words, URL) for one message; the same for every try. Empty where answers are off or we have no address."""
        config = self._config()
        if not (config.enabled and self._base_url and incident_id and notification_id):
            return ()
        expires_s = (made_us + config.valid_hours * HOUR_US) // 1_000_000
        key = self._keys()[0]
        return tuple(
            (WORDS[action], f"{self._base_url}{PATH}/{_token(key, letter, notification_id, incident_id, expires_s)}")
            for letter, action in ACTIONS.items()
        )

    def read(self, token: str, now_us: int) -> Answer:
        """What a link asks for. Raises AnswerError where we did not sign it, or its time is over."""
        parts = _TOKEN.fullmatch(token)
        if parts is None or not self._config().enabled:
            raise AnswerError("unknown")
        letter, *numbers = parts.groups()[:4]
        notification_id, incident_id, expires_s = (int(number, 16) for number in numbers)
        ours = [_token(key, letter, notification_id, incident_id, expires_s) for key in self._keys()]
        if not any(hmac.compare_digest(token, each) for each in ours):
            raise AnswerError("unknown")
        if now_us >= expires_s * 1_000_000:
            raise AnswerError("expired")
        return Answer(ACTIONS[letter], notification_id, incident_id, expires_s)


def _token(key: str, letter: str, notification_id: int, incident_id: int, expires_s: int) -> str:
    said = f"{letter}{notification_id:x}.{incident_id:x}.{expires_s:x}"
    signature = hmac.new(derived(key, PURPOSE), said.encode(), hashlib.sha256).digest()[:_SIGNATURE_BYTES]
    return f"{said}.{base64.urlsafe_b64encode(signature).decode()}"


def muted_rules(incident: Incident) -> list[tuple[str, str]]:
    """(id, name) of the rules that made the incident; a mute from a message is about these and its subject alone."""
    members = sorted(incident.members.values(), key=lambda member: -member.severity)
    return [(member.rule_id, member.rule_name) for member in members][:MOST_RULES]
