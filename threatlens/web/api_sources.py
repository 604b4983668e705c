"""The API's sources: what is followed, how each is doing, and changing that.

What threatlens.yaml declares is read-only here; what may be changed is checked by ConfigManager, whose words are the
answer's.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import Field

from threatlens.event import rfc3339
from threatlens.sources.base import LogSourceConfig
from threatlens.store_sources import SourceView
from threatlens.web.api_values import Level, Name, PlainText
from threatlens.web.auth import actor
from threatlens.web.context import services
from threatlens.web.operations import Shape, created_at, operation
from threatlens.web.problems import ProblemError

#: Keys of a source as threatlens.yaml has them, beside its name, path and enabled.
SETTINGS = (
    "format", "start_at", "polling_interval", "file_pattern", "recursive", "timezone", "learn_timezone", "encoding",
    "priority",
)  # fmt: skip

#: A whole path; which ones may be read is for this installation to say (409).
Path = Annotated[str, Field(max_length=4_096, pattern=r"^/[^\u0000]*$")]


class SourceChange(Shape):
    """What to change of a source; the keys are those of threatlens.yaml. null: the default."""

    name: Name | None = None
    path: Path | None = None
    enabled: bool | None = None
    format: PlainText | None = None
    start_at: Literal["beginning", "end"] | None = None
    polling_interval: Annotated[float, Field(ge=0.05, le=3_600, description="seconds")] | None = None
    file_pattern: Annotated[str, Field(max_length=255, pattern=r"^[^/\u0000]+$")] | None = None
    recursive: bool | None = None
    timezone: Annotated[str, Field(max_length=60, pattern="^[A-Za-z0-9_+/-]+$", description="IANA's name")] | None = (
        None
    )
    learn_timezone: bool | None = None
    encoding: Annotated[str, Field(max_length=40, pattern="^[A-Za-z0-9._-]+$")] | None = None
    priority: Level | None = None


class NewSource(SourceChange):
    """A source of files to follow."""

    name: Name
    path: Path


class SourceSettings(Shape):
    """How a source of files is read."""

    format: str
    start_at: str
    polling_interval: float
    file_pattern: str | None
    recursive: bool
    timezone: str
    learn_timezone: bool
    encoding: str
    priority: int


class SourceShape(Shape):
    """One source and how it is doing."""

    id: int
    name: str
    path: str
    kind: Annotated[str, Field(description="file, api, cli or demo")]
    origin: Annotated[str, Field(description="where it was made; what comes from yaml is read-only here")]
    enabled: bool
    state: str
    reason: Annotated[str, Field(description="one sentence about the state")]
    remedy: Annotated[str, Field(description="what to do about it")]
    files: int
    file_size: Annotated[int, Field(description="bytes of all its files")]
    stored_size: Annotated[int, Field(description="bytes of those that are stored")]
    lines: int
    blank_lines: int
    joined_lines: int
    events: int
    unknown: int
    formats: Annotated[list[str], Field(description="formats it spoke, the latest first")]
    learned_timezone: Annotated[str | None, Field(description="the zone its times were found to be of: UTC+02:00")]
    last_event_at: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    settings: SourceSettings | None


class SourceList(Shape):
    """All sources."""

    sources: list[SourceShape]


@operation("GET", "/sources", role="viewer", summary="All sources and how they are doing", answer=SourceList)
def list_sources() -> dict[str, Any]:
    """By name."""
    configs = _configs()
    return {"sources": [_source(view, configs.get(view.id)) for view in services().store.sources()]}


@operation("GET", "/sources/<int:source_id>", role="viewer", summary="One source", answer=SourceShape, problems=(404,))
def get_source(source_id: int) -> dict[str, Any]:
    """The source with this id."""
    return _source(_view(source_id), _configs().get(source_id))


@operation("POST", "/sources", role="admin", summary="Follow another file, folder or glob", status=201, body=NewSource,
           answer=SourceShape)  # fmt: skip
def create_source(body: NewSource) -> dict[str, Any]:
    """It is followed from the engine's next look at the configuration on."""
    made = services().config.add_log_source(body.model_dump(exclude_none=True), author=actor().name)
    created_at(f"/api/v1/sources/{made.source_id}")
    return _source(_view(made.source_id), made)


@operation("PATCH", "/sources/<int:source_id>", role="admin", summary="Change a source", body=SourceChange,
           answer=SourceShape, problems=(404,))  # fmt: skip
def change_source(source_id: int, body: SourceChange) -> dict[str, Any]:
    """Only the keys given change; its history stays, also under another name."""
    changed = services().config.update_log_source(
        _view(source_id).source_name, body.model_dump(exclude_unset=True), author=actor().name
    )
    return _source(_view(source_id), changed)


@operation("DELETE", "/sources/<int:source_id>", role="admin", summary="Stop following a source and forget it",
           status=204, problems=(404, 409))  # fmt: skip
def delete_source(source_id: int) -> None:
    """Its events stay."""
    services().config.remove_log_source(_view(source_id).source_name, author=actor().name)


def _view(source_id: int) -> SourceView:
    for view in services().store.sources():
        if view.id == source_id:
            return view
    raise ProblemError(404, "There is no source with this id.")


def _configs() -> dict[int, LogSourceConfig]:
    return {config.source_id: config for config in services().config.get_log_sources()}


def _source(view: SourceView, config: LogSourceConfig | None) -> dict[str, Any]:
    values = dataclasses.asdict(config) if config else None
    return {
        "id": view.id,
        "name": view.source_name,
        "path": view.path,
        "kind": view.kind,
        "origin": view.origin,
        "enabled": view.enabled,
        "state": view.state,
        "reason": view.state_reason,
        "remedy": view.remedy,
        "files": view.files,
        "file_size": view.file_size,
        "stored_size": view.last_offset,
        "lines": view.lines,
        "blank_lines": view.blank_lines,
        "joined_lines": view.joined_lines,
        "events": view.events,
        "unknown": view.unknown,
        "formats": list(view.learned),
        "learned_timezone": view.learned_zone or None,
        "last_event_at": rfc3339(view.last_event_us) if view.last_event_us else None,
        "created_at": rfc3339(view.created_at),
        "settings": {key: values[key] for key in SETTINGS} if values else None,
    }
