"""The API's searches that are sent: those of the person whose token it is; an administrator's token sees them all."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from threatlens.config_values import EmailChannel
from threatlens.errors import ReportError
from threatlens.event import rfc3339
from threatlens.reports_searches import ROLE
from threatlens.store_searches import Schedule
from threatlens.web.api_values import PlainText
from threatlens.web.auth import actor, record
from threatlens.web.context import services
from threatlens.web.operations import Shape, operation
from threatlens.web.problems import ProblemError
from threatlens.web.search_schedules import begin

Every = Literal["day", "week"]
Form = Literal["csv", "pdf"]
Weekday = Annotated[int, Field(ge=0, le=6, description="0: Monday; of what is sent every week")]
Hour = Annotated[int, Field(ge=0, le=23, description="in the zone of reports")]
Channels = Annotated[list[PlainText], Field(min_length=1, max_length=50, description="e-mail channels, by name")]


class NewSearchSchedule(Shape):
    """When a saved search is sent, and to whom."""

    search: Annotated[PlainText, Field(description="the name under which it was saved")]
    channels: Channels
    every: Every = "day"
    weekday: Weekday = 0
    hour: Hour = 7
    form: Annotated[Form, Field(description="of the file that goes with it")] = "csv"


class SearchScheduleChange(Shape):
    """Only the keys given change."""

    channels: Channels | None = None
    every: Every | None = None
    weekday: Weekday | None = None
    hour: Hour | None = None
    form: Form | None = None


class SearchScheduleShape(Shape):
    """A saved search that is sent."""

    id: Annotated[int, Field(description="of the saved search")]
    search: str
    params: Annotated[str, Field(description="what is searched, as in the address of the page Events")]
    every: Every
    weekday: int
    hour: int
    form: Form
    channels: list[str]
    due_at: Annotated[str, Field(json_schema_extra={"format": "date-time"}, description="when the next one is sent")]
    sent_at: Annotated[str | None, Field(json_schema_extra={"format": "date-time"}, description="null: never yet")]
    problem: Annotated[str, Field(description='why the last one was not sent; "": it was')]


class SearchScheduleList(Shape):
    """What is sent, by name."""

    schedules: list[SearchScheduleShape]


@operation("GET", "/search-schedules", role=ROLE, summary="Saved searches that are sent", answer=SearchScheduleList)
def list_search_schedules() -> dict[str, Any]:
    """By name."""
    return {"schedules": [_schedule(one) for one in _seen()]}


@operation("POST", "/search-schedules", role=ROLE, summary="Send a saved search every day or week", status=201,
           body=NewSearchSchedule, answer=SearchScheduleShape, problems=(409,))  # fmt: skip
def create_search_schedule(body: NewSearchSchedule) -> dict[str, Any]:
    """One that the person whose token it is has saved; it finds what that person may see."""
    owner = _owner()
    search = next((one for one in services().store.saved_searches(owner) if one.name == body.search), None)
    if search is None:
        raise ProblemError(409, "The owner of this token has saved no search of this name.", field="search")
    if any(one.search_id == search.id for one in services().store.schedules(user_id=owner)):
        raise ProblemError(409, "It is sent already; change it instead.", field="search")
    _check_channels(body.channels)
    begin(
        search.name,
        Schedule(search.id, body.every, body.weekday, body.hour, body.form, tuple(body.channels), 0, 0),
    )
    return _schedule(_found(search.id))


@operation("PATCH", "/search-schedules/<int:schedule_id>", role=ROLE, summary="Change when a search is sent or to whom",
           body=SearchScheduleChange, answer=SearchScheduleShape, problems=(404, 409))  # fmt: skip
def change_search_schedule(schedule_id: int, body: SearchScheduleChange) -> dict[str, Any]:
    """One's own only."""
    one = _found(schedule_id)
    if one.user_id != _owner():
        raise ProblemError(409, "It is somebody else's; it can be ended, not changed.")
    values = body.model_dump(exclude_none=True)
    if "channels" in values:
        _check_channels(values["channels"])
        values["channels"] = tuple(values["channels"])
    begin(one.name, replace(one, **values))
    return _schedule(_found(schedule_id))


@operation("DELETE", "/search-schedules/<int:schedule_id>", role=ROLE, summary="Send a search no longer", status=204,
           problems=(404,))  # fmt: skip
def delete_search_schedule(schedule_id: int) -> None:
    """The search stays saved."""
    one = _found(schedule_id)
    services().store.remove_schedule(one.search_id)
    record("search.unschedule", one.name)


@operation("POST", "/search-schedules/<int:schedule_id>/send", role=ROLE, summary="Send a search now, too", status=202,
           answer=SearchScheduleShape, problems=(404, 409))  # fmt: skip
def send_search_schedule(schedule_id: int) -> dict[str, Any]:
    """The last day or week up to now; one's own only, once a minute. When it is due stays as it was."""
    one = _found(schedule_id)
    if one.user_id != _owner():
        raise ProblemError(409, "It is somebody else's; it can be ended, not sent.")
    try:
        services().searches.send_now(one)
    except ReportError as error:
        raise ProblemError(409, f"It is not sent: {error}.") from error
    record("search.send_now", one.name)
    return _schedule(_found(schedule_id))


def _owner() -> int:
    """The id of the person whose token it is."""
    token = actor().token
    if token is None or token.user_id is None:
        raise ProblemError(409, "This token is nobody's, and searches are saved by people.")
    return token.user_id


def _seen() -> list[Schedule]:
    """What this token may know of."""
    if actor().may("admin"):
        return services().store.schedules()
    token = actor().token
    owner = token.user_id if token is not None else None
    return services().store.schedules(user_id=owner) if owner is not None else []


def _found(schedule_id: int) -> Schedule:
    one = next((one for one in _seen() if one.search_id == schedule_id), None)
    if one is None:
        raise ProblemError(404, "No search with this id is sent.")
    return one


def _check_channels(names: list[str]) -> None:
    mail = {one.name for one in services().config.config.channels if isinstance(one, EmailChannel)}
    if unknown := [name for name in names if name not in mail]:
        raise ProblemError(409, f"There is no e-mail channel {unknown[0]}.", field="channels")


def _schedule(one: Schedule) -> dict[str, Any]:
    return {
        "id": one.search_id, "search": one.name, "params": one.params, "every": one.every, "weekday": one.weekday,
        "hour": one.hour, "form": one.form, "channels": list(one.channels), "due_at": rfc3339(one.due_us),
        "sent_at": rfc3339(one.sent_us) if one.sent_us else None, "problem": one.problem,
    }  # fmt: skip
