"""The filter in the address bar: read from a URL, shown in a form, written into links, applied to a feed.

The URL is the only state of the events page, so that any view can be shared and the same words filter page and feed.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

from flask import g, url_for
from werkzeug.datastructures import MultiDict

from threatlens.errors import QueryError
from threatlens.event import EventFilter
from threatlens.event_match import OWN
from threatlens.query import FIELD_SETS, parse_query
from threatlens.store_sorting import SORTS
from threatlens.web.presentation import moment, zone

#: Presets of the time range: word in the URL, seconds, words on the page.
RANGES = {
    "15m": (900, "Last 15 minutes"),
    "1h": (3_600, "Last hour"),
    "24h": (86_400, "Last 24 hours"),
    "7d": (604_800, "Last 7 days"),
    "30d": (2_592_000, "Last 30 days"),
}
MAX_ID = 2**63 - 1
#: Beside time, severity and message, where nobody chose.
COLUMNS = ("source",)
MAX_COLUMNS = 8
#: In the address where somebody chose no column at all.
NO_COLUMN = "-"
#: Fields of events that are no columns to choose.
NOT_COLUMNS = frozenset(("severity", "rule.id"))
#: The orders that a click on the head of a column goes through.
TURNS = {
    "": ("", "oldest"),
    "severity": ("severity", "-severity", ""),
    **{name: (name, "-" + name, "") for name in ("source", "category", "source.ip", "user.name")},
}
#: What stands in a query as it is (https://url.spec.whatwg.org/#percent-encoded-bytes).
SAFE = "!$'()*,/:;?@"


@dataclass(frozen=True, slots=True)
class View:
    """One way of looking at the events, as a URL says it."""

    where: EventFilter
    params: dict[str, Any]  # what the URL says, cleaned, without the place in the list
    before: int | None = None  # keyset: the page of events older than this id
    after: int | None = None  # keyset: the page of events newer than this id
    columns: tuple[str, ...] = COLUMNS  # fields that have a column of their own
    sort: str = ""  # one of SORTS; "": the newest first
    past: int | None = None  # sorted: the page behind this event
    errors: tuple[str, ...] = ()  # sentences; the parts of the URL they are about are ignored
    wrong: QueryError | None = None  # what is wrong with the query, and where

    @property
    def query_string(self) -> str:
        """What the URL says, behind its question mark."""
        return urlencode(self.params, doseq=True)

    @property
    def is_newest(self) -> bool:
        """Whether this is the top of the list, where new events arrive."""
        return self.before is None and self.after is None and not self.sort

    def url(self, **changes: Any) -> str:
        """This view with some things changed; None takes one away."""
        if "events_url" not in g:  # a page has a hundred of these
            g.events_url = url_for("events.index")
        asked = urlencode(_without_none({**self.params, **changes}), doseq=True, safe=SAFE)  # as url_for writes it
        return f"{g.events_url}?{asked}" if asked else str(g.events_url)

    def time_url(self) -> Callable[[str, str], str]:
        """Gives this view of another stretch of time, from its ends as RFC 3339 has them; a chart has a hundred."""
        base = self.url(range=None, start=None, end=None)
        base += "&" if "?" in base else "?"
        return lambda start, end: f"{base}start={quote(start, safe=SAFE)}&end={quote(end, safe=SAFE)}"

    def compare_url(self, other: str | None = None) -> str:
        """This view beside another time: one of threatlens.web.comparison.WITH."""
        return url_for("comparison.index", **_without_none({**self.params, "with": other}))

    def survey_url(self) -> str:
        """What is known of the whole result of this view."""
        return url_for("events.survey", **_without_none(self.params))

    def export_url(self, form: str, **more: Any) -> str:
        """All events of this view, whatever page of it is shown, as a file of this form."""
        return url_for("events.export", **_without_none({**self.params, "format": form, **more}))

    def sorted_url(self, name: str) -> str:
        """This view with the next order of a column: "" is that of time."""
        turns = TURNS[name]
        at = turns.index(self.sort) if self.sort in turns else -1
        return self.url(sort=turns[(at + 1) % len(turns)] or None)

    def order_of(self, name: str) -> str:
        """How the list is sorted by this column, as aria-sort has it; "" if it is not."""
        if name == "":
            return {"": "descending", "oldest": "ascending", "time": "descending", "-time": "ascending"}.get(
                self.sort, ""
            )
        if self.sort.removeprefix("-") != name:
            return ""
        falling = self.sort.startswith("-") is not (name == "severity")
        return "descending" if falling else "ascending"

    def narrowed(self, word: object) -> str:
        """This view's URL with a text added to what is searched; a text no query can hold leads to the view itself."""
        query = f"{self.params.get('q', '')} {quoted(word)}".strip()
        return self.url(q=query) if quoted(word) else self.url()

    def added(self, what: str) -> str:
        """This view's URL with one more term in its query, or itself where the term is there already."""
        query = str(self.params.get("q", ""))
        return self.url(q=query if self.asks(what) else f"{query} {what}".strip())

    def asks(self, what: str) -> bool:
        """Whether this term is one of the query's."""
        return f" {what} " in f" {self.params.get('q', '')} "

    def without(self, what: str) -> str:
        """This view's URL without this term in its query."""
        return self.url(q=f" {self.params.get('q', '')} ".replace(f" {what} ", " ").strip())


def whole(text: str) -> int:
    """A whole number that a database can hold; raises ValueError for any other text."""
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= MAX_ID:
        return int(text)
    raise ValueError(text[:20])


def is_column(name: str) -> bool:
    """Whether a field may have a column."""
    known = name in OWN or ("." in name and name.partition(".")[0] in FIELD_SETS)
    return known and name not in NOT_COLUMNS and bool(re.fullmatch(r"[A-Za-z0-9_.-]{1,80}", name))


def term(name: str, value: str) -> str:
    """A term of the query language that asks for this value of a field; "" for a value no query can hold."""
    if re.fullmatch(r"[^\s,()\"\\*]+", value) and value.isprintable():
        return f"{name}:{value}"
    text = quoted(value)
    return f"{name}:{text}" if text and not any(ord(char) < 32 and not char.isspace() for char in value) else ""


def quoted(word: object) -> str:
    """A text as a quoted phrase of the query language."""
    text = str(word).encode("utf-8", "replace").decode().replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"' if text.strip() else ""


def read_view(args: MultiDict[str, str], now_us: int) -> View:
    """What a URL asks for. Never raises: what cannot be understood becomes a sentence in errors."""
    errors: list[str] = []
    wrong: QueryError | None = None
    params: dict[str, Any] = {}
    where = EventFilter()
    text = args.get("q", "").strip()
    if text:
        params["q"] = text
        try:
            where = parse_query(text, now_us=now_us)
        except QueryError as error:
            errors.append(f"The search could not be read: {error}")
            wrong = error
    where = _read_severity(args, where, params, errors)
    where = replace(
        where,
        categories=_both(where.categories, _names(args, "category", params)),
        sources=_both(where.sources, _names(args, "source", params)),
    )
    where = _read_times(args, where, params, errors, now_us)
    columns = _read_columns(args, params)
    sort = args.get("sort", "")
    if sort in SORTS:
        params["sort"] = sort
    elif sort:
        errors.append(f"There is no order called “{sort[:20]}”.")
        sort = ""
    before, after, past = (_read_id(args, name, errors) for name in ("before", "after", "past"))
    if sort:
        return View(where, params, columns=columns, sort=sort, past=past, errors=tuple(errors), wrong=wrong)
    return View(where, params, before, None if before else after, columns, errors=tuple(errors), wrong=wrong)


def _read_columns(args: MultiDict[str, str], params: dict[str, Any]) -> tuple[str, ...]:
    """The columns that are asked for; names that no event can have are passed over."""
    asked = list(dict.fromkeys(args.getlist("column")))
    if not asked:
        return COLUMNS
    chosen = tuple(name for name in asked if is_column(name))[:MAX_COLUMNS]
    if chosen != COLUMNS:
        params["column"] = list(chosen) or [NO_COLUMN]
    return chosen


def _names(args: MultiDict[str, str], name: str, params: dict[str, Any]) -> tuple[str, ...]:
    chosen = tuple(value for value in args.getlist(name) if value)
    if chosen:
        params[name] = list(chosen)
    return chosen


def _read_severity(
    args: MultiDict[str, str], where: EventFilter, params: dict[str, Any], errors: list[str]
) -> EventFilter:
    for name, tighter in (("min_severity", max), ("max_severity", min)):
        text = args.get(name, "")
        if not text:
            continue
        level = args.get(name, 0, type=whole)
        if 1 <= level <= 10:
            params[name] = level
            where = replace(where, **{name: tighter(getattr(where, name), level)})
        else:
            errors.append(f"A severity is a number from 1 to 10, not “{text[:20]}”.")
    return where


def _read_times(
    args: MultiDict[str, str], where: EventFilter, params: dict[str, Any], errors: list[str], now_us: int
) -> EventFilter:
    starts = [where.start_us] if where.start_us is not None else []
    ends = [where.end_us] if where.end_us is not None else []
    preset = args.get("range", "")
    if preset in RANGES:
        params["range"] = preset
        starts.append(now_us - RANGES[preset][0] * 1_000_000)
    for name, times in (("start", starts), ("end", ends)):
        text = args.get(name, "").strip()
        if not text:
            continue
        try:
            times.append(_read_time(text))
            params[name] = text
        except (ValueError, OverflowError):
            errors.append(f"“{text[:40]}” is not a time; write it like 2026-11-23 14:05.")
    return replace(where, start_us=max(starts, default=None), end_us=min(ends, default=None))


def _read_time(text: str) -> int:
    """A time in ISO form, in the viewer's zone where it names none, as microseconds."""
    then = dt.datetime.fromisoformat(text)
    if then.tzinfo is None:
        then = then.replace(tzinfo=zone())
    return int((then - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(microseconds=1))


def _read_id(args: MultiDict[str, str], name: str, errors: list[str]) -> int | None:
    text = args.get(name, "")
    if not text:
        return None
    if number := args.get(name, 0, type=whole):
        return number
    errors.append(f"“{text[:20]}” is not the number of an event.")
    return None


def _both(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """What both ask for. Two that exclude each other leave a name nothing has, as an empty tuple means all."""
    if not first or not second:
        return first or second
    return tuple(name for name in first if name in second) or ("",)


def field_value(params: dict[str, Any], name: str) -> str:
    """A time of the URL as a datetime-local input shows it: in the viewer's zone."""
    text = params.get(name, "")
    return moment(_read_time(text)).strftime("%Y-%m-%dT%H:%M:%S") if text else ""


def _without_none(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value not in (None, "", [])}
