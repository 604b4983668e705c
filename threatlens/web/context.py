"""What pages and API work with: the services of the current app."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from flask import current_app

from threatlens.answers import AnswerLinks
from threatlens.broadcaster import EventBroadcaster
from threatlens.config import ConfigManager
from threatlens.courtesy import Courtesy
from threatlens.errors import StoreUnavailable, ThreatLensError
from threatlens.fanout import Fanout
from threatlens.health import as_json, redis_component
from threatlens.ingestions import Ingestions
from threatlens.language_model import LanguageModel
from threatlens.notifications import NotificationManager
from threatlens.outbound import OutboundClient
from threatlens.own_decoders import OwnDecoders
from threatlens.passwords import Passwords
from threatlens.reports import Reporter
from threatlens.reports_searches import SearchReporter
from threatlens.rule_library import RuleLibrary
from threatlens.settings import Settings
from threatlens.store import EventStore
from threatlens.threat_lists import ThreatListKeeper
from threatlens.volumes import VolumeWatch
from threatlens.web.limits import LoginLimits

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")

#: Seconds after which the engine's own status is too old to be believed.
STATUS_AGE_S = 5.0
#: Why the database takes no work, for whoever asks: a driver's own words name addresses, users and paths.
WHY_NOT = {"busy": "the database is locked by another program", "disk_full": "the disk of the database is full"}


class Background(Protocol):
    """The engine or its follower, as far as the web server and the command line need it."""

    def start(self, only_sources: frozenset[int] | None = None) -> None: ...

    def request_stop(self) -> None: ...

    def stop(self) -> None: ...

    @property
    def is_engine(self) -> bool: ...

    @property
    def status(self) -> dict[str, Any]: ...

    def owner(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that create_app built."""

    settings: Settings
    store: EventStore
    config: ConfigManager
    broadcaster: EventBroadcaster
    ingestions: Ingestions
    notifications: NotificationManager
    answers: AnswerLinks
    reporter: Reporter
    searches: SearchReporter
    background: Background
    outbound: OutboundClient
    passwords: Passwords
    limits: LoginLimits
    rules: RuleLibrary
    own_decoders: OwnDecoders
    language_model: LanguageModel
    threat_lists: ThreatListKeeper
    volumes: VolumeWatch
    courtesy: Courtesy
    fanout: Fanout

    def engine_status(self) -> dict[str, Any]:
        """What the engine last said about itself (see BackgroundProcessor); {}: nothing is known of one."""
        status = self.background.status
        if not self.background.is_engine or not status:
            if heard := self.fanout.status():
                return self._with_own_redis(heard)
            try:
                with open(self.settings.status_path) as file:
                    status = json.load(file)
            except (OSError, ValueError):
                return {}
            status = self._with_own_redis(status)
        if abs(time.time() - status.get("at_us", 0) / 1e6) > STATUS_AGE_S:
            return {}
        return status

    def _with_own_redis(self, status: dict[str, Any]) -> dict[str, Any]:
        """The engine's status as this process knows it, which may be cut off from Redis alone."""
        if not self.fanout.problem()[0]:
            return status
        others = [each for each in status.get("components", ()) if each["name"] != "redis"]
        state = "degraded" if status.get("state") == "ok" else status.get("state")
        return {**status, "state": state, "components": [*others, *as_json(redis_component(self.fanout))]}

    def setup_link(self) -> str | None:
        """A new link that makes the first account, once, within the hour; None when there is one already."""
        code = self.store.new_setup_code()
        settings = self.settings
        if code is not None and settings.socket_path:
            return f"{settings.base_url}/setup?code={code}"
        host = settings.host if settings.is_loopback else "127.0.0.1"
        address = f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"
        return None if code is None else f"http://{address}/setup?code={code}"

    def readiness(self) -> list[str]:
        """Why this process cannot do its work now, in words; empty: it can."""
        reasons = []
        try:
            self.store.last_id()
        except ThreatLensError as error:
            reason = error.reason if isinstance(error, StoreUnavailable) else "away"
            reasons.append(WHY_NOT.get(reason, "the database does not answer"))
        status = self.engine_status()
        if not status and not self.store.database.held_by():
            reasons.append("no engine runs")
        elif status.get("unavailable"):
            reasons.append(f"the database takes no data: {status['unavailable']}")
        return reasons


def services() -> Services:
    """The services of the app that handles this request or command."""
    return cast("Services", current_app.extensions["threatlens"])


def of_one_moment(view: Callable[Parameters, Answer]) -> Callable[Parameters, Answer]:
    """All that this view reads is of one moment, in one transaction: for what ends soon and writes nothing."""

    @wraps(view)
    def looked_at(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        with services().store.database.snapshot():
            return view(*args, **kwargs)

    return looked_at
