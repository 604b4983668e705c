"""systemd and logind: units that start, stop and fail; sessions that open and close."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row

_SERVICE: dict[str, Any] = {"category": "process"}
_SESSION: dict[str, Any] = {"category": "session"}
_UNIT = r"(?P<unit>[\w@\\:.-]+\.(?:service|socket|timer|mount|target|scope|slice|path|device|swap|automount))"

_TABLE = Table(
    {
        "Started": [row(r"Started (?P<unit>.+?)\.?", "service_started", "success", **_SERVICE)],
        "Starting": [row(r"Starting (?P<unit>.+?)(?:\.\.\.)?", "service_starting", **_SERVICE)],
        "Stopped": [row(r"Stopped (?P<unit>.+?)\.?", "service_stopped", "success", **_SERVICE)],
        "Stopping": [row(r"Stopping (?P<unit>.+?)(?:\.\.\.)?", "service_stopping", **_SERVICE)],
        "Finished": [row(r"Finished (?P<unit>.+?)\.?", "service_finished", "success", **_SERVICE)],
        "Reloaded": [row(r"Reloaded (?P<unit>.+?)\.?", "service_reloaded", "success", **_SERVICE)],
        "Reached": [row(r"Reached target (?P<unit>.+?)\.?", "target_reached", "success", **_SERVICE)],
        "Failed": [
            row(r"Failed to start (?P<unit>.+?)\.?", "service_failed", "failure", level="error", **_SERVICE),
            row(r"Failed to (?P<reason>.*)", "service_error", "failure", level="warning", **_SERVICE),
        ],
        "New": [
            row(r"New session (?P<session>\S+) of user (?P<user>[^\s]+?)\.?", "session_opened", "success", **_SESSION)
        ],
        "Session": [row(r"Session (?P<session>\S+) logged out\..*", "session_closed", **_SESSION)],
        "Removed": [row(r"Removed session (?P<session>[^\s.]+)\.?", "session_closed", **_SESSION)],
        "": [
            row(
                rf"{_UNIT}: (?P<reason>Failed with result '[\w-]+')\.?",
                "service_failed",
                "failure",
                level="error",
                **_SERVICE,
            ),
            row(
                rf"{_UNIT}: Main process exited, code=(?P<reason>\w+), status=(?P<exit_code>[0-9]{{1,5}})/\S+",
                "service_exited",
                "failure",
                level="warning",
                **_SERVICE,
            ),
            row(
                rf"{_UNIT}: (?P<reason>Succeeded|Deactivated successfully)\.?", "service_stopped", "success", **_SERVICE
            ),
            row(rf"{_UNIT}: (?P<reason>.*)", "service_info", **_SERVICE),
        ],
    }
)

DECODER = MessageDecoder(
    name="systemd",
    about="systemd and systemd-logind: units and sessions.",
    read=_TABLE.read,
    programs=("systemd", "systemd-logind", "init"),
)
