"""Heartbeat: the dead man's switch. While all is well an address is called; silence there is the alarm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from threatlens.config_values import HeartbeatConfig
from threatlens.errors import ConfigError, OutboundError
from threatlens.health import Component
from threatlens.outbound import Answer


class Caller(Protocol):
    """OutboundClient, as it is used here."""

    def request(self, method: str, url: str) -> Answer: ...


class Heartbeat:
    """One an engine; `beat` is for one thread."""

    def __init__(
        self,
        config: Callable[[], HeartbeatConfig],
        client: Caller,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._client = client
        self._monotonic = monotonic
        self._due = float("-inf")
        self._problem = ""

    def beat(self, *, well: bool) -> bool:
        """Call if it is time and all is well; whether the call was answered."""
        config, now = self._config(), self._monotonic()
        if config.url is None or not well or now < self._due:
            return False
        try:
            answer = self._client.request("GET", config.url.resolve())
            self._problem = "" if answer.ok else f"it answered {answer.status}"
        except (OutboundError, ConfigError) as error:
            self._problem = str(error)
        # What was not answered is tried again sooner: the other side is about to raise an alarm.
        self._due = now + 60 * config.minutes / (4 if self._problem else 1)
        return not self._problem

    def health(self) -> Iterator[Component]:
        """Whether the last call was answered."""
        if self._config().url is None:
            yield Component("heartbeat", "off", "nobody is called")
        elif self._problem:
            reason = f"the call was not answered: {self._problem}"
            yield Component("heartbeat", "degraded", reason, "check heartbeat.url")
        else:
            yield Component("heartbeat", "ok", f"every {self._config().minutes} minutes")
